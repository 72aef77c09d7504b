"""The vocabulary inside a GGUF file, as data: what `tercet.tokenization` builds a tokenizer from.

Nothing is interpreted here. A file gives the text of every token, and beside it, depending on the kind:

    model "gpt2"     byte-level BPE: merges, and in `pre` the name of the rule that splits text into words
    model "llama"    SentencePiece: a score and a type for each token, bytes as tokens <0x00> to <0xFF>

`end_ids` are all ids after which a model has nothing more to say: those that the file declares, and control
tokens whose text is one of those that chat models end their turns with. llama.cpp finds them the same way,
since files often declare only one.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tercet.formats.gguf.values import Metadata, MetadataValue, ValueType, array_of, text, uint32

__all__ = ["GgufVocabulary", "TokenType", "read_vocabulary", "vocabulary_metadata"]

PREFIX = "tokenizer.ggml."
CHAT_TEMPLATE = "tokenizer.chat_template"

SPECIAL_TOKENS = (
    "bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "mask", "cls",
    "fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep",
)  # fmt: skip
"""Roles that `tokenizer.ggml.ROLE_token_id` can name; "seperator" is spelled so in every file."""
FLAGS = (
    "add_bos_token",
    "add_eos_token",
    "add_sep_token",
    "add_space_prefix",
    "remove_extra_whitespaces",
    "escape_whitespaces",
)
END_ROLES = ("eos", "eot", "eom")
END_TEXTS = frozenset(
    {
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<|end_of_text|>", "<|endoftext|>", "<|eom_id|>",
        "<end_of_turn>", "<|end_of_turn|>", "</s>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<eos>",
        "<end_of_utterance>",
    }
)  # fmt: skip


class TokenType(enum.IntEnum):
    """What a token is for, with the numbers of SentencePiece."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclasses.dataclass(frozen=True, eq=False)
class GgufVocabulary:
    """The fields below `tokenizer.ggml`, checked against each other."""

    model: str
    """How text becomes tokens: `gpt2`, `llama`, ..."""
    pre: str | None
    """The rule that splits text into words before BPE, by llama.cpp's name for it."""
    tokens: tuple[str, ...]
    scores: npt.NDArray[np.float32] | None
    types: npt.NDArray[np.int64] | None
    """A `TokenType` for each token."""
    merges: tuple[str, ...] | None
    """Pairs to join, in order, each as two texts with a space between."""
    special_ids: Mapping[str, int]
    """Role (of `SPECIAL_TOKENS`) -> token id."""
    flags: Mapping[str, bool]
    """Those of `FLAGS` that the file sets."""
    precompiled_charsmap: bytes | None
    """SentencePiece's normalization, as it is."""
    chat_templates: Mapping[str, str]
    """Jinja templates by name; the main one is `default`."""

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Every id that ends an answer, ascending."""
        found = {self.special_ids[role] for role in END_ROLES if role in self.special_ids}
        if self.types is not None:
            for token_id in np.flatnonzero(self.types == TokenType.CONTROL).tolist():
                if self.tokens[token_id] in END_TEXTS:
                    found.add(token_id)
        return tuple(sorted(found))


def read_vocabulary(metadata: Metadata) -> GgufVocabulary | None:
    """Return the vocabulary of a file, or None if it has none (its tokenizer then travels separately).

    Raises:
        FormatError: a field is of the wrong type or length, or an id is not in the vocabulary.
    """
    if PREFIX + "tokens" not in metadata:
        return None
    tokens = metadata.texts(PREFIX + "tokens")
    scores = metadata.numbers(PREFIX + "scores") if PREFIX + "scores" in metadata else None
    types = metadata.integers(PREFIX + "token_type") if PREFIX + "token_type" in metadata else None
    for key, values in (("scores", scores), ("token_type", types)):
        if values is not None and len(values) != len(tokens):
            raise metadata.error(PREFIX + key, f"one entry for each of the {len(tokens)} tokens")
    if types is not None and types.size and not 0 <= types.min() <= types.max() <= max(TokenType):
        raise metadata.error(PREFIX + "token_type", f"types from 0 to {max(TokenType)}")
    special_ids = {}
    for role in SPECIAL_TOKENS:
        if (key := f"{PREFIX}{role}_token_id") in metadata:
            special_ids[role] = metadata.integer(key, 0, len(tokens) - 1)
    return GgufVocabulary(
        model=metadata.text(PREFIX + "model"),
        pre=metadata.text(PREFIX + "pre") if PREFIX + "pre" in metadata else None,
        tokens=tokens,
        scores=scores,
        types=types,
        merges=metadata.texts(PREFIX + "merges") if PREFIX + "merges" in metadata else None,
        special_ids=special_ids,
        flags={flag: metadata.flag(PREFIX + flag) for flag in FLAGS if PREFIX + flag in metadata},
        precompiled_charsmap=_charsmap(metadata),
        chat_templates=_chat_templates(metadata),
    )


def vocabulary_metadata(vocabulary: GgufVocabulary) -> dict[str, MetadataValue]:
    """Return the metadata that `read_vocabulary` reads, in the order that llama.cpp writes it."""
    values = {PREFIX + "model": text(vocabulary.model)}
    if vocabulary.pre is not None:
        values[PREFIX + "pre"] = text(vocabulary.pre)
    values[PREFIX + "tokens"] = array_of(ValueType.STRING, vocabulary.tokens)
    if vocabulary.scores is not None:
        values[PREFIX + "scores"] = array_of(ValueType.FLOAT32, vocabulary.scores)
    if vocabulary.types is not None:
        values[PREFIX + "token_type"] = array_of(ValueType.INT32, vocabulary.types)
    if vocabulary.merges is not None:
        values[PREFIX + "merges"] = array_of(ValueType.STRING, vocabulary.merges)
    for role, token_id in vocabulary.special_ids.items():
        values[f"{PREFIX}{role}_token_id"] = uint32(token_id)
    for flag, value in vocabulary.flags.items():
        values[PREFIX + flag] = MetadataValue(ValueType.BOOL, value)
    if vocabulary.precompiled_charsmap is not None:
        data = np.frombuffer(vocabulary.precompiled_charsmap, np.uint8)
        values[PREFIX + "precompiled_charsmap"] = array_of(ValueType.UINT8, data)
    names = [name for name in vocabulary.chat_templates if name != "default"]
    if "default" in vocabulary.chat_templates:
        values[CHAT_TEMPLATE] = text(vocabulary.chat_templates["default"])
    if names:
        values[CHAT_TEMPLATE + "s"] = array_of(ValueType.STRING, names)
        values |= {f"{CHAT_TEMPLATE}.{name}": text(vocabulary.chat_templates[name]) for name in names}
    return values


def _charsmap(metadata: Metadata) -> bytes | None:
    key = PREFIX + "precompiled_charsmap"
    if key not in metadata:
        return None
    if metadata[key].element not in (ValueType.UINT8, ValueType.INT8):
        raise metadata.error(key, "an array of bytes")
    return bytes(metadata[key].value.view(np.uint8))


def _chat_templates(metadata: Metadata) -> dict[str, str]:
    templates = {"default": metadata.text(CHAT_TEMPLATE)} if CHAT_TEMPLATE in metadata else {}
    for key in metadata:
        if key.startswith(CHAT_TEMPLATE + "."):
            templates[key.removeprefix(CHAT_TEMPLATE + ".")] = metadata.text(key)
    return templates
