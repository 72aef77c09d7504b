"""Adapters (LoRA) that belong to a model: read, and checked against its shape."""

from __future__ import annotations

import os

from tercet.errors import UnsupportedModelError
from tercet.formats.peft import PeftAdapter, read_peft_adapter
from tercet.models.config import ModelConfig
from tercet.models.provenance import check_provenance
from tercet.models.tensor_names import is_ternary, tensor_shapes

__all__ = ["load_adapter"]


def load_adapter(path: str | os.PathLike[str], config: ModelConfig) -> PeftAdapter:
    """Read the folder of an adapter for a model.

    Raises:
        ModelNotFoundError, FormatError: see `read_peft_adapter`.
        UntrustedModelError: it lacks the manifest or signature that the settings demand.
        UnsupportedModelError: the same, or the adapter was made for a model of another shape.
    """
    check_provenance(path)
    adapter = read_peft_adapter(path)
    shapes = {name: shape for name, shape in tensor_shapes(config).items() if is_ternary(name)}
    made_for = f"; it was made for {adapter.base_model}" if adapter.base_model else ""
    for name, pair in adapter.pairs.items():
        if name not in shapes:
            raise UnsupportedModelError(
                f"{adapter.path} does not belong to this model: it has an adapter of {name}, and the model "
                f"has {config.num_layers} layers{made_for}"
            )
        found = pair.expand.rows, pair.reduce.depth
        if found != shapes[name]:
            raise UnsupportedModelError(
                f"{adapter.path} does not belong to this model: its adapter of {name} is for a matrix of "
                f"{list(found)}, and the model's is {list(shapes[name])}{made_for}"
            )
    return adapter
