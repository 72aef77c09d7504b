"""Saving a model as a folder that transformers loads: how training hands its checkpoints on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.errors import ParameterError
from tercet.formats.huggingface import write_folder
from tercet.models.config import ModelConfig
from tercet.models.tensor_names import tensor_shapes, to_huggingface

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
    """Write a folder of `BitNetForCausalLM` with master weights. It appears complete or not at all.

    Where `config.quantize_activations` is true the folder says that its linear layers become ternary on
    loading (absmean, per tensor) and round their inputs to int8; where it is false it is a plain
    full-precision model.

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
        ParameterError: a weight is missing, unknown, out of order or of another shape, or a
            `BitNetForCausalLM` cannot be like this config.
        StorageError: the folder exists, or cannot be written.
    """
    names = {name: str(to_huggingface(name)) for name in tensor_shapes(config)}

    def renamed() -> Iterable[tuple[str, npt.NDArray[np.float32]]]:
        for name, values in weights:
            if name not in names:
                raise ParameterError(f"a model of this config has no tensor {name!r}")
            yield names[name], values

    write_folder(
        path,
        config.to_dict(),
        {names[name]: shape for name, shape in tensor_shapes(config).items()},
        renamed(),
        float_type=float_type,
        tokenizer_json=tokenizer_json,
        chat_template=chat_template,
        generation=generation,
        overwrite=overwrite,
    )
