"""Checks of single values that a caller or a file gives for a model's config.

Each takes the field's name for the message and raises ParameterError; `ModelConfig.from_dict` turns that into
a FormatError when the value came from a file.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from tercet.errors import ParameterError

__all__ = ["MAX_DIMENSION", "check_choice", "check_flag", "check_keys", "check_whole", "checked_positive"]

# A row of int8 activations times ternary codes is summed in int32: 127 * 2**24 < 2**31. No dimension may
# exceed this, which also keeps a hostile file from asking for absurd amounts of memory by a single number.
MAX_DIMENSION = 2**24
LARGEST_FLOAT32 = 2**128 - 2**104


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse what is not one of `choices`."""
    if value not in choices:
        raise ParameterError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def check_flag(name: str, value: object) -> None:
    """Refuse what is not True or False, 0 and 1 included."""
    if not isinstance(value, bool):
        raise ParameterError(f"{name} must be true or false, not {value!r}")


def check_whole(name: str, value: object, lowest: int = 1, highest: int = MAX_DIMENSION) -> None:
    """Refuse what is not an int from `lowest` to `highest`."""
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise ParameterError(f"{name} must be a whole number from {lowest} to {highest}, not {value!r}")


def checked_positive(name: str, value: object) -> float:
    """Return a positive number as a float, and refuse everything else: also what float32 cannot hold."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ParameterError(f"{name} must be a positive number, not {value!r}")
    if value > LARGEST_FLOAT32:
        raise ParameterError(f"{name} must be at most {LARGEST_FLOAT32:.2g}")
    return float(value)


def check_keys(what: str, kind: type, values: object) -> dict[str, Any]:
    """Return `values` as a dict if it maps the required fields of a dataclass, and no others, to values."""
    if not isinstance(values, Mapping):
        raise ParameterError(f"{what} is a mapping of names to values, not {type(values).__name__}")
    fields = dataclasses.fields(kind)
    if unknown := sorted(str(key) for key in values if key not in {field.name for field in fields}):
        raise ParameterError(f"{what} has unknown keys: {', '.join(unknown)}")
    missing = [
        field.name
        for field in fields
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
        and field.name not in values
    ]
    if missing:
        raise ParameterError(f"{what} lacks: {', '.join(missing)}")
    return dict(values)
