"""The pass over a text: all filters of a policy, their findings in order, and what is done about each.

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


class Screen:
    """One text, on its way. Places count characters of the text as it came.

    Attributes:
        may_change: whether the text may leave as another one, or not at all.
        blocked: the finding's category that ended the text; nothing more leaves.
        counts: how often something was done, by action and category.
        at: what stands before this place has left, or been taken out.
        removed: the stretches that were taken out, in order.
    """

    def __init__(self, direction: Direction) -> None:
        self.blocked: str | None = None
        self.counts: Counter[tuple[Action, str]] = Counter()
        self.at = 0
        self.removed: list[tuple[int, int]] = []
        self._direction = direction
        self._may_change = [_may_change(direction, content) for content in direction.filters]
        self.may_change = any(self._may_change)
        self._text = ""  # what is held, and some of what left before it
        self._cut = 0  # how much of the text is no longer there
        self._decided = [0] * len(direction.filters)
        self._found: list[Finding] = []
        self._flags: list[Finding] = []
        self._last_ends: dict[tuple[str, str], int] = {}

    @property
    def num_held(self) -> int:
        """Characters that have come and neither left nor been taken out."""
        return max(self._cut + len(self._text) - self.at, 0)

    @property
    def changed(self) -> bool:
        """Whether what leaves is not what came."""
        return self.blocked is not None or bool(self.removed)

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
        cut = self._cut
        for number, content in enumerate(self._direction.filters):
            scan = content.scan(self._text, self._decided[number] - cut, final)
            self._decided[number] = scan.decided + cut
            for one in scan.findings:
                self._take(Finding(one.begin + cut, one.end + cut, one.category, one.rule))
        self._count_flags(min(self._decided, default=0))
        deciding = [place for place, may in zip(self._decided, self._may_change, strict=True) if may]
        free = min(deciding, default=cut + len(self._text))
        self._found.sort()
        passed: list[str] = []
        while self._found and self._found[0].begin < free and self.blocked is None:
            passed.append(self._apply(self._found.pop(0)))
        if self.blocked is None and free > self.at:
            passed.append(self._text[self.at - cut : free - cut])
            self.at = free
        self._forget()
        return "".join(passed)

    def _take(self, finding: Finding) -> None:
        """Keep a finding until its turn comes: no other one can begin before it then."""
        action = self._direction.action(finding.category)
        if action in ("block", "redact"):
            self._found.append(finding)
        elif action == "flag":
            self._flags.append(finding)

    def _count_flags(self, decided: int) -> None:
        self._flags.sort()
        while self._flags and self._flags[0].begin < decided:
            flag = self._flags.pop(0)
            if self._is_new(flag):
                self.counts["flag", flag.category] += 1

    def _apply(self, finding: Finding) -> str:
        """Do what is to be done about a finding; returns the text before it, and what stands in its place."""
        if not self._is_new(finding):
            return ""
        action = self._direction.action(finding.category)
        self.counts[action, finding.category] += 1
        before = self._text[max(self.at - self._cut, 0) : max(finding.begin - self._cut, 0)]
        if action == "block":
            self.blocked = finding.category
            self.at = max(self.at, finding.begin)
            self._found.clear()
            return before
        # Of two that overlap, the first is named; the other only takes out more.
        mark = f"[REDACTED:{finding.category.upper()}]" if finding.begin >= self.at else ""
        self.removed.append((finding.begin, finding.end))
        self.at = max(self.at, finding.end)
        return before + mark

    def _is_new(self, finding: Finding) -> bool:
        """Whether it is not a part of one before, of the same rule."""
        kind = (finding.category, finding.rule)
        if finding.end <= self._last_ends.get(kind, 0):
            return False
        self._last_ends[kind] = finding.end
        return True

    def _forget(self) -> None:
        """Let go of what no filter will look at again."""
        cut = min([self.at, *(one - CONTEXT for one in self._decided)])
        if cut - self._cut > 4 * CONTEXT:
            self._text = self._text[cut - self._cut :]
            self._cut = cut


def _may_change(direction: Direction, content: ContentFilter) -> bool:
    """Whether text has to wait for what a filter decides."""
    return any(direction.action(one) in ("block", "redact") for one in content.categories)


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
