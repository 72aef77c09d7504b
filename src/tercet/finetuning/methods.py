"""What is trained of a model, and what a run leaves behind: one class for each method.

full           every master; leaves `model.tercet`, and `masters`, from which training can go on
lora           adapters beside the frozen model            (`tercet.finetuning.lora`)
ternary-lora   adapters that merge into the codes exactly  (`tercet.finetuning.lora`)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tercet.finetuning.export import export, has_masters_folder, save_masters
from tercet.finetuning.settings import FineTuneSettings
from tercet.finetuning.trainable import Trainable

__all__ = ["FullMethod", "Method", "Outcome", "method_of"]

MODEL = "model.tercet"
MASTERS = "masters"


@dataclass(frozen=True)
class Outcome:
    """The files that a run leaves."""

    model: Path
    """What `tercet run` and `tercet serve` take."""
    adapter: Path | None = None
    """A folder of PEFT that belongs beside the model."""
    notes: list[str] = field(default_factory=list)
    """What a person should know of them."""


class Method(Protocol):
    """One way to fine-tune."""

    def begin(self, trainable: Trainable, settings: FineTuneSettings) -> Any:
        """Return the network to train: the model's own, or one with adapters around it. What is to be trained
        asks for gradients, and nothing else does."""

    def finish(self, trainable: Trainable, network: Any, folder: Path, settings: FineTuneSettings) -> Outcome:
        """Write what was learned into `folder`, replacing what an earlier run left there."""


class FullMethod:
    """Trains every master: quantization-aware training, as the model itself was made."""

    def begin(self, trainable: Trainable, settings: FineTuneSettings) -> Any:
        """Return the model's own network with all its weights to be trained."""
        trainable.network.requires_grad_(True)
        return trainable.network

    def finish(self, trainable: Trainable, network: Any, folder: Path, settings: FineTuneSettings) -> Outcome:
        """Write the native file and the masters."""
        origin = trainable.source.metadata.get("name") or trainable.path.stem
        name = {"name": f"{origin}-{folder.absolute().name}"}  # a licence may ask for the name of the origin
        model = export(trainable, folder / MODEL, metadata=name, overwrite=True)
        if not has_masters_folder(trainable):
            return Outcome(model, notes=["no folder of transformers can hold the masters of this model"])
        save_masters(trainable, folder / MASTERS, overwrite=True)
        return Outcome(model)


def method_of(settings: FineTuneSettings) -> Method:
    """Return the method that the settings name."""
    if settings.method == "full":
        return FullMethod()
    from tercet.finetuning import lora

    chosen: Method = lora.LoraMethod() if settings.method == "lora" else lora.TernaryLoraMethod()
    return chosen
