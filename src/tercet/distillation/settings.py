"""What a distillation is: lengths, schedule, and how much each term of the loss weighs.

The defaults are for a small budget: a few hundred thousand to a few million tokens. BitDistill's own weights
belong to its own normalization and to ten billion tokens; `losses` has both side by side.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tercet.environment import atomic_write
from tercet.errors import FormatError, ParameterError
from tercet.training.optimizers import OptimizerSettings
from tercet.training.schedule import Schedule

__all__ = ["DistillationSettings"]


def _schedule() -> Schedule:
    return Schedule(
        num_steps=500, warmup_steps=10, stage_two_start=1.0, stage_one_floor=0.05, weight_decay=0.0,
        quantization_warmup_steps=50,
    )  # fmt: skip


def _optimizer() -> OptimizerSettings:
    return OptimizerSettings(kind="muon", matrix_rate=3e-3, rate=3e-4)


@dataclass(frozen=True)
class DistillationSettings:
    """One run. Batches count sequences of `context` tokens.

    `schedule.num_steps` steps; in the first `quantization_warmup_steps` of them λ rises from 0, where the
    student is the teacher (but for its sub-norms), to 1, where it is what is exported.
    """

    schedule: Schedule = field(default_factory=_schedule)
    optimizer: OptimizerSettings = field(default_factory=_optimizer)
    context: int = 256
    batch_size: int = 8
    micro_batch: int = 4
    """Sequences that are in memory at a time; it changes nothing but memory and speed."""
    sub_norms: bool = True
    """Whether RMSNorms are put in front of o and down of a student that is made from the teacher."""
    cross_entropy_weight: float = 1.0
    logits_weight: float = 1.0
    temperature: float = 1.0
    attention_weight: float = 0.1
    attention_layer: int | None = None
    """Which layer's relations are compared, from 0; None is at four fifths of the depth."""
    continued_steps: int = 0
    """At the beginning, steps of continued training: cross-entropy alone (BitDistill's second step)."""
    gradient_clip: float = 1.0
    precision: str = "bf16"
    compile: bool = False
    seed: int = 0
    checkpoint_every: int = 25
    keep_checkpoints: int = 2
    evaluate_at: tuple[int, ...] = (0, 25_000, 50_000, 100_000, 200_000)
    """After how many tokens the exported file is measured; from the last on, each time as many more."""
    evaluation_windows: int = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "evaluate_at", tuple(self.evaluate_at))
        for name in ("context", "batch_size", "micro_batch", "checkpoint_every", "keep_checkpoints",
                     "evaluation_windows"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.batch_size % self.micro_batch:
            raise ParameterError(
                f"a batch of {self.batch_size} cannot be taken in parts of {self.micro_batch} sequences"
            )
        if self.precision not in ("bf16", "fp32"):
            raise ParameterError(f"precision is {self.precision!r}; it must be 'bf16' or 'fp32'")
        weights = (self.cross_entropy_weight, self.logits_weight, self.attention_weight)
        if min(weights) < 0 or max(weights) == 0:
            raise ParameterError("the weights of the loss must not be negative, nor all of them 0")
        if self.temperature <= 0:
            raise ParameterError(f"temperature is {self.temperature}; it must be above 0")
        marks = self.evaluate_at
        if list(marks) != sorted(set(marks)) or (marks and marks[0] < 0):
            raise ParameterError("evaluate_at must be rising numbers of tokens")

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one step learns from."""
        return self.batch_size * self.context

    def is_evaluated(self, step: int) -> bool:
        """Whether the file is measured after `step` steps: a mark lies in the tokens of the last of them."""
        if step == 0:
            return 0 in self.evaluate_at
        if step == self.schedule.num_steps:
            return True
        before, now = (step - 1) * self.tokens_per_step, step * self.tokens_per_step
        if any(before < mark <= now for mark in self.evaluate_at):
            return True
        last = self.evaluate_at[-1] if self.evaluate_at else 0
        return bool(last) and now > last and before // last != now // last

    def to_dict(self) -> dict[str, Any]:
        """A JSON-compatible form that `from_dict` reads back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DistillationSettings:
        """Read what `to_dict` gave; FormatError names an unknown key."""
        try:
            parts = {
                "schedule": Schedule(**values["schedule"]) if "schedule" in values else _schedule(),
                "optimizer": OptimizerSettings(**values["optimizer"])
                if "optimizer" in values
                else _optimizer(),
            }
            return cls(**(values | parts))
        except TypeError as error:
            raise FormatError(f"not a description of a distillation: {error}") from error

    def save(self, path: Path) -> None:
        """Write the settings as JSON."""
        with atomic_write(path) as file:
            file.write(json.dumps(self.to_dict(), indent=2).encode())

    @classmethod
    def load(cls, path: Path) -> DistillationSettings:
        """Read the settings from a JSON file."""
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise ParameterError(f"there is no settings file {path}") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise FormatError(f"{path}: not valid JSON ({error})") from error
