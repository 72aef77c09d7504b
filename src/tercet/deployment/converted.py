"""Models that a strategy needs in another form: made once, kept in the cache, compared with their source.

A form is made again when the model has changed, or Tercet has. What is there is whole: conversions appear
complete and verified, or not at all.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

from tercet.deployment.strategy import DeploymentSettings
from tercet.engine.memory import total_memory_bytes
from tercet.environment import cache_directory, storage_errors
from tercet.errors import MemoryLimitError, UnsupportedModelError
from tercet.models.loading import LoadedModel

__all__ = ["check_generates", "check_memory", "converted"]

MIB = 1 << 20


def converted(
    source: Path, form: str, settings: DeploymentSettings, make: Callable[[Path], object] | None = None
) -> Path:
    """Return where a model is kept in a form, after making it where it is not there.

    Args:
        source: the model's file or folder.
        form: the name of the form.
        settings: say in which folder.
        make: writes the form at a path, whole or not at all; None makes nothing.

    Raises:
        StorageError: the folder cannot be made.
        TercetError: whatever `make` raises.
    """
    folder = cache_directory() / "deployment" if settings.folder is None else Path(settings.folder)
    target = folder.absolute() / f"{source.stem}-{_state(source)}-{form}"
    if make is not None and not target.exists():
        with storage_errors(folder, opening=True):
            folder.mkdir(parents=True, exist_ok=True)
        make(target)
    return target


def _state(source: Path) -> str:
    """Say in some letters where a model is, when it was changed last, and which Tercet converts it."""
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    stats = [(file.name, file.stat()) for file in files if file.is_file()]
    said = [
        importlib.metadata.version("tercet"),
        str(source.resolve()),
        [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats],
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]


def check_generates(model: LoadedModel) -> None:
    """Refuse a model that writes no text.

    Raises:
        UnsupportedModelError: it makes embeddings, or has no tokenizer.
    """
    if model.config.pooling is not None:
        raise UnsupportedModelError(f"{model.path} makes embeddings and predicts no tokens")
    if model.tokenizer_json is None:
        raise UnsupportedModelError(f"{model.path} holds no tokenizer, so it can neither read nor write text")


def check_memory(
    model: LoadedModel, bytes_per_code: float, bytes_per_other: float, memory_bytes: int | None = None
) -> None:
    """Refuse a model whose weights alone are more than the memory of this machine.

    Args:
        model: the model.
        bytes_per_code: what a ternary weight takes in the program that is to run it.
        bytes_per_other: what any other weight takes there.
        memory_bytes: the memory; None asks the machine.

    Raises:
        MemoryLimitError: the weights are more.
    """
    has = total_memory_bytes() if memory_bytes is None else memory_bytes
    ternary = model.config.num_ternary_weights
    needs = int(ternary * bytes_per_code + (model.config.num_parameters - ternary) * bytes_per_other)
    if has is not None and needs > has:
        raise MemoryLimitError(
            f"the weights alone take {needs // MIB:,} MiB there, and this machine has {has // MIB:,} MiB. "
            "Take a smaller model, another strategy or another machine."
        )
