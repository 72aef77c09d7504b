"""Guesses from the text itself: what followed the last few tokens when they stood there before.

Costs a few look-ups in a table and no arithmetic, and is right wherever an answer repeats its question: in
summaries, in corrected text, in code, in names. Source: "Prompt Lookup Decoding" (Saxena 2023); "Inference
with Reference" (Yang et al. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence

from tercet.engine.request import Request

__all__ = ["PromptLookup"]

LONGEST = 4
SHORTEST = 2


class PromptLookup:
    """Proposes what followed the longest ending, of 4 to 2 tokens, that the text has had before."""

    def __init__(self) -> None:
        self._texts: dict[Request, _Occurrences] = {}

    def propose(self, requests: Sequence[Request], counts: Sequence[int]) -> list[list[int]]:
        """Tokens that followed the latest such place, perhaps none."""
        return [
            self._texts.setdefault(request, _Occurrences()).following(request, count)
            for request, count in zip(requests, counts, strict=True)
        ]

    def forget(self, request: Request) -> None:
        """Drop the table of a request."""
        self._texts.pop(request, None)


class _Occurrences:
    """Where each sequence of tokens of one text ended last, the very end apart."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}

    def following(self, request: Request, count: int) -> list[int]:
        ids = self._ids
        for token in request.tokens(len(ids), request.num_tokens - len(ids)):
            # What ended before this token is followed by it, so that it can be found now.
            for length in range(SHORTEST, min(LONGEST, len(ids)) + 1):
                self._ends[tuple(ids[-length:])] = len(ids)
            ids.append(token)
        for length in range(min(LONGEST, len(ids)), SHORTEST - 1, -1):
            end = self._ends.get(tuple(ids[-length:]))
            if end is not None:
                return ids[end : end + count]
        return []
