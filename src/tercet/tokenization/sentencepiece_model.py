"""A `tokenizer.model` of sentencepiece -> the Tokenizer that gives the same ids.

The file is a Protocol Buffers message (sentencepiece_model.proto): scored pieces, how the model was trained,
and how text is normalized. Three steps make ids of a text:

    normalize   a table of characters (often empty), runs of blanks to one, a blank in front, blanks to ▁
    find        symbols that users defined, the leftmost and longest first; they stay whole
    join        BPE: neighbours that make the best piece; unigram: the best sum of scores over all ways to cut

BPE with an empty table gives the very ids of sentencepiece. Where it cannot be said exactly in a
tokenizer.json, the file is refused, with two exceptions, which `remarks` tell: the table of a model that
normalizes is applied as the `tokenizers` library does, which differs for letters with loose accents of
unusual kinds; and in a unigram model, text that spells a control token is cut inside it.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tercet.errors import FormatError, UnsupportedFormatError
from tercet.tokenization.character_table import CharacterTable
from tercet.tokenization.protocol_buffers import Message
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

__all__ = ["read_sentencepiece_model"]

_UNIGRAM, _BPE = 1, 2
_COMPOSING = ("nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf")
_OTHER_MODELS = {3: "words", 4: "characters"}
Step = Mapping[str, Any]


def read_sentencepiece_model(data: bytes, source: str = "tokenizer.model") -> Vocabulary:
    """Read a model file of sentencepiece.

    Args:
        data: the bytes of the file.
        source: its name, for messages.

    Raises:
        FormatError: it is damaged, or of another kind.
        UnsupportedFormatError: it tokenizes in a way that cannot be said in a tokenizer.json.
    """
    return _Model(Message(data, source), source).vocabulary()


class _Model:
    """The parts of the file that matter, under their names in sentencepiece_model.proto."""

    def __init__(self, message: Message, source: str) -> None:
        self.source = source
        self.pieces = [self._piece(piece) for piece in message.messages(1)]
        check_pieces(self.pieces, source, byte_tokens=True)
        if empty := [i for i, piece in enumerate(self.pieces) if not piece.text]:
            raise FormatError(f"{source}: token {empty[0]} has no text")
        trainer, normalizer = message.message(2), message.message(3)
        self.model_type = trainer.integer(3, _UNIGRAM)
        self.special = {name: trainer.text(number, default) for name, number, default in (
            ("bos", 46, "<s>"), ("eos", 47, "</s>"), ("pad", 48, "<pad>"),
        )}  # fmt: skip
        self.character_table = CharacterTable(normalizer.data(2), source)
        self.composes = normalizer.text(1) in _COMPOSING
        self.add_dummy_prefix = normalizer.flag(3, True)
        self.remove_extra_whitespaces = normalizer.flag(4, True)
        if trainer.flag(24, False):
            raise self._unsupported("blanks behind words (treat_whitespace_as_suffix)")
        if not normalizer.flag(5, True):
            raise self._unsupported("blanks that stay blanks (escape_whitespaces is off)")
        if self.model_type not in (_UNIGRAM, _BPE):
            kind = _OTHER_MODELS.get(self.model_type, f"type {self.model_type}")
            raise self._unsupported(f"a model of {kind}, expected BPE or unigram")

    def _piece(self, message: Message) -> ScoredPiece:
        kind, score = message.integer(3, PieceKind.NORMAL), message.float32(2, 0.0)
        if kind not in range(1, 7):
            raise FormatError(f"{self.source}: a token is of the kind {kind}, expected 1 to 6")
        if not math.isfinite(score):
            raise FormatError(f"{self.source}: the token {message.text(1)[:40]!r} has the score {score}")
        text = message.text(1)
        if kind == PieceKind.USER_DEFINED and looks_like_control(text):
            kind = PieceKind.CONTROL
        return ScoredPiece(text, score, PieceKind(kind))

    def vocabulary(self) -> Vocabulary:
        """Translate the model."""
        unknown = next((i for i, piece in enumerate(self.pieces) if piece.kind == PieceKind.UNKNOWN), None)
        if unknown is None:
            raise FormatError(f"{self.source} has no token for unknown characters, which it must have")
        added = control_tokens(self.pieces)
        remarks = []
        if self.character_table.data:
            remarks.append("characters are normalized, so text may not come back as it was")
        if self.model_type == _BPE:
            model, pre_tokenizers = self._joined(unknown), []
            found = self._found_whole()
            added += found
        else:
            model, pre_tokenizers, found = self._unigram(unknown), self._cuts(), []
            remarks.append("text that spells a control token is cut inside it, where sentencepiece may not")
        decoder = blank_decoder(self.add_dummy_prefix)
        normalizers = self._normalizers(found)
        data = make_tokenizer_json(model, added, normalizers, pre_tokenizers, decoder, self.source)
        ids = {piece.text: i for i, piece in enumerate(self.pieces) if piece.kind == PieceKind.CONTROL}
        bos, eos, pad = (ids.get(self.special[name]) for name in ("bos", "eos", "pad"))
        ends = () if eos is None else (eos,)
        return Vocabulary(data, bos, ends, pad, add_bos=bos is not None, remarks=tuple(remarks))

    def _normalizers(self, found: Sequence[AddedToken]) -> list[Step]:
        table = self._by_character_table() if self.character_table.data else []
        prefix: list[Step] = [PREPEND_BLANK] if self.add_dummy_prefix else []
        if prefix and found:
            # The library also normalizes what it looks for, and there the blank must not appear. (A text that
            # is one such symbol and nothing else gets no blank either, unlike in sentencepiece.)
            symbols = "|".join(_escape(token.content) for token in found)
            prefix = [_replace(rf"\A(?=[\s\S])(?!(?:{symbols})\z)", BLANK)]
        if not self.remove_extra_whitespaces:
            return [*prefix, *table, ESCAPE_BLANKS]  # a text that the table empties still has its blank
        collapse = [_replace(r"\A +", ""), _replace(" +", " ")]
        return [*table, *collapse, *prefix, ESCAPE_BLANKS, _replace(rf"{BLANK}+\z", "")]

    def _by_character_table(self) -> list[Step]:
        """The library applies a table to what a reader sees as one character, and only to its beginning."""
        steps: list[Step] = []
        if self.composes:
            steps.append({"type": "NFC"})
        if (replacement := self.character_table.replacement(b"\r")) is not None:
            steps.append(_replace(r"\r(?=\n)", replacement))
        table = base64.b64encode(self.character_table.data).decode("ascii")
        return [*steps, {"type": "Precompiled", "precompiled_charsmap": table}]

    # BPE ----------------------------------------------------------------------------------------

    def _joined(self, unknown: int) -> Step:
        runs, found = self._runs(), {p.text for p in self.pieces if p.kind == PieceKind.USER_DEFINED}
        # Nothing is joined to a symbol that was found before. (Those of the other kind cut the text anyway.)
        whole = [character if character in found else 2 * character for character in runs]
        frozen = re.compile("|".join(map(re.escape, whole)) if whole else r"(?!)")
        kinds = (PieceKind.NORMAL, PieceKind.UNUSED)
        mergeable = [
            i for i, piece in enumerate(self.pieces) if piece.kind in kinds and not frozen.search(piece.text)
        ]
        longest_first = [
            (character * (length - 1), character)
            for character, longest in runs.items()
            for length in range(longest, 1, -1)
        ]
        return joined_model(self.pieces, mergeable, unknown, self.source, longest_first)

    def _runs(self) -> dict[str, int]:
        """Return the characters whose runs of every length up to some longest one are user-defined.

        Joining one character more to a run, before anything else, finds such runs as sentencepiece does: the
        leftmost first, and as long as possible.
        """
        kinds = {piece.text: piece.kind for piece in self.pieces}
        lengths: dict[str, set[int]] = {}
        for piece in self.pieces:
            if piece.kind == PieceKind.USER_DEFINED and _is_run(piece.text):
                lengths.setdefault(piece.text[0], set()).add(len(piece.text))
        singles = (PieceKind.NORMAL, PieceKind.USER_DEFINED)
        return {
            character: max(found)
            for character, found in lengths.items()
            if set(range(2, max(found) + 1)) <= found and kinds.get(character) in singles
        }

    def _found_whole(self) -> list[AddedToken]:
        """Return the user-defined symbols that the library must find in the text before it is joined."""
        runs = self._runs()
        tokens = []
        for token_id, piece in enumerate(self.pieces):
            is_in_runs = _is_run(piece.text) and piece.text[0] in runs
            if piece.kind != PieceKind.USER_DEFINED or is_in_runs:
                continue
            if self.character_table.data or BLANK in piece.text:
                raise self._unsupported(
                    f"the user-defined symbol {piece.text[:40]!r} in text that it changes"
                )
            tokens.append(AddedToken(token_id, piece.text, special=False, normalized=True))
        return tokens

    # Unigram ------------------------------------------------------------------------------------

    def _unigram(self, unknown: int) -> Step:
        kinds = {piece.kind for piece in self.pieces}
        if kinds & {PieceKind.UNUSED, PieceKind.USER_DEFINED}:
            # Releases of sentencepiece differ in what such pieces weigh.
            raise self._unsupported("a unigram model with user-defined or unused pieces")
        return {
            "type": "Unigram",
            "unk_id": unknown,
            "vocab": [[piece.text, piece.score] for piece in self.pieces],
            "byte_fallback": any(piece.kind == PieceKind.BYTE for piece in self.pieces),
        }

    def _cuts(self) -> list[Step]:
        """Cut text that spells a control or byte token behind its first character, so that it stays text."""
        kinds = (PieceKind.CONTROL, PieceKind.UNKNOWN, PieceKind.BYTE)
        reserved = [piece.text for piece in self.pieces if piece.kind in kinds and len(piece.text) > 1]
        pattern = "|".join(f"{_escape(text[0])}(?={_escape(text[1:])})" for text in reserved)
        how = {"behavior": "MergedWithPrevious", "invert": False}
        return [{"type": "Split", "pattern": {"Regex": pattern}, **how}] if reserved else []

    def _unsupported(self, what: str) -> UnsupportedFormatError:
        return UnsupportedFormatError(
            f"{self.source} needs {what}, which is not supported. "
            "Use the tokenizer.json of the model, if it has one."
        )


def _replace(pattern: str, content: str) -> Step:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def _is_run(text: str) -> bool:
    return text == text[0] * len(text)


def _escape(text: str) -> str:
    """Escape for Oniguruma: every ASCII character that is no letter, digit or blank, and nothing else."""
    return re.sub(r"[!-/:-@\[-`{-~]", r"\\\g<0>", text)
