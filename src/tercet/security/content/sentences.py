"""Text in sentences, for filters that judge a stretch as a whole.

A sentence ends behind a line break, behind `.`, `!` or `?` and the white space that follows, or, if neither
comes, behind the last white space of `LONGEST` characters. Where it ends depends on nothing behind it, so a
stream has the sentences of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["LONGEST", "sentences"]

LONGEST = 1_000
_END = re.compile(r"\n|[.!?][\"')\]]{0,3}\s|[。！？]")


def sentences(text: str, begin: int, final: bool) -> Iterator[tuple[int, int]]:
    """Give (begin, end) of each sentence that is complete; at the final end of a text, of the rest, too."""
    while begin < len(text):
        border = begin + LONGEST
        end = _END.search(text, begin, border)
        if end is not None:
            place = end.end()
        elif len(text) >= border:
            place = _last_space(text, begin, border)
        elif final:
            place = len(text)
        else:
            return
        yield begin, place
        begin = place


def _last_space(text: str, begin: int, border: int) -> int:
    for place in range(border - 1, begin, -1):
        if text[place].isspace():
            return place + 1
    return border
