"""What a training run is: the shape of the model and every hyper-parameter, with presets.

Presets `125m` and above carry the published hyper-parameters of the b1.58 family (BitNet v2, appendix B, and
"The Era of 1-bit LLMs: training tips"): 1 M tokens a batch, 2,048 a sequence, warm-up of 375 steps, AdamW
with β = (0.9, 0.95), weight decay 0.1 then 0, and the learning rate of stage 1 and of stage 2 by size.
`125m`, `700m` and `2b4t` have no published rate; theirs follow their neighbours in size. Shapes are those of
published weights where there are any, and of the papers elsewhere (`tercet.models.shapes`). `tiny` is a shape
for one machine, tuned by us; the shipped model's own settings are in recipes/.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tercet.environment import atomic_write
from tercet.errors import FormatError, ParameterError
from tercet.models.config import ModelConfig
from tercet.models.shapes import shape
from tercet.training.optimizers import OptimizerSettings
from tercet.training.schedule import Schedule


@dataclass(frozen=True)
class TrainingSettings:
    """One run. Batch sizes count sequences of `context` tokens; `*_every` count steps."""

    model: ModelConfig
    schedule: Schedule
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    context: int = 512
    batch_size: int = 16
    accumulation: int = 1
    gradient_clip: float = 1.0
    precision: str = "bf16"
    ternary: bool = True
    compile: bool = True
    seed: int = 0
    evaluate_every: int = 250
    evaluation_windows: int = 64
    checkpoint_every: int = 250
    keep_checkpoints: int = 2
    sample_prompt: str = "Once upon a time"
    init_from: str = ""
    """Folder whose weights the run starts from; empty: weights drawn from `seed`."""

    def __post_init__(self) -> None:
        for name in ("context", "batch_size", "accumulation", "evaluate_every", "evaluation_windows",
                     "checkpoint_every", "keep_checkpoints"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.precision not in ("bf16", "fp32"):
            raise ParameterError(f"precision is {self.precision!r}; it must be 'bf16' or 'fp32'")
        if self.context > self.model.max_context:
            raise ParameterError(
                f"context is {self.context}, longer than the model's max_context of {self.model.max_context}"
            )
        if self.batch_size % self.accumulation:
            raise ParameterError(
                f"batch_size {self.batch_size} cannot be split into {self.accumulation} equal parts"
            )

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimizer step learns from, over all processes."""
        return self.batch_size * self.context

    def to_dict(self) -> dict[str, Any]:
        """A JSON-compatible form that `from_dict` reads back."""
        return dataclasses.asdict(self) | {"model": self.model.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingSettings:
        """Read what `to_dict` gave; FormatError names an unknown or missing key."""
        try:
            parts = {
                "model": ModelConfig.from_dict(values["model"]),
                "schedule": Schedule(**values["schedule"]),
                "optimizer": OptimizerSettings(**values.get("optimizer", {})),
            }
            return cls(**(values | parts))
        except (KeyError, TypeError) as error:
            raise FormatError(f"not a description of a training run: {error}") from error

    def save(self, path: Path) -> None:
        """Write the settings as JSON."""
        with atomic_write(path) as file:
            file.write(json.dumps(self.to_dict(), indent=2).encode())

    @classmethod
    def load(cls, path: Path) -> TrainingSettings:
        """Read the settings from a JSON file."""
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise ParameterError(f"there is no settings file {path}") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise FormatError(f"{path}: not valid JSON ({error})") from error


def _published(name: str, first_rate: float, second_rate: float) -> TrainingSettings:
    """100 B tokens in batches of 1 M tokens; stage 2 starts half-way at `second_rate`."""
    return TrainingSettings(
        model=shape(name),
        schedule=Schedule(
            num_steps=100_000,
            warmup_steps=375,
            stage_two_peak=second_rate / first_rate,
            stage_one_floor=second_rate / first_rate,
            final=0.0,
        ),
        optimizer=OptimizerSettings(kind="adamw", matrix_rate=first_rate, rate=first_rate),
        context=2048,
        batch_size=512,
        accumulation=64,
        evaluate_every=500,
        checkpoint_every=500,
    )


def preset(name: str) -> TrainingSettings:
    """The settings with this name; ParameterError lists the names there are."""
    if name not in PRESETS:
        raise ParameterError(f"there is no training preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


PRESETS = {
    "tiny": TrainingSettings(
        model=shape("tiny"),
        schedule=Schedule(num_steps=6000, warmup_steps=100, quantization_warmup_steps=200),
    ),
    "125m": _published("125m", 2.4e-3, 1.6e-3),
    "400m": _published("400m", 1.8e-3, 1.2e-3),
    "700m": _published("700m", 1.5e-3, 1.0e-3),
    "1.3b": _published("1.3b", 1.2e-3, 8e-4),
    "2b4t": _published("2b4t", 1.2e-3, 6.4e-4),
    "3b": _published("3b", 1.2e-3, 6.4e-4),
    "7b": _published("7b", 1e-3, 6e-4),
}
