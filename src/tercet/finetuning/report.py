"""What came out of a fine-tuning, for people and for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tercet.environment import atomic_write

__all__ = ["AGREEMENT", "FineTuneResult", "PromptAnswers"]

AGREEMENT = 0.005
"""How far the loss of the file may be from the trainer's, relatively, before the report complains."""
REPORT = "report.json"


@dataclass(frozen=True)
class PromptAnswers:
    """What the model says to a prompt, likeliest token by likeliest token."""

    prompt: str
    before: str
    after: str
    """By the exported file."""


@dataclass(frozen=True, kw_only=True)
class FineTuneResult:
    """How a run ended. Losses are nats a learned token, over the validation examples."""

    folder: Path
    interrupted: bool = False
    """Whether it was asked to stop; it can be resumed, and nothing was exported."""
    step: int = 0
    """Optimizer steps done."""
    seconds: float = 0.0
    """Of this call: preparation, training, export and checks."""
    parameters: int = 0
    trained_parameters: int = 0
    model: Path | None = None
    """The exported file."""
    adapter: Path | None = None
    """The adapter beside it, for a method that keeps one."""
    best_step: int | None = None
    """The step whose weights were exported: that of the lowest validation loss."""
    loss_before: float | None = None
    """Of the model that the run began with."""
    loss_trainer: float | None = None
    """Of what was exported, as the trainer measured it."""
    loss_file: float | None = None
    """Of the exported file, computed by the engine that will run it."""
    codes: int = 0
    codes_changed: int = 0
    """Ternary weights that are another of -1, 0, 1 than they were."""
    prompts: tuple[PromptAnswers, ...] = ()
    notes: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    """The account of the preparation (`tercet.data.PreparationReport.to_dict`)."""

    @property
    def difference(self) -> float | None:
        """Loss of the file over that of the trainer, minus one; None where nothing was measured."""
        if self.loss_file is None or not self.loss_trainer:
            return None
        return self.loss_file / self.loss_trainer - 1

    @property
    def agrees(self) -> bool:
        """Whether the file does what was measured while training."""
        return self.difference is None or abs(self.difference) <= AGREEMENT

    def lines(self) -> Iterator[str]:
        """Say it for people, a line for each thing."""
        if self.interrupted:
            yield f"stopped after step {self.step}; nothing is lost"
            return
        yield f"model: {self.model}" + (f" with the adapter {self.adapter}" if self.adapter else "")
        best = "" if self.best_step in (None, self.step) else f", the best of them {self.best_step}"
        yield f"{self.step} steps{best}, in {self.seconds:.0f} s"
        if self.codes:
            yield (
                f"{self.codes_changed:,} of {self.codes:,} ternary weights changed "
                f"({self.codes_changed / self.codes:.2%})"
            )
        if self.loss_trainer is not None and self.loss_before is not None:
            losses = f"{self.loss_before:.4f} before, {self.loss_trainer:.4f} after"
            yield f"validation loss {losses}, in nats a token"
        if self.difference is not None:
            verdict = "the file does what was measured" if self.agrees else "MORE THAN IT SHOULD BE"
            yield (
                f"the exported file, by the engine: {self.loss_file:.4f} "
                f"({self.difference:+.3%} from the trainer's: {verdict})"
            )
        for answers in self.prompts:
            yield f"prompt: {answers.prompt}"
            yield f"  before: {answers.before}"
            yield f"  after:  {answers.after}"
        for note in self.notes:
            yield f"note: {note}"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-compatible values."""
        values = dataclasses.asdict(self)
        for name in ("folder", "model", "adapter"):
            values[name] = values[name] and str(values[name])
        return values | {"difference": self.difference, "agrees": self.agrees}

    def save(self) -> None:
        """Write `report.json` into the folder of the run."""
        with atomic_write(self.folder / REPORT) as file:
            file.write(json.dumps(self.to_dict(), indent=2, ensure_ascii=False).encode() + b"\n")
