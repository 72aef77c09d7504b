"""What became of an adapter when it was merged: the same figures for programs and for people."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.environment import atomic_write
from tercet.finetuning.lora.merging import MatrixChange

__all__ = ["MergeReport", "report_paths", "write_report"]


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """How a merge went. Losses are nats a learned token, computed by the engine."""

    model: str
    adapter: str
    result: str
    kind: str
    """Of the adapter: `float`, or `ternary`, which merges exactly."""
    has_master: bool
    """Whether the model came with the masters that its codes were rounded from."""
    matrices: tuple[MatrixChange, ...]
    examples: int = 0
    tokens: int = 0
    loss_before: float | None = None
    loss_adapter: float | None = None
    """With the adapter beside the model."""
    loss_after: float | None = None
    """Of the merged file."""
    seconds: float = 0.0

    @property
    def weights(self) -> int:
        """Ternary weights of the matrices that the adapter is of."""
        return sum(one.weights for one in self.matrices)

    @property
    def changed(self) -> int:
        """Of these, codes that are another than before."""
        return sum(one.changed for one in self.matrices)

    @property
    def survived(self) -> float | None:
        """Which part of the fall of the loss that the adapter brings the merged file has, too; None if there
        was no fall, or nothing was measured."""
        if self.loss_before is None or self.loss_adapter is None or self.loss_after is None:
            return None
        gain = self.loss_before - self.loss_adapter
        return (self.loss_before - self.loss_after) / gain if gain > 0 else None

    def notes(self) -> Iterator[str]:
        """Say what a person should know before using the result."""
        if self.changed == 0:
            yield "no code has changed: the adapter is smaller than the rounding; the result is the old model"
        if self.kind == "float" and not self.has_master:
            yield (
                "the model came without masters, so they were made up from its codes; merge into the masters "
                "if you have them, or keep the adapter beside the model (tercet run --lora)"
            )
        if self.loss_before is None and self.kind == "float":
            yield "no loss was measured; name examples with --data to see what the merge costs"
        elif self.kind == "float" and (self.survived or 0.0) < 0.5:
            yield (
                "less than half of what the adapter brings is left. Keep it beside the model "
                "(tercet run --lora), or train with --method ternary-lora, which merges exactly"
            )

    def lines(self) -> Iterator[str]:
        """Say it for people, a line for each thing."""
        yield f"{self.result}: {self.model} with {self.adapter} merged, in {self.seconds:.0f} s"
        share = self.changed / max(self.weights, 1)
        yield f"{self.changed:,} of {self.weights:,} codes changed ({share:.2%})"
        if self.loss_before is not None and self.loss_after is not None:
            beside = (
                "" if self.loss_adapter is None else f", {self.loss_adapter:.4f} with the adapter beside it"
            )
            yield f"loss {self.loss_before:.4f} before{beside}, {self.loss_after:.4f} merged, in nats a token"
        if self.survived is not None:
            yield f"{self.survived:.0%} of what the adapter brings is in the merged file"
        yield from (f"note: {note}" for note in self.notes())

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-compatible values."""
        values = dataclasses.asdict(self)
        values["matrices"] = [{**dataclasses.asdict(one), "changed": one.changed} for one in self.matrices]
        return values | {"weights": self.weights, "changed": self.changed, "survived": self.survived}

    def markdown(self) -> str:
        """Return the report for people, matrix by matrix."""
        return "\n".join(self._page()) + "\n"

    def _page(self) -> Iterator[str]:
        yield f"# {self.result}: what became of the adapter"
        yield ""
        yield from (f"- {line}" for line in self.lines())
        if self.examples:
            yield f"- measured on {self.examples} examples, {self.tokens} learned tokens"
        yield ""
        yield "`wanted` is the size of what the adapter adds, relative to the matrix; `kept` how much of it"
        yield "has arrived: 1 is all of it, 0 nothing. `0 to ±1`, `±1 to 0` and `turned` count codes."
        yield ""
        yield "| matrix | weights | changed | 0 to ±1 | ±1 to 0 | turned | scale | wanted | kept |"
        yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
        for one in self.matrices:
            scale = one.scale_after / one.scale_before - 1 if one.scale_before else 0.0
            yield (
                f"| {one.name} | {one.weights:,} | {one.changed / one.weights:.2%} | {one.began} | "
                f"{one.ended} | {one.turned} | {scale:+.2%} | {one.wanted:.3f} | {one.kept:.2f} |"
            )


def report_paths(result: Path) -> tuple[Path, Path]:
    """Return where the report of a merge is kept: JSON, Markdown."""
    return result.with_suffix(".merge.json"), result.with_suffix(".merge.md")


def write_report(result: Path, report: MergeReport) -> tuple[Path, Path]:
    """Write a report beside its result. Raises StorageError if it cannot be written."""
    paths = report_paths(result)
    texts = (json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n", report.markdown())
    for path, text in zip(paths, texts, strict=True):
        with atomic_write(path) as file:
            file.write(text.encode())
    return paths
