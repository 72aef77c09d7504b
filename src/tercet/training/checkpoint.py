"""Checkpoints: a `BitNetForCausalLM` folder, plus what training needs to go on as if never stopped.

    step-00001000/
      config.json  generation_config.json  model.safetensors     float32 latent weights
      tokenizer.json  tokenizer_config.json
      optimizer.safetensors                                      moments, named part.parameter.slot
      trainer.json                                               step, settings

A checkpoint is written under a temporary name and renamed when it is complete, so the newest one that has its
final name is always whole. No pickle anywhere.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from tercet.environment import atomic_write
from tercet.errors import FormatError, StorageError, TrainingError
from tercet.formats.huggingface.config import config_to_huggingface
from tercet.training.model import TernaryDecoder
from tercet.training.optimizers import Optimizers
from tercet.training.settings import TrainingSettings
from tercet.training.tokenizer import save_tokenizer


def save_model_folder(folder: Path, model: TernaryDecoder, tokenizer: Tokenizer) -> None:
    """Write the `BitNetForCausalLM` part of a checkpoint: config, float32 weights, tokenizer."""
    weights = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    if model.config.tied_embeddings:
        weights.pop("lm_head.weight")
    for name, content in config_to_huggingface(model.config, dtype="float32").items():
        with atomic_write(folder / name) as file:
            file.write(json.dumps(content, indent=2).encode())
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    save_tokenizer(tokenizer, folder, model.config.max_context)


def save_checkpoint(
    run: Path,
    step: int,
    model: TernaryDecoder,
    optimizers: Optimizers,
    tokenizer: Tokenizer,
    settings: TrainingSettings,
) -> Path:
    """Write the checkpoint after `step` steps into `run`, remove older ones, return its folder.

    Raises:
        StorageError: the disk is full or not writable; checkpoints already there are untouched.
    """
    final = run / f"step-{step:08d}"
    temporary = run / f".{final.name}.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_model_folder(temporary, model, tokenizer)
        save_file(optimizers.tensors(), temporary / "optimizer.safetensors")
        with atomic_write(temporary / "trainer.json") as file:
            file.write(json.dumps({"step": step, "settings": settings.to_dict()}, indent=2).encode())
        for path in temporary.iterdir():
            _fsync(path)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        _fsync(run)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise StorageError(
            f"cannot write the checkpoint {final}: {error}; earlier checkpoints are untouched. "
            "Free some space, then resume."
        ) from error
    for old in checkpoints(run)[: -settings.keep_checkpoints]:
        shutil.rmtree(old)
    return final


def checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints in `run`, oldest first."""
    return sorted(run.glob("step-*"))


def load_checkpoint(
    folder: Path, model: TernaryDecoder, optimizers: Optimizers, settings: TrainingSettings
) -> int:
    """Put weights and optimizer state back and return the number of steps done.

    Raises:
        FormatError: the folder is damaged.
        TrainingError: the checkpoint belongs to a run with other settings; the message names them.
    """
    try:
        trainer = json.loads((folder / "trainer.json").read_bytes())
        step, saved = int(trainer["step"]), trainer["settings"]
        weights = load_file(folder / "model.safetensors")
        moments = load_file(folder / "optimizer.safetensors")
    except Exception as error:
        raise FormatError(
            f"the checkpoint {folder} cannot be read: {error}; delete it to resume from an older one"
        ) from error
    asked = json.loads(json.dumps(settings.to_dict()))
    different = [
        key for key in ("model", "ternary", "context", "batch_size", "seed") if saved.get(key) != asked[key]
    ]
    if different:
        pairs = ", ".join(f"{key}: {saved.get(key)} there, {asked[key]} here" for key in different)
        raise TrainingError(f"{folder} belongs to another run ({pairs}); use its settings or another folder")
    model.load_state_dict(weights, strict=not model.config.tied_embeddings)
    with torch.no_grad():
        optimizers.load_tensors(moments)
    return step


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
