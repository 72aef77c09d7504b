"""Fine-tuning with adapters of codes: what is learned ends in the model's own matrices, exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
import transformers

from tercet.errors import ParameterError
from tercet.finetuning.export import export
from tercet.finetuning.lora.merging import base_digest, merge_ternary_adapter
from tercet.finetuning.lora.ternary_adapter import TernaryLora, default_threshold
from tercet.finetuning.lora.ternary_files import TernaryAdapter, write_ternary_adapter
from tercet.finetuning.methods import MODEL, Outcome
from tercet.finetuning.settings import FineTuneSettings
from tercet.finetuning.trainable import Trainable
from tercet.training.bitlinear import BitLinear

__all__ = ["ADAPTER", "TernaryLoraMethod"]

ADAPTER = "adapter"
"""The folder of an adapter, in that of the run."""


class TernaryLoraMethod:
    """Trains codes that move codes (`tercet.finetuning.lora.ternary_adapter`)."""

    def begin(self, trainable: Trainable, settings: FineTuneSettings) -> Any:
        """Put an adapter around every ternary matrix; nothing else is trained.

        Raises:
            UnsupportedModelError: the model's weights are binary.
            ParameterError: `load_in_8bit` was asked for.
        """
        if settings.load_in_8bit:
            raise ParameterError(
                "load_in_8bit goes with the method lora; adapters of codes keep int8 codes anyway"
            )
        # There is one for each checkpoint, on the terminal.
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        network = trainable.network
        network.requires_grad_(False)
        generator = torch.Generator().manual_seed(settings.seed)
        threshold = default_threshold(settings.lora_rank)
        for name in trainable.ternary:
            path = trainable.names.module(name)
            parent, _, attribute = path.rpartition(".")
            layer = network.get_submodule(path)
            if not isinstance(layer, BitLinear):
                raise ParameterError("this model has adapters already; load it again to train others")
            adapted = TernaryLora(layer, settings.lora_rank, threshold, generator)
            setattr(network.get_submodule(parent), attribute, adapted)
        return network

    def finish(self, trainable: Trainable, network: Any, folder: Path, settings: FineTuneSettings) -> Outcome:
        """Write the merged model and, to merge it again, the adapter."""
        base = base_digest(trainable)
        matrices = {}
        for name in trainable.ternary:
            layer = cast(TernaryLora, trainable.network.get_submodule(trainable.names.module(name)))
            a, b = (part.numpy() for part in layer.adapter())
            matrices[name] = (a, b)
        adapter = TernaryAdapter(default_threshold(settings.lora_rank), base, matrices)
        changes = merge_ternary_adapter(trainable, adapter)
        moved = sum(change.changed for change in changes)
        adapter_file = write_ternary_adapter(folder / ADAPTER, adapter)
        model = export(trainable, folder / MODEL, overwrite=True)
        note = f"the adapter, {moved:,} moved codes, is merged into the model; by itself it is {adapter_file}"
        return Outcome(model, notes=[note])
