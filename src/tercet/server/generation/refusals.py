"""Fields of OpenAI's requests that ask for what this server does not do.

A client that asks for audio and gets text, or for a stored conversation and finds none, was misled. So such a
field is refused by its name, unless its value asks for nothing. The schema of the request says the same: the
type of a refused field is null, or the values that are what happens anyway.
"""

from __future__ import annotations

from typing import Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from tercet.server.errors import ApiError

__all__ = ["contradiction", "refused", "refused_unless", "unsupported"]


def refused(reason: str) -> BeforeValidator:
    """Refuse every value but null: `audio: Annotated[None, refused("...")] = None`."""
    return refused_unless(reason)


def refused_unless(reason: str, *accepted: Any) -> BeforeValidator:
    """Refuse every value but null and those that ask for nothing."""

    def check(value: Any) -> Any:
        # 0 is equal to False, and no boolean.
        if value is not None and not any(type(value) is type(one) and value == one for one in accepted):
            raise unsupported(reason)
        return value

    return BeforeValidator(check)


def unsupported(reason: str) -> PydanticCustomError:
    """Make the error of a validator that refuses what a field asks for; the field's name is put before it."""
    return PydanticCustomError("unsupported", "{reason}", {"reason": reason})


def contradiction(param: str, reason: str) -> ApiError:
    """Make the error of two fields that cannot both be granted, by the name of one of them."""
    return ApiError(400, f"{param} {reason}", param=param, code="invalid_value")
