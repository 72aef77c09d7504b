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

import dataclasses
import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from tercet.environment import atomic_write
from tercet.errors import FormatError, StorageError, TrainingError
from tercet.formats.huggingface.config import config_to_huggingface
from tercet.training.model import TernaryDecoder
from tercet.training.optimizers import Optimizers
from tercet.training.settings import TrainingSettings
from tercet.training.sharding import distributed_as, whole
from tercet.training.tokenizer import save_tokenizer


def save_model_folder(folder: Path, model: TernaryDecoder, tokenizer: Tokenizer) -> None:
    """Write the `BitNetForCausalLM` part of a checkpoint: config, float32 weights, tokenizer."""
    _write_model(folder, model, _weights(model), tokenizer)


def _weights(model: TernaryDecoder) -> dict[str, torch.Tensor]:
    own = {name: value.detach() for name, value in model.named_parameters()}  # a tied head is named once
    return {name: value.contiguous() for name, value in whole(own).items()}


def _write_model(
    folder: Path, model: TernaryDecoder, weights: dict[str, torch.Tensor], tokenizer: Tokenizer
) -> None:
    config, storage, rule = model.config, "online", model.quantization.activation_rule
    if rule != "none":  # the one in use, which is not yet the model's own where four bits come last
        config = dataclasses.replace(config, activation_rule=rule)
    if model.quantization.weight_rule == "none":  # the twin in full precision: weights are used as they are
        config = dataclasses.replace(
            config, quantize_activations=False, weight_rule="absmean", activation_rule="int8"
        )
        storage = "floats"
    for name, content in config_to_huggingface(config, dtype="float32", storage=storage).items():
        with atomic_write(folder / name) as file:
            file.write(json.dumps(content, indent=2).encode())
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    save_tokenizer(tokenizer, folder, config.max_context)


def save_checkpoint(
    run: Path,
    step: int,
    model: TernaryDecoder,
    optimizers: Optimizers,
    tokenizer: Tokenizer,
    settings: TrainingSettings,
    writes: bool = True,
) -> Path:
    """Write the checkpoint after `step` steps into `run`, remove older ones, return its folder.

    Where several processes share a run, all of them call this and the one that `writes` writes.

    Raises:
        TrainingError: a weight is not finite; nothing is written, so the checkpoints there stay good ones.
        StorageError: the disk is full or not writable; checkpoints already there are untouched.
    """
    final = run / f"step-{step:08d}"
    weights, moments = _weights(model), whole(optimizers.tensors())
    for name, value in weights.items():
        if not torch.isfinite(value).all():
            raise TrainingError(
                f"after step {step} the weights {name} are not finite numbers: the run has diverged. "
                f"No checkpoint was written over it; resume from {newest(run)} with lower rates"
            )
    if not writes:
        return final
    temporary = run / f".{final.name}.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _write_model(temporary, model, weights, tokenizer)
        save_file(moments, temporary / "optimizer.safetensors")
        with atomic_write(temporary / "trainer.json") as file:
            file.write(json.dumps({"step": step, "settings": settings.to_dict()}, indent=2).encode())
        for path in temporary.iterdir():
            _fsync(path)
        if final.exists():  # a damaged one, from which the run was not resumed
            _remove(final)
        temporary.rename(final)
        _fsync(run)
        for old in checkpoints(run)[: -settings.keep_checkpoints]:
            _remove(old)
    except (OSError, SafetensorError, StorageError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise StorageError(
            f"cannot write the checkpoint {final}: {error}; earlier checkpoints are untouched. "
            "Free some space, then resume."
        ) from error
    return final


def check_room(run: Path, model: TernaryDecoder) -> None:
    """StorageError if the disk of `run` has no room for a checkpoint, before hours are spent on one."""
    needed = 3 * 4 * model.config.num_parameters  # weights and at most two moments, float32
    free = shutil.disk_usage(run).free
    if free < needed:
        raise StorageError(
            f"a checkpoint of this model takes up to {needed / 1e9:.1f} GB, and the disk of {run} has "
            f"{free / 1e9:.1f} GB free; make room or choose another folder"
        )


def _remove(checkpoint: Path) -> None:
    """Delete a checkpoint so that a kill in the middle leaves no half of it under its name."""
    doomed = checkpoint.with_name(f".{checkpoint.name}.old")
    shutil.rmtree(doomed, ignore_errors=True)
    checkpoint.rename(doomed)
    shutil.rmtree(doomed)


def remove_leftovers(run: Path) -> None:
    """Delete what a killed run was writing or deleting; complete checkpoints are not touched."""
    for kind in ("tmp", "old"):
        for path in run.glob(f".step-*.{kind}"):
            shutil.rmtree(path, ignore_errors=True)


def checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints in `run`, oldest first."""
    return sorted(run.glob("step-*"))


def newest(run: Path) -> Path | str:
    """The checkpoint that a run would be resumed from, or words for there being none."""
    found = checkpoints(run)
    return found[-1] if found else "the beginning (there is no checkpoint yet)"


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
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in weights or weights[name].shape != parameter.shape:
                raise FormatError(f"the checkpoint {folder} has no {name} of shape {list(parameter.shape)}")
            parameter.copy_(distributed_as(weights[name], parameter))
        optimizers.load_tensors(moments)
    return step


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
