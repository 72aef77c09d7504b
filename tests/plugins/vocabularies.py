"""Vocabularies for tests of their readers, trained on a few lines by the programs whose formats they are."""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from tiktoken import _educational

from tercet.formats.gguf import GgufVocabulary
from tiny_models import TEXTS, tiny_tokenizer_json

AWKWARD = [
    "", " ", "  ", "\n\n\n", "   three leading", "trailing   ", "a\r\nb\r\n\r\n", "tab\tsep\t\tx",
    "I'll DON'T we'VE 'tis", "1234567890 3.14 -42 1,000,000", "naïve café — “quotes” … ﬁ", "e\u0301 vs é",
    "日本語のテキスト、中文。", "😀👍🏽👨‍👩‍👧 ok", "العربية हिन्दी ไทย", "a" * 40,
    "\u00a0nbsp\u200bzwsp\ufeffbom", "\u3000", "<0x0A> Ġdot \\n", "\x01\x7f", "ſ'ſ ½ Ⅷ ǅ",
    "def f(x):\n    return x**2  # sq\n",
    "<s></s><unk><|eot_id|><|im_end|><0x41>",
]  # fmt: skip
"""What tokenizers disagree about, if they disagree at all."""

HAND_MADE_KIND = {"normal": 1, "unknown": 2, "control": 3, "user-defined": 4, "unused": 5, "byte": 6}


@functools.cache
def sentencepiece_model(model_type: str = "bpe", **options: Any) -> bytes:
    """Train a small model; the options are those of sentencepiece's trainer."""
    model = io.BytesIO()
    settings = {"vocab_size": 420, "byte_fallback": True, "normalization_rule_name": "identity"} | options
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*TEXTS, *AWKWARD[5:]] * 4),
        model_writer=model,
        model_type=model_type,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
        **settings,
    )
    return model.getvalue()


@functools.cache
def tiktoken_ranks() -> bytes:
    """Train a small file of ranks as tiktoken has them."""
    table = _educational.bpe_train("\n".join(TEXTS), 300, r"\S+|\s+")
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in table.items())


def gguf_vocabulary(**changes: Any) -> GgufVocabulary:
    """The vocabulary of the tiny model as a GGUF file would hold it, with changes."""
    library = json.loads(tiny_tokenizer_json())
    special = {token["id"] for token in library["added_tokens"]}
    tokens = sorted(library["model"]["vocab"], key=library["model"]["vocab"].get)
    fields: dict[str, Any] = {
        "model": "gpt2",
        "pre": "smollm",  # cuts digits one by one, and then words as GPT-2 does
        "tokens": tuple(tokens),
        "scores": None,
        "types": np.array([3 if i in special else 1 for i in range(len(tokens))]),
        "merges": tuple(" ".join(pair) for pair in library["model"]["merges"]),
        "special_ids": {"bos": 0, "eos": 1},
        "flags": {},
        "precompiled_charsmap": None,
        "chat_templates": {},
    }
    return GgufVocabulary(**(fields | changes))


def gguf_of_sentencepiece(model: bytes, **changes: Any) -> GgufVocabulary:
    """The vocabulary of a sentencepiece model as a GGUF file would hold it, with changes."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = range(processor.vocab_size())

    def kind(token_id: int) -> int:
        checks = (processor.is_unknown, processor.is_control, processor.is_unused, processor.is_byte)
        return next((n for check, n in zip(checks, (2, 3, 5, 6), strict=True) if check(token_id)), 1)

    fields = {
        "model": "llama",
        "pre": "default",
        "tokens": tuple(processor.id_to_piece(token_id) for token_id in ids),
        "scores": np.array([processor.get_score(token_id) for token_id in ids], np.float32),
        "types": np.array([kind(token_id) for token_id in ids]),
        "merges": None,
    }
    return gguf_vocabulary(**(fields | {"special_ids": {"bos": 1, "eos": 2}} | changes))


# Sentencepiece's file by hand, byte by byte ----------------------------------------------------------


def varint(number: int) -> bytes:
    """A number as Protocol Buffers write it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: int | float | bytes | str) -> bytes:
    """One field of a message."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def piece(text: str | bytes, score: float = 0.0, kind: str | int = "normal") -> bytes:
    """One piece of a model."""
    number = HAND_MADE_KIND[kind] if isinstance(kind, str) else kind
    return field(1, field(1, text) + field(2, float(score)) + field(3, number))


def hand_made_model(*pieces: bytes, trainer: bytes = field(3, 2), normalizer: bytes = b"") -> bytes:
    """A model of pieces, BPE unless the trainer's settings say otherwise."""
    return b"".join(pieces) + field(2, trainer) + field(3, normalizer)


def fixtures() -> Path:
    """The folder with files that other programs wrote; they are not part of the repository."""
    folder = Path(os.environ.get("TERCET_FIXTURES") or Path(__file__).parents[1] / "fixtures" / "foreign")
    if not folder.is_dir():
        pytest.skip(f"the files of other programs are missing: {folder}")
    return folder
