"""What a browser would run, taken out.

    safe_html(text)     a fragment of HTML for a page: what nh3 (the ammonia of Rust) knows to be harmless
    plain_text(text)    text as it was, without script and frames, and `javascript:` and `data:` addresses

The server puts no text into HTML: it answers with JSON, and its own page makes text nodes. `safe_html` is for
programs that do. `plain_text` goes over prompts under `sanitize_inputs`, so that what is stored, logged or
echoed by others is without them. Nothing else changes: `a < b && c > d` stays, as do tags that run
nothing. It is no guarantee for text that becomes HTML without `safe_html`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from tercet.environment import optional_import
from tercet.errors import InvalidInputError

__all__ = ["plain_text", "safe_html"]

_WITH_CONTENT = ("script", "iframe", "object", "applet", "noscript", "template")
_RUN = "script|iframe|frame|frameset|object|embed|applet|base|meta|link|svg|math|template|noscript"
_BLANK = "[\\s\\x00-\\x1f\u200b-\u200d\ufeff]*"
_SCHEMES = "|".join(_BLANK.join(word) for word in ("javascript", "vbscript", "livescript"))
_PATTERNS = (
    *((rf"(?is)<\s*{name}\b[^>]*>.*?<\s*/\s*{name}\b[^>]*>", "") for name in _WITH_CONTENT),
    (rf"(?i)<\s*/?\s*(?:{_RUN})\b[^>]*(?:>|$)", ""),
    (r"(?i)(<[a-z][^<>]*?)[\s/]on[a-z]{3,20}\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s>]*)", r"\1"),
    (rf"(?i)(?:{_SCHEMES}){_BLANK}:", ""),
    (r"(?i)\bdata\s*:\s*[a-z]+/[a-z0-9.+*-]+(?:\s*;\s*[a-z0-9=-]+)*\s*[;,][^\s\"'<>)]*", ""),
)
"""For RE2, whose time grows with the text and no faster, and what stands in the place of a match."""
_SUSPECT = re.compile("[<:]")
MOST_ROUNDS = 10
"""Taking out may put together what stood around it (`<scr<script>ipt>`); so until nothing is found."""


def safe_html(text: str) -> str:
    """Return HTML that a page can have in it: no script, style, frame, handler, no address but http, mailto.

    Raises:
        MissingExtraError: nh3 is not installed.
    """
    nh3 = optional_import("nh3", "security")
    cleaned: str = nh3.clean(
        text,
        clean_content_tags={"script", "style", "iframe", "object", "template", "noscript"},
        url_schemes={"http", "https", "mailto"},
        strip_comments=True,
    )
    return cleaned


def plain_text(text: str, field: str = "the text") -> str:
    """Return the text without what a browser would run.

    Raises:
        InvalidInputError: it is nested so deep that it can only be an attack.
        MissingExtraError: google-re2 is not installed.
    """
    if _SUSPECT.search(text) is None:
        return text
    patterns = _compiled()
    for _ in range(MOST_ROUNDS):
        before = text
        for pattern, instead in patterns:
            text = pattern.sub(instead, text)
        if text == before:
            return text
    raise InvalidInputError(f"{field} has markup inside of markup, again and again", field)


@lru_cache(maxsize=1)
def _compiled() -> list[tuple[Any, str]]:
    re2 = optional_import("re2", "security")
    return [(re2.compile(regex), instead) for regex, instead in _PATTERNS]
