"""Fine-tuning with adapters of floats (PEFT), which stay beside the model and are served beside it.

    y = q(x) · (s C)ᵀ + alpha / r · B (A x)

where C and s are frozen and x is what the layer reads, before it is rounded. This is also what the engine
computes with an adapter (`tercet run --lora`), so there is nothing to lose on the way.
"""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tercet.environment import optional_import
from tercet.errors import StorageError
from tercet.finetuning.export import export
from tercet.finetuning.lora.frozen_codes import freeze_as_codes, restore_masters
from tercet.finetuning.lora.ternary_method import ADAPTER
from tercet.finetuning.methods import MODEL, Outcome
from tercet.finetuning.settings import FineTuneSettings
from tercet.finetuning.trainable import Trainable

__all__ = ["TARGETS", "LoraMethod"]

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraMethod:
    """Trains PEFT's LoRA on the seven matrices of every layer."""

    def begin(self, trainable: Trainable, settings: FineTuneSettings) -> Any:
        """Return the network with adapters around its ternary matrices; nothing else is trained.

        Raises:
            MissingExtraError: peft is not installed.
        """
        peft = optional_import("peft", "finetune")
        trainable.network.requires_grad_(False)
        if settings.load_in_8bit:
            freeze_as_codes(trainable)
        config = peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=settings.lora_rank,
            lora_alpha=_whole(settings.lora_alpha),
            lora_dropout=settings.lora_dropout,
            target_modules=list(TARGETS),
            base_model_name_or_path=None,
        )
        with _quiet(), torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            network = peft.get_peft_model(trainable.network, config)
        network.peft_config[
            "default"
        ].base_model_name_or_path = None  # a path of this machine, or an empty one
        return network

    def finish(self, trainable: Trainable, network: Any, folder: Path, settings: FineTuneSettings) -> Outcome:
        """Write the adapter as PEFT's folder, and the model that it belongs to.

        Raises:
            StorageError: the folder cannot be written, or the disk is full.
        """
        target = folder / ADAPTER
        staged = folder / f".{ADAPTER}.partial"
        shutil.rmtree(staged, ignore_errors=True)
        try:
            with _quiet():
                network.save_pretrained(str(staged), save_embedding_layers=False)
            (staged / "README.md").unlink(missing_ok=True)  # PEFT's form, with nothing filled in
            shutil.rmtree(target, ignore_errors=True)
            staged.replace(target)
        except OSError as error:
            raise StorageError(
                f"cannot write the adapter {target}: {error}. The checkpoints are untouched."
            ) from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        restore_masters(trainable)
        model = export(trainable, folder / MODEL, overwrite=True)
        note = (
            f"the model is unchanged; what was learned is the adapter beside it. "
            f"`tercet run --lora NAME={target}` uses it, `tercet lora merge` makes one file of both"
        )
        return Outcome(model, target, [note])


def _whole(alpha: float) -> float | int:
    return int(alpha) if alpha == int(alpha) else alpha


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """PEFT uses an old name of transformers, and wonders about the embedding of a model without a name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", module="peft")
        yield
