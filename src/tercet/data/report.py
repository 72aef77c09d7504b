"""The account of a preparation: how many rows became examples, and what became of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["PreparationReport"]

MOST_PLACES = 3
"""How many of the rows that were skipped for a reason are named."""


@dataclass
class PreparationReport:
    """What was read, used, skipped, left out and cut."""

    source: str
    rows_read: int = 0
    """Rows looked at, those for validation included."""
    rows_used: int = 0
    rows_left_out: int = 0
    """Rows beyond `max_samples`, not looked at."""
    shapes: Counter[str] = field(default_factory=Counter)
    """Shape of row -> how many."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Reason -> how many rows."""
    skipped_places: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> where the first of them are."""
    remarks: Counter[str] = field(default_factory=Counter)
    """What a person should know -> how many rows it concerns."""
    truncated: int = 0
    """Conversations that ended at `max_length`."""
    pieces: int = 0
    """Texts' further pieces, where they were longer than `max_length`."""
    train_examples: int = 0
    """Documents to train on, before packing."""
    train_sequences: int = 0
    """What they are packed into."""
    valid_examples: int = 0
    train_tokens: int = 0
    train_learned: int = 0
    valid_tokens: int = 0
    valid_learned: int = 0
    max_length: int = 0

    def skip(self, reason: str, place: str) -> None:
        """Count a row that is not used."""
        self.skipped[reason] += 1
        places = self.skipped_places.setdefault(reason, [])
        if len(places) < MOST_PLACES:
            places.append(place)

    def lines(self) -> Iterator[str]:
        """The account for people, a line for each thing worth saying."""
        shapes = ", ".join(f"{count} {shape}" for shape, count in self.shapes.most_common())
        yield f"{self.rows_used} of {self.rows_read} rows of {self.source} used ({shapes})"
        for reason, count in self.skipped.most_common():
            places = self.skipped_places[reason]
            more = ", ..." if count > len(places) else ""
            yield f"skipped {count}: {reason} ({', '.join(places)}{more})"
        if self.rows_left_out:
            yield f"left out {self.rows_left_out} more rows: max_samples is reached (0 takes all)"
        if self.truncated:
            yield f"cut {self.truncated} conversations at {self.max_length} tokens"
        if self.pieces:
            yield f"cut long texts at {self.max_length} tokens into {self.pieces} more pieces"
        for remark, count in self.remarks.most_common():
            yield f"note: {remark} ({count} rows)"
        packed = ""
        if self.train_sequences != self.train_examples:
            packed = f" in {self.train_sequences} packed sequences of up to {self.max_length}"
        yield (
            f"train: {self.train_examples} examples{packed}, {self.train_tokens} tokens, "
            f"{self.train_learned} of them learned"
        )
        yield (
            f"validation: {self.valid_examples} examples, {self.valid_tokens} tokens, "
            f"{self.valid_learned} of them learned"
        )

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def to_dict(self) -> dict[str, Any]:
        """The same for programs, as JSON can say it."""
        return {name: dict(value) if isinstance(value, dict) else value for name, value in vars(self).items()}
