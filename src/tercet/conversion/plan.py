"""What a conversion will do, worked out from configs and shapes before any weight is read.

A plan that cannot succeed fails here: the destination exists, the disk is too small, an option means nothing.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tercet.errors import ParameterError, StorageError
from tercet.formats.floats import FLOAT_TYPES
from tercet.formats.tercet import FilePlan, TensorPlan
from tercet.models.loading import LoadedModel, TensorInfo, load_model
from tercet.quantization.packings import packing as packing_of

__all__ = ["ConversionPlan", "plan_conversion"]


@dataclasses.dataclass(frozen=True, eq=False)
class ConversionPlan:
    """A conversion to the native file, ready to be carried out."""

    source: LoadedModel
    destination: Path
    file: FilePlan
    """What will be written."""

    @property
    def file_bytes(self) -> int:
        """How long the destination will be."""
        return self.file.file_bytes

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        config = self.source.config
        yield f"source       {self.source.path}"
        yield f"destination  {self.destination}, {shown_bytes(self.file_bytes)}"
        yield (
            f"model        {config.architecture}, {config.num_layers} layers of width {config.hidden_size}, "
            f"{shown_count(config.num_parameters)} parameters, "
            f"{shown_count(config.num_ternary_weights)} of them in the matrices of the layers"
        )
        groups: dict[str, list[TensorPlan]] = {}
        for tensor in self.file.tensors:
            info = self.source.tensors[tensor.name]
            change = f"{info.type}{' masters' if info.is_master else ''} -> {tensor.type}"
            if tensor.granularity is not None:
                change += f", one scale per {tensor.granularity}"
            groups.setdefault(change, []).append(tensor)
        for change, tensors in groups.items():
            size = shown_bytes(sum(tensor.data_bytes + 4 * tensor.num_scales for tensor in tensors))
            count = "1 tensor" if len(tensors) == 1 else f"{len(tensors)} tensors"
            yield f"{count:12} {change}: {size}"
        for data in self.file.blobs.values():
            yield f"tokenizer    {shown_bytes(len(data))}"
        if not self.file.blobs:
            yield "tokenizer    none: the result takes token ids, but no text"
        yield f"chat         {'with' if self.file.chat_template else 'without'} a template"


def plan_conversion(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    packing: str = "two_bit",
    embedding_type: str = "f16",
    *,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> ConversionPlan:
    """Plan the conversion of a model folder or a native file into a native file. See `convert` for the
    arguments.

    Raises:
        ParameterError: there is no such packing or float type.
        StorageError: the destination exists, is a folder, or the disk has no room for it.
        FormatError, UnsupportedModelError, ModelNotFoundError: the source cannot be read.
    """
    packing_of(packing)
    if embedding_type not in FLOAT_TYPES:
        raise ParameterError(
            f"there is no float type {embedding_type!r}; the types are {', '.join(FLOAT_TYPES)}"
        )
    target = Path(destination)
    if target.is_dir():
        raise StorageError(f"{target} is a folder. Name the file to write.")
    if target.exists() and not overwrite:
        raise StorageError(f"{target} exists already. Choose another name, or ask to overwrite it.")
    model = load_model(source, packing=packing)
    tensors = [_tensor(name, info, packing, embedding_type) for name, info in model.tensors.items()]
    file = FilePlan(
        config=model.config.to_dict(),
        tensors=tensors,
        blobs={} if model.tokenizer_json is None else {"tokenizer.json": model.tokenizer_json},
        generation=model.generation_config,
        chat_template=model.chat_template,
        metadata={**model.metadata, **(metadata or {})},
    )
    plan = ConversionPlan(model, target, file)
    _check_room(target, plan.file_bytes)
    return plan


def shown_bytes(num_bytes: int) -> str:
    """Write a number of bytes for people: `15 bytes`, `9.2 kB`, `1.2 GB`."""
    return _shown(num_bytes, ("bytes", "kB", "MB", "GB"))


def shown_count(count: int) -> str:
    """Write a large number for people: `29.9 k`, `2.4 B`."""
    return _shown(count, ("", "k", "M", "B")).rstrip()


def _shown(value: float, units: tuple[str, ...]) -> str:
    *smaller, largest = units
    for unit in smaller:
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == units[0] else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {largest}"


def _tensor(name: str, info: TensorInfo, packing: str, embedding_type: str) -> TensorPlan:
    if len(info.shape) == 1:
        return TensorPlan(name, "f32", 1, info.shape[0])
    rows, depth = info.shape
    if info.granularity is None:
        return TensorPlan(name, embedding_type, rows, depth)
    return TensorPlan(name, packing, rows, depth, info.granularity, info.group_size)


def _check_room(target: Path, num_bytes: int) -> None:
    try:
        free = shutil.disk_usage(target.absolute().parent).free
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageError(
            f"cannot write {target}: {reason}. Create the folder first, or choose another."
        ) from error
    if free < num_bytes:
        raise StorageError(
            f"cannot write {target}: it takes {shown_bytes(num_bytes)} and {shown_bytes(free)} are free. "
            "Free some space or choose another folder."
        )
