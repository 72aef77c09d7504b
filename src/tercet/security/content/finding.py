"""What a filter has found, and what a filter is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["ContentFilter", "Finding", "Scan"]


@dataclass(frozen=True, order=True)
class Finding:
    """A stretch of text, `text[begin:end]`, and why it was found. It never holds the text itself."""

    begin: int
    end: int
    category: str
    """What policies decide by: "hate", "secret", "email"."""
    rule: str
    """Which rule of the filter it was; for the log, so never what the text says."""


@dataclass(frozen=True)
class Scan:
    """Findings that begin before `decided`; whatever text follows, none is added to them or changed."""

    findings: list[Finding]
    decided: int


class ContentFilter(Protocol):
    """Finds things in a text that may still grow at its end. Has no state: one serves all requests."""

    categories: frozenset[str]
    """All that its findings may have; known beforehand, so that labels of metrics are bounded."""

    def scan(self, text: str, begin: int, final: bool) -> Scan:
        """Find what begins at `begin` or later.

        The findings are a function of the whole text, however it came in pieces. What stands up to
        `CONTEXT` characters before `begin` may be looked at.

        Args:
            text: what is known of the text; possibly without its beginning.
            begin: where the last scan was `decided`, or 0.
            final: whether no more text follows. Then everything is decided.
        """


CONTEXT = 16
"""Characters before `begin` that a filter may look at."""
