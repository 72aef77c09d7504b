"""Quality against tokens: what the exported file of each moment makes of a held-out text.

`curve.jsonl` has a line for the teacher and one for each measurement:

    {"model": "teacher", "tokens": null, "loss": ..., "perplexity": ..., "nats_per_byte": ...}
    {"model": "student", "tokens": 25600, "step": 13, "strength": 0.3, "loss": ..., ...}
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from tercet.environment import atomic_write, optional_import

__all__ = ["Curve"]


class Curve:
    """The curve of the run in a folder."""

    def __init__(self, run: Path) -> None:
        self.path = run / "curve.jsonl"
        self.picture = run / "curve.png"

    def points(self) -> list[dict[str, Any]]:
        """All lines; one that a kill has cut short is left out."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def keep_until(self, step: int) -> None:
        """Forget what comes after `step`: it will be measured again."""
        kept = [point for point in self.points() if point["model"] == "teacher" or point["step"] <= step]
        with atomic_write(self.path) as file:
            file.write("".join(json.dumps(point) + "\n" for point in kept).encode())

    def has(self, model: str, step: int | None = None) -> bool:
        """Whether this was measured already."""
        return any(p["model"] == model and (step is None or p["step"] == step) for p in self.points())

    def add(self, model: str, loss: float, bytes_per_token: float, **facts: Any) -> dict[str, Any]:
        """Append a measurement, mean nats a token, and return its line."""
        point = {"model": model, "tokens": None} | facts
        point |= {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "nats_per_byte": loss / bytes_per_token,
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(point) + "\n")
        return point

    def draw(self) -> None:
        """Draw the students' losses over tokens, and the teacher's as a line."""
        optional_import("matplotlib", "train").use("Agg")
        pyplot = optional_import("matplotlib.pyplot", "train")
        figure, axes = pyplot.subplots(figsize=(8, 5), dpi=110)
        students = [p for p in self.points() if p["model"] == "student"]
        thousands = [p["tokens"] / 1e3 for p in students]
        axes.plot(
            thousands, [p["loss"] for p in students], "o-", ms=4, label="ternary student, exported file"
        )
        for teacher in [p for p in self.points() if p["model"] == "teacher"][:1]:
            axes.axhline(teacher["loss"], ls="--", color="gray", label="full-precision teacher")
        axes.set(
            xlabel="tokens learned from (thousands)", ylabel="held-out loss (nats a token)",
            title="Distillation: quality against tokens",
        )  # fmt: skip
        axes.grid(alpha=0.3)
        axes.legend()
        with atomic_write(self.picture) as file:
            figure.savefig(file, format="png")
        pyplot.close(figure)
