"""What callers give as a prompt: one or several, text or token ids."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from tercet.errors import ContextLengthError, ParameterError

__all__ = ["Prompt", "batch_of", "checked_ids", "fitting"]

Prompt: TypeAlias = "str | Sequence[int]"


def batch_of(prompt: Any) -> Sequence[Prompt] | None:
    """Return the prompts of a batch, or None for a single one: text, or a list that begins with a number.

    Raises:
        ParameterError: it is neither.
    """
    if isinstance(prompt, str):
        return None
    if isinstance(prompt, (bytes, Mapping)) or not isinstance(prompt, Sequence):
        raise ParameterError(
            "a prompt is a string or a list of token ids, several are a list of those, "
            f"not {type(prompt).__name__}"
        )
    return None if prompt and not isinstance(prompt[0], (str, Sequence)) else prompt


def checked_ids(token_ids: Iterable[int], vocab_size: int) -> list[int]:
    """Return token ids as numbers of Python; ParameterError where one is none, or not in the vocabulary."""
    ids = []
    for position, token_id in enumerate(token_ids):
        try:
            ids.append(operator.index(token_id))
        except TypeError as error:
            raise ParameterError(f"token {position} is {token_id!r}, not a whole number") from error
        if not 0 <= ids[-1] < vocab_size:
            raise ParameterError(
                f"token {position} is {ids[-1]}, but the vocabulary has ids 0 to {vocab_size - 1}"
            )
    return ids


def fitting(ids: list[int], max_context: int) -> list[int]:
    """Return token ids that fit into the context; ContextLengthError where they are too many."""
    if len(ids) > max_context:
        raise ContextLengthError(f"{len(ids)} tokens do not fit into the context of {max_context}")
    return ids
