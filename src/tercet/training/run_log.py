"""The history of a run: one JSON line an event, the same for TensorBoard, and a picture of the loss.

{"event": "step", "step": 10, "loss": ..., "learning_rate": ..., "tokens": ..., "tokens_per_second": ...}
{"event": "evaluation", "step": 250, "loss": ..., "nats_per_byte": ..., "perplexity": ..., "sample": "..."}
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tercet.environment import atomic_write, optional_import, storage_errors
from tercet.errors import FormatError
from tercet.training.tensorboard import EventFile


class RunLog:
    """`log.jsonl`, `tensorboard/` and `loss.png` in a run folder.

    Raises (every method that writes):
        StorageError: the disk is full or not writable.
    """

    def __init__(self, run: Path, resume_step: int) -> None:
        self.path = run / "log.jsonl"
        self.picture = run / "loss.png"
        self.folder = run / "tensorboard"
        kept = [line for line in self._lines() if self._step(line) <= resume_step] if resume_step else []
        with atomic_write(self.path) as file:  # events after the checkpoint will happen again
            file.write("".join(kept).encode())
        with storage_errors(self.folder, opening=True):
            self._curves = EventFile(self.folder)
            for event in map(json.loads, kept):
                self._curves.write(event, event.get("time", 0.0))
            self._curves.flush()

    def write(self, event: str, **values: Any) -> None:
        """Append one event."""
        line = {"event": event} | values | {"time": round(time.time(), 3)}
        with storage_errors(self.path, opening=True), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        with storage_errors(self.folder):
            self._curves.write(line, float(line["time"]))

    def events(self, kind: str) -> list[dict[str, Any]]:
        """All events of one kind, oldest first."""
        return [event for event in map(json.loads, self._lines()) if event["event"] == kind]

    def draw(self) -> None:
        """Draw the training and validation loss over tokens, and let TensorBoard see what there is."""
        with storage_errors(self.folder):
            self._curves.flush()
        optional_import("matplotlib", "train").use("Agg")
        pyplot = optional_import("matplotlib.pyplot", "train")
        figure, axes = pyplot.subplots(figsize=(8, 5), dpi=110)
        steps, evaluations = self.events("step"), self.events("evaluation")
        axes.plot([e["tokens"] / 1e6 for e in steps], [e["loss"] for e in steps], lw=0.8, label="training")
        axes.plot(
            [e["tokens"] / 1e6 for e in evaluations],
            [e["loss"] for e in evaluations],
            "o-",
            ms=3,
            label="validation",
        )
        axes.set(
            xlabel="tokens seen (millions)", ylabel="loss (nats a token)", title="Training of a ternary model"
        )
        axes.grid(alpha=0.3)
        axes.legend()
        with atomic_write(self.picture) as file:
            figure.savefig(file, format="png")
        pyplot.close(figure)

    @staticmethod
    def _step(line: str) -> int:
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(
                f"log.jsonl has a line that is no event of a run: {line.strip()[:60]}"
            ) from error

    def _lines(self) -> list[str]:
        if not self.path.exists():
            return []
        # A line cut short by a kill is dropped: its step will be done again.
        return [
            line for line in self.path.read_text(encoding="utf-8").splitlines(True) if line.endswith("\n")
        ]
