"""Models of sentencepiece: the ids that sentencepiece gives, and files that cannot be right."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sentencepiece

from tercet.errors import FormatError, UnsupportedFormatError
from tercet.tokenization.sentencepiece_model import read_sentencepiece_model
from tiny_models import TEXTS
from vocabularies import AWKWARD, field, hand_made_model, piece, sentencepiece_model, varint

UNKNOWN = piece("<unk>", 0, "unknown")
BAD_TRIE = bytes([0, 4, 0, 0]) + b"\xff" * 1024
LITERAL_BLANKS = ["▁", "a▁b", "▁▁a ▁", "  ▁  "]
MIXED = [" ".join(AWKWARD), "".join(AWKWARD), " a ", "a  b   c", "\u3000a\u00a0b", *LITERAL_BLANKS]


def original(model: bytes) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=model)


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
@pytest.mark.parametrize("normalization", ["identity", "nmt_nfkc"])
@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("collapse", [True, False])
def test_ids_are_those_of_sentencepiece(
    model_type: str, normalization: str, prefix: bool, collapse: bool
) -> None:
    model = sentencepiece_model(
        model_type,
        normalization_rule_name=normalization,
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=collapse,
    )
    tokenizer = read_sentencepiece_model(model).tokenizer()
    for text in [*TEXTS, *AWKWARD, *MIXED]:
        assert tokenizer.encode(text) == original(model).encode(text), text
        assert tokenizer.special_ids.isdisjoint(tokenizer.encode(text))


def test_without_byte_tokens_unknown_characters_are_unknown() -> None:
    model = sentencepiece_model(byte_fallback=False, character_coverage=0.98)
    tokenizer = read_sentencepiece_model(model).tokenizer()
    for text in [*TEXTS, *AWKWARD, *MIXED, "☃☃ ☃a"]:
        assert tokenizer.encode(text) == original(model).encode(text), text


@pytest.mark.parametrize("prefix", [True, False])
def test_user_defined_symbols_are_found_before_anything_is_joined(prefix: bool) -> None:
    symbols = ("little", "<p>", "<p>>", "\n", "▁▁", "▁▁▁", "▁▁▁▁")
    model = sentencepiece_model(
        user_defined_symbols=",".join(symbols).replace("\n", "\n"),
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=False,
    )
    assert all(original(model).piece_to_id(symbol) > 2 for symbol in symbols)
    tokenizer = read_sentencepiece_model(model).tokenizer()
    texts = ["a little", "belittle<p>>", "<p><p>>a", " x    y  z       ", "\n\n \n", "little "]
    for text in [*TEXTS, *AWKWARD, *texts]:
        assert tokenizer.encode(text) == original(model).encode(text), text
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_text_that_is_one_symbol_gets_no_blank() -> None:
    """The one known difference, which costs a blank in front of a symbol that stands alone."""
    model = sentencepiece_model(user_defined_symbols="little", remove_extra_whitespaces=False)
    tokenizer = read_sentencepiece_model(model).tokenizer()
    blank, symbol = original(model).encode("little")
    assert original(model).id_to_piece(blank) == "▁"
    assert tokenizer.encode("little") == [symbol]


def test_what_frames_a_text() -> None:
    vocabulary = read_sentencepiece_model(sentencepiece_model())
    assert (vocabulary.bos_token_id, vocabulary.eos_token_ids, vocabulary.pad_token_id) == (1, (2,), None)
    assert (vocabulary.add_bos, vocabulary.add_eos, vocabulary.remarks) == (True, False, ())
    model = sentencepiece_model(bos_id=-1, eos_id=5, pad_id=3, eos_piece="<end>")
    vocabulary = read_sentencepiece_model(model)
    assert (vocabulary.bos_token_id, vocabulary.eos_token_ids, vocabulary.pad_token_id) == (None, (5,), 3)
    assert not vocabulary.add_bos
    assert vocabulary.tokenizer().control_tokens == {"<unk>", "<pad>", "<end>"}


def test_remarks_tell_what_is_not_exact() -> None:
    (remark,) = read_sentencepiece_model(sentencepiece_model(normalization_rule_name="nmt_nfkc")).remarks
    assert "normalized" in remark
    (remark,) = read_sentencepiece_model(sentencepiece_model("unigram")).remarks
    assert "control token" in remark


def test_symbols_that_look_like_control_are_control() -> None:
    model = sentencepiece_model(user_defined_symbols="<|im_end|>,<start_of_turn>", control_symbols="<ctl>")
    tokenizer = read_sentencepiece_model(model).tokenizer()
    assert tokenizer.control_tokens == {"<unk>", "<s>", "</s>", "<ctl>", "<|im_end|>", "<start_of_turn>"}
    text = "a<|im_end|>b<start_of_turn><ctl></s><0x41>"
    assert tokenizer.special_ids.isdisjoint(tokenizer.encode(text))
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model_type": "char"}, "characters"),
        ({"model_type": "word"}, "words"),
        ({"treat_whitespace_as_suffix": True}, "treat_whitespace_as_suffix"),
        ({"model_type": "unigram", "user_defined_symbols": "little"}, "unigram"),
        ({"normalization_rule_name": "nmt_nfkc", "user_defined_symbols": "little"}, "'little'"),
    ],
)
def test_what_cannot_be_said_exactly_is_refused(options: dict[str, Any], words: str) -> None:
    model = sentencepiece_model(**options)
    with pytest.raises(UnsupportedFormatError, match=words):
        read_sentencepiece_model(model)


def test_blanks_that_stay_blanks_are_refused() -> None:
    with pytest.raises(UnsupportedFormatError, match="escape_whitespaces"):
        read_sentencepiece_model(hand_made_model(UNKNOWN, piece("a"), normalizer=field(5, 0)))


def test_a_model_by_hand() -> None:
    """The wire format itself: unknown fields, fields in any order, fields twice, messages in parts."""
    model = hand_made_model(
        UNKNOWN,
        field(1, field(3, 1) + field(2, -1.0) + field(1, "wrong") + field(1, "ab") + field(99, b"skipped")),
        *(piece(text, -10.0) for text in "▁ab"),
        trainer=field(3, 1),
        normalizer=field(3, 0),
    )
    model += field(2, field(3, 2)) + varint(7 << 3 | 1) + bytes(8)
    tokenizer = read_sentencepiece_model(model).tokenizer()
    assert tokenizer.encode("ab ba") == [1, 2, 4, 3]
    assert tokenizer.encode("ab") == original(model).encode("ab")


BYTES = [piece(f"<0x{byte:02X}>", 0, "byte") for byte in range(256)]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (b"", "0 tokens"),
        (b"\xff" * 20, "no end"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "claims"),
        (field(1, UNKNOWN)[:-3], "claims"),
        (b"\x0b", "wire type 3"),
        (b"\x02\x01a", "field 0"),
        (field(1, 5), "expected bytes"),
        (hand_made_model(piece("a")), "unknown characters"),
        (hand_made_model(UNKNOWN, piece("a"), piece("a")), "both"),
        (hand_made_model(UNKNOWN, piece("")), "no text"),
        (hand_made_model(UNKNOWN, piece(b"\xff")), "UTF-8"),
        (hand_made_model(UNKNOWN, piece("a" * 5000)), "5,000 characters"),
        (hand_made_model(UNKNOWN, piece("a", float("nan"))), "score nan"),
        (hand_made_model(UNKNOWN, piece("a", 0, 9)), "kind 9"),
        (hand_made_model(UNKNOWN, piece("a", 0, 2**64 - 1)), "kind -1"),
        (hand_made_model(UNKNOWN, field(1, field(1, "a") + field(2, 3))), "expected"),
        (hand_made_model(UNKNOWN, *BYTES[:-1]), "255 byte tokens"),
        (hand_made_model(UNKNOWN, piece("<0x-1>", 0, "byte")), "'<0x-1>'"),
        (hand_made_model(UNKNOWN, piece("<0x41>")), "not marked"),
        (hand_made_model(UNKNOWN, piece("c", 0, "control")), "single character"),
        (hand_made_model(UNKNOWN, piece("a"), normalizer=field(2, b"abc")), "table of characters"),
        (hand_made_model(UNKNOWN, piece("a"), normalizer=field(2, BAD_TRIE)), "table"),
    ],
)  # fmt: skip
def test_damaged_models(model: bytes, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        read_sentencepiece_model(model)


def test_a_file_of_empty_fields_does_not_fill_the_memory() -> None:
    with pytest.raises(FormatError, match="fields in one message"):
        read_sentencepiece_model(field(1, b"") * (1 << 22))


def test_a_table_of_characters_is_followed_before_it_is_used() -> None:
    """The library that applies the table does not look where it leads: a bad table ends the process."""
    normalizer = sentencepiece_model(normalization_rule_name="nmt_nfkc")
    table = json.loads(read_sentencepiece_model(normalizer).tokenizer_json)["normalizer"]
    assert any(step["type"] == "Precompiled" for step in table["normalizers"])
    units = bytearray(4096)
    for unit in range(1024):
        units[4 * unit : 4 * unit + 4] = (unit & 0xFF | 0x700 << 10).to_bytes(4, "little")
    for bad in (len(units).to_bytes(4, "little") + units + b"a\0", (1 << 30).to_bytes(4, "little") + units):
        with pytest.raises(FormatError, match="table of characters"):
            read_sentencepiece_model(hand_made_model(UNKNOWN, piece("a"), normalizer=field(2, bytes(bad))))
