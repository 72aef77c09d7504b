"""Tokenizers of the families that our models use, and the files that are not tokenizers."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from tercet.errors import FormatError, ParameterError, UnsupportedFormatError
from tercet.tokenization import IncrementalDecoder, Tokenizer
from tiny_models import CONTROL_TOKENS, TEXTS, TINY_CONFIG, tiny_tokenizer_json


@pytest.fixture(scope="module")
def tiny() -> Tokenizer:
    return Tokenizer(tiny_tokenizer_json())


def library(tokenizer_json: bytes) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_buffer(tokenizer_json)


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(tiny_tokenizer_json()), **changes}).encode()


def sentencepiece_like(*, metaspace: bool) -> bytes:
    """A vocabulary in the style of Llama 2: spaces as ▁, every byte a token, control tokens in it."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    for word in ("▁", "H", "e", "l", "o", "▁H", "▁He", "▁Hel", "▁Hell", "▁Hello", "<", "s", ">"):
        vocabulary[word] = len(vocabulary)
    merges = [("▁", "H"), ("▁H", "e"), ("▁He", "l"), ("▁Hel", "l"), ("▁Hell", "o")]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    )
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer.to_str().encode()


def test_what_a_tokenizer_says_of_itself(tiny: Tokenizer) -> None:
    assert tiny.vocab_size == TINY_CONFIG.vocab_size
    assert tiny.control_tokens == set(CONTROL_TOKENS)
    assert tiny.special_ids == set(range(len(CONTROL_TOKENS)))


@pytest.mark.parametrize("text", [*TEXTS, "", " ", "\0", "\r\n", "﻿", "🙂", "a" * 1000, "<|user|>", "e\u0301"])
def test_plain_text_is_encoded_as_the_library_does_and_decodes_to_itself(tiny: Tokenizer, text: str) -> None:
    reference = library(tiny_tokenizer_json())
    reference.encode_special_tokens = True
    assert tiny.encode(text) == reference.encode(text, add_special_tokens=False).ids
    assert tiny.decode(tiny.encode(text)) == text
    assert b"".join(map(tiny.token_bytes, tiny.encode(text))) == text.encode()


def test_control_tokens_are_made_only_on_demand(tiny: Tokenizer) -> None:
    text = "<|user|>Hello<|end_of_turn|> <|assistant|>"
    assert tiny.special_ids.isdisjoint(tiny.encode(text))
    allowed = tiny.encode(text, allow_special=True)
    assert allowed == library(tiny_tokenizer_json()).encode(text, add_special_tokens=False).ids
    assert [i for i in allowed if i in tiny.special_ids] == [4, 2, 5]
    assert tiny.decode(allowed) == "Hello "
    assert tiny.decode(allowed, skip_special=False) == text


def test_control_tokens_that_the_file_does_not_mark() -> None:
    tokenizer = library(tiny_tokenizer_json())
    tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("   ", special=False)])
    plain = Tokenizer(tokenizer.to_str().encode())
    thought, spaces = plain.encode("<think>"), plain.encode("   ")
    assert len(thought) == len(spaces) == 1, "what is not marked is text like any other"
    marked = plain.with_control_tokens({"<think>", "not a token"})
    assert marked.special_ids - plain.special_ids == set(thought)
    assert marked.special_ids.isdisjoint(marked.encode("<think>"))
    assert marked.decode(marked.encode("<think>")) == "<think>"
    assert marked.encode("<think>", allow_special=True) == thought
    assert marked.encode("   ") == spaces
    assert plain.with_control_tokens({"<|user|>"}) is plain


def test_control_tokens_may_eat_the_space_around_them() -> None:
    tokenizer = library(tiny_tokenizer_json())
    tokenizer.add_special_tokens(
        [AddedToken("<mask>", lstrip=True, special=True), AddedToken("<end>", rstrip=True, special=True)]
    )
    tokenizer.add_special_tokens(
        [AddedToken("word", single_word=True, special=True), AddedToken("<mask>2", special=True)]
    )
    ours = Tokenizer(tokenizer.to_str().encode())
    for text in (
        "a <mask> b",
        "a <end> \n b",
        "<end> <mask>",
        "word words word",
        "<mask>2<mask>",
        "sword word_ word",
    ):
        assert (
            ours.encode(text, allow_special=True) == tokenizer.encode(text, add_special_tokens=False).ids
        ), text


@pytest.mark.parametrize("metaspace", [True, False])
def test_sentencepiece_vocabularies(metaspace: bool) -> None:
    source = sentencepiece_like(metaspace=metaspace)
    tokenizer = Tokenizer(source)
    assert tokenizer.drops_leading_space
    for text in ("Hello", "Hello Hello", " Hello", "é\n", "🙂 Hello"):
        ids = tokenizer.encode(text)
        assert ids == library(source).encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == library(source).decode(ids)
        # Metaspace puts no space in front of a text that has one, and then takes that one away.
        assert tokenizer.decode(ids) == (text.removeprefix(" ") if metaspace else text)
    assert tokenizer.token_bytes(3 + 0xC3) == b"\xc3"
    assert tokenizer.token_bytes(tokenizer.encode("Hello")[0]) == b" Hello"


def test_metaspace_decoders() -> None:
    tokenizer = tokenizers.Tokenizer(models.BPE({"▁": 0, "a": 1, "▁a": 2}, [("▁", "a")]))
    for scheme, text in (("always", "a a"), ("never", " a a")):
        tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
        assert Tokenizer(tokenizer.to_str().encode()).decode([2, 2]) == text == tokenizer.decode([2, 2])


def test_words_of_the_vocabulary_that_look_like_control_tokens() -> None:
    """In a word-level vocabulary `<s>` is a word like any other, and the library's switch does not help."""
    tokenizer = tokenizers.Tokenizer(
        models.WordLevel({"<s>": 0, "<unk>": 1, "<": 2, "s>": 3, "x": 4}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "<unk>"])
    ours = Tokenizer(tokenizer.to_str().encode())
    assert ours.encode("<s> x <s>" + " <s>" * 3000)[:5] == [2, 3, 4, 2, 3]
    assert ours.encode("<s>", allow_special=True) == [0]
    assert ours.encode("?") == [1], "a character that the vocabulary lacks is <unk>: no text can say more"


def test_a_vocabulary_that_cannot_say_everything() -> None:
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"x": 0}, unk_token="<unk>"))
    tokenizer.decoder = decoders.ByteLevel()
    ours = Tokenizer(tokenizer.to_str().encode())
    assert ours.encode("x") == [0]
    with pytest.raises(FormatError, match="cannot encode this text"):
        ours.encode("y")


def test_files_cannot_ask_to_cut_pad_or_shuffle() -> None:
    tokenizer = library(tiny_tokenizer_json())
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=40)
    cut = json.loads(tokenizer.to_str())
    cut["model"]["dropout"] = 0.9
    ours = Tokenizer(json.dumps(cut).encode())
    assert ours.encode(TEXTS[0]) == Tokenizer(tiny_tokenizer_json()).encode(TEXTS[0])


def test_files_cannot_write_a_text_twice() -> None:
    """The template of a post-processor may name the text as often as it likes."""
    twice = {"type": "TemplateProcessing", "special_tokens": {}}
    twice |= {key: [{"Sequence": {"id": "A", "type_id": 0}}] * 2 for key in ("single", "pair")}
    ours = Tokenizer(changed(post_processor=twice))
    assert ours.encode(TEXTS[0]) == Tokenizer(tiny_tokenizer_json()).encode(TEXTS[0])


REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaa"}
TABLE = base64.b64encode((1024).to_bytes(4, "little") + b"\xff" * 1024 + b"a\0").decode()


@pytest.mark.parametrize(
    ("normalizer", "words"),
    [
        ({"type": "Sequence", "normalizers": [REPLACE] * 6}, "4,096 times longer"),
        ({"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [REPLACE] * 6}]}, "longer"),
        (REPLACE | {"pattern": {"Regex": ""}, "content": "b" * 2000}, "longer"),
        (REPLACE | {"pattern": {"String": ""}}, "empty"),
        ({"type": "Precompiled", "precompiled_charsmap": TABLE}, "table of characters"),
        ({"type": "Precompiled", "precompiled_charsmap": "!"}, "damaged"),
    ],
)
def test_what_rewrites_text_without_bound_is_refused(normalizer: dict[str, Any], words: str) -> None:
    with pytest.raises(FormatError, match=words):
        Tokenizer(changed(normalizer=normalizer))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"null",
        b"\xff",
        b"[" * 10_000,
        b'{"version": "1.0"}',
        changed(model={"type": "BPE"}),
        changed(added_tokens=3),
    ],
)
def test_what_is_no_tokenizer_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="tokenizer"):
        Tokenizer(data)


@pytest.mark.parametrize(
    "decoder",
    [None, {"type": "WordPiece", "prefix": "##", "cleanup": True}, {"type": "Sequence", "decoders": []},
     {"type": "Sequence", "decoders": [{"type": "Strip", "content": " ", "start": 0, "stop": 1}]},
     {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"Regex": "a"}, "content": "b"}]}],
)  # fmt: skip
def test_decoders_that_we_do_not_know_are_named(decoder: object) -> None:
    with pytest.raises(UnsupportedFormatError, match="decode"):
        Tokenizer(changed(decoder=decoder))


def test_arguments_are_checked(tiny: Tokenizer) -> None:
    with pytest.raises(ParameterError, match=r"U\+D800 at 1"):
        tiny.encode("a\ud800")
    with pytest.raises(ParameterError, match="bytes"):
        tiny.encode(b"a")  # type: ignore[arg-type]
    for bad in (-1, 2**40, 1.5, True, "a", None):
        with pytest.raises(ParameterError, match="token id"):
            tiny.decode([bad])  # type: ignore[list-item]
    assert tiny.decode([10**6]) == "", "a model's vocabulary may be larger than its tokenizer's"


def test_incremental_decoding_holds_back_half_characters(tiny: Tokenizer) -> None:
    decoder = IncrementalDecoder(tiny)
    ids = [tiny.encode(chr(256 + 0))[0]]  # any id; the bytes below come one by one
    single = {tiny.token_bytes(i): i for i in range(tiny.vocab_size)}
    ids = [single[bytes([byte])] for byte in "é🙂".encode()]
    assert [decoder.push(i) for i in ids] == ["", "é", "", "", "", "🙂"]
    assert decoder.finish() == ""
    decoder = IncrementalDecoder(tiny)
    assert [decoder.push(i) for i in [*ids[:1], 0, ids[1]]] == ["", "", "é"], (
        "control tokens do not interrupt"
    )
    assert IncrementalDecoder(tiny, skip_special=False).push(0) == "<|begin_of_text|>"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xf0\x9f\x99", "\ufffd"),
        (b"\xff", "\ufffd"),
        (b"a\xc3", "a\ufffd"),
        (b"\xe2\x82a", "\ufffda"),
        (b"\x80\x80", "\ufffd\ufffd"),
    ],
)
def test_invalid_bytes_become_one_mark_for_each_run(tiny: Tokenizer, data: bytes, text: str) -> None:
    single = {tiny.token_bytes(i): i for i in range(tiny.vocab_size)}
    decoder = IncrementalDecoder(tiny)
    shown = "".join(decoder.push(single[bytes([byte])]) for byte in data) + decoder.finish()
    assert shown == text == data.decode("utf-8", "replace")
