"""Text as word lists compare it: what looks the same to a reader becomes the same, as far as Unicode says so.

    "HÀRM\\u200bFUL"  ->  "harmful"        case, accents and invisible characters
    "ｈａｒｍ"          ->  "harm"           width, ligatures and other forms of compatibility
    "self \\n harm"   ->  "self harm"      runs of white space

Letters of one script that look like another's (Cyrillic а for Latin a), digits for letters (h4te) and letters
apart (h a t e) stay what they are.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

__all__ = ["fold"]


def fold(text: str) -> tuple[str, list[int]]:
    """Return the folded text, and for each of its characters the index of the one that it came from."""
    folded: list[str] = []
    origins: list[int] = []
    for index, character in enumerate(text):
        piece = _fold_character(character)
        if piece == " " and folded and folded[-1] == " ":
            continue
        folded.extend(piece)
        origins.extend([index] * len(piece))
    return "".join(folded), origins


@lru_cache(maxsize=8192)
def _fold_character(character: str) -> str:
    if character.isspace():
        return " "
    plain = unicodedata.normalize("NFKD", character).casefold()
    return "".join(one for one in unicodedata.normalize("NFKD", plain) if not _is_invisible(one))


def _is_invisible(character: str) -> bool:
    """Accents (the general ones; vowels of other scripts are letters), joiners, variation selectors."""
    code = ord(character)
    return 0x300 <= code <= 0x36F or 0xFE00 <= code <= 0xFE0F or unicodedata.category(character) == "Cf"
