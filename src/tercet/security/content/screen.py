"""The pass over a text: all filters of a policy, what they find in order, and what is done about each finding.

    screen = Screen(policy.response)
    for piece in pieces:
        print(screen.push(piece), end="")
        if screen.blocked:
            break
    print(screen.finish(), end="")

`push` gives back what may leave. It waits for words that are not complete, and for nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tercet.security.content.finding import CONTEXT, ContentFilter, Finding

__all__ = ["ACTIONS", "Action", "Direction", "Screen", "Screened", "screen_text"]

Action = Literal["block", "redact", "flag", "pass"]
ACTIONS: tuple[Action, ...] = ("block", "redact", "flag", "pass")


@dataclass(frozen=True)
class Direction:
    """What is done with texts that go one way."""

    filters: tuple[ContentFilter, ...]
    actions: Mapping[str, Action]
    """By category; what is not named is `otherwise`."""
    otherwise: Action = "pass"

    def action(self, category: str) -> Action:
        """What is done about a category."""
        return self.actions.get(category, self.otherwise)

    @property
    def is_idle(self) -> bool:
        """Whether no finding could change or be told of anything."""
        return all(self.action(one) == "pass" for content in self.filters for one in content.categories)


class Screen:
    """One text, on its way.

    Attributes:
        blocked: the finding's category that ended the text; nothing more leaves.
        counts: how often something was done, by action and category.
    """

    def __init__(self, direction: Direction) -> None:
        self.blocked: str | None = None
        self.counts: Counter[tuple[Action, str]] = Counter()
        self._direction = direction
        self._text = ""  # what is held, and some of what left before it
        self._decided = [0] * len(direction.filters)
        self._found: list[Finding] = []
        self._at = 0  # what stands before it has left, or been taken out
        self._last_ends: dict[tuple[str, str], int] = {}

    @property
    def num_held(self) -> int:
        """Characters that have come and neither left nor been taken out."""
        return max(len(self._text) - self._at, 0)

    @property
    def changed(self) -> bool:
        """Whether what leaves is not what came."""
        return self.blocked is not None or any(action == "redact" for action, _ in self.counts)

    def push(self, piece: str) -> str:
        """Take more of the text; returns what may leave."""
        return self._advance(piece, final=False)

    def finish(self) -> str:
        """Return what was held back, now that nothing follows."""
        return self._advance("", final=True)

    def _advance(self, piece: str, final: bool) -> str:
        if self.blocked is not None:
            return ""
        self._text += piece
        for number, content in enumerate(self._direction.filters):
            scan = content.scan(self._text, self._decided[number], final)
            self._found += scan.findings
            self._decided[number] = scan.decided
        free = min(self._decided, default=len(self._text))
        self._found.sort()
        passed: list[str] = []
        while self._found and self._found[0].begin < free and self.blocked is None:
            passed.append(self._apply(self._found.pop(0)))
        if self.blocked is None and free > self._at:
            passed.append(self._text[self._at : free])
            self._at = free
        self._forget()
        return "".join(passed)

    def _apply(self, finding: Finding) -> str:
        """Do what is to be done about a finding; returns the text before it, and what stands in its place."""
        action = self._direction.action(finding.category)
        kind = (finding.category, finding.rule)
        if action == "pass" or finding.end <= self._last_ends.get(kind, 0):  # a part of one before
            return ""
        self._last_ends[kind] = finding.end
        self.counts[action, finding.category] += 1
        if action == "flag":
            return ""
        before = self._text[self._at : finding.begin]
        if action == "block":
            self.blocked = finding.category
            self._found.clear()
            return before
        # Of two that overlap, the first is named; the other only takes out more.
        mark = f"[REDACTED:{finding.category.upper()}]" if finding.begin >= self._at else ""
        self._at = max(self._at, finding.end)
        return before + mark

    def _forget(self) -> None:
        """Let go of what no filter will look at again."""
        cut = min([self._at, *(one - CONTEXT for one in self._decided)])
        if cut <= 4 * CONTEXT:
            return
        self._text = self._text[cut:]
        self._at -= cut
        self._decided = [one - cut for one in self._decided]
        self._found = [Finding(one.begin - cut, one.end - cut, one.category, one.rule) for one in self._found]
        self._last_ends = {kind: end - cut for kind, end in self._last_ends.items() if end > cut}


@dataclass(frozen=True)
class Screened:
    """A whole text behind its screen."""

    text: str
    blocked: str | None
    counts: Mapping[tuple[Action, str], int]


def screen_text(direction: Direction, texts: Sequence[str]) -> list[Screened]:
    """Screen whole texts, each for itself."""
    screened = []
    for text in texts:
        screen = Screen(direction)
        left = screen.push(text) + screen.finish()
        screened.append(Screened(left, screen.blocked, screen.counts))
    return screened
