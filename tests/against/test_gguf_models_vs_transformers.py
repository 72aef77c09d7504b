"""GGUF files of every architecture and type, made by the package gguf and by hand, against transformers.

The same random weights lie in a GGUF file (tests/plugins/foreign_gguf.py makes it without our code) and in a
folder that transformers runs. Codes and scales that we read are those that were packed; logits agree.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gguf_files import ARRAY, BOOL, FLOAT32, INT32, STRING, UINT32, array, scalar, string
from tercet.formats.huggingface.names import TensorNames

torch = pytest.importorskip("torch", reason="the package torch is not installed")
transformers = pytest.importorskip("transformers", reason="the package transformers is not installed")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch.compile, a decorator in there, imports what torch has deprecated
    from agreement import Ours, assert_same_embedding, assert_settled_agreement, assert_unrounded_agreement
    from foreign_folders import Original, is_linear
    from foreign_gguf import GROUPED, SIZES, GgufOriginal
    from foreign_logits import Loaded, eager

Verified = Callable[[str, str, str, str], None]


@pytest.fixture(scope="module", autouse=True)
def _eager() -> Iterator[None]:
    with eager():
        yield


TIED = {"tie_word_embeddings": True}
GEMMA = {
    "num_hidden_layers": 2,
    "head_dim": 64,
    "query_pre_attn_scalar": 64,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"],
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    },
}
PATTERN = {"gemma3.attention.sliding_window_pattern": (UINT32, scalar(UINT32, 2))}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bitnet": ("bitnet", TIED | {"hidden_act": "silu"}),
    "bitnet-b1.58": ("bitnet", TIED),
    "llama": ("llama", {}),
    "qwen3": ("qwen3", {"head_dim": 64}),
    "gemma3": ("gemma3", GEMMA),
}
FILES = [
    ("bitnet", "TQ1_0", "Q6_K"),
    ("bitnet", "TQ2_0", "F16"),
    ("bitnet", "I2_S", "Q8_0"),
    ("bitnet", "F32", "F32"),
    ("bitnet-b1.58", "I2_S", "F16"),
    ("bitnet-b1.58", "IQ1_BN", "Q4_0"),
    ("bitnet-b1.58", "IQ2_BN", "F16"),
    ("bitnet-b1.58", "F16", "F16"),
    ("llama", "TQ1_0", "Q4_K"),
    ("llama", "TQ2_0", "Q5_0"),
    ("llama", "Q2_0", "Q4_0"),
    ("llama", "I2_S", "F16"),
    ("llama", "IQ2_BN_R4", "Q8_0"),
    ("llama", "BF16", "BF16"),
    ("qwen3", "TQ2_0", "Q8_0"),
    ("qwen3", "Q2_0", "Q6_K"),
    ("gemma3", "TQ2_0", "Q8_0"),
]


def assert_same_weights(ours: Ours, made: GgufOriginal) -> None:
    names = TensorNames(made.original.family)
    for name, tensor in made.original.weights.items():
        if tensor.ndim == 1 or not (is_linear(name) or made.kind in GROUPED):
            continue
        canonical = names.canonical(name)
        assert canonical is not None
        codes, scales = made.ternary(name)
        found = ours.model.reference_weights[canonical]
        np.testing.assert_array_equal(found.codes, codes)
        np.testing.assert_array_equal(np.broadcast_to(found.scales, scales.shape), scales)


@pytest.mark.parametrize(("architecture", "kind", "embedding_type"), FILES)
def test_one_scale_for_each_matrix(
    tmp_path: Path,
    architecture: str,
    kind: str,
    embedding_type: str,
    monkeypatch: pytest.MonkeyPatch,
    verified: Verified,
) -> None:
    family, changes = ARCHITECTURES[architecture]
    made = GgufOriginal(Original.random(family, **(SIZES | changes)), kind, embedding_type)
    extra = PATTERN if family == "gemma3" else {}
    ours = Ours(made.write(tmp_path / "model.gguf", architecture, extra))
    theirs = Loaded(made.save_twin(tmp_path / "twin"))
    assert_same_weights(ours, made)
    assert_unrounded_agreement(ours, theirs)
    assert_settled_agreement(ours, theirs, monkeypatch)
    verified(family, f"gguf {kind}", "read", "codes, scales, logits of transformers")


@pytest.mark.parametrize("kind", GROUPED)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_scale_for_each_group(tmp_path: Path, kind: str, tied: bool, verified: Verified) -> None:
    """Bonsai: embedding and head too."""
    original = Original.random("qwen3", **(SIZES | {"head_dim": 64, "tie_word_embeddings": tied}))
    made = GgufOriginal(original, kind)
    ours = Ours(made.write(tmp_path / "model.gguf"))
    assert not ours.config.quantize_activations
    assert_same_weights(ours, made)
    assert_unrounded_agreement(ours, Loaded(made.save_twin(tmp_path / "twin")))
    verified("bonsai", f"gguf {kind}", "read", "codes, scales, logits of transformers")


@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
def test_bitnet_embedding(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch, verified: Verified
) -> None:
    """A norm for each projection, and the last token's vector; the epsilon is that of the model."""
    changes = ARCHITECTURES[family][1] | TIED | {"rms_norm_eps": 1e-4}
    if family == "gemma3":  # every sixth layer sees everything where a file does not say
        changes |= {"layer_types": ["sliding_attention"] * 2}
    original = Original.random(family, **(SIZES | changes)).with_projection_norms()
    made = GgufOriginal(original, "TQ2_0")
    pooling = {f"{family}.pooling_type": (UINT32, scalar(UINT32, 3))}
    ours = Ours(made.write(tmp_path / "model.gguf", extra=pooling))
    assert ours.config.projection_norms
    assert (ours.config.pooling, ours.config.normalize_embeddings) == ("last", True)
    theirs = Loaded(made.save_twin(tmp_path / "twin"))
    assert_same_weights(ours, made)
    assert_unrounded_agreement(ours, theirs)
    assert_settled_agreement(ours, theirs, monkeypatch)
    assert_same_embedding(ours, theirs)
    verified(f"embedding-{family}", "gguf TQ2_0", "read", "codes, scales, logits and vectors of transformers")


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def test_llama3_rope_as_a_tensor_of_factors(tmp_path: Path) -> None:
    """As `LlamaModel.generate_extra_tensors` of convert_hf_to_gguf.py works them out."""
    rope = {"rope_type": "llama3", "rope_theta": 10_000.0, "original_max_position_embeddings": 32, **LLAMA3}
    original = Original.random("llama", **(SIZES | {"rope_parameters": rope}))
    made = GgufOriginal(original, "TQ2_0")
    frequencies = 1 / 10_000.0 ** (np.arange(0, 64, 2) / 64)
    low, high = 32 / LLAMA3["low_freq_factor"], 32 / LLAMA3["high_freq_factor"]
    factors = []
    for length in 2 * np.pi / frequencies:
        smooth = (32 / length - LLAMA3["low_freq_factor"]) / (
            LLAMA3["high_freq_factor"] - LLAMA3["low_freq_factor"]
        )
        between = 1 / ((1 - smooth) / LLAMA3["factor"] + smooth)
        factors.append(1.0 if length < high else LLAMA3["factor"] if length > low else between)
    assert len(set(factors)) > 3
    ours = Ours(made.write(tmp_path / "model.gguf", factors=np.array(factors, np.float32)))
    assert_unrounded_agreement(ours, Loaded(made.save_twin(tmp_path / "twin")))


def test_yarn(tmp_path: Path) -> None:
    rope = {
        "rope_type": "yarn",
        "rope_theta": 10_000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    original = Original.random("qwen3", **(SIZES | {"head_dim": 64, "rope_parameters": rope}))
    made = GgufOriginal(original, "TQ1_0")
    extra = {
        "qwen3.rope.scaling.type": (STRING, string("yarn")),
        "qwen3.rope.scaling.factor": (FLOAT32, scalar(FLOAT32, 4.0)),
        "qwen3.rope.scaling.original_context_length": (UINT32, scalar(UINT32, 16)),
    }
    ours = Ours(made.write(tmp_path / "model.gguf", extra=extra))
    assert_unrounded_agreement(ours, Loaded(made.save_twin(tmp_path / "twin")))


BLOCK = 64
PREFIX = "prism.hadamard."


def hadamard(size: int) -> Any:
    """Sylvester's matrix over the root of its size: orthogonal and symmetric."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / size**0.5


@pytest.mark.parametrize("signed", [False, True], ids=["identity", "signs"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_rotated_bonsai(tmp_path: Path, signed: bool, tied: bool, verified: Verified) -> None:
    """The file's weights are W R^T; the twin has W, as floats, and knows of no rotation."""
    original = Original.random("qwen3", **(SIZES | {"head_dim": 64, "tie_word_embeddings": tied}))
    made = GgufOriginal(original, "PQ2_0")
    matrices = [name for name, tensor in original.weights.items() if tensor.ndim == 2]
    stored = {name: made.stored_name(name) for name in matrices}
    random = np.random.default_rng(8)
    signs = {width: random.choice([-1, 1], width) if signed else np.ones(width) for width in (256, 512)}
    tables = {"token_embd.weight"}
    inputs = [name for name in stored.values() if name not in tables]
    extra = {
        PREFIX + "version": (UINT32, scalar(UINT32, 2 if tied else 1)),
        PREFIX + "tied_output": (BOOL, scalar(BOOL, tied)),
        PREFIX + "block_size": (UINT32, scalar(UINT32, BLOCK)),
        PREFIX + "transform": (STRING, string("normalized-sylvester-walsh-hadamard")),
        PREFIX + "axis": (STRING, string("input-last-dimension")),
        PREFIX + "sign_mode": (STRING, string("explicit" if signed else "identity")),
        PREFIX + "weight_names": (ARRAY, array(STRING, inputs)),
        PREFIX + "inverse_weight_names": (ARRAY, array(STRING, sorted(tables))),
    }
    if signed:
        values = np.concatenate(list(signs.values())).tolist()
        extra[PREFIX + "sign_widths"] = (ARRAY, array(INT32, list(signs)))
        extra[PREFIX + "sign_values"] = (ARRAY, array(INT32, [int(value) for value in values]))
    path = made.write(tmp_path / "model.gguf", extra=extra)

    unrotated = Original("qwen3", original.config, dict(original.weights))
    for name in matrices:
        codes, scales = made.ternary(name)
        weight = torch.from_numpy(codes * np.repeat(scales, 128, axis=1))
        rows, width = weight.shape
        turned = (weight.reshape(rows, -1, BLOCK) @ hadamard(BLOCK)).reshape(rows, width)
        unrotated.weights[name] = turned * torch.from_numpy(signs[width]).float()
    ours = Ours(path)
    assert ours.config.rotation is not None
    assert_same_weights(ours, made)
    assert_unrounded_agreement(ours, Loaded(unrotated.save(tmp_path / "twin", "floats")))
    verified(
        "bonsai-rotated", "gguf PQ2_0", "read", "codes, scales, logits of transformers on turned weights"
    )
