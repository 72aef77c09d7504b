"""The exception tree: drawn in the docstring, and true."""

from __future__ import annotations

import re

import pytest

from tercet import errors
from tercet.errors import (
    ChecksumError,
    ContextLengthError,
    FormatError,
    MissingExtraError,
    ParameterError,
    TercetError,
    UnsupportedFormatError,
)

CLASSES = {name: getattr(errors, name) for name in errors.__all__}


def test_the_docstring_draws_every_class_below_its_parent() -> None:
    drawn: dict[str, str | None] = {}
    ancestors: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"([ │├└─]*)(\w+Error)\b", line):
            depth = len(match[1])
            while ancestors and ancestors[-1][0] >= depth:
                ancestors.pop()
            drawn[match[2]] = ancestors[-1][1] if ancestors else None
            ancestors.append((depth, match[2]))
    real = {
        name: next((base.__name__ for base in kind.__bases__ if issubclass(base, TercetError)), None)
        for name, kind in CLASSES.items()
    }
    assert drawn == real


@pytest.mark.parametrize("kind", CLASSES.values())
def test_every_error_is_the_users_to_mend(kind: type[TercetError]) -> None:
    assert issubclass(kind, TercetError)
    assert kind.exit_code == 2
    assert str(kind("asked, found, do")) == "asked, found, do"


def test_errors_are_caught_as_their_everyday_kinds_too() -> None:
    assert issubclass(ParameterError, ValueError)
    assert issubclass(ContextLengthError, ValueError)
    assert issubclass(MissingExtraError, ImportError)
    assert issubclass(ChecksumError, FormatError)
    assert issubclass(UnsupportedFormatError, FormatError)
