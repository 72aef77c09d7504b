"""Several short documents in one sequence, so that little of a batch is padding.

Best fit decreasing: the longest document first, each into the fullest sequence that still has room. No
document is cut. `Example.starts` says where each begins, so that a trainer can keep them from seeing each
other.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np

from tercet.data.example import Example

__all__ = ["pack"]


def pack(examples: Sequence[Example], length: int) -> list[Example]:
    """Put examples of at most `length` tokens together into sequences of at most `length`."""
    room: list[tuple[int, int]] = []  # (tokens left, index of the sequence), ascending
    sequences: list[list[int]] = []
    for index in sorted(range(len(examples)), key=lambda i: -len(examples[i])):
        needed = len(examples[index])
        place = bisect.bisect_left(room, (needed, -1))
        left, sequence = room.pop(place) if place < len(room) else (length, len(sequences))
        if sequence == len(sequences):
            sequences.append([])
        sequences[sequence].append(index)
        bisect.insort(room, (left - needed, sequence))
    return [_join([examples[index] for index in sorted(members)]) for members in sequences]


def _join(members: Sequence[Example]) -> Example:
    ends = np.cumsum([len(member) for member in members])
    return Example(
        np.concatenate([member.ids for member in members]),
        np.concatenate([member.learned for member in members]),
        (0, *(int(end) for end in ends[:-1])),
        tuple(place for member in members for place in member.places),
    )
