"""The folder of a run: what belongs to which run, and from where one that was stopped goes on.

run.json       model, settings, and a digest of the prepared data
log.jsonl      losses, as they came
checkpoints/   the newest and the best
model.tercet, masters/ or adapter/, report.json      at the end
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tercet.data import Example, PreparedData
from tercet.environment import atomic_write, storage_errors
from tercet.errors import FormatError, TrainingError
from tercet.finetuning.settings import FineTuneSettings
from tercet.finetuning.trainer import complete_checkpoints

__all__ = ["RunFolder"]

RUN = "run.json"
MAY_CHANGE = frozenset({"log_every", "keep", "early_stopping"})
"""Settings that a resumed run may have otherwise."""


class RunFolder:
    """A folder that holds one run.

    Args:
        path: the folder; it is made if need be.
        model: what the run begins with.
        settings: its hyper-parameters.
        data: what it learns.
        resume: whether it goes on with what is there.

    Raises:
        TrainingError: there is a run and it is not to be resumed, or it is another one.
        StorageError: the folder cannot be made.
    """

    def __init__(
        self, path: Path, model: Path, settings: FineTuneSettings, data: PreparedData, *, resume: bool
    ) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        description = {
            "model": str(model.absolute()),
            "settings": settings.to_dict(),
            "data": {"train": _digest(data.train), "valid": _digest(data.valid)},
        }
        with storage_errors(path, opening=True):
            path.mkdir(parents=True, exist_ok=True)
        if (path / RUN).exists():
            if not resume:
                raise TrainingError(
                    f"{path} holds a run already. Go on with it by --resume, or choose another folder."
                )
            _check_same(path, description)
        elif any(path.iterdir()) and not resume:
            raise TrainingError(f"{path} is not empty and holds no run. Choose another folder.")
        self.newest: Path | None = None
        if complete := complete_checkpoints(self.checkpoints):
            self.newest = complete[-1]
        for other in set(self.checkpoints.glob("*")) - set(complete):  # of a run that was killed
            shutil.rmtree(other, ignore_errors=True)
        with atomic_write(path / RUN) as file:
            file.write(json.dumps(description, indent=2).encode() + b"\n")

    def step(self) -> int:
        """Return the step of the newest checkpoint, 0 where there is none."""
        if self.newest is None:
            return 0
        with contextlib.suppress(ValueError):
            return int(self.newest.name.rpartition("-")[2])
        return 0


def _check_same(path: Path, description: dict[str, Any]) -> None:
    try:
        there = json.loads((path / RUN).read_bytes())
        settings, data, model = there["settings"], there["data"], there["model"]
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path / RUN} cannot be read ({error!r}); choose another folder") from error
    asked = description["settings"]
    different = [
        f"{name}: {settings.get(name)} there, {value} here"
        for name, value in asked.items()
        if settings.get(name) != value and name not in MAY_CHANGE
    ]
    if model != description["model"]:
        different.append(f"model: {model} there, {description['model']} here")
    for part, digest in description["data"].items():
        if data.get(part) != digest:
            different.append(f"the {'training' if part == 'train' else 'validation'} examples are others")
    if different:
        raise TrainingError(
            f"{path} holds another run ({'; '.join(different)}). "
            "Resume it as it was begun, or choose another folder."
        )


def _digest(examples: Iterable[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        digest.update(len(example).to_bytes(8, "little"))
        digest.update(np.asarray(example.ids, "<i4").tobytes())
        digest.update(np.asarray(example.learned, np.uint8).tobytes())
        digest.update(np.asarray(example.starts, "<i8").tobytes())
    return digest.hexdigest()
