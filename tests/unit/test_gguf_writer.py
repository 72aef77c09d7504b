"""Writing GGUF: what is written comes back the same, what cannot be is refused, and nothing is half done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.errors import ParameterError, StorageError
from tercet.formats.gguf import GgufFile, GgufVocabulary, open_gguf, write_gguf
from tercet.formats.gguf.encoding import encode_floats, encode_ternary
from tercet.formats.gguf.model_writer import gguf_architecture_of
from tercet.formats.gguf.values import MetadataValue, ValueType, array_of, float32, text, uint32
from tercet.formats.gguf.writer import GgufPlan, GgufTensorPlan, GgufWriter, create_gguf
from tercet.models.config import ModelConfig
from tercet.models.random_weights import random_weights
from tercet.models.tensor_names import tensor_shapes
from tercet.quantization.ternary_tensor import TernaryTensor

CONFIG = ModelConfig(
    hidden_size=256, ffn_size=512, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=64, vocab_size=32,
    max_context=64, rope_theta=1e4, rms_norm_eps=1e-5, activation="silu", attention_sub_norm=True,
    ffn_sub_norm=True, tied_embeddings=True, bos_token_id=1, eos_token_ids=(2, 5), pad_token_id=3,
)  # fmt: skip


def vocabulary(size: int = 32) -> GgufVocabulary:
    return GgufVocabulary(
        model="llama",
        pre="default",
        tokens=tuple(f"t{index}" for index in range(size)),
        scores=np.linspace(-1, 0, size, dtype=np.float32),
        types=np.ones(size, np.int64),
        merges=None,
        special_ids={"bos": 1, "eos": 2, "eot": 5, "padding": 3},
        flags={"add_bos_token": True, "add_space_prefix": False},
        precompiled_charsmap=b"\0\xff",
        chat_templates={"default": "{{ x }}", "tool_use": "{{ y }}"},
    )


def fields_of(**changes: Any) -> dict[str, Any]:
    return CONFIG.to_dict() | changes


def write(path: Path, fields: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    config = ModelConfig.from_dict(fields or CONFIG.to_dict())
    weights = random_weights(config)
    rounded = {name: half(weights[name]) for name in weights}
    write_gguf(path, config.to_dict(), tensor_shapes(config), rounded.items(), **options)
    return rounded


def half(weights: Any) -> Any:
    """Scales that float16 holds, so that every type keeps them."""
    if isinstance(weights, TernaryTensor):
        return TernaryTensor(weights.codes, weights.scales.astype(np.float16).astype(np.float32))
    return weights


@pytest.mark.parametrize("ternary_type", ["TQ1_0", "TQ2_0", "Q2_0", "I2_S", "F16", "BF16", "F32"])
@pytest.mark.parametrize("activation", ["silu", "relu2"])
def test_a_model_comes_back_the_same(tmp_path: Path, ternary_type: str, activation: str) -> None:
    fields = fields_of(activation=activation)
    weights = write(tmp_path / "x.gguf", fields, ternary_type=ternary_type, vocabulary=vocabulary(), name="n")
    model = open_gguf(tmp_path / "x.gguf")
    assert model.architecture == {"silu": "bitnet", "relu2": "bitnet-b1.58"}[activation]
    found = ModelConfig.from_dict(model.fields)
    assert found == ModelConfig.from_dict(fields)
    assert model.unknown_tensors == ()
    assert model.vocabulary is not None
    assert model.file.metadata.text("general.name") == "n"
    for name, expected in weights.items():
        if isinstance(expected, TernaryTensor):
            tensor = model.ternary(name)
            assert np.array_equal(tensor.codes, expected.codes)
            if ternary_type != "BF16":
                assert tensor.scales == expected.scales
        elif name == "embedding":
            assert np.array_equal(model.float32(name), expected.astype(np.float16).astype(np.float32))
        else:
            assert np.array_equal(model.float32(name), expected)


def test_models_without_sub_norms_are_llama_or_qwen(tmp_path: Path) -> None:
    fields = fields_of(attention_sub_norm=False, ffn_sub_norm=False, tied_embeddings=False)
    weights = write(tmp_path / "x.gguf", fields, ternary_type="I2_S", head_type="Q8_0")
    model = open_gguf(tmp_path / "x.gguf")
    assert model.architecture == "llama"
    for name in ("layers.0.attention.q", "layers.1.attention.k", "layers.0.attention.v"):
        assert np.array_equal(model.ternary(name).codes, weights[name].codes)
    stored = model.file.ternary("blk.0.attn_q.weight").codes
    assert not np.array_equal(stored, weights["layers.0.attention.q"].codes), "rows are in llama.cpp's order"
    assert model.stored("output_head").type.name == "Q8_0"
    assert np.abs(model.float32("output_head") - weights["output_head"]).max() < 0.05
    assert gguf_architecture_of(fields | {"qk_norm": True}) == "qwen3"


def test_rows_of_scales_and_floats_are_reordered_with_their_rows(tmp_path: Path) -> None:
    fields = fields_of(attention_sub_norm=False, ffn_sub_norm=False)
    config = ModelConfig.from_dict(fields)
    random = np.random.default_rng(0)
    weights: dict[str, Any] = {}
    for name, tensor in random_weights(config).items():
        weights[name] = tensor
        if isinstance(tensor, TernaryTensor):
            scales = random.random(len(tensor.codes)).astype(np.float16).astype(np.float32) + np.float32(0.5)
            weights[name] = TernaryTensor(tensor.codes, scales.astype(np.float16).astype(np.float32))
    weights["layers.1.attention.k"] = random.standard_normal((128, 256), np.float32)
    with pytest.raises(ParameterError, match="real values are written as"):
        write_gguf(tmp_path / "x.gguf", fields, tensor_shapes(config), weights.items(), ternary_type="TQ2_0")
    write_gguf(tmp_path / "x.gguf", fields, tensor_shapes(config), weights.items(), ternary_type="F32")
    model = open_gguf(tmp_path / "x.gguf")
    assert np.array_equal(
        model.ternary("layers.0.attention.q").scales, weights["layers.0.attention.q"].scales
    )
    assert np.array_equal(model.float32("layers.1.attention.k"), weights["layers.1.attention.k"])
    assert not model.is_ternary("layers.1.attention.k")
    assert model.fields["quantize_activations"] is False, "there is a scale for every row"


def test_the_vocabulary_comes_back_the_same(tmp_path: Path) -> None:
    write(
        tmp_path / "x.gguf", vocabulary=vocabulary(), generation={"temperature": 0.5, "top_k": 7, "seed": 1}
    )
    model = open_gguf(tmp_path / "x.gguf")
    found, expected = model.vocabulary, vocabulary()
    assert found is not None
    for field in (
        "model",
        "pre",
        "tokens",
        "merges",
        "special_ids",
        "flags",
        "precompiled_charsmap",
        "chat_templates",
    ):
        assert getattr(found, field) == getattr(expected, field)
    assert np.array_equal(found.scores, expected.scores)
    assert np.array_equal(found.types, expected.types)
    assert model.generation == {"temperature": 0.5, "top_k": 7}
    write(tmp_path / "y.gguf")
    assert open_gguf(tmp_path / "y.gguf").vocabulary is None


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        write(tmp_path / name, vocabulary=vocabulary())
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_metadata_comes_back_with_its_types(tmp_path: Path) -> None:
    values = {
        **{f"k{kind}": MetadataValue(kind, 1) for kind in ValueType if kind.name.startswith(("UINT", "INT"))},
        "f": float32(0.5),
        "d": MetadataValue(ValueType.FLOAT64, 1e300),
        "b": MetadataValue(ValueType.BOOL, True),
        "s": text("é"),
        "as": array_of(ValueType.STRING, ["a", ""]),
        "af": array_of(ValueType.FLOAT32, [1, 2]),
        "ab": array_of(ValueType.BOOL, [True, False]),
        "aa": MetadataValue(ValueType.ARRAY, (array_of(ValueType.INT8, [1]),), ValueType.ARRAY),
        "general.alignment": uint32(64),
    }
    plan = GgufPlan(values, [GgufTensorPlan("t", "F32", (3,)), GgufTensorPlan("u", "F32", (1,))])
    with create_gguf(tmp_path / "x.gguf", plan) as writer:
        writer.write_tensor("t", [np.zeros(2, np.float32), np.ones(1, np.float32)])
        writer.write_tensor("u", [np.ones(1, np.float32)])
    file = GgufFile(tmp_path / "x.gguf")
    assert (tmp_path / "x.gguf").stat().st_size == plan.file_bytes
    for key, expected in values.items():
        found = file.metadata[key]
        assert (found.type, found.element) == (expected.type, expected.element)
        if key == "aa":
            assert found.value[0].value.tolist() == [1]
        elif isinstance(expected.value, np.ndarray):
            assert found.value.tolist() == expected.value.tolist()
        else:
            assert found.value == expected.value
    assert file.float32("t").tolist() == [0, 0, 1]


def test_scales_of_rows_and_groups_are_written_where_the_type_has_room() -> None:
    codes = np.ones((2, 512), np.int8)
    for scales, fits, not_fits in [
        (np.array([0.5, 0.25], np.float32), ("TQ1_0", "TQ2_0", "Q2_0", "F16"), ("I2_S",)),
        (np.array([[0.5, 1], [2, 4]], np.float32), ("TQ1_0", "TQ2_0", "Q2_0", "F16"), ("I2_S",)),
        (np.full((2, 4), 0.5, np.float32), ("Q2_0", "F16"), ("I2_S", "TQ1_0", "TQ2_0")),
        (np.full((2, 16), 0.5, np.float32), ("F16",), ("I2_S", "TQ1_0", "TQ2_0", "Q2_0")),
    ]:
        tensor = TernaryTensor(codes, scales)
        for name in fits:
            assert sum(piece.nbytes for piece in encode_ternary(tensor, name)) > 0
        for name in not_fits:
            with pytest.raises(ParameterError, match="scale"):
                list(encode_ternary(tensor, name))
    odd = TernaryTensor(np.ones((2, 96), np.int8), np.asarray(0.5, np.float32))
    for name in ("I2_S", "TQ1_0", "Q2_0"):
        with pytest.raises(ParameterError, match="96"):
            list(encode_ternary(odd, name))
    for scale in (1e-9, 1e6):
        tiny = TernaryTensor(np.ones((2, 256), np.int8), np.asarray(scale, np.float32))
        with pytest.raises(ParameterError, match="which cannot hold"):
            list(encode_ternary(tiny, "TQ2_0"))
        assert list(encode_ternary(tiny, "I2_S"))
    with pytest.raises(ParameterError, match="no ternary matrix is written as 'IQ2_BN'"):
        list(encode_ternary(tensor, "IQ2_BN"))


def test_values_too_large_for_a_type_are_refused() -> None:
    large = np.full((1, 32), 1e6, np.float32)
    for name in ("F16",):
        with pytest.raises(ParameterError, match="too large for F16"):
            list(encode_floats(large, name))
    huge = np.full((1, 32), 1e38, np.float32)
    for name in ("Q8_0", "Q4_0", "Q5_0"):
        with pytest.raises(ParameterError, match="too large"):
            list(encode_floats(huge, name))
    for name in ("F32", "BF16", "Q8_0"):
        assert list(encode_floats(large, name))
    with pytest.raises(ParameterError, match="rows of 33 weights"):
        list(encode_floats(np.zeros((1, 33), np.float32), "Q8_0"))
    with pytest.raises(ParameterError, match="'Q6_K'"):
        list(encode_floats(large, "Q6_K"))


@pytest.mark.parametrize(
    ("changes", "options", "reason"),
    [
        ({"attention_sub_norm": False}, {}, "no program that reads GGUF runs"),
        (
            {"attention_sub_norm": False, "ffn_sub_norm": False, "activation": "relu2"},
            {},
            "no program that reads",
        ),
        ({"tied_embeddings": False}, {}, "only with tied embeddings"),
        ({"head_dim": 32}, {}, "heads as wide as the model"),
        ({"ffn_size": 500}, {}, r"ffn_down\.weight of shape \[256, 500\] cannot be written as TQ2_0"),
        ({"ffn_size": 300}, {"ternary_type": "I2_S"}, "whose rows are multiples of 128"),
        ({}, {"ternary_type": "Q8_0"}, "written as F32, F16"),
        ({}, {"embedding_type": "TQ9"}, "not 'TQ9'"),
        ({}, {"vocabulary": vocabulary(31)}, "the vocabulary has 31 tokens and the model 32"),
    ],
)
def test_what_other_programs_could_not_run_is_refused(
    tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ParameterError, match=reason):
        write(tmp_path / "x.gguf", fields_of(**changes), **options)
    assert not list(tmp_path.iterdir())


def test_fields_that_a_file_cannot_express_are_refused() -> None:
    with pytest.raises(ParameterError, match="cannot say that a model has rotation"):
        gguf_architecture_of(fields_of(rotation=object()))
    nothing = {"rotation": None, "projection_norms": False, "embedding_scale": 1.0, "rope_scaling": None}
    assert gguf_architecture_of(fields_of(**nothing)) == "bitnet"


def written(path: Path, plan: GgufPlan, tensors: list[tuple[str, np.ndarray]]) -> None:
    with create_gguf(path, plan) as writer:
        for name, values in tensors:
            writer.write_tensor(name, [values])


def test_the_writer_holds_to_its_plan(tmp_path: Path) -> None:
    plan = GgufPlan({}, [GgufTensorPlan("t", "F32", (3,)), GgufTensorPlan("u", "F32", (1,))])
    three = np.zeros(3, np.float32)
    for tensors, reason in [
        ([("t", three)], "1 tensors were not written, 'u' first"),
        ([("u", three)], "the plan has 't' here"),
        ([("t", three), ("u", three)], "u should take 4 bytes and took 12"),
        ([("t", three), ("u", three[:1]), ("v", three)], "no further tensor"),
    ]:
        with pytest.raises(ParameterError, match=reason):
            written(tmp_path / "x.gguf", plan, tensors)
    assert not list(tmp_path.iterdir())
    with pytest.raises(StorageError), create_gguf(tmp_path / "absent" / "x.gguf", plan):
        pass


def test_a_file_is_gone_on_with_behind_what_it_holds(tmp_path: Path) -> None:
    plan = GgufPlan({}, [GgufTensorPlan("t", "F32", (3,)), GgufTensorPlan("u", "F32", (1,))])
    path = tmp_path / "x.gguf"
    written(path, plan, [("t", np.arange(3, dtype=np.float32)), ("u", np.ones(1, np.float32))])
    whole = path.read_bytes()
    path.write_bytes(whole[:-32] + bytes(32))
    with path.open("r+b") as file:
        writer = GgufWriter(file, plan)
        with pytest.raises(ParameterError, match="the plan has 't' here"):
            writer.skip_tensor("u")
        writer.skip_tensor("t")
        writer.write_tensor("u", [np.ones(1, np.float32)])
        writer.finish()
    assert path.read_bytes() == whole


def test_an_interrupted_model_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> Any:
        yield from list(random_weights(CONFIG).items())[:3]
        raise KeyboardInterrupt

    (tmp_path / "x.gguf").write_bytes(b"what was there")
    with pytest.raises(KeyboardInterrupt):
        write_gguf(tmp_path / "x.gguf", CONFIG.to_dict(), tensor_shapes(CONFIG), interrupted())
    assert (tmp_path / "x.gguf").read_bytes() == b"what was there"
    assert [path.name for path in tmp_path.iterdir()] == ["x.gguf"]
    with pytest.raises(ParameterError, match=r"layers\.0\.ffn_norm has the shape \[3\], expected \[256\]"):
        write_gguf(tmp_path / "x.gguf", CONFIG.to_dict(), tensor_shapes(CONFIG),
                   ((name, np.zeros(3, np.float32) if name == "layers.0.ffn_norm" else tensor)
                    for name, tensor in random_weights(CONFIG).items()))  # fmt: skip
    with pytest.raises(ParameterError, match="has no tensor 'strange'"):
        write_gguf(
            tmp_path / "x.gguf",
            CONFIG.to_dict(),
            tensor_shapes(CONFIG),
            [("strange", np.zeros(3, np.float32))],
        )


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: GgufTensorPlan("t", "F32", ()), "1 to 4 dimensions"),
        (lambda: GgufTensorPlan("t", "F32", (1,) * 5), "1 to 4 dimensions"),
        (lambda: GgufTensorPlan("t", "F32", (0,)), "1 to 4 dimensions"),
        (lambda: GgufTensorPlan("t" * 64, "F32", (1,)), "cannot be the name"),
        (lambda: GgufTensorPlan("\n", "F32", (1,)), "cannot be the name"),
        (lambda: GgufPlan({}, [GgufTensorPlan("t", "F32", (1,))] * 2), "the same name"),
        (lambda: GgufPlan({"": uint32(1)}, []), "cannot be a key"),
        (lambda: GgufPlan({"general.alignment": uint32(3)}, []), "a power of two, not 3"),
        (lambda: GgufPlan({"k": uint32(-1)}, []).header(), "k cannot be -1"),
        (lambda: GgufPlan({"k": uint32(2**32)}, []).header(), "stored as uint32"),
        (lambda: GgufPlan({"k": MetadataValue(ValueType.ARRAY, ())}, []).header(), "what its elements are"),
    ],
)
def test_impossible_plans_are_refused(make: Any, reason: str) -> None:
    with pytest.raises(ParameterError, match=reason):
        make()
