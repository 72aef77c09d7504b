"""An example for people: its text in runs that are learned or not, and its tokens one by one."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from tercet.data.example import Example
from tercet.tokenization import Tokenizer

__all__ = ["Run", "documents", "runs"]


@dataclass(frozen=True)
class Run:
    """Neighbouring tokens of one kind, as text. Bytes that are no characters are U+FFFD."""

    text: str
    learned: bool
    control: bool
    """Whether it is a control token, which only looks like text."""


def documents(example: Example) -> Iterator[Example]:
    """The documents of a packed sequence, each as an example of its own."""
    ends = [*example.starts[1:], len(example)]
    for start, end, place in zip(example.starts, ends, example.places, strict=True):
        ids, learned = example.ids[start:end], example.learned[start:end]
        yield replace(example, ids=ids, learned=learned, starts=(0,), places=(place,))


def runs(example: Example, tokenizer: Tokenizer, control_ids: Collection[int]) -> Iterator[Run]:
    """Cut an example where learned and not, or text and control tokens, meet.

    Args:
        example: what is shown.
        tokenizer: the model's.
        control_ids: the control tokens, each of which is a run of its own.
    """
    tokens = zip(example.ids.tolist(), example.learned.tolist(), strict=True)
    numbered = ((i, token, learned, token in control_ids) for i, (token, learned) in enumerate(tokens))
    for (learned, control, _), members in itertools.groupby(
        numbered, key=lambda token: (token[2], token[3], token[0] if token[3] else -1)
    ):
        text = b"".join(tokenizer.token_bytes(token) for _, token, _, _ in members)
        yield Run(text.decode("utf-8", "replace"), learned, control)
