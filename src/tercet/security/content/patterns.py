"""Regular expressions, in RE2: their time grows with the text and never explodes.

A pattern says how far a match of it may `reach`, and a match is looked for within that many characters of its
beginning; one that would end beyond is none. So what it finds depends on nothing that a stream has yet to
bring, once so much is there. Two further facts let text leave sooner: that a match begins with one of certain
`prefixes`, or is `one_word`, which white space ends.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from string import ascii_uppercase
from typing import Any

from tercet.environment import optional_import
from tercet.errors import ParameterError
from tercet.security.content.finding import Finding, Scan

__all__ = ["Pattern", "PatternFilter"]

LONGEST_PATTERN = 2_000
MOST_REACH = 10_000
PATTERN_BYTES = 8 << 20
WINDOW = 512


@dataclass(frozen=True)
class Pattern:
    """A regular expression of RE2, and what is known of its matches."""

    name: str
    """For logs and metrics."""
    regex: str
    """What the group `(?P<value>...)` matches is what is found; without one, the whole."""
    category: str
    reach: int = 200
    """A match is shorter than so many characters, unless the text ends with it."""
    prefixes: tuple[str, ...] = ()
    """One of these begins every match, in this very case; empty where anything may."""
    ignores_case: bool = False
    """Whether the prefixes, in lower case here, may be in any; letters beyond ASCII are as they are."""
    one_word: bool = False
    """Whether no match has white space in it."""


class PatternFilter:
    """A filter of patterns.

    Raises:
        ParameterError: a pattern is not valid, too large, or says nothing of its matches that could be.
        MissingExtraError: google-re2 is not installed.
    """

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._patterns = [(pattern, _compiled(pattern)) for pattern in patterns]
        self.categories = frozenset(pattern.category for pattern in patterns)

    def scan(self, text: str, begin: int, final: bool) -> Scan:
        """See `ContentFilter.scan`."""
        lower = text.translate(_LOWER)
        known = [lower if pattern.ignores_case else text for pattern, _ in self._patterns]
        decided = len(text)
        if not final:
            patterns = zip(self._patterns, known, strict=True)
            decided = min((_decided(one, seen, begin) for (one, _), seen in patterns), default=decided)
            decided = max(decided, begin)
        encoded = _Encoded(text)
        findings = []
        for (pattern, compiled), seen in zip(self._patterns, known, strict=True):
            if not pattern.prefixes:
                findings += _matches(pattern, compiled, encoded, begin, decided)
            elif any(seen.find(prefix, begin) >= 0 for prefix in pattern.prefixes):
                findings += _matches(pattern, compiled, encoded, begin, decided, seen)
        return Scan(findings, decided)


_LOWER = {ord(upper): upper.lower() for upper in ascii_uppercase}


class _Encoded:
    """A text as RE2 reads it, encoded once, and the way between places in the two."""

    def __init__(self, text: str) -> None:
        self.data = text.encode("utf-8", "replace")
        self._places: list[int] | None = None
        if len(self.data) != len(text):
            sizes = (len(character.encode("utf-8", "replace")) for character in text)
            self._places = list(accumulate(sizes, initial=0))
        self.length = len(text)

    def byte_at(self, character: int) -> int:
        """Where a character begins."""
        character = min(character, self.length)
        return character if self._places is None else self._places[character]

    def character_at(self, byte: int) -> int:
        """The character that begins here."""
        return byte if self._places is None else bisect_left(self._places, byte)


def _matches(
    pattern: Pattern, compiled: Any, text: _Encoded, begin: int, decided: int, seen: str | None = None
) -> list[Finding]:
    """Matches that begin between the two; they may overlap, since no scan knows how far the last one went."""
    found = []
    group = next((number for name, number in compiled.groupindex.items() if name in ("value", b"value")), 0)
    window = 2 * pattern.reach + WINDOW  # where the next beginning is looked for: no search is ever longer
    position = begin
    while position < decided:
        near = compiled.search(text.data, text.byte_at(position), text.byte_at(position + window))
        if near is None:
            position += window - pattern.reach
            continue
        start = text.character_at(near.start())
        if start >= decided:
            break
        position = start + 1
        if seen is not None and not seen.startswith(pattern.prefixes, start):
            continue
        border = start + pattern.reach
        match = compiled.match(text.data, near.start(), text.byte_at(border))
        # At the border of what is looked at, nobody knows what would have followed.
        if match is not None and (border >= text.length or text.character_at(match.end()) < border):
            first, last = (text.character_at(place) for place in match.span(group))
            if first < last:
                found.append(Finding(first, last, pattern.category, pattern.name))
    return found


def _decided(pattern: Pattern, text: str, begin: int) -> int:
    """Where a match may begin that needs more text to be known; one character behind it is looked at, too."""
    earliest = max(len(text) - pattern.reach, begin)
    if pattern.one_word:
        last_space = max((index for index in range(earliest, len(text)) if text[index].isspace()), default=-1)
        earliest = max(earliest, last_space)
    if not pattern.prefixes:
        return earliest
    places = [place for one in pattern.prefixes if (place := text.find(one, earliest)) >= 0]
    for prefix in pattern.prefixes:
        for size in range(min(len(prefix) - 1, len(text) - earliest), 0, -1):
            if text.endswith(prefix[:size]):
                places.append(len(text) - size)
                break
    return min(places, default=len(text))


def _compiled(pattern: Pattern) -> Any:
    re2 = optional_import("re2", "security")
    if len(pattern.regex) > LONGEST_PATTERN or not 0 < pattern.reach <= MOST_REACH:
        raise ParameterError(
            f"the pattern {pattern.name!r} has at most {LONGEST_PATTERN} characters and reaches 1 to "
            f"{MOST_REACH}, not {len(pattern.regex)} and {pattern.reach}"
        )
    options = re2.Options()
    options.max_mem = PATTERN_BYTES
    options.log_errors = False
    try:
        return re2.compile(pattern.regex.encode(), options)
    except re2.error as error:
        raise ParameterError(f"the pattern {pattern.name!r} is no pattern of RE2: {error}") from error
