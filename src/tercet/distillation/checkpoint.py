"""Checkpoints of a distillation: what it needs to go on as if it had never stopped.

    step-00000100/
      student.safetensors      float32 latent weights, under the names of `BitNetForCausalLM`
      optimizer.safetensors    moments
      distillation.json        step, settings, the student's config

Written under a temporary name and renamed when complete; older ones are removed only then.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tercet.distillation.settings import DistillationSettings
from tercet.environment import atomic_write
from tercet.errors import FormatError, StorageError, TrainingError
from tercet.training.checkpoint import checkpoints
from tercet.training.model import TernaryDecoder
from tercet.training.optimizers import Optimizers

__all__ = ["checkpoints", "load_checkpoint", "save_checkpoint"]

FIXED = ("context", "batch_size", "seed", "sub_norms", "precision")
"""What a run cannot change half-way."""


def save_checkpoint(
    run: Path, step: int, student: TernaryDecoder, optimizers: Optimizers, settings: DistillationSettings
) -> Path:
    """Write the checkpoint after `step` steps, remove older ones, return its folder.

    Raises:
        StorageError: the disk is full or not writable; checkpoints already there are untouched.
    """
    final = run / f"step-{step:08d}"
    temporary = run / f".{final.name}.tmp"
    facts = {"step": step, "settings": settings.to_dict(), "config": student.config.to_dict()}
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file({n: p.detach() for n, p in student.named_parameters()}, temporary / "student.safetensors")
        save_file(optimizers.tensors(), temporary / "optimizer.safetensors")
        with atomic_write(temporary / "distillation.json") as file:
            file.write(json.dumps(facts, indent=2).encode())
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise StorageError(
            f"cannot write the checkpoint {final}: {error}; earlier checkpoints are untouched. "
            "Free some space, then resume."
        ) from error
    for old in checkpoints(run)[: -settings.keep_checkpoints]:
        shutil.rmtree(old)
    return final


def load_checkpoint(
    folder: Path, student: TernaryDecoder, optimizers: Optimizers, settings: DistillationSettings
) -> int:
    """Put weights and moments back and return the number of steps done.

    Raises:
        FormatError: the folder is damaged.
        TrainingError: it belongs to a run with other settings or another student.
    """
    try:
        facts = json.loads((folder / "distillation.json").read_bytes())
        step, saved, config = int(facts["step"]), facts["settings"], facts["config"]
        weights = load_file(folder / "student.safetensors")
        moments = load_file(folder / "optimizer.safetensors")
    except Exception as error:
        raise FormatError(
            f"the checkpoint {folder} cannot be read: {error}; delete it to resume from an older one"
        ) from error
    asked = json.loads(json.dumps(settings.to_dict() | {"model": student.config.to_dict()}))
    there = saved | {"model": config}
    different = [key for key in (*FIXED, "model") if there.get(key) != asked[key]]
    if different:
        pairs = ", ".join(f"{key}: {there.get(key)} there, {asked[key]} here" for key in different)
        raise TrainingError(f"{folder} belongs to another run ({pairs}); use its settings or another folder")
    parameters = dict(student.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
        optimizers.load_tensors(moments)
    return step
