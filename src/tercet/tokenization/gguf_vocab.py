"""The vocabulary inside a GGUF file: `tokenizer.ggml.*` -> the same Tokenizer as from a `tokenizer.json`.

    tokenizer.ggml.model    "gpt2": byte-level BPE with `merges` and a pre-tokenizer by name (`pre`)
                            "llama": sentencepiece, pieces joined by `scores`, byte fallback, ▁ for blanks
    tokens, token_type      text and kind of every id (see `scored_pieces`)
    *_token_id, add_*       what frames a text
    tokenizer.chat_template how a conversation is written

Token for token this does what llama.cpp does with the same file, but for two things. What a user writes never
becomes a token that looks like a control token, even if the file calls it user-defined. And `[PAD42]` under
the id 42, with which converters fill gaps, is no token of the model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from tercet.errors import FormatError, UnsupportedFormatError
from tercet.formats.gguf.vocabulary import END_TEXTS, GgufVocabulary
from tercet.tokenization.byte_level import BYTE_LEVEL_DECODER, byte_alphabet, byte_level_model
from tercet.tokenization.frame import with_end
from tercet.tokenization.pre_tokenizers import DEFAULT, pre_tokenizer
from tercet.tokenization.scored_pieces import (
    BLANK,
    ESCAPE_BLANKS,
    PREPEND_BLANK,
    PieceKind,
    ScoredPiece,
    blank_decoder,
    check_pieces,
    control_tokens,
    joined_model,
    looks_like_control,
)
from tercet.tokenization.vocabulary import AddedToken, Vocabulary, make_tokenizer_json

__all__ = ["read_gguf_vocabulary"]

_REFUSED = {
    "bert": "WordPiece (WPM), which no ternary model uses",
    "t5": "a sentencepiece unigram model (UGM), which no ternary model uses",
    "gemma4": "BPE over characters as Gemma 4 has it",
    "rwkv": "the RWKV vocabulary",
    "plamo2": "the PLaMo 2 vocabulary",
}
_BYTE_TEXT = re.compile(r"<0x[0-9A-F]{2}>")
NEVER_IN_UTF8 = 13
"""Bytes that no text holds: 0xC0, 0xC1 and those from 0xF5 on. Many vocabularies leave them out."""

_Built = tuple[bytes, int | None, bool, list[str]]
"""tokenizer.json, begin-of-text id, whether it goes before a text, remarks."""


def read_gguf_vocabulary(vocabulary: GgufVocabulary, source: str = "the GGUF file") -> Vocabulary:
    """Make the tokenizer that the vocabulary of a GGUF file describes.

    Args:
        vocabulary: what `tercet.formats.gguf` read.
        source: the name of the file, for messages.

    Raises:
        FormatError: the entries are malformed or contradict each other.
        UnsupportedFormatError: the vocabulary is of a kind that we do not tokenize exactly.
    """
    model = vocabulary.model
    if model not in ("gpt2", "llama"):
        kind = _REFUSED.get(model, "a kind that this release does not know")
        raise UnsupportedFormatError(
            f"{source}: its vocabulary is {model[:40]!r}: {kind}. Supported are gpt2 (BPE) and llama "
            "(SPM); use the tokenizer.json of the original model."
        )
    pieces = _pieces(vocabulary, source, joined=model == "llama")
    build = _joined_tokenizer if model == "llama" else _merged_tokenizer
    tokenizer_json, bos, add_bos, remarks = build(vocabulary, pieces, source)
    special = vocabulary.special_ids
    ends = [special[role] for role in ("eos", "eot", "eom") if role in special]
    if model == "llama" and "eos" not in special and len(pieces) > 2:
        ends.insert(0, 2)  # sentencepiece's numbering, which such files need not repeat
    ends += [
        i for i, piece in enumerate(pieces) if piece.kind == PieceKind.CONTROL and piece.text in END_TEXTS
    ]
    add_eos = vocabulary.flags.get("add_eos_token", False) and bool(ends)
    if add_eos:
        tokenizer_json = with_end(tokenizer_json, ends[0], pieces[ends[0]].text)
    return Vocabulary(
        tokenizer_json,
        bos_token_id=bos,
        eos_token_ids=tuple(dict.fromkeys(ends)),
        pad_token_id=special.get("padding"),
        add_bos=add_bos and bos is not None,
        add_eos=add_eos,
        chat_template=vocabulary.chat_templates.get("default"),
        remarks=tuple(remarks),
    )


def _merged_tokenizer(vocabulary: GgufVocabulary, pieces: Sequence[ScoredPiece], source: str) -> _Built:
    """Byte-level BPE: merges in order, over the alphabet of GPT-2."""
    remarks = []
    if vocabulary.pre in (None, DEFAULT):
        remarks.append(
            "the file does not name its pre-tokenizer; llama.cpp's default is used, which may cut words "
            "otherwise than the model was trained on"
        )
    rule = pre_tokenizer(vocabulary.pre or DEFAULT, source)
    vocab = {piece.text: token_id for token_id, piece in enumerate(pieces) if piece.text}
    lost = sum(character not in vocab for character in byte_alphabet().values())
    if lost > NEVER_IN_UTF8:
        remarks.append(f"{lost} of the 256 bytes have no token; characters that need them are lost")
    model = byte_level_model(vocab, _merges(vocabulary, vocab, source), rule.whole_words)
    data = make_tokenizer_json(model, _added(pieces), [], rule.steps, BYTE_LEVEL_DECODER, source)
    add_bos = vocabulary.flags.get("add_bos_token", rule.add_bos)
    return data, vocabulary.special_ids.get("bos"), add_bos, remarks


def _merges(vocabulary: GgufVocabulary, vocab: Mapping[str, int], source: str) -> list[list[str]]:
    if vocabulary.merges is None:
        raise FormatError(f"{source} has no tokenizer.ggml.merges, which a gpt2 vocabulary needs")
    pairs = [merge.split(" ") for merge in vocabulary.merges]
    for number, pair in enumerate(pairs):
        if len(pair) != 2 or pair[0] not in vocab or pair[1] not in vocab or "".join(pair) not in vocab:
            raise FormatError(
                f"{source}: merge {number} is {vocabulary.merges[number][:60]!r}, expected two tokens, a "
                "blank between them, that make a third one"
            )
    return pairs


def _joined_tokenizer(vocabulary: GgufVocabulary, pieces: Sequence[ScoredPiece], source: str) -> _Built:
    """Sentencepiece: pieces joined by score, after a blank in front of each stretch of text."""
    kinds = (PieceKind.NORMAL, PieceKind.UNUSED)
    mergeable = [i for i, piece in enumerate(pieces) if piece.kind in kinds and piece.text]
    unknown = vocabulary.special_ids.get("unknown")
    if unknown is None:
        unknown = next((i for i, piece in enumerate(pieces) if piece.kind == PieceKind.UNKNOWN), None)
    model = joined_model(pieces, mergeable, unknown, source)
    prefixed = vocabulary.flags.get("add_space_prefix", True)
    normalizers = [PREPEND_BLANK, ESCAPE_BLANKS] if prefixed else [ESCAPE_BLANKS]
    data = make_tokenizer_json(model, _added(pieces), normalizers, [], blank_decoder(prefixed), source)
    default = 1 if len(pieces) > 1 else None  # sentencepiece's numbering
    bos = vocabulary.special_ids.get("bos", default)
    return data, bos, vocabulary.flags.get("add_bos_token", True), []


def _added(pieces: Sequence[ScoredPiece]) -> list[AddedToken]:
    defined = [(i, piece) for i, piece in enumerate(pieces) if piece.kind == PieceKind.USER_DEFINED]
    return control_tokens(pieces) + [AddedToken(i, piece.text, special=False) for i, piece in defined]


def _pieces(vocabulary: GgufVocabulary, source: str, joined: bool) -> list[ScoredPiece]:
    """Put text, kind and score of every token together, and check that they can be a vocabulary."""
    count = len(vocabulary.tokens)
    if joined and vocabulary.scores is None:
        raise FormatError(f"{source} has no tokenizer.ggml.scores, which a llama vocabulary needs")
    scores = [0.0] * count if vocabulary.scores is None else vocabulary.scores.tolist()
    numbers = [1] * count if vocabulary.types is None else vocabulary.types.tolist()
    if not all(map(math.isfinite, scores)):
        raise FormatError(f"{source}: a score in tokenizer.ggml.scores is infinite or not a number")
    kinds = {int(number): PieceKind(number or PieceKind.NORMAL) for number in set(numbers)}
    pieces = [
        ScoredPiece(text, score, _effective_kind(token_id, text, kinds[number], joined))
        for token_id, (text, score, number) in enumerate(zip(vocabulary.tokens, scores, numbers, strict=True))
    ]
    check_pieces(pieces, source, byte_tokens=joined)
    return pieces


def _effective_kind(token_id: int, text: str, kind: PieceKind, joined: bool) -> PieceKind:
    """Return what a token is for, which is not always what the file says."""
    if not text:
        return PieceKind.UNUSED  # an id that no token has
    if kind == PieceKind.NORMAL:
        if joined and _BYTE_TEXT.fullmatch(text):
            return PieceKind.BYTE
        return PieceKind.CONTROL if text.startswith("<|") and text in END_TEXTS else kind
    if text == f"[PAD{token_id}]":
        return PieceKind.UNUSED
    if kind == PieceKind.USER_DEFINED:
        if text in END_TEXTS or looks_like_control(text):
            return PieceKind.CONTROL
        if joined and BLANK in text:
            return PieceKind.NORMAL  # found only where blanks have become ▁, and so by joining
    return kind
