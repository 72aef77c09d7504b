"""Models become GGUF files and come back: formats by name, types that fit, tokenizer, stretched contexts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.conversion import FORMATS, convert, plan_conversion
from tercet.conversion.outputs import format_of
from tercet.errors import ParameterError
from tercet.formats.gguf import GgufFile
from tercet.models.config import ModelConfig
from tercet.models.loading import load_model
from tercet.models.rope_scaling import RopeScaling
from tercet.models.saving import save_huggingface_folder
from tercet.models.tensor_names import is_ternary
from tercet.quantization.ternary_tensor import TernaryTensor
from tiny_models import CHAT_TEMPLATE, GENERATION, TINY_CONFIG, random_masters, tiny_tokenizer_json

FITTING = dataclasses.replace(
    TINY_CONFIG, hidden_size=256, ffn_size=512, num_heads=4, num_kv_heads=2, head_dim=64
)
LLAMA = dataclasses.replace(
    FITTING,
    architecture="llama",
    activation="silu",
    attention_sub_norm=False,
    ffn_sub_norm=False,
    tied_embeddings=False,
)


def folder(path: Path, config: ModelConfig = FITTING) -> Path:
    save_huggingface_folder(
        path,
        config,
        random_masters(config),
        tokenizer_json=tiny_tokenizer_json(),
        chat_template=CHAT_TEMPLATE,
        generation=GENERATION,
    )
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("gguf") / "source")


@pytest.mark.parametrize("kind", ["tq1_0", "tq2_0", "q2_0", "i2_s", "f16", "bf16", "f32"])
def test_there_and_back(source: Path, tmp_path: Path, kind: str) -> None:
    there = convert(
        source, tmp_path / "model.gguf", to=f"gguf-{kind}", embedding_type="f32", metadata={"name": "M"}
    )
    assert there.verification is not None
    assert there.verification.passed
    assert there.plan.output.format == f"gguf-{kind}"
    assert (tmp_path / "model.gguf").stat().st_size == there.plan.file_bytes
    assert GgufFile(tmp_path / "model.gguf").metadata.text("general.name") == "M"
    original, model = load_model(source), load_model(tmp_path / "model.gguf", layout="canonical")
    assert model.config == original.config
    assert model.chat_template == CHAT_TEMPLATE
    assert model.generation_config == {"temperature": pytest.approx(0.8), "top_p": pytest.approx(0.95)}
    for text in ("Once upon a time", "12 cats, naïve café 東京"):
        assert model.tokenizer().encode(text) == original.tokenizer().encode(text)
    for name, expected in original.reference_weights.items():
        found = model.reference_weights[name]
        if not is_ternary(name):
            assert np.array_equal(found, expected)
            continue
        assert isinstance(expected, TernaryTensor)
        assert isinstance(found, TernaryTensor)
        assert np.array_equal(found.codes, expected.codes)
        assert found.scales == pytest.approx(expected.scales, rel=2.0**-8 if kind == "bf16" else 2.0**-11)
        assert kind not in ("i2_s", "f32") or found.scales == expected.scales
    back = convert(tmp_path / "model.gguf", tmp_path / "model.tercet")
    assert back.verification is not None
    assert back.verification.passed


@pytest.mark.parametrize(
    ("config", "architecture"),
    [
        (FITTING, "bitnet-b1.58"),
        (dataclasses.replace(FITTING, activation="silu"), "bitnet"),
        (LLAMA, "llama"),
        (dataclasses.replace(LLAMA, architecture="qwen3", qk_norm=True), "qwen3"),
    ],
)
def test_every_architecture_that_others_run(tmp_path: Path, config: ModelConfig, architecture: str) -> None:
    done = convert(folder(tmp_path / "source", config), tmp_path / "model.gguf")
    assert done.verification is not None
    assert done.verification.passed
    assert f"architecture {architecture}\n" in str(done.plan)
    assert "scales are rounded to float16" in str(done.plan)
    assert load_model(tmp_path / "model.gguf").config == done.plan.source.config


SCALINGS = [
    RopeScaling(kind="linear", factor=4.0),
    RopeScaling(
        kind="yarn", factor=4.0, original_max_context=16, beta_fast=32.0, beta_slow=1.0, attention_factor=1.5
    ),
    RopeScaling(
        kind="llama3", factor=8.0, original_max_context=32, low_freq_factor=1.0, high_freq_factor=4.0
    ),
    RopeScaling(kind="factors", factors=tuple(np.linspace(1, 8, 32).tolist())),
]


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda scaling: scaling.kind)
def test_stretched_contexts(tmp_path: Path, source: Path, scaling: RopeScaling) -> None:
    """What the file says comes to the same frequencies, whatever it calls them."""
    given = load_model(folder(tmp_path / "source", LLAMA))
    model = dataclasses.replace(given, config=dataclasses.replace(given.config, rope_scaling=scaling))
    done = convert(model, tmp_path / "model.gguf")
    assert done.verification is not None
    assert done.verification.passed
    found = load_model(tmp_path / "model.gguf").config
    np.testing.assert_allclose(found.inverse_frequencies, model.config.inverse_frequencies, rtol=1e-6)
    assert found.rope_attention_factor == pytest.approx(model.config.rope_attention_factor)
    if scaling.kind == "llama3":
        bitnet = load_model(source)
        scaled = dataclasses.replace(bitnet, config=dataclasses.replace(bitnet.config, rope_scaling=scaling))
        with pytest.raises(ParameterError, match="architecture llama only"):
            convert(scaled, tmp_path / "other.gguf")


def test_a_tokenizer_that_gguf_cannot_say_is_left_out(tmp_path: Path, source: Path) -> None:
    given = load_model(source)
    assert given.tokenizer_json is not None
    lowered = given.tokenizer_json.replace(b'"normalizer":null', b'"normalizer":{"type":"Lowercase"}', 1)
    assert lowered != given.tokenizer_json
    done = convert(dataclasses.replace(given, tokenizer_json=lowered), tmp_path / "model.gguf")
    assert "the tokenizer is left out" in str(done.plan)
    assert "Lowercase" in str(done.plan)
    assert load_model(tmp_path / "model.gguf").tokenizer_json is None


def test_what_means_nothing_in_gguf_is_said(tmp_path: Path) -> None:
    config = dataclasses.replace(FITTING, quantize_activations=False)
    given = load_model(folder(tmp_path / "source", FITTING))
    plan = plan_conversion(dataclasses.replace(given, config=config), tmp_path / "model.gguf")
    assert "no GGUF file can say that activations are not rounded" in str(plan)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"to": "gguf-q9"}, "no format 'gguf-q9'; the formats are native, huggingface"),
        ({"to": "gguf-tq2_0"}, r"as TQ2_0, whose blocks .* These types do: f32, f16, bf16"),
        ({"to": "gguf", "packing": "q9"}, "no GGUF type 'q9' to write; the types are f32, f16"),
        ({"to": "gguf-f16", "packing": "f32"}, "names its type"),
        ({"to": "gguf", "embedding_type": "q9"}, "embeddings are written as f32"),
        ({"to": "gguf", "embedding_type": "q8_0"}, "multiples of 32"),
    ],
)
def test_options_that_cannot_be(
    tiny_model_folder: Path, tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ParameterError, match=reason):
        plan_conversion(tiny_model_folder, tmp_path / "model.gguf", **options)


def test_formats_by_every_name() -> None:
    assert "gguf-tq2_0" in FORMATS
    names = {"tercet": "native", "HF": "huggingface", "GGUF-TQ2_0": "gguf-tq2_0", "native": "native"}
    assert {name: format_of(name, Path("x")) for name in names} == names
    endings = {"x.gguf": "gguf", "x.TERCET": "native", "folder": "native"}
    assert {name: format_of(None, Path(name)) for name in endings} == endings
