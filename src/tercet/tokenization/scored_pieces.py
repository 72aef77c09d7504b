"""Pieces with scores and kinds, as sentencepiece and GGUF store a vocabulary, into a `tokenizer.json`.

    NORMAL         made by joining neighbours, the best score first (see `piece_merges`)
    BYTE           <0x00> to <0xFF>, what a character that no piece covers falls back to
    CONTROL        never found in text
    UNKNOWN        what such a character becomes where there are no BYTE pieces
    USER_DEFINED   found in a text before anything is joined, and whole
    UNUSED         part of the numbering only

A blank is written ▁ (U+2581).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from tercet.errors import FormatError, UnsupportedFormatError
from tercet.tokenization.piece_merges import canonical_merges
from tercet.tokenization.vocabulary import MAX_PIECE_CHARACTERS, AddedToken, check_size

__all__ = [
    "BLANK",
    "ESCAPE_BLANKS",
    "PREPEND_BLANK",
    "PieceKind",
    "ScoredPiece",
    "blank_decoder",
    "check_pieces",
    "control_tokens",
    "joined_model",
    "looks_like_control",
]

BLANK = "▁"
PREPEND_BLANK: Mapping[str, Any] = {"type": "Prepend", "prepend": BLANK}
ESCAPE_BLANKS: Mapping[str, Any] = {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}
_CONTROL_TEXT = re.compile(
    r"<\|.+\|>|<fim[_-]\w+>|▁?<(PRE|SUF|MID|EOT)>|<(start|end)_of_(turn|image|utterance)>", re.DOTALL
)
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_LIKE_A_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class PieceKind(enum.IntEnum):
    """What a piece is for; the numbers are those of both formats."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class ScoredPiece(NamedTuple):
    """One entry of a vocabulary; its place is its id."""

    text: str
    score: float
    kind: PieceKind


def looks_like_control(text: str) -> bool:
    """Whether a token that a file calls user-defined is one that only templates should write."""
    return _CONTROL_TEXT.fullmatch(text) is not None


def check_pieces(pieces: Sequence[ScoredPiece], source: str, byte_tokens: bool) -> None:
    """Raise FormatError unless these can be a vocabulary.

    Args:
        pieces: the entries in the order of their ids.
        source: what was read, for messages.
        byte_tokens: whether `<0x0A>` stands for a byte, as it does wherever pieces are joined by score.
    """
    check_size(len(pieces), source)
    first_id: dict[str, int] = {}
    num_bytes = 0
    for token_id, piece in enumerate(pieces):
        if len(piece.text) > MAX_PIECE_CHARACTERS:
            raise FormatError(
                f"{source}: token {token_id} is {len(piece.text):,} characters long, "
                f"expected at most {MAX_PIECE_CHARACTERS:,}"
            )
        if piece.text and first_id.setdefault(piece.text, token_id) != token_id:
            raise FormatError(
                f"{source}: the tokens {first_id[piece.text]} and {token_id} are both {piece.text!r}"
            )
        if byte_tokens and piece.kind == PieceKind.BYTE:
            num_bytes += 1
            if not _BYTE.fullmatch(piece.text):
                raise FormatError(
                    f"{source}: token {token_id} is a byte token and reads {piece.text!r}, "
                    "expected <0x00> to <0xFF>"
                )
        elif byte_tokens and _LIKE_A_BYTE.fullmatch(piece.text):
            raise FormatError(
                f"{source}: token {token_id} reads {piece.text!r} and is not marked as a byte token"
            )
    if num_bytes not in (0, 256):
        raise FormatError(f"{source} has {num_bytes} byte tokens, expected none or 256 different ones")


def control_tokens(pieces: Sequence[ScoredPiece]) -> list[AddedToken]:
    """Return the pieces that no text may become.

    The unknown token is among them where bytes stand for unknown characters. Otherwise it is what such text
    becomes, and to be told apart from it.
    """
    kinds = {PieceKind.CONTROL}
    if any(piece.kind == PieceKind.BYTE for piece in pieces):
        kinds.add(PieceKind.UNKNOWN)
    return [AddedToken(i, piece.text, special=True) for i, piece in enumerate(pieces) if piece.kind in kinds]


def joined_model(
    pieces: Sequence[ScoredPiece], mergeable: Collection[int], unknown: int | None, source: str,
    first_merges: Sequence[tuple[str, str]] = (),
) -> Mapping[str, Any]:  # fmt: skip
    """Return the `model` object of a tokenizer.json that joins pieces as sentencepiece does.

    Args:
        pieces: the whole vocabulary; entries without text have an id and nothing else.
        mergeable: ids of the pieces that joining may make.
        unknown: id of the piece for characters that no other piece covers, if there is one.
        source: what was read, for messages.
        first_merges: what is joined before all others.

    Raises:
        UnsupportedFormatError: no list of merges does the same as these scores.
    """
    vocab = {piece.text: token_id for token_id, piece in enumerate(pieces) if piece.text}
    merges = [*first_merges, *canonical_merges({pieces[i].text: pieces[i].score for i in mergeable}, source)]
    for left, right in merges:
        if absent := [part for part in (left, right) if part not in vocab]:
            raise UnsupportedFormatError(
                f"{source}: the token {left + right!r} is made of {absent[0]!r}, which is no token itself; "
                "such vocabularies are not supported"
            )
        if pieces[vocab[left + right]].kind == PieceKind.UNUSED:
            raise UnsupportedFormatError(
                f"{source}: the unused token {left + right!r} takes part in joining others, "
                "which is not supported"
            )
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None if unknown is None else pieces[unknown].text,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": any(piece.kind == PieceKind.BYTE for piece in pieces),
        "ignore_merges": False,
        "vocab": vocab,
        "merges": [list(merge) for merge in merges],
    }


def blank_decoder(strips_leading_blank: bool) -> Mapping[str, Any]:
    """Return the `decoder` object for such a vocabulary.

    Args:
        strips_leading_blank: whether encoding puts a blank in front of each text.
    """
    steps: list[Mapping[str, Any]] = [
        {"type": "Replace", "pattern": {"String": BLANK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if strips_leading_blank:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}
