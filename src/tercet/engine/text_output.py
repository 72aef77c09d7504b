"""Token ids in, text out, and what went out is never taken back.

Two things hold text back. A token may end in the middle of a UTF-8 character: the incremental decoder keeps
those bytes. And the text may end in what could become a stop string, which users must not see and which may
span several tokens: the longest such ending waits until the next token settles it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class TokenDecoder(Protocol):
    """What `tercet.tokenization.IncrementalDecoder` offers."""

    def push(self, token_id: int) -> str:
        """Text that became certain with this token."""

    def finish(self) -> str:
        """The rest: incomplete characters as U+FFFD."""


class StopStrings:
    """Finds the first stop string in a text that arrives in pieces."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(stop)
        self._held = ""

    def push(self, piece: str) -> tuple[str, str | None]:
        """Take more text; returns what may be shown and the stop string if one is complete.

        The earliest match wins, the longest of those that begin at the same place; nothing from its first
        character on is ever shown.
        """
        text = self._held + piece
        matches = [(position, -len(stop), stop) for stop in self._stop if (position := text.find(stop)) >= 0]
        if matches:
            position, _, stop = min(matches)
            self._held = ""
            return text[:position], stop
        cut = len(text) - self._longest_unsettled_ending(text)
        self._held = text[cut:]
        return text[:cut], None

    def finish(self) -> str:
        """No more text comes: what was held back is not a stop string after all."""
        held, self._held = self._held, ""
        return held

    def _longest_unsettled_ending(self, text: str) -> int:
        longest = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:length]):
                    longest = length
                    break
        return longest


class TextOutput:
    """The text of one request: all of it so far, and what its reader has not taken yet."""

    def __init__(self, decoder: TokenDecoder, stop: Sequence[str] = ()) -> None:
        self._decoder = decoder
        self._stop = StopStrings(stop)
        self._pieces: list[str] = []
        self._num_taken = 0
        self.stop_string: str | None = None

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._pieces)

    def push(self, token_id: int, may_stop: bool = True) -> bool:
        """Add a token; True when a stop string is complete and the text therefore ends.

        Tokens that may not stop come before all others. No stop string is looked for in their text.
        """
        text = self._decoder.push(token_id)
        if may_stop:
            return self._push_text(text)
        self._append(text)
        return False

    def finish(self) -> None:
        """No more tokens come: release everything held back."""
        if not self._push_text(self._decoder.finish()):
            self._append(self._stop.finish())

    def take(self) -> str:
        """The text added since the last call, possibly empty. Another thread may be adding more meanwhile."""
        begin, self._num_taken = self._num_taken, len(self._pieces)
        return "".join(self._pieces[begin : self._num_taken])

    def _push_text(self, text: str) -> bool:
        if self.stop_string is None and text:
            shown, self.stop_string = self._stop.push(text)
            self._append(shown)
        return self.stop_string is not None

    def _append(self, text: str) -> None:
        if text:
            self._pieces.append(text)
