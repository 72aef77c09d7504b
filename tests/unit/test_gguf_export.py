"""Tokenizers written as vocabularies of GGUF files: what is read back makes the same ids."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tokenizers

from tercet.errors import UnsupportedFormatError
from tercet.formats.gguf.vocabulary import TokenType
from tercet.tokenization import Tokenizer
from tercet.tokenization.gguf_export import to_gguf_vocabulary
from tercet.tokenization.gguf_vocab import read_gguf_vocabulary
from tercet.tokenization.sentencepiece_model import read_sentencepiece_model
from tiny_models import CONTROL_TOKENS, TEXTS, TINY_CONFIG, tiny_tokenizer_json
from vocabularies import AWKWARD, gguf_vocabulary, sentencepiece_model

SIZE = TINY_CONFIG.vocab_size


def changed(source: bytes, **changes: Any) -> bytes:
    """A tokenizer.json with parts replaced; `model` is updated."""
    parsed = json.loads(source)
    parsed["model"] |= changes.pop("model", {})
    return json.dumps(parsed | changes).encode()


@pytest.mark.parametrize(
    "rule", ["smollm", "llama-bpe", "gpt-2", "qwen2", "falcon", "gpt-4o", "dbrx", "default"]
)
def test_byte_level_tokenizers_come_back(rule: str) -> None:
    source = read_gguf_vocabulary(gguf_vocabulary(pre=rule)).tokenizer_json
    vocabulary = to_gguf_vocabulary(source, SIZE + 3, 0, (1, 2), chat_template="{{ x }}")
    there, back = Tokenizer(source), read_gguf_vocabulary(vocabulary)
    for text in [*TEXTS, *AWKWARD, *CONTROL_TOKENS]:
        assert back.tokenizer().encode(text) == there.encode(text), text
    assert back.tokenizer().special_ids == there.special_ids
    assert (back.bos_token_id, back.eos_token_ids, back.add_bos) == (0, (1, 2), True)
    assert back.chat_template == "{{ x }}"
    assert vocabulary.tokens[SIZE:] == tuple(f"[PAD{SIZE + i}]" for i in range(3))
    assert set(vocabulary.types[SIZE:]) == {TokenType.UNUSED}  # type: ignore[index]


def test_the_tiny_model_of_the_tests_has_a_rule_with_a_name() -> None:
    vocabulary = to_gguf_vocabulary(tiny_tokenizer_json(), SIZE)
    assert (vocabulary.model, vocabulary.pre) == ("gpt2", "smollm")
    assert not vocabulary.flags["add_bos_token"]


@pytest.mark.parametrize("prefix", [True, False])
def test_joined_tokenizers_come_back(prefix: bool) -> None:
    model = sentencepiece_model(add_dummy_prefix=prefix, remove_extra_whitespaces=False)
    source = read_sentencepiece_model(model)
    size = source.tokenizer().vocab_size
    vocabulary = to_gguf_vocabulary(source.tokenizer_json, size, source.bos_token_id, source.eos_token_ids)
    back = read_gguf_vocabulary(vocabulary)
    assert vocabulary.flags["add_space_prefix"] == prefix
    for text in [*TEXTS, *AWKWARD, "a ▁ b"]:
        assert back.tokenizer().encode(text) == source.tokenizer().encode(text), text
    assert (back.bos_token_id, back.eos_token_ids) == (1, (2,))
    assert (
        json.loads(back.tokenizer_json)["model"]["merges"]
        == json.loads(source.tokenizer_json)["model"]["merges"]
    )
    types = np.array(vocabulary.types)
    assert np.bincount(types, minlength=7)[
        [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.BYTE]
    ].tolist() == [1, 2, 256]


UNIGRAM = json.loads(tokenizers.Tokenizer(tokenizers.models.Unigram([("a", 0.0)], 0)).to_str())["model"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": UNIGRAM, "added_tokens": []}, "Unigram"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                            "use_regex": True}}, "rule"),
        ({"normalizer": {"type": "Lowercase"}}, "Lowercase"),
        ({"pre_tokenizer": None}, "blanks"),
        ({"added_tokens": [{"id": 0, "content": "x", "special": True, "lstrip": True, "rstrip": False,
                            "single_word": False, "normalized": False}]}, "takes blanks"),
    ],
)  # fmt: skip
def test_what_a_file_cannot_say_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedFormatError, match=words):
        to_gguf_vocabulary(changed(tiny_tokenizer_json(), **changes), SIZE)


def test_a_tokenizer_that_is_larger_than_its_model_is_refused() -> None:
    with pytest.raises(UnsupportedFormatError, match="499"):
        to_gguf_vocabulary(tiny_tokenizer_json(), SIZE - 1)


def test_a_token_with_an_id_that_would_take_all_memory() -> None:
    """The library writes a table of all ids up to the largest."""
    source = json.loads(tiny_tokenizer_json())
    source["model"]["vocab"]["a"] = 2**31
    with pytest.raises(UnsupportedFormatError, match="has the id 2147483648"):
        to_gguf_vocabulary(json.dumps(source).encode(), SIZE)


def test_an_unknown_token_that_is_no_token() -> None:
    """Found by fuzzing: the library reads such a file."""
    source = read_sentencepiece_model(sentencepiece_model(remove_extra_whitespaces=False)).tokenizer_json
    with pytest.raises(UnsupportedFormatError, match="'<nothing>' is not in its vocabulary"):
        to_gguf_vocabulary(changed(source, model={"unk_token": "<nothing>"}), 500)


def test_merges_in_an_order_that_no_scores_have() -> None:
    source = json.loads(
        read_sentencepiece_model(sentencepiece_model(remove_extra_whitespaces=False)).tokenizer_json
    )
    source["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    source["model"]["merges"] = source["model"]["merges"][1:]  # joining by score would still make that piece
    with pytest.raises(UnsupportedFormatError, match="no scores"):
        to_gguf_vocabulary(json.dumps(source).encode(), len(source["model"]["vocab"]))


def test_composing_unicode_is_left_out_as_by_other_converters() -> None:
    source = changed(tiny_tokenizer_json(), normalizer={"type": "NFC"})
    assert to_gguf_vocabulary(source, SIZE).pre == "smollm"
