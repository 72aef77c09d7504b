"""Random adapters for small decoders, in memory and as the folders that PEFT writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.formats.floats import from_float32
from tercet.formats.huggingface.names import TensorNames
from tercet.formats.matrices import FloatMatrix
from tercet.formats.peft import ADAPTER_CONFIG, ADAPTER_WEIGHTS, LowRankPair
from tercet.formats.safetensors import write_safetensors
from tercet.models.config import ModelConfig
from tercet.models.tensor_names import is_ternary, tensor_shapes

Array = npt.NDArray[np.float32]
Adapter = dict[str, tuple[Array, Array, float]]
"""As `ReferenceDecoder` takes it."""


def random_adapter(
    config: ModelConfig, rank: int = 5, seed: int = 0, parts: Sequence[str] = (), strength: float = 0.3
) -> Adapter:
    """A, B and factor of every matrix whose name ends with one of `parts`, of all without any."""
    random = np.random.default_rng(seed)
    adapter: Adapter = {}
    for name, shape in tensor_shapes(config).items():
        if is_ternary(name) and name.endswith(tuple(parts) or ("",)):
            rows, depth = shape
            reduce = random.standard_normal((rank, depth)).astype(np.float32) / np.float32(np.sqrt(depth))
            expand = (strength * random.standard_normal((rows, rank))).astype(np.float32)
            adapter[name] = reduce, expand, 2.0
    return adapter


def pairs_of(adapter: Adapter, kind: str = "f32") -> dict[str, LowRankPair]:
    """The same as the core takes it, in a type of floats."""

    def matrix(values: Array) -> FloatMatrix:
        rows, depth = values.shape
        return FloatMatrix(kind, rows, depth, from_float32(values, kind).reshape(-1))

    return {name: LowRankPair(matrix(a), matrix(b), scale) for name, (a, b, scale) in adapter.items()}


def write_adapter(folder: Path, adapter: Adapter, **config: Any) -> Path:
    """Write the folder that PEFT's `save_pretrained` would; `config` changes its settings."""
    folder.mkdir(parents=True, exist_ok=True)
    rank = next(iter(adapter.values()))[0].shape[0]
    scale = next(iter(adapter.values()))[2]
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": scale * rank, "bias": "none"} | config
    (folder / ADAPTER_CONFIG).write_text(json.dumps(settings))
    names = TensorNames("llama")
    tensors = {}
    for name, (reduce, expand, _) in adapter.items():
        module = f"base_model.model.{names.module(name)}"
        tensors[f"{module}.lora_A.weight"] = reduce
        tensors[f"{module}.lora_B.weight"] = expand
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    write_safetensors(folder / ADAPTER_WEIGHTS, shapes, iter(tensors.items()), "f32")
    return folder
