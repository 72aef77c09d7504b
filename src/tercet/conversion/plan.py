"""What a conversion will do, worked out from configs and shapes before any weight is read.

A plan that cannot succeed fails here: the destination exists, the disk is too small, an option means nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tercet.conversion.outputs import Change, Output, format_of, plan_output
from tercet.errors import StorageError
from tercet.formats.gguf import KernelConfig
from tercet.formats.huggingface.folder_writer import check_folder_target
from tercet.kernels.packing import fastest_packing
from tercet.models.loading import LoadedModel, load_model

__all__ = ["ConversionPlan", "plan_conversion"]


@dataclasses.dataclass(frozen=True, eq=False)
class ConversionPlan:
    """A conversion, ready to be carried out."""

    source: LoadedModel
    destination: Path
    output: Output
    """What will be written."""

    @property
    def file_bytes(self) -> int:
        """How long the destination will be."""
        return self.output.file_bytes

    def fingerprint(self) -> str:
        """Return a digest of source and result: two plans that agree in it write the same bytes."""
        source = self.source.path
        files = sorted(source.iterdir()) if source.is_dir() else [source]
        states = [
            (file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()
        ]
        said = [
            str(source.absolute()),
            states,
            self.source.kind,
            self.output.format,
            self.output.fingerprint(),
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def __str__(self) -> str:
        return "\n".join(f"{word:12} {text}" for word, text in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        config = self.source.config
        yield "source", f"{self.source.path}, a {self.source.kind}"
        yield "destination", f"{self.destination}, {self.output.format}, {shown_bytes(self.file_bytes)}"
        yield (
            "model",
            f"{config.architecture}, {config.num_layers} layers of width {config.hidden_size}, "
            f"{shown_count(config.num_parameters)} parameters, "
            f"{shown_count(config.num_ternary_weights)} of them in the matrices of the layers",
        )
        groups: dict[str, list[Change]] = {}
        for change in self.output.changes:
            info = self.source.tensors[change.name]
            text = f"{info.type}{' masters' if info.is_master else ''} -> {change.type}"
            if change.granularity is not None:
                text += f", one scale per {change.granularity}"
            groups.setdefault(text, []).append(change)
        for text, changes in groups.items():
            count = "1 tensor" if len(changes) == 1 else f"{len(changes)} tensors"
            yield count, f"{text}: {shown_bytes(sum(change.num_bytes for change in changes))}"
        tokenizer = self.source.tokenizer_json
        yield (
            "tokenizer",
            "none: the result takes token ids, but no text"
            if tokenizer is None
            else shown_bytes(len(tokenizer)),
        )
        yield "chat", f"{'with' if self.source.chat_template else 'without'} a template"
        yield from self.output.notes()
        for remark in self.source.remarks:
            yield "note", remark


def plan_conversion(
    source: str | os.PathLike[str] | LoadedModel,
    destination: str | os.PathLike[str],
    packing: str | None = None,
    embedding_type: str | None = None,
    *,
    to: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    layout: str | None = None,
    kernels: KernelConfig | None = None,
    head: str | None = None,
) -> ConversionPlan:
    """Plan the conversion of a model. See `convert` for the arguments.

    Raises:
        ParameterError: there is no such format, packing or type, or the model cannot be stored like this.
        StorageError: the destination exists, or the disk has no room for it.
        FormatError, UnsupportedModelError, ModelNotFoundError: the source cannot be read.
    """
    target = Path(destination)
    to = format_of(to, target)
    if to.startswith("huggingface"):
        check_folder_target(target, overwrite)
    elif target.is_dir():
        raise StorageError(f"{target} is a folder. Name the file to write.")
    elif target.exists() and not overwrite:
        raise StorageError(f"{target} exists already. Choose another name, or ask to overwrite it.")
    if isinstance(source, LoadedModel):
        model = source
    else:
        native_packing = packing if to == "native" and packing != "auto" else None
        model = load_model(source, packing=native_packing or "two_bit", layout=layout, kernels=kernels)
    if to == "native" and packing == "auto":
        packing = fastest_packing(any(info.granularity == "group" for info in model.tensors.values()))
    plan = ConversionPlan(
        model, target, plan_output(model, to, packing, embedding_type, metadata or {}, head)
    )
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
