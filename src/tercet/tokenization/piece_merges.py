"""Scored pieces -> an ordered list of merges, exactly.

Sentencepiece and tiktoken know only pieces and their scores. They cut a text into characters (or bytes) and,
again and again, join the two neighbours that together make the best piece, the leftmost of equals. The
`tokenizers` library wants the joins themselves, in order. The usual translation lists every way to cut a
piece in two, and then joins in another order where two cuts of one piece compete.

But each piece comes about in one way only. While the parts of a piece are joined, its surroundings do not
matter: joins across its border do not happen, or it would never be made, and those inside happen in the order
in which they happen when the piece stands alone. So

    the last join of a piece alone, best score first, is the one merge that this piece needs

and a piece that does not come about alone never comes about. What a list of merges cannot say is that two
pieces are equally good. It need not, where such joins never compete (see `_order_of_equals`); else we refuse.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import TypeVar

from tercet.errors import FormatError, UnsupportedFormatError
from tercet.tokenization.vocabulary import MAX_PIECE_CHARACTERS

__all__ = ["canonical_merges"]

Piece = TypeVar("Piece", str, bytes)
_NEVER = 1 << 62


def canonical_merges(scores: Mapping[Piece, float], source: str) -> list[tuple[Piece, Piece]]:
    """Return the merges that make these pieces, the first to be applied first.

    Args:
        scores: every piece that joining may make, and how good it is; higher is better. Single characters
            (of a `str`) or bytes (of a `bytes`) need no join and may be left out.
        source: what was read, for messages.

    Raises:
        FormatError: a piece is empty or too long.
        UnsupportedFormatError: equally good pieces compete, which no list of merges can say.
    """
    for piece in scores:
        if not 1 <= len(piece) <= MAX_PIECE_CHARACTERS:
            raise FormatError(
                f"{source} holds a token of length {len(piece):,}, expected 1 to {MAX_PIECE_CHARACTERS:,}"
            )
    best_first = {score: rank for rank, score in enumerate(sorted(set(scores.values()), reverse=True))}
    ranks = {piece: best_first[score] for piece, score in scores.items() if len(piece) > 1}
    groups: dict[int, list[tuple[Piece, Piece]]] = {}
    best_extension: dict[Piece, int] = {}
    for piece, rank in ranks.items():
        merge = _last_join(piece, ranks)
        if merge is not None:
            groups.setdefault(rank, []).append(merge)
            for part in merge:
                best_extension[part] = min(rank, best_extension.get(part, _NEVER))
    return [
        merge
        for rank in sorted(groups)
        for merge in _order_of_equals(groups[rank], rank, best_extension, source)
    ]


def _last_join(piece: Piece, ranks: Mapping[Piece, int]) -> tuple[Piece, Piece] | None:
    """Return the two parts that are joined last when the piece stands alone; None if it never is whole."""
    parts = [piece[i : i + 1] for i in range(len(piece))]
    joins = [ranks.get(left + right, _NEVER) for left, right in itertools.pairwise(parts)]
    while len(joins) > 1:
        best = min(joins)
        if best == _NEVER:
            return None
        at = joins.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
        del joins[at]
        if at > 0:
            joins[at - 1] = ranks.get(parts[at - 1] + parts[at], _NEVER)
        if at < len(joins):
            joins[at] = ranks.get(parts[at] + parts[at + 1], _NEVER)
    return parts[0], parts[1]


def _order_of_equals(
    merges: list[tuple[Piece, Piece]], rank: int, best_extension: Mapping[Piece, int], source: str
) -> list[tuple[Piece, Piece]]:
    """Return merges of equal score in an order that has the effect of "the leftmost first".

    Two cases have one. If no join can take what another one needs (the right part of one is nowhere the left
    part of another), and none makes a part of something at least as good, then all of them happen before
    anything else does, and their order does not matter. And runs of one character (blanks, in Llama's
    vocabulary) that are each one longer than the last grow from the left as far as they can: there the longer
    join goes first.
    """
    if len(merges) == 1:
        return merges
    rights = Counter(right for _, right in merges)
    if not any(
        rights[left] > (left == right) or best_extension.get(left + right, _NEVER) <= rank
        for left, right in merges
    ):
        return merges
    if all(len(right) == 1 and left == right * len(left) for left, right in merges):
        return sorted(merges, key=lambda merge: len(merge[0]), reverse=True)
    examples = ", ".join(repr(left + right) for left, right in merges[:3])
    raise UnsupportedFormatError(
        f"{source}: {len(merges)} tokens share one score ({examples}), so the order in which they are joined "
        "is not known. It was lost when the file was written; take the tokenizer from the original model."
    )
