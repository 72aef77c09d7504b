"""Carrying a conversion out.

Tensors go through one at a time, large float matrices a few rows at a time. The result is written under a
temporary name, compared with its source, and only then gets its own name: what is at the destination was
verified, or is what was there before. A conversion that was killed is gone on with by the next.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tercet.conversion.plan import ConversionPlan, plan_conversion
from tercet.conversion.staging import Staging, staging
from tercet.conversion.verify import Verification, compare_models
from tercet.errors import FormatError, ParameterError, StorageError
from tercet.formats.gguf import KernelConfig
from tercet.formats.huggingface.folder_writer import move_folder
from tercet.models.loading import LoadedModel, load_model

__all__ = ["Conversion", "Progress", "convert"]


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a conversion is."""

    tensor: str
    """The tensor that was just written, or compared."""
    done_bytes: int
    total_bytes: int
    stage: str = "writing"
    """`writing` or `comparing`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Conversion:
    """What was done."""

    plan: ConversionPlan
    verification: Verification | None
    """How the result compares with the source, or None if this was not asked for."""
    seconds: float
    resumed_tensors: int = 0
    """How many tensors were there already, from an attempt that was killed."""


def convert(
    source: str | os.PathLike[str] | LoadedModel | ConversionPlan,
    destination: str | os.PathLike[str] | None = None,
    packing: str | None = None,
    embedding_type: str | None = None,
    *,
    to: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    layout: str | None = None,
    kernels: KernelConfig | None = None,
    head: str | None = None,
    verify: bool = True,
    progress: Callable[[Progress], None] | None = None,
) -> Conversion:
    """Convert a model into the native file, a folder for transformers, or a GGUF file.

    Master weights become ternary as the model's authors define it (absmean, one scale per tensor); a matrix
    that is ternary already keeps its codes, and its scales as exactly as the format can.

    Args:
        source: a model folder or file, or an open model; or a plan that `plan_conversion` made, which then
            has the next nine in it.
        destination: the file or folder to write.
        packing: how ternary matrices are stored, or None for what is usual: `two_bit`, `five_per_byte`
            or `auto` (native; the faster one on this machine), a type such as `tq2_0` (GGUF); a folder has
            no packing to choose.
        embedding_type: how the embedding, an output head and any full-precision matrix are stored, or None
            for what is usual: `f32`, `f16`, `bf16`, and in GGUF also `q8_0` and others.
        to: one of `tercet.conversion.FORMATS`; by default what the end of the destination's name says,
            `.tercet` or `.gguf`.
        metadata: added to the metadata of the source.
        overwrite: whether an existing file or model folder may be replaced.
        layout: how the I2_S tensors of a GGUF source lie, where that cannot be found out.
        kernels: for TL1 and TL2 in a GGUF source, the kernel config of the build that made it.
        head: in a native file, how the output head is stored, and with it the embedding where they are one:
            `int8`, `6bit`, `f16`, `bf16` or `f32`; None for `embedding_type`.
        verify: whether to compare the result with the source before it gets its name.
        progress: called after every tensor.

    Raises:
        ParameterError: there is no such format, packing or type, or the model cannot be stored like this.
        StorageError: the destination exists or cannot be written, or the disk is full.
        FormatError: the source is damaged, holds values that `embedding_type` cannot, or the result is not
            what it should be.
        UnsupportedModelError, ModelNotFoundError: the source cannot be read.
    """
    started = time.monotonic()
    if isinstance(source, ConversionPlan):
        plan = source
    elif destination is None:
        raise ParameterError("no destination was given. Name the file or folder to write.")
    else:
        plan = plan_conversion(
            source,
            destination,
            packing,
            embedding_type,
            to=to,
            metadata=metadata,
            overwrite=overwrite,
            layout=layout,
            kernels=kernels,
            head=head,
        )
    target = plan.destination.absolute()
    with staging(target, plan.fingerprint(), inner_file=plan.output.inner_file) as place:
        _write(plan, place, progress)
        verification = _verified(plan, place.path, progress) if verify else None
        _rename(plan, place.path, target)
    return Conversion(plan, verification, time.monotonic() - started, len(place.done))


def _write(plan: ConversionPlan, place: Staging, progress: Callable[[Progress], None] | None) -> None:
    plan.output.prepare(place.path)
    sink = plan.output.sink(place.file)
    done_bytes = 0
    for change in plan.output.changes:
        name = change.name
        if name in place.done:
            sink.skip(name, place.done[name])
        else:
            try:
                weights = plan.source.weights if plan.output.format == "native" else plan.source.plain_weights
                digest = sink.write(name, weights[name])
            except FormatError as error:
                shown = str(plan.source.path)
                raise error if shown in str(error) else type(error)(f"{shown}: {error}") from error
            place.note(name, digest)
        plan.source.release()
        done_bytes += change.num_bytes
        if progress is not None:
            progress(Progress(name, done_bytes, plan.file_bytes))
    sink.finish()
    place.finish()


def _verified(plan: ConversionPlan, path: Path, progress: Callable[[Progress], None] | None) -> Verification:
    sizes = {change.name: change.num_bytes for change in plan.output.changes}
    done_bytes = 0

    def compared(name: str) -> None:
        nonlocal done_bytes
        done_bytes += sizes[name]
        if progress is not None:
            progress(Progress(name, done_bytes, plan.file_bytes, "comparing"))

    result = load_model(path, **plan.output.reading_options())
    verification = compare_models(plan.source, result, plan.output.exactness, compared)
    if not verification.passed:
        raise FormatError(f"{plan.destination} was not written, because the result differs: {verification}")
    return verification


def _rename(plan: ConversionPlan, staged: Path, target: Path) -> None:
    if plan.output.inner_file is not None:
        move_folder(staged, target)
        return
    try:
        staged.replace(target)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageError(f"cannot write {plan.destination}: {reason}.") from error
