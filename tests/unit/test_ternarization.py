"""Ternarizing without training: what each step promises, and the whole on a model of a few kilobytes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tercet.errors import FormatError, ModelNotFoundError, ParameterError, StorageError
from tercet.llm import LLM
from tercet.models.loading import load_model
from tercet.models.saving import save_huggingface_folder
from tercet.models.tensor_names import is_ternary
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.quantization.weights import absmean_ternary
from tercet.reference import ReferenceDecoder
from tercet.ternarization import METHODS, Method, ternarize
from tercet.ternarization.absmean import absmean
from tercet.ternarization.calibrated import Moments, aimed, calibrated
from tercet.ternarization.quality import measure_quality
from tercet.ternarization.side_by_side import SideBySide
from tercet.ternarization.texts import Text, built_in_text
from tiny_models import TINY_CONFIG, random_masters, tiny_tokenizer_json

CONFIG = dataclasses.replace(
    TINY_CONFIG,
    architecture="llama",
    hidden_size=48,
    ffn_size=96,
    num_heads=4,
    num_kv_heads=2,
    head_dim=12,
    activation="silu",
    attention_sub_norm=False,
    ffn_sub_norm=False,
    quantize_activations=False,
)
SMALL = {"num_tokens": 1024, "window": 64}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full") / "precise"
    weights = ((name, w / 20 if name == "embedding" else w) for name, w in random_masters(CONFIG))
    save_huggingface_folder(folder, CONFIG, weights, tokenizer_json=tiny_tokenizer_json())
    return folder


def correlated(random: np.random.Generator, tokens: int, depth: int) -> np.ndarray:
    mixed = random.standard_normal((tokens, depth // 4)) @ random.standard_normal((depth // 4, depth))
    return (mixed + 0.3 * random.standard_normal((tokens, depth))).astype(np.float32)


def lost(inputs: np.ndarray, weights: np.ndarray, result: TernaryTensor) -> float:
    return float(
        np.linalg.norm(inputs @ (weights - result.dequantize()).T) / np.linalg.norm(inputs @ weights.T)
    )


def test_absmean_is_that_of_bitnet_in_any_granularity() -> None:
    weights = np.random.default_rng(0).standard_normal((6, 32)).astype(np.float32)
    whole = absmean(weights, "tensor", 32)
    np.testing.assert_array_equal(whole.codes, absmean_ternary(weights).codes)
    rows, groups = absmean(weights, "row", 32), absmean(weights, "group", 16)
    assert (whole.granularity, rows.granularity, groups.granularity) == ("tensor", "row", "group")
    for row in range(6):
        alone = absmean_ternary(weights[row : row + 1])
        np.testing.assert_array_equal(rows.codes[row], alone.codes[0])
        assert rows.scales[row] == alone.scales
        alone = absmean_ternary(weights[row : row + 1, 16:])
        np.testing.assert_array_equal(groups.codes[row, 16:], alone.codes[0])
        assert groups.scales[row, 1] == alone.scales


@pytest.mark.parametrize("group", [16, 64, 192])
def test_calibration_keeps_outputs_that_rounding_loses(group: int) -> None:
    random = np.random.default_rng(1)
    inputs = correlated(random, 2000, 192)
    weights = random.standard_normal((40, 192)).astype(np.float32)
    moments = Moments.of(inputs)
    rounded = lost(inputs, weights, absmean(weights, "group", group))
    first = lost(inputs, weights, calibrated(weights, moments, group, 0))
    swept = lost(inputs, weights, calibrated(weights, moments, group, 3))
    assert swept < first < 0.5 * rounded
    unseen = correlated(np.random.default_rng(1), 2000, 192)  # the same mixing, and the same draw
    assert lost(unseen, weights, calibrated(weights, moments, group, 3)) == pytest.approx(swept)


def test_no_single_code_could_be_better() -> None:
    """After many sweeps the result is a local optimum: change any one code, and the output is farther off."""
    random = np.random.default_rng(2)
    inputs, weights = correlated(random, 500, 32), random.standard_normal((4, 32)).astype(np.float32)
    moments = Moments.of(inputs)
    result = calibrated(weights, moments, 32, 40)

    def error(codes: np.ndarray) -> float:
        difference = (weights - codes * result.scales).astype(np.float64)
        return float(np.vdot(difference @ moments.matrix, difference))

    best = error(result.codes)
    for row, column in np.ndindex(4, 32):
        for code in (-1, 0, 1):
            codes = result.codes.copy()
            codes[row, column] = code
            assert error(codes) >= best * (1 - 1e-5)


def test_weights_that_are_ternary_are_found_again() -> None:
    random = np.random.default_rng(3)
    codes = random.integers(-1, 2, (24, 64)).astype(np.int8)
    scales = random.uniform(0.5, 2, (24, 4)).astype(np.float32)
    weights = TernaryTensor(codes, scales).dequantize()
    result = calibrated(weights, Moments.of(correlated(random, 1000, 64)), 16, 2)
    np.testing.assert_array_equal(result.codes, codes)
    np.testing.assert_allclose(result.scales, scales, rtol=1e-4)


def test_empty_rows_and_silent_inputs_are_no_obstacle() -> None:
    random = np.random.default_rng(4)
    weights = random.standard_normal((8, 32)).astype(np.float32)
    weights[3] = 0
    inputs = correlated(random, 100, 32)
    inputs[:, 5:20] = 0
    for given in (inputs, np.zeros_like(inputs), inputs[:3]):
        result = calibrated(weights, Moments.of(given), 16, 2)
        assert np.isfinite(result.dequantize()).all()
        assert not result.dequantize()[3].any()


def test_aim_moves_weights_towards_what_is_wanted() -> None:
    random = np.random.default_rng(5)
    inputs, weights = correlated(random, 800, 32), random.standard_normal((8, 32)).astype(np.float32)
    moments = Moments.of(inputs)
    np.testing.assert_allclose(aimed(weights, moments, inputs, inputs @ weights.T), weights, atol=1e-4)
    wanted = inputs @ (1.2 * weights).T
    moved = aimed(weights, moments, inputs, wanted)
    assert np.linalg.norm(wanted - inputs @ moved.T) < 0.3 * np.linalg.norm(wanted - inputs @ weights.T)


def test_sequences_side_by_side_do_not_see_each_other(source: Path) -> None:
    model = load_model(source)
    sequences = np.random.default_rng(6).integers(0, CONFIG.vocab_size, (3, 20))
    decoder = SideBySide(model.config, model.reference_weights, 20)
    x = decoder.begin(sequences)
    for index in range(CONFIG.num_layers):
        x = decoder.layer(index, x)
    logits = (decoder.before_head(x) @ decoder.head().T).reshape(3, 20, -1)
    for ids, together in zip(sequences, logits, strict=True):
        alone = ReferenceDecoder(model.config, model.reference_weights).logits(ids)
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


def test_a_model_has_lost_nothing_to_itself(source: Path) -> None:
    model = load_model(source)
    sequences = np.random.default_rng(7).integers(0, CONFIG.vocab_size, (2, 30))
    quality = measure_quality(model, model, sequences)
    assert quality.source_perplexity == quality.result_perplexity
    assert (quality.kl_divergence, quality.same_top_token, quality.tokens) == (0, 1, 58)
    assert quality.hidden_errors == (0, 0)


def test_the_result_runs_is_labelled_and_reported(source: Path, tmp_path: Path) -> None:
    hidden = {}
    for name in METHODS:
        done = ternarize(source, tmp_path / f"{name}.tercet", Method(name, **SMALL), held_out_tokens=512)
        report = json.loads(done.report_files[0].read_text())
        assert report == json.loads(json.dumps(done.report.to_dict()))
        assert report["quality"]["tokens"] == 8 * 63
        assert len(report["quality"]["matrices"]) == 14
        assert report["result_matrix_bytes"] < report["source_matrix_bytes"] / 10
        assert (
            f"| perplexity | {done.report.quality.source_perplexity:.2f} |"
            in done.report_files[1].read_text()
        )
        metadata = load_model(done.destination).metadata
        assert name in metadata["ternarized"]
        assert "lossy" in metadata["ternarized"]
        assert len(metadata["ternarized_from_sha256"]) == 64
        assert ("built-in text" in metadata.get("ternarized_with", "")) == (name == "calibrated")
        hidden[name] = done.report.quality.hidden_errors[-1]
    assert hidden["calibrated"] < 0.8 * hidden["absmean"]
    llm = LLM(tmp_path / "calibrated.tercet")
    ids = np.arange(10, 30)
    model = load_model(tmp_path / "calibrated.tercet")
    expected = ReferenceDecoder(model.config, model.reference_weights).logits(ids)
    np.testing.assert_allclose(
        llm.logits(ids.tolist()), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max()
    )


def test_the_same_input_gives_the_same_file(source: Path, tmp_path: Path) -> None:
    for name in "ab":
        ternarize(source, tmp_path / f"{name}.tercet", Method(**SMALL), held_out_tokens=64)
    assert (tmp_path / "a.tercet").read_bytes() == (tmp_path / "b.tercet").read_bytes()


@pytest.mark.parametrize("granularity", ["tensor", "row", "group"])
def test_absmean_in_every_granularity_is_stored(source: Path, tmp_path: Path, granularity: str) -> None:
    method = Method("absmean", granularity, 16, **SMALL)
    done = ternarize(source, tmp_path / "x.tercet", method, held_out_tokens=64, quantize_activations=True)
    model = load_model(done.destination)
    assert model.config.quantize_activations
    tensors = [info for name, info in model.tensors.items() if is_ternary(name)]
    assert {info.granularity for info in tensors} == {granularity}
    assert {info.group_size for info in tensors} == ({16} if granularity == "group" else {None})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": "magic"}, "absmean, calibrated"),
        ({"granularity": "column"}, "no 'column'"),
        ({"granularity": "tensor"}, "row or a group"),
        ({"group_size": 8}, "at least 16"),
        ({"num_tokens": 1}, "at least 2"),
        ({"window": 0}, "at least 2"),
        ({"sweeps": -1}, "at least 0"),
    ],
)
def test_methods_are_checked(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ParameterError, match=reason):
        Method(**fields)  # type: ignore[arg-type]


def test_groups_fit_the_width() -> None:
    assert [Method(group_size=size).group_of(576) for size in (128, 64, 16)] == [96, 64, 16]
    assert Method(granularity="row").group_of(577) == 577
    with pytest.raises(ParameterError, match="divides the width 36"):
        Method().group_of(36)


def test_what_cannot_be_ternarized_is_refused(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.tercet"
    ternarize(source, target, "absmean", held_out_tokens=64)
    with pytest.raises(StorageError, match="exists already"):
        ternarize(source, target, "absmean")
    with pytest.raises(
        ParameterError, match=r"ternary already \(layers.0.attention.q is stored as two_bit\)"
    ):
        ternarize(target, tmp_path / "y.tercet", "absmean")
    with pytest.raises(StorageError, match="is a folder"):
        ternarize(source, tmp_path, "absmean")
    with pytest.raises(ModelNotFoundError, match="no file"):
        ternarize(source, tmp_path / "y.tercet", calibration=tmp_path / "none.txt")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(FormatError, match="not UTF-8"):
        ternarize(source, tmp_path / "y.tercet", held_out=tmp_path / "bad.txt")
    (tmp_path / "short.txt").write_text("")
    with pytest.raises(ParameterError, match="longer text"):
        ternarize(source, tmp_path / "y.tercet", held_out=tmp_path / "short.txt")
    assert not (tmp_path / "y.tercet").exists()


def test_texts_become_windows(source: Path) -> None:
    tokenizer = load_model(source).tokenizer()
    text = Text("mine", "One day a girl named Lily found a big red ball. " * 20)
    ids = tokenizer.encode(text.content)
    windows = text.sequences(tokenizer, 0, 100, 25)
    assert windows.shape == (4, 25)
    assert (windows[:, 0] == 0).all()
    assert windows[:, 1:].ravel().tolist() == ids[:96]
    assert text.sequences(tokenizer, None, 10_000, 10_000).shape == (1, len(ids))
    assert built_in_text("calibration").sha256 != built_in_text("held_out").sha256
