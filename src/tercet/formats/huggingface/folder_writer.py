"""Writing a model folder: it appears complete, under its name, or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from tercet.environment import atomic_write
from tercet.errors import StorageError
from tercet.formats.huggingface.folder import CONFIG
from tercet.formats.huggingface.folder_plan import FolderPlan, Weight
from tercet.formats.safetensors import SafetensorsWriter

__all__ = ["WEIGHTS", "check_folder_target", "move_folder", "write_folder", "write_small_files"]

WEIGHTS = "model.safetensors"


def write_folder(
    destination: str | os.PathLike[str],
    plan: FolderPlan,
    weights: Iterable[tuple[str, Weight]],
    *,
    overwrite: bool = False,
) -> None:
    """Write the folder of a plan.

    Args:
        destination: the folder to make.
        plan: what it will hold.
        weights: canonical names and tensors, taken one at a time, in the order of the plan.
        overwrite: whether a model folder of this name may be replaced.

    Raises:
        ParameterError: the weights are not those of the plan.
        FormatError: a value is too large for the float type.
        StorageError: the folder exists, or cannot be written.
    """
    target = Path(destination)
    check_folder_target(target, overwrite)
    temporary = target.with_name(f".tercet-{secrets.token_hex(8)}.tmp")
    try:
        temporary.mkdir()
    except OSError as error:
        raise _not_writable(target, error) from error
    try:
        write_small_files(temporary, plan)
        with atomic_write(temporary / WEIGHTS) as file:
            writer = SafetensorsWriter(file, plan.safetensors())
            for name, weight in weights:
                for spec, blocks in zip(plan.specs(name), plan.blocks(name, weight), strict=True):
                    writer.write_tensor(spec.name, blocks)
            writer.finish()
        move_folder(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_small_files(folder: Path, plan: FolderPlan) -> None:
    """Write everything but the weights."""
    for name, content in plan.small_files().items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path) as file:
            file.write(content)


def check_folder_target(target: Path, overwrite: bool) -> None:
    """Raise StorageError if something is there that must not be replaced."""
    if not target.exists():
        return
    if not overwrite:
        raise StorageError(f"{target} exists already. Choose another name, or ask to overwrite it.")
    if not target.is_dir() or (any(target.iterdir()) and not (target / CONFIG).exists()):
        raise StorageError(
            f"{target} is not a model folder (it holds no {CONFIG}), so it is not replaced by one."
        )


def move_folder(temporary: Path, target: Path) -> None:
    """Put the new folder in place of the old one. Folders cannot be exchanged in one step, so the old one
    waits aside."""
    aside = target.with_name(f".tercet-{secrets.token_hex(8)}.old")
    try:
        if target.exists():
            target.rename(aside)
        temporary.rename(target)
    except OSError as error:
        if aside.exists() and not target.exists():
            aside.rename(target)
        raise _not_writable(target, error) from error
    shutil.rmtree(aside, ignore_errors=True)


def _not_writable(target: Path, error: OSError) -> StorageError:
    reason = (error.strerror or str(error)).lower()
    return StorageError(
        f"cannot write the folder {target}: {reason}. Choose a place that exists and is yours to write to."
    )
