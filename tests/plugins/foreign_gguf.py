"""GGUF files of the random models of `foreign_folders`, and folders that are the same to transformers.

The names of tensors and keys, and what the package `gguf` can quantize, are the package's; types that it does
not know are packed by the loops of `gguf_files`. Conventions of the converters of llama.cpp are followed here
by hand: rows of queries and keys of `llama` go in neighbouring pairs, norms of `gemma3` have 1 added.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, quants

from foreign_folders import GROUP, Original, is_linear, split
from gguf_files import (
    FLOAT32,
    STRING,
    TYPES,
    UINT32,
    Tensor,
    blocks,
    container,
    ptq1_0,
    q1_0,
    q2_0,
    scalar,
    string,
)

SIZES: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 1}
"""TQ1_0 and TQ2_0 hold rows of a multiple of 256."""
Pack = Callable[[np.ndarray, np.ndarray], bytes]
"""(codes int8 [rows, depth], scales float32 [rows, depth / 128]) -> the bytes of a tensor."""


def _grouped(pack: Callable[[np.ndarray, float], bytes]) -> Pack:
    return lambda codes, scales: blocks(pack, codes, scales)


def _one_scale(name: str) -> tuple[int, Pack]:
    number, pack = TYPES[name]
    return number, lambda codes, scales: pack(codes, float(scales[0, 0]))


def _of_package(name: str) -> tuple[int, Pack]:
    kind = GGMLQuantizationType[name]

    def pack(codes: np.ndarray, scales: np.ndarray) -> bytes:
        values = codes * np.repeat(scales, GROUP, axis=1)
        return bytes(np.ascontiguousarray(quants.quantize(values.astype(np.float32), kind)).tobytes())

    return int(kind), pack


TERNARY: Mapping[str, tuple[int, Pack]] = {
    **{name: _of_package(name) for name in ("TQ1_0", "TQ2_0", "F16", "F32", "BF16")},
    **{name: _one_scale(name) for name in ("I2_S", "Q2_0", "IQ1_BN", "IQ2_BN", "IQ2_BN_R4")},
    "PQ2_0": (142, _grouped(q2_0)),
    "PTQ1_0": (143, _grouped(ptq1_0)),
    "Q2_0 of 128": (42, _grouped(q2_0)),
    "Q1_0": (41, _grouped(q1_0)),
}
GROUPED = {"PQ2_0": "groups", "PTQ1_0": "groups", "Q2_0 of 128": "groups", "Q1_0": "binary groups"}
"""Types with a scale for 128 weights of a row, of which embedding and head are, too."""

OTHER_NAMES = {"attn_sub_norm": "inner_attn_ln", "ffn_sub_norm": "ffn_layernorm"}
"""The package knows the sub-norms by the names that 1bitLLM gave them."""
ARCHITECTURES = {
    "bitnet": gguf.MODEL_ARCH.BITNET,
    "llama": gguf.MODEL_ARCH.LLAMA,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gemma3": gguf.MODEL_ARCH.GEMMA3,
}


@dataclasses.dataclass
class GgufOriginal:
    """A model, the type that its matrices shall have, and that of the embedding."""

    original: Original
    kind: str
    embedding_type: str = "F16"

    def __post_init__(self) -> None:
        self.form = GROUPED.get(self.kind, "codes")
        self.embedding: bytes | None = None
        if self.form == "codes":
            name = "model.embed_tokens.weight"
            self.embedding, values = quantized(self.original.weights[name].numpy(), self.embedding_type)
            self.original.weights[name] = torch.from_numpy(values)

    def save_twin(self, folder: Path) -> Path:
        """Write the folder for transformers."""
        return self.original.save(folder, self.form)

    def ternary(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Codes int8 [rows, depth] and scales float32 [rows, depth / 128] of a matrix."""
        codes, scales = split(self.original.weights[name], self.form)
        return codes.numpy().astype(np.int8), scales.numpy()[:, ::GROUP].astype(np.float32)

    def write(
        self,
        path: Path,
        architecture: str | None = None,
        extra: Mapping[str, tuple[int, bytes]] | None = None,
        factors: np.ndarray | None = None,
    ) -> Path:
        """Write the file; `extra` are more values, `factors` the tensor rope_freqs."""
        tensors = [self._tensor(name) for name in self.original.weights]
        if factors is not None:
            tensors.append(_floats("rope_freqs.weight", factors))
        values = self._metadata(architecture or self.original.family) | dict(extra or {})
        path.write_bytes(container([(key, *value) for key, value in values.items()], tensors))
        return path

    def stored_name(self, name: str) -> str:
        """What llama.cpp calls the tensor, by the package's own list."""
        architecture = ARCHITECTURES[self.original.family]
        names = gguf.get_tensor_name_map(architecture, self.original.config["num_hidden_layers"])
        if ".rms_norm." in name:
            linear = names.get_name(name.replace(".rms_norm", ""), try_suffixes=(".weight",))
            return linear.replace(".weight", "_norm_in.weight")
        for ours, theirs in OTHER_NAMES.items():
            name = name.replace(ours, theirs)
        found = names.get_name(name, try_suffixes=(".weight",))
        assert found is not None, name
        return str(found)

    def _tensor(self, name: str) -> Tensor:
        stored, tensor = self.stored_name(name), self.original.weights[name]
        if tensor.ndim == 1:
            is_norm_of_gemma = self.original.family == "gemma3" and ".rms_norm." not in name
            return _floats(stored, tensor.numpy() + np.float32(is_norm_of_gemma))
        if name == "model.embed_tokens.weight" and self.embedding is not None:
            return Tensor(
                stored, tensor.shape[::-1], GGMLQuantizationType[self.embedding_type], self.embedding
            )
        if not is_linear(name) and self.form == "codes":
            return _floats(stored, tensor.numpy())
        codes, scales = self.ternary(name)
        if self.original.family == "llama" and ("q_proj" in name or "k_proj" in name):
            heads = self.original.config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
            codes, scales = _permuted(codes, heads), _permuted(scales, heads)
        number, pack = TERNARY[self.kind]
        return Tensor(stored, codes.shape[::-1], number, pack(codes, scales))

    def _metadata(self, architecture: str) -> dict[str, tuple[int, bytes]]:
        config = self.original.config
        head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        keys = gguf.Keys
        own: dict[str, int | float] = {
            keys.LLM.CONTEXT_LENGTH: config["max_position_embeddings"],
            keys.LLM.EMBEDDING_LENGTH: config["hidden_size"],
            keys.LLM.BLOCK_COUNT: config["num_hidden_layers"],
            keys.LLM.FEED_FORWARD_LENGTH: config["intermediate_size"],
            keys.Attention.HEAD_COUNT: config["num_attention_heads"],
            keys.Attention.HEAD_COUNT_KV: config["num_key_value_heads"],
            keys.Attention.KEY_LENGTH: head_dim,
            keys.Attention.VALUE_LENGTH: head_dim,
            keys.Attention.LAYERNORM_RMS_EPS: config["rms_norm_eps"],
            keys.Rope.DIMENSION_COUNT: head_dim,
            keys.Rope.FREQ_BASE: float(_rope(config)["rope_theta"]),
        }
        if self.original.family == "gemma3":
            own[keys.Attention.SLIDING_WINDOW] = config["sliding_window"]
        values = {keys.General.ARCHITECTURE: (STRING, string(architecture))}
        for key, value in own.items():
            kind = FLOAT32 if isinstance(value, float) else UINT32
            values[key.format(arch=architecture)] = (kind, scalar(kind, value))
        return values


def quantized(values: np.ndarray, type_name: str) -> tuple[bytes, np.ndarray]:
    """The bytes of a float matrix in a type, and what the package makes of them.

    The package only reads the types with blocks of 256: there the values are random, of about the same size.
    """
    kind = GGMLQuantizationType[type_name]
    if type_name in ("Q4_K", "Q6_K"):
        data = _random_blocks(type_name, values.size // 256, float(values.std()))
        data = data.reshape(len(values), -1)
    else:
        data = quants.quantize(values, kind)
    read = quants.dequantize(data, kind).astype(np.float32).reshape(values.shape)
    return np.ascontiguousarray(data).tobytes(), read


def _random_blocks(type_name: str, count: int, spread: float) -> np.ndarray:
    random = np.random.default_rng(4)
    if type_name == "Q6_K":  # ql[128], qh[64], int8 scales[16], d: d * scale * (-32 .. 31)
        data = random.integers(0, 256, (count, 210)).astype(np.uint8)
        data[:, 208:] = np.array([spread / (74 * 18.5)], "<f2").view(np.uint8)
    else:  # d, dmin, scales[12], qs[128]: d * (0 .. 63) * (0 .. 15) - dmin * (0 .. 63)
        data = random.integers(0, 256, (count, 144)).astype(np.uint8)
        data[:, :4] = np.array([spread / 280, 7.5 * spread / 280], "<f2").view(np.uint8)
    return data


def _floats(name: str, values: np.ndarray) -> Tensor:
    return Tensor(name, values.shape[::-1], 0, values.astype("<f4").tobytes())


def _permuted(rows: np.ndarray, heads: int) -> np.ndarray:
    """As `LlamaModel.permute` of convert_hf_to_gguf.py."""
    return rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters: Mapping[str, Any] = config["rope_parameters"]
    return parameters.get("full_attention", parameters)
