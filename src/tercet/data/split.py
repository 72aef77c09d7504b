"""Holding out rows for validation, by what they say and not by where they stand.

Rows are ranked by a hash of (seed, prompt), and the first ranks are held out. The choice does not depend on
the order of the file, and rows with the same prompt fall on the same side: an answer that was trained on is
no evidence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from tercet.errors import ParameterError

__all__ = ["held_out"]


def held_out(keys: Sequence[str], share: float, seed: int) -> list[bool]:
    """Say for each row, of which `keys` has the prompt, whether it is held out.

    About `share` of the rows are, at least one, and never all.

    Raises:
        ParameterError: `share` is not a number from 0 to below 1.
    """
    if not 0 <= share < 1:
        raise ParameterError(f"validation_share must be from 0 to below 1, not {share}")
    wanted = max(round(len(keys) * share), 1) if share else 0
    members: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        members.setdefault(key, []).append(index)
    chosen = [False] * len(keys)
    taken = 0
    for key in sorted(members, key=lambda key: _rank(key, seed))[:-1]:  # the last is for training
        if taken + len(members[key]) <= wanted:
            taken += len(members[key])
            for index in members[key]:
                chosen[index] = True
    return chosen


def _rank(key: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\n{key}".encode("utf-8", "surrogatepass")).digest()
