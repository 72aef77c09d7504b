"""What another program said, made fit for a line of ours."""

from __future__ import annotations

__all__ = ["said"]

MOST_CHARACTERS = 300


def said(text: str) -> str:
    """Return one printable line: whoever wrote it must not move the cursor of a terminal."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - 1] + "…"
