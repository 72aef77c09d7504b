"""Whether an input is what it says it is: text that can be written, numbers that are numbers.

    check_text("prompt", text)           no lone surrogate, and no control character but tab and line break
    check_number("temperature", value)   a number, and none that compares with nothing

A lone surrogate cannot be encoded, so that it fails far from where it came from: in a log, in an answer.
Control characters turn into commands where text is shown (ESC in a terminal) or cut off what follows (NUL).
"""

from __future__ import annotations

import math
import re

from tercet.errors import InvalidInputError

__all__ = ["check_number", "check_text", "has_control_characters"]

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def check_text(field: str, value: object, *, control_characters: bool = False) -> str:
    """Return the text.

    Args:
        field: its name, for the message.
        value: what is to be text.
        control_characters: whether control characters are allowed.

    Raises:
        InvalidInputError: it is no text, has half of a surrogate pair, or a control character; the message
            says where, and quotes nothing.
    """
    if not isinstance(value, str):
        raise InvalidInputError(f"{field} must be text, not {type(value).__name__}", field)
    if (found := _SURROGATE.search(value)) is not None:
        raise InvalidInputError(
            f"{field} has half of a surrogate pair at character {found.start()}, which no encoding can write",
            field,
        )
    if not control_characters and (found := _CONTROL.search(value)) is not None:
        raise InvalidInputError(
            f"{field} has the control character U+{ord(found[0]):04X} at character {found.start()}; "
            "only tabs and line breaks are allowed here",
            field,
        )
    return value


def check_number(
    field: str, value: object, *, whole: bool = False, least: float = -math.inf, most: float = math.inf
) -> float:
    """Return the number.

    Raises:
        InvalidInputError: it is no number (true is none), not finite, not whole where that is asked, or
            beyond its bounds.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInputError(f"{field} must be a number, not {type(value).__name__}", field)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInputError(f"{field} must be a finite number, not {value}", field)
    if whole and value != int(value):
        raise InvalidInputError(f"{field} must be a whole number, not {value}", field)
    if not least <= value <= most:
        raise InvalidInputError(f"{field} must be a number from {least:g} to {most:g}", field)
    return value


def has_control_characters(text: str) -> bool:
    """Whether there is a control character other than tab, line feed and carriage return."""
    return _CONTROL.search(text) is not None
