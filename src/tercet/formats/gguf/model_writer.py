"""Writing a whole model as a GGUF file that llama.cpp and its relatives open.

    write_gguf(path, fields, shapes, tensors, ternary_type="TQ2_0", vocabulary=vocabulary)

Which programs open it depends on the architecture, which follows from the fields, and on the type:

    fields                                     architecture    opened by
    both sub-norms, SiLU                       bitnet          llama.cpp, bitnet.cpp, ik_llama.cpp
    both sub-norms, squared ReLU (2B-4T)       bitnet-b1.58    bitnet.cpp, ik_llama.cpp
    no sub-norms, SiLU                         llama           all
    the same with a norm of queries and keys   qwen3           llama.cpp, ik_llama.cpp

    TQ1_0, TQ2_0, Q2_0                         llama.cpp
    I2_S                                       bitnet.cpp, ik_llama.cpp after requantizing
    F16, F32                                   all

Norms are F32. What other programs cannot be told is refused.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.errors import ParameterError
from tercet.formats.gguf.encoding import encode_floats, encode_ternary
from tercet.formats.gguf.model import NEIGHBOURING_PAIRS, is_paired, is_projection, neighbours_from_halves
from tercet.formats.gguf.tensor_names import to_gguf
from tercet.formats.gguf.values import MetadataValue, float32, text, uint32
from tercet.formats.gguf.vocabulary import GgufVocabulary, vocabulary_metadata
from tercet.formats.gguf.writer import GgufPlan, GgufTensorPlan, create_gguf
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["gguf_plan", "model_metadata", "tensor_pieces", "write_gguf"]

FILE_TYPES = {"F32": 0, "F16": 1, "BF16": 32, "TQ1_0": 36, "TQ2_0": 37, "I2_S": 40, "Q2_0": 41}
"""`general.file_type` by the type of the projections, as llama.cpp and bitnet.cpp number them."""
QUANTIZATION_VERSION = 2

_EXPRESSIBLE = frozenset(
    {
        "architecture", "hidden_size", "ffn_size", "num_layers", "num_heads", "num_kv_heads", "head_dim",
        "vocab_size", "max_context", "rope_theta", "rms_norm_eps", "activation", "attention_sub_norm",
        "ffn_sub_norm", "tied_embeddings", "quantize_activations", "bos_token_id", "eos_token_ids",
        "pad_token_id", "qk_norm", "add_bos", "rope_scaling", "weight_rule",
    }
)  # fmt: skip
_NEUTRAL = {"embedding_scale": 1.0}
"""Values of other fields that mean nothing, besides None, False and nothing at all."""
_SAMPLING = {
    "temperature": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "penalty_repeat",
}

Weights = TernaryTensor | npt.NDArray[np.float32]


def write_gguf(
    path: str | os.PathLike[str],
    fields: Mapping[str, Any],
    shapes: Mapping[str, Sequence[int]],
    tensors: Iterable[tuple[str, Weights]],
    *,
    ternary_type: str = "TQ2_0",
    embedding_type: str = "F16",
    head_type: str | None = None,
    vocabulary: GgufVocabulary | None = None,
    generation: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> None:
    """Write a model. The file appears complete or not at all; tensors are taken one at a time.

    Args:
        path: the file.
        fields: what `ModelConfig.to_dict` returns.
        shapes: canonical name -> shape of every tensor, in the order of `tensors`.
        tensors: canonical names and weights.
        ternary_type: how the projections are stored: TQ1_0, TQ2_0, Q2_0, I2_S, F16, BF16 or F32.
        embedding_type: how the embedding is stored: F32, F16, BF16, Q8_0, Q5_0 or Q4_0.
        head_type: the same for the output head, if there is one; by default as the embedding.
        vocabulary: what the file says of the tokenizer. Without one, other programs take token ids only.
        generation: recommended sampling settings, under the names of `SamplingParams`.
        name: what the model is called.

    Raises:
        ParameterError: other programs could not run such a model, or a tensor does not fit its type, or the
            tensors are not those of `shapes`.
        StorageError: the disk is full, or the folder cannot be written to.
    """
    metadata = model_metadata(
        fields, ternary_type, vocabulary=vocabulary, generation=generation or {}, name=name
    )
    kinds = {name: ternary_type for name in shapes if is_projection(name)}
    kinds |= {"embedding": embedding_type, "output_head": head_type or embedding_type}
    plan = gguf_plan(metadata, shapes, kinds)
    types = {tensor.name: tensor.type for tensor in plan.tensors}
    with create_gguf(path, plan) as writer:
        for canonical, weights in tensors:
            theirs = to_gguf(canonical)
            if theirs is None or theirs not in types:
                raise ParameterError(f"a model of these shapes has no tensor {canonical!r}")
            writer.write_tensor(*tensor_pieces(canonical, weights, fields, shapes[canonical], types[theirs]))


def tensor_pieces(
    canonical: str, weights: Weights, fields: Mapping[str, Any], shape: Sequence[int], kind: str
) -> tuple[str, Iterable[npt.NDArray[np.uint8]]]:
    """Return what a tensor is called in a file, and its bytes there, in portions.

    Args:
        canonical: our name for it.
        weights: codes and scales, or real values.
        fields: what `ModelConfig.to_dict` returns; the architecture may want rows in another order.
        shape: what the plan says of it.
        kind: the type that it is to have.

    Raises:
        ParameterError: it has no name there, is of another shape, or does not fit its type.
    """
    theirs = to_gguf(canonical)
    if theirs is None:
        raise ParameterError(f"a GGUF file has no name for the tensor {canonical!r}")
    if tuple(weights.shape) != tuple(shape):
        raise ParameterError(f"{canonical} has the shape {list(weights.shape)}, expected {list(shape)}")
    if is_paired(canonical) and gguf_architecture_of(fields) in NEIGHBOURING_PAIRS:
        heads = fields["num_heads" if canonical.endswith("q") else "num_kv_heads"]
        weights = _reordered(weights, int(heads))
    if isinstance(weights, TernaryTensor):
        return theirs, encode_ternary(weights, kind)
    return theirs, encode_floats(np.ascontiguousarray(weights, np.float32), kind)


def gguf_architecture_of(fields: Mapping[str, Any]) -> str:
    """Return what other programs call a model with these fields.

    Raises:
        ParameterError: they have no such model.
    """
    for key, value in fields.items():
        if key not in _EXPRESSIBLE and value and value != _NEUTRAL.get(key):
            raise ParameterError(f"a GGUF file for other programs cannot say that a model has {key}")
    sub_norms = {fields["attention_sub_norm"], fields["ffn_sub_norm"]}
    qk_norm = bool(fields.get("qk_norm", False))
    if sub_norms == {True} and not qk_norm:
        if not fields["tied_embeddings"] or fields["num_heads"] * fields["head_dim"] != fields["hidden_size"]:
            raise ParameterError(
                "the programs that read GGUF run models with sub-norms only with tied embeddings and heads "
                "as wide as the model; this one has not"
            )
        return {"silu": "bitnet", "relu2": "bitnet-b1.58"}[fields["activation"]]
    if sub_norms == {False} and fields["activation"] == "silu":
        return "qwen3" if qk_norm else "llama"
    raise ParameterError(
        f"no program that reads GGUF runs a model with the activation {fields['activation']!r} and "
        f"attention_sub_norm {fields['attention_sub_norm']}, ffn_sub_norm {fields['ffn_sub_norm']}, "
        f"qk_norm {qk_norm}"
    )


def model_metadata(
    fields: Mapping[str, Any],
    ternary_type: str,
    *,
    vocabulary: GgufVocabulary | None = None,
    generation: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> dict[str, MetadataValue]:
    """Return the metadata of a file for a model with these fields.

    Raises:
        ParameterError: other programs could not run such a model, or the vocabulary is of another size.
    """
    if ternary_type not in FILE_TYPES:
        raise ParameterError(
            f"the projections of a GGUF file are written as {', '.join(FILE_TYPES)}, not {ternary_type!r}"
        )
    if vocabulary is not None and len(vocabulary.tokens) != fields["vocab_size"]:
        raise ParameterError(
            f"the vocabulary has {len(vocabulary.tokens)} tokens and the model {fields['vocab_size']}: "
            "other programs would refuse the file"
        )
    architecture = gguf_architecture_of(fields)
    values = {"general.architecture": text(architecture)}
    if name is not None:
        values["general.name"] = text(name)
    values["general.file_type"] = uint32(FILE_TYPES[ternary_type])
    values["general.quantization_version"] = uint32(QUANTIZATION_VERSION)
    own = {
        "vocab_size": uint32(fields["vocab_size"]),
        "context_length": uint32(fields["max_context"]),
        "embedding_length": uint32(fields["hidden_size"]),
        "block_count": uint32(fields["num_layers"]),
        "feed_forward_length": uint32(fields["ffn_size"]),
        "attention.head_count": uint32(fields["num_heads"]),
        "attention.head_count_kv": uint32(fields["num_kv_heads"]),
        "attention.key_length": uint32(fields["head_dim"]),
        "attention.value_length": uint32(fields["head_dim"]),
        "attention.layer_norm_rms_epsilon": float32(fields["rms_norm_eps"]),
        "rope.dimension_count": uint32(fields["head_dim"]),
        "rope.freq_base": float32(fields["rope_theta"]),
    }
    own |= _rope_scaling(fields.get("rope_scaling"), architecture)
    values |= {f"{architecture}.{key}": value for key, value in own.items()}
    for key, setting in (generation or {}).items():
        if key in _SAMPLING:
            make = uint32 if key == "top_k" else float32
            values[f"general.sampling.{_SAMPLING[key]}"] = make(setting)
    if vocabulary is None:
        return values | {"tokenizer.ggml.model": text("none")}
    return values | vocabulary_metadata(vocabulary)


def gguf_plan(
    metadata: Mapping[str, MetadataValue], shapes: Mapping[str, Sequence[int]], kinds: Mapping[str, str]
) -> GgufPlan:
    """Give every tensor of a model its name and type in the file.

    Args:
        metadata: the values of the file.
        shapes: canonical name -> shape.
        kinds: canonical name -> type; what is not in it is F32, as norms are.

    Raises:
        ParameterError: a tensor has no name there, or does not fit its type.
    """
    tensors = []
    for canonical, shape in shapes.items():
        theirs = to_gguf(canonical)
        if theirs is None:
            raise ParameterError(f"a GGUF file has no name for the tensor {canonical!r}")
        tensors.append(GgufTensorPlan(theirs, kinds.get(canonical, "F32"), tuple(shape)))
    return GgufPlan(metadata, tensors)


def _rope_scaling(scaling: Mapping[str, Any] | None, architecture: str) -> dict[str, MetadataValue]:
    """Return the keys for a stretched context; llama3 and factors are a tensor, `rope_factors`."""
    if not scaling:
        return {}
    kind = scaling["kind"]
    if kind in ("llama3", "factors"):
        if architecture != "llama":
            raise ParameterError(
                f"the programs that read GGUF scale RoPE by factors in the architecture llama only, not in "
                f"{architecture}"
            )
        return {}
    values = {"type": text(kind), "factor": float32(scaling["factor"])}
    if kind == "yarn":
        usual = 1 + 0.1 * math.log(scaling["factor"])
        values |= {
            "original_context_length": uint32(scaling["original_max_context"]),
            "yarn_beta_fast": float32(scaling["beta_fast"]),
            "yarn_beta_slow": float32(scaling["beta_slow"]),
        }
        if not math.isclose(scaling["attention_factor"], usual, rel_tol=1e-6):
            values["attn_factor"] = float32(scaling["attention_factor"] / usual)
    return {f"rope.scaling.{key}": value for key, value in values.items()}


def _reordered(weights: Weights, num_heads: int) -> Weights:
    order = neighbours_from_halves(weights.shape[0], num_heads)
    if not isinstance(weights, TernaryTensor):
        return weights[order]
    scales = weights.scales if weights.scales.ndim == 0 else weights.scales[order]
    return TernaryTensor(weights.codes[order], scales)
