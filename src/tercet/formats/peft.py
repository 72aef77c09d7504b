"""Adapters as PEFT writes them: a folder of two files, low-rank additions to the matrices of a model.

    adapter_config.json          how: rank, alpha, which matrices
    adapter_model.safetensors    base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight  [rank, depth]
                                 base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight  [rows, rank]

    y = W x + scale * B (A x)        scale = alpha / rank, or alpha / sqrt(rank) with use_rslora

PEFT knows many relatives of this, which compute something else (DoRA, trained norms or embeddings, biases).
A folder that asks for one is refused by its name: half of an adapter is worse than none. Weights are copied,
for a folder may be overwritten while they are in use.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tercet.errors import FormatError, ModelNotFoundError, UnsupportedModelError
from tercet.formats.fields import Fields, parse_json
from tercet.formats.huggingface.names import TensorNames
from tercet.formats.mapped_file import read_bytes
from tercet.formats.matrices import FloatMatrix
from tercet.formats.safetensors import SafetensorsFile, StoredTensor

__all__ = ["ADAPTER_CONFIG", "ADAPTER_WEIGHTS", "LowRankPair", "PeftAdapter", "read_peft_adapter"]

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

_KEY = re.compile(r"base_model\.model\.(?:model\.)?(layers\..+)\.lora_([AB])(?:\.default)?\.weight")
_REFUSED = {
    "use_dora": "DoRA, which rescales the rows of the matrices",
    "use_qalora": "QALoRA, which pools the inputs",
    "lora_bias": "biases",
    "modules_to_save": "whole matrices that were trained",
    "trainable_token_indices": "embeddings that were trained",
    "alora_invocation_tokens": "an adapter that begins in the middle of a prompt",
    "layer_replication": "layers that are there twice",
    "target_parameters": "parameters that are no linear layers",
    "fan_in_fan_out": "transposed matrices",
}
"""What a setting of PEFT asks for besides y = W x + scale * B (A x)."""


@dataclasses.dataclass(frozen=True, eq=False)
class LowRankPair:
    """What is added to one matrix."""

    reduce: FloatMatrix
    """A, [rank, depth]."""
    expand: FloatMatrix
    """B, [rows, rank]."""
    scale: float


@dataclasses.dataclass(frozen=True, eq=False)
class PeftAdapter:
    """An adapter, read."""

    path: Path
    pairs: Mapping[str, LowRankPair]
    """By the canonical names of the matrices."""
    base_model: str | None
    """What the adapter says it was made for: a name or a path, not checked."""
    digest: bytes
    """Of everything that results depend on: adapters with equal digests are the same one."""

    @property
    def rank(self) -> int:
        """The largest rank."""
        return max(pair.reduce.rows for pair in self.pairs.values())

    @property
    def num_bytes(self) -> int:
        """What the weights occupy."""
        return sum(pair.reduce.data.nbytes + pair.expand.data.nbytes for pair in self.pairs.values())


def read_peft_adapter(path: str | os.PathLike[str]) -> PeftAdapter:
    """Read the folder of an adapter.

    Raises:
        ModelNotFoundError: there is no such folder, or one of its two files is missing.
        FormatError: a file is malformed, a matrix lacks its other half, or a weight is not a finite number.
        UnsupportedModelError: it is an adapter of another kind, or of something else than the seven matrices
            of a layer.
    """
    folder = Path(path)
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise ModelNotFoundError(
                f"{folder} is not an adapter: it holds no {name}. An adapter is a folder that PEFT's "
                f"save_pretrained has written, with {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}"
            )
    config_file = folder / ADAPTER_CONFIG
    parsed = parse_json(read_bytes(config_file), config_file, "the file")
    config = Fields(parsed, config_file, "adapter_config")
    _check_kind(config, parsed, folder)
    halves = _halves(folder)
    scales = _Scales(config)
    pairs = {}
    for module, tensors in halves.items():
        if missing := sorted({"A", "B"} - set(tensors)):
            raise FormatError(f"{folder}: the adapter of {module} has no lora_{missing[0]}")
        reduce, expand = _matrix(tensors["A"]), _matrix(tensors["B"])
        if reduce.rows != expand.depth:
            raise FormatError(
                f"{folder}: lora_A of {module} is [{reduce.rows}, {reduce.depth}] and lora_B "
                f"[{expand.rows}, {expand.depth}]; the rank must be the same"
            )
        pairs[_canonical(module, folder)] = LowRankPair(reduce, expand, scales.of(module, reduce.rows))
    if not pairs:
        raise FormatError(f"{folder}: {ADAPTER_WEIGHTS} holds no matrices")
    base = config.text("base_model_name_or_path") if "base_model_name_or_path" in config else None
    return PeftAdapter(folder, pairs, base, _digest(pairs))


def _check_kind(config: Fields, values: Mapping[str, Any], folder: Path) -> None:
    kind = config.text("peft_type") if "peft_type" in config else "unknown"
    if kind != "LORA":
        raise UnsupportedModelError(
            f"{folder} is an adapter of kind {kind}; adapters of kind LORA are applied"
        )
    for name, what in _REFUSED.items():
        if values.get(name):
            raise UnsupportedModelError(f"{folder} has {what} ({name}), which Tercet does not apply")
    if "bias" in config and config.text("bias") != "none":
        raise UnsupportedModelError(f"{folder} has biases (bias), which Tercet does not apply")


class _Scales:
    """alpha / rank of each matrix."""

    def __init__(self, config: Fields) -> None:
        self._alpha = config.number("lora_alpha")
        self._alphas: dict[str, float] = {}
        self._by_root = "use_rslora" in config and config.flag("use_rslora")
        if "alpha_pattern" in config:
            patterns = config.object("alpha_pattern")
            for pattern in patterns:
                if not re.fullmatch(r"[\w.]+", pattern):
                    raise config.error("alpha_pattern", "names of modules, no regular expressions")
                self._alphas[pattern] = patterns.number(pattern)

    def of(self, module: str, rank: int) -> float:
        alpha = next(
            (value for name, value in self._alphas.items() if f".model.{module}".endswith(f".{name}")),
            self._alpha,
        )
        return alpha / math.sqrt(rank) if self._by_root else alpha / rank


def _halves(folder: Path) -> dict[str, dict[str, StoredTensor]]:
    """Module -> A and B."""
    halves: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in SafetensorsFile(folder / ADAPTER_WEIGHTS).tensors.items():
        match = _KEY.fullmatch(name)
        if match is None:
            raise UnsupportedModelError(
                f"{folder} has {name}, which is no low-rank addition to a matrix of a layer; Tercet applies "
                "adapters of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj"
            )
        halves.setdefault(match[1], {})[match[2]] = tensor
    return halves


def _canonical(module: str, folder: Path) -> str:
    name = TensorNames("llama", prefix="").canonical(f"{module}.weight")
    if name is None or not module.endswith("_proj"):
        raise UnsupportedModelError(
            f"{folder} has an adapter of {module}, which is no matrix that Tercet has"
        )
    return name


def _matrix(tensor: StoredTensor) -> FloatMatrix:
    elements = tensor.elements()
    if len(tensor.shape) != 2 or 0 in tensor.shape:
        raise FormatError(f"{tensor.file}: {tensor.name} is {list(tensor.shape)}, expected two dimensions")
    if not np.isfinite(tensor.float32()).all():
        raise FormatError(f"{tensor.file}: {tensor.name} holds numbers that are not finite")
    return FloatMatrix(tensor.float_type or "f32", *tensor.shape, np.array(elements))


def _digest(pairs: Mapping[str, LowRankPair]) -> bytes:
    digest = hashlib.blake2b(digest_size=32)
    for name, pair in sorted(pairs.items()):
        shapes = [(half.type, half.rows, half.depth) for half in (pair.reduce, pair.expand)]
        digest.update(repr((name, pair.scale, shapes)).encode())
        digest.update(pair.reduce.data.tobytes())
        digest.update(pair.expand.data.tobytes())
    return digest.digest()
