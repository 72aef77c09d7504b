"""What a fine-tuning is, beside model and data: one class for `FineTuner` and for `tercet finetune`.

The defaults suit a ternary model of any size and some hundred to some ten thousand examples. Where a run is
too short for them, `warmup_steps` gives way, and the end is evaluated and saved whatever the intervals are.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.environment import atomic_write
from tercet.errors import FormatError, ParameterError

__all__ = ["METHODS", "FineTuneSettings"]

METHODS = ("full", "lora", "ternary-lora")
PRECISIONS = ("bf16", "fp32")
SCHEDULES = ("linear", "cosine", "constant")
_COUNTS = (
    "batch_size", "accumulation", "log_every", "save_every", "evaluate_every", "keep", "max_length",
    "lora_rank",
)  # fmt: skip
_FROM_ZERO = ("warmup_steps", "max_samples", "max_steps", "early_stopping", "seed")


@dataclass(frozen=True, kw_only=True)
class FineTuneSettings:
    """All hyper-parameters; immutable, and checked when it is made.

    Raises:
        ParameterError: a value is out of range, or two do not fit together.
    """

    method: str = "full"
    """What is trained: `full` (every master), `lora` (adapters beside a frozen model), `ternary-lora`
    (adapters that merge into the codes exactly)."""
    epochs: float = 3.0
    max_steps: int = 0
    """Optimizer steps at most; 0 for as many as the epochs have."""
    learning_rate: float = 1e-4
    schedule: str = "linear"
    """How the learning rate falls after the warm-up: `linear`, `cosine`, or `constant`."""
    warmup_steps: int = 100
    """At most a tenth of the run."""
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    batch_size: int = 2
    """Sequences that are computed together."""
    accumulation: int = 8
    """Batches whose gradients make one optimizer step."""
    log_every: int = 10
    save_every: int = 500
    evaluate_every: int = 500
    """In steps; the end of a run is always evaluated and saved."""
    keep: int = 3
    """Checkpoints that stay; the best is always one of them."""
    early_stopping: int = 0
    """Evaluations in a row that may bring no better loss before the run ends; 0 for no limit."""
    precision: str = "bf16"
    """Of the products while training: `bf16` (masters stay float32) or `fp32`. Evaluation is in float32."""
    gradient_checkpointing: bool = False
    """Less memory for more time: activations are computed again in the backward pass."""
    max_length: int = 2048
    """Tokens of a sequence; at most the context of the model."""
    packing: bool = True
    completion_only: bool = True
    """Whether only answers are learned, or prompts, too."""
    max_samples: int = 1000
    """Rows that are used; 0 for all."""
    validation_share: float = 0.1
    """Of the rows, where no validation file is given."""
    seed: int = 0
    lora_rank: int = 32
    lora_alpha: float = 64.0
    lora_dropout: float = 0.1
    load_in_8bit: bool = False
    """Keep the frozen codes in 8 bits while adapters are trained (`lora`): less memory, the same numbers."""

    def __post_init__(self) -> None:
        for name in (*_COUNTS, *_FROM_ZERO):
            least, value = int(name in _COUNTS), getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ParameterError(f"{name} must be a whole number from {least} on, not {value!r}")
        for name in ("epochs", "learning_rate", "gradient_clip", "lora_alpha"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ParameterError(f"{name} must be a positive number, not {getattr(self, name)!r}")
        if not self.weight_decay >= 0:
            raise ParameterError(f"weight_decay must not be negative, and is {self.weight_decay}")
        for name in ("validation_share", "lora_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ParameterError(f"{name} must be from 0 to below 1, not {getattr(self, name)}")
        for name, known in (("method", METHODS), ("precision", PRECISIONS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise ParameterError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.save_every % self.evaluate_every:
            raise ParameterError(
                f"save_every must be a multiple of evaluate_every, and {self.save_every} is none of "
                f"{self.evaluate_every}: the best model is one that was evaluated and saved"
            )
        if self.load_in_8bit and self.method == "full":
            raise ParameterError(
                "load_in_8bit keeps the model frozen in 8 bits; that goes with the method lora, not with full"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-compatible values; `from_dict` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FineTuneSettings:
        """Read what `to_dict` gave. Raises FormatError where a key is unknown."""
        try:
            return cls(**values)
        except TypeError as error:
            raise FormatError(f"these are no settings of a fine-tuning: {error}") from error

    def save(self, path: Path) -> None:
        """Write the settings as JSON."""
        with atomic_write(path) as file:
            file.write(json.dumps(self.to_dict(), indent=2).encode() + b"\n")
