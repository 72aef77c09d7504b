"""Saving a model as a folder that transformers loads: how training hands its checkpoints on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.errors import ParameterError
from tercet.formats.huggingface import FolderPlan, write_folder
from tercet.formats.matrices import FloatMatrix
from tercet.models.config import ModelConfig
from tercet.models.tensor_names import is_ternary, tensor_shapes

__all__ = ["save_huggingface_folder"]


def save_huggingface_folder(
    path: str | os.PathLike[str],
    config: ModelConfig,
    weights: Iterable[tuple[str, npt.NDArray[np.float32]]],
    *,
    float_type: str = "f32",
    tokenizer_json: bytes | None = None,
    chat_template: str | None = None,
    generation: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model folder with master weights. It appears complete or not at all.

    The class of transformers follows from the config (`BitNetForCausalLM`, `LlamaForCausalLM`,
    `Qwen3ForCausalLM`, ...). Where `config.quantize_activations` is true the folder says that its linear
    layers become ternary on loading (absmean, per tensor) and round their inputs to int8; where it is false
    it is a plain full-precision model.

    Args:
        path: the folder to make.
        config: the shape of the model.
        weights: canonical names and values, taken one at a time, in the order of
            `tercet.models.tensor_names.tensor_shapes(config)`.
        float_type: how they are stored: `f32` (a checkpoint to go on from) or `bf16` (half the size).
        tokenizer_json: the bytes of tokenizer.json.
        chat_template: a Jinja template.
        generation: sampling settings in the names of `SamplingParams`.
        overwrite: whether a model folder of this name may be replaced.

    Raises:
        ParameterError: a weight is missing, unknown, out of order or of another shape, or no class of
            transformers is like this config.
        StorageError: the folder exists, or cannot be written.
    """
    shapes = tensor_shapes(config)
    ternary = {name: "tensor" for name in shapes if is_ternary(name)} if config.quantize_activations else {}
    plan = FolderPlan(
        config.to_dict(),
        shapes,
        ternary,
        "online" if config.quantize_activations else "floats",
        float_type,
        tokenizer_json=tokenizer_json,
        chat_template=chat_template,
        generation=generation or {},
    )

    def matrices() -> Iterable[tuple[str, FloatMatrix]]:
        for name, values in weights:
            if name not in shapes:
                raise ParameterError(f"a model of this config has no tensor {name!r}")
            if values.shape != shapes[name]:
                raise ParameterError(
                    f"{name} has the shape {list(values.shape)}, expected {list(shapes[name])}"
                )
            rows, depth = values.shape if values.ndim == 2 else (1, values.size)
            yield name, FloatMatrix("f32", rows, depth, values.astype(np.float32, copy=False).reshape(-1))

    write_folder(path, plan, matrices(), overwrite=overwrite)
