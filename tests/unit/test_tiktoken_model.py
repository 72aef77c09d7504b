"""Files of ranks as tiktoken has them: the ids that tiktoken gives, and files that cannot be right."""

from __future__ import annotations

import base64
import functools
import json
from pathlib import Path

import pytest
import tiktoken
from tiktoken import _educational

from tercet.errors import FormatError, UnsupportedFormatError
from tercet.tokenization.model_file import read_tokenizer_model, read_tokenizer_model_file
from tercet.tokenization.tiktoken_model import LLAMA3_CONTROL_TOKENS, is_tiktoken_model, read_tiktoken_model
from tiny_models import TEXTS
from vocabularies import AWKWARD, sentencepiece_model

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")


@functools.cache
def ranks() -> dict[bytes, int]:
    """Ranks that tiktoken's own textbook trainer finds, and some that no merge leads to."""
    trained: dict[bytes, int] = _educational.bpe_train("\n".join([*TEXTS, *AWKWARD] * 2), 400, PATTERN)
    return trained | {word: 400 + i for i, word in enumerate([b"qzqz", b" \xe2\x98\x83", b"zqzqzqz"])}


def file_of(table: dict[bytes, int]) -> bytes:
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in table.items())


def original() -> tiktoken.Encoding:
    special = {token: len(ranks()) + i for i, token in enumerate(CONTROL)}
    return tiktoken.Encoding("a test", pat_str=PATTERN, mergeable_ranks=ranks(), special_tokens=special)


def test_ids_are_those_of_tiktoken() -> None:
    vocabulary = read_tiktoken_model(file_of(ranks()), control_tokens=CONTROL)
    tokenizer = vocabulary.tokenizer()
    for text in [
        *TEXTS,
        *AWKWARD,
        "".join(AWKWARD),
        "qzqz qzqz",
        " ☃☃",
        "a" * 23,
        "<|eot_id|>a<|begin_of_text|>",
    ]:
        assert tokenizer.encode(text) == original().encode(text, disallowed_special=()), text
        assert tokenizer.encode(text, allow_special=True) == original().encode(text, allowed_special="all"), (
            text
        )
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == original().n_vocab
    assert (vocabulary.bos_token_id, vocabulary.eos_token_ids) == (403, (404, 405))
    assert vocabulary.add_bos


def test_every_token_is_its_bytes() -> None:
    tokenizer = read_tiktoken_model(file_of(ranks()), control_tokens=CONTROL).tokenizer()
    assert [tokenizer.token_bytes(rank) for rank in ranks().values()] == list(ranks())


def test_the_control_tokens_of_llama_3() -> None:
    assert len(set(LLAMA3_CONTROL_TOKENS)) == 256
    ids = {token: 128_000 + i for i, token in enumerate(LLAMA3_CONTROL_TOKENS)}
    assert ids["<|start_header_id|>"] == 128_006
    assert ids["<|eot_id|>"] == 128_009
    assert ids["<|reserved_special_token_246|>"] == 128_255
    with pytest.raises(UnsupportedFormatError, match="403 ranks, expected the 128,000"):
        read_tiktoken_model(file_of(ranks()))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"IQ== 33\n", b"IQ== 34\n", "rank 34, expected 33"),
        (b"IQ== 33\n", b"IQ= 33\n", "line 34"),
        (b"IQ== 33\n", b"IQ==\n", "line 34"),
        (b"IQ== 33\n", b"IQ== -1\n", "line 34"),
        (b"IQ== 33\n", b"IQ== 99999999999999999999\n", "line 34"),
        (b"IQ== 33\n", b" 33\n", "line 34"),
        (b"IQ== 33\n", b"Ig== 33\n", "are the same"),
        (b"IQ== 33\n", base64.b64encode(b"!" * 3000) + b" 33\n", "0x21"),
        (b"cXpxeg== 400\n", base64.b64encode(b"!" * 3000) + b" 400\n", "length 3,000"),
    ],
)
def test_damaged_files(old: bytes, new: bytes, words: str) -> None:
    assert file_of(ranks()).count(old) == 1
    with pytest.raises(FormatError, match=words):
        read_tiktoken_model(file_of(ranks()).replace(old, new), control_tokens=CONTROL)


def test_arguments_that_do_not_fit() -> None:
    for taken in (("<|a|>", "<|a|>"), ("qzqz",), ("",)):
        with pytest.raises(FormatError, match="taken"):
            read_tiktoken_model(file_of(ranks()), control_tokens=taken)
    with pytest.raises(UnsupportedFormatError, match="'weird'"):
        read_tiktoken_model(file_of(ranks()), control_tokens=CONTROL, pre="weird")
    for data in (b"", b"\xff\xfe", b"a b\n"):
        with pytest.raises(FormatError):
            read_tiktoken_model(data, control_tokens=CONTROL)


# The file of a model folder, whichever kind it is -----------------------------------------------------


def test_both_kinds_of_file_are_told_apart() -> None:
    assert is_tiktoken_model(file_of(ranks()))
    assert not is_tiktoken_model(sentencepiece_model())
    for data in (b"", b"IQ==", b"IQ== x", b"IQ== 1 2", b"\0" * 100):
        assert not is_tiktoken_model(data)
    added = {403 + i: token for i, token in enumerate(CONTROL)}
    assert read_tokenizer_model(file_of(ranks()), added_tokens=added).bos_token_id == 403
    assert read_tokenizer_model(sentencepiece_model()).bos_token_id == 1


def test_added_tokens_stand_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(sentencepiece_model())
    size = read_tokenizer_model_file(path).tokenizer().vocab_size
    config = {
        "added_tokens_decoder": {str(size): {"content": "<pad>", "special": True}, "1": {"content": "<s>"}}
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"</line>": size + 1}))
    tokenizer = read_tokenizer_model_file(path).tokenizer()
    assert tokenizer.encode("<pad>a</line>", allow_special=True) == [size, *tokenizer.encode("a"), size + 1]
    assert tokenizer.special_ids.isdisjoint(tokenizer.encode("<pad></line>"))
    assert tokenizer.decode(tokenizer.encode("<pad></line>")) == "<pad></line>"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"added_tokens_decoder": {"5000": {"content": "<pad>"}}}, "next id"),
        ({"added_tokens_decoder": {"0": {"content": "<s>"}}}, "it is 1 in the vocabulary"),
        ({"added_tokens_decoder": {"-1": {"content": "<s>"}}}, "'-1'"),
        ({"added_tokens_decoder": {"0": 3}}, "3"),
        ({"added_tokens_decoder": []}, "must be an object"),
        ([], "expected an object"),
    ],
)
def test_added_tokens_that_do_not_fit(tmp_path: Path, config: object, words: str) -> None:
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(FormatError, match=words):
        read_tokenizer_model_file(tmp_path / "tokenizer.model")


def test_added_tokens_behind_ranks_leave_no_gap() -> None:
    with pytest.raises(FormatError, match="gaps"):
        read_tokenizer_model(file_of(ranks()), added_tokens={404: "<|a|>"})
    with pytest.raises(FormatError, match="bytes"):
        read_tokenizer_model(bytes((1 << 26) + 1))
