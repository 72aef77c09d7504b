"""Vocabularies of GGUF files: the ids of the original tokenizers, and files that cannot be right."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import regex
import sentencepiece
import tokenizers

from tercet.errors import FormatError, UnsupportedFormatError
from tercet.tokenization import Tokenizer
from tercet.tokenization.gguf_vocab import read_gguf_vocabulary
from tercet.tokenization.pre_tokenizers import pre_tokenizer
from tiny_models import CONTROL_TOKENS, TEXTS, tiny_tokenizer_json
from vocabularies import AWKWARD, gguf_of_sentencepiece, gguf_vocabulary, sentencepiece_model

TOKENS = gguf_vocabulary().tokens
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# As the model's authors published them, for another engine of regular expressions.
PUBLISHED = {
    "llama-bpe": CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + BLANKS,
    "qwen2": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + BLANKS,
    "qwen35": CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + BLANKS,
    "gpt-2": GPT2,
    "tekken": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + BLANKS,
}  # fmt: skip


def joined(**changes: Any) -> Any:
    """A joined vocabulary with tokens replaced by id: `{5: ("text", kind, score)}` under `put`."""
    vocabulary = gguf_of_sentencepiece(sentencepiece_model())
    put = changes.pop("put", {})
    tokens, types, scores = list(vocabulary.tokens), np.array(vocabulary.types), np.array(vocabulary.scores)
    for token_id, (text, kind, score) in put.items():
        tokens[token_id], types[token_id], scores[token_id] = text, kind, score
    return dataclasses.replace(
        vocabulary, **({"tokens": tuple(tokens), "types": types, "scores": scores} | changes)
    )


def test_a_merged_vocabulary_gives_the_ids_of_the_original() -> None:
    vocabulary = read_gguf_vocabulary(gguf_vocabulary())
    tokenizer, original = vocabulary.tokenizer(), tokenizers.Tokenizer.from_buffer(tiny_tokenizer_json())
    original.encode_special_tokens = True
    for text in [*TEXTS, *AWKWARD, "".join(CONTROL_TOKENS)]:
        assert tokenizer.encode(text) == original.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.control_tokens == set(CONTROL_TOKENS)
    assert tokenizer.encode("<|user|>a", allow_special=True) == [4, *tokenizer.encode("a")]


@pytest.mark.parametrize("prefix", [True, False])
def test_a_joined_vocabulary_gives_the_ids_of_sentencepiece(prefix: bool) -> None:
    model = sentencepiece_model(add_dummy_prefix=prefix, remove_extra_whitespaces=False)
    original = sentencepiece.SentencePieceProcessor(model_proto=model)
    flags = {"add_space_prefix": prefix} if not prefix else {}
    tokenizer = read_gguf_vocabulary(gguf_of_sentencepiece(model, flags=flags)).tokenizer()
    for text in [*TEXTS, *AWKWARD]:
        assert tokenizer.encode(text) == original.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_each_stretch_of_text_begins_with_a_blank() -> None:
    """As llama.cpp does it, behind control tokens and user-defined ones alike; blanks are never collapsed."""
    tokenizer = read_gguf_vocabulary(joined(put={2: ("~~", 4, 0.0)})).tokenizer()
    assert tokenizer.encode("a~~a") == [*tokenizer.encode("a"), 2, *tokenizer.encode("a")]
    assert tokenizer.encode("<s>a", allow_special=True) == [1, *tokenizer.encode("a")]
    assert tokenizer.decode(tokenizer.encode("  a   b ")) == "  a   b "


@pytest.mark.parametrize("name", PUBLISHED)
def test_rules_cut_words_as_published(name: str) -> None:
    steps = pre_tokenizer(name, "a test").steps
    tokenizer = read_gguf_vocabulary(gguf_vocabulary(pre=name)).tokenizer()
    library = tokenizers.Tokenizer.from_buffer(tokenizer._json).pre_tokenizer
    assert steps
    for text in [*TEXTS, *AWKWARD]:
        ends = [match.end() for match in regex.finditer(PUBLISHED[name], text)]
        assert [end for _, (_, end) in library.pre_tokenize_str(text)] == ends, text


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("smollm", "a12 b", ["a", "1", "2", "Ġb"]),
        ("falcon", "a!? 1234", ["a", "!?", "Ġ", "123", "4"]),
        ("gpt-4o", "HelloWorld's", ["Hello", "World's"]),
        ("minicpm5", "a1234", ["a", "123", "4"]),
        ("default", "a: 1234", ["a", ":", "Ġ", "123", "4"]),
    ],
)
def test_rules_of_several_steps(name: str, text: str, words: list[str]) -> None:
    library = tokenizers.Tokenizer.from_buffer(read_gguf_vocabulary(gguf_vocabulary(pre=name)).tokenizer_json)
    assert [word for word, _ in library.pre_tokenizer.pre_tokenize_str(text)] == words


def test_words_that_are_tokens_stay_whole_where_the_rule_says_so() -> None:
    """Llama 3 has tokens that its merges do not make."""
    tokens = (*gguf_vocabulary().tokens, "zqzq")
    types = np.append(gguf_vocabulary().types, 1)
    for name, whole in (("llama-bpe", True), ("qwen2", False)):
        tokenizer = read_gguf_vocabulary(gguf_vocabulary(tokens=tokens, types=types, pre=name)).tokenizer()
        assert (tokenizer.encode("zqzq") == [len(tokens) - 1]) == whole


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (0, (1, 2), False)),  # <|end_of_turn|> ends a turn, though the file names only <|end_of_text|>
        ({"flags": {"add_bos_token": True}}, (0, (1, 2), True)),
        ({"pre": "llama-bpe"}, (0, (1, 2), True)),
        ({"pre": "llama-bpe", "flags": {"add_bos_token": False}}, (0, (1, 2), False)),
        ({"pre": "llama-bpe", "special_ids": {}}, (None, (1, 2), False)),
        ({"special_ids": {"bos": 3, "eos": 9, "eot": 8, "padding": 7}}, (3, (9, 8, 1, 2), False)),
    ],
)
def test_what_frames_a_text(changes: dict[str, Any], expected: tuple[Any, ...]) -> None:
    vocabulary = read_gguf_vocabulary(gguf_vocabulary(**changes))
    assert (vocabulary.bos_token_id, vocabulary.eos_token_ids, vocabulary.add_bos) == expected
    assert vocabulary.pad_token_id == (7 if "padding" in gguf_vocabulary(**changes).special_ids else None)


def test_a_sentencepiece_vocabulary_frames_texts_by_default() -> None:
    bare = gguf_of_sentencepiece(sentencepiece_model(), special_ids={})
    vocabulary = read_gguf_vocabulary(bare)
    assert (vocabulary.bos_token_id, vocabulary.eos_token_ids, vocabulary.add_bos, vocabulary.add_eos) == (
        1,
        (2,),
        True,
        False,
    )


def test_an_end_token_behind_every_text() -> None:
    """What embedding models of llama.cpp say by a flag, `Tokenizer.frame` gives as for any other file."""
    flags = {"add_bos_token": False, "add_eos_token": True}
    for vocabulary in (
        gguf_vocabulary(special_ids={"bos": 0, "eos": 2}, flags=flags),
        gguf_of_sentencepiece(sentencepiece_model(), special_ids={}, flags=flags),
    ):
        read = read_gguf_vocabulary(vocabulary)
        assert read.add_eos
        tokenizer = Tokenizer(read.tokenizer_json)
        assert tokenizer.frame == ([], [2])
        assert tokenizer.encode("a dog")[-1] != 2
    assert Tokenizer(read_gguf_vocabulary(gguf_vocabulary()).tokenizer_json).frame == ([], [])


def retyped(text: str, kind: int) -> Any:
    """The tiny vocabulary with one more token, of a kind."""
    vocabulary = gguf_vocabulary()
    return gguf_vocabulary(tokens=(*vocabulary.tokens, text), types=np.append(vocabulary.types, kind))


@pytest.mark.parametrize(
    ("text", "kind", "is_control"),
    [
        ("<|im_end|>", 4, True),
        ("<|im_end|>", 1, True),
        ("<|anything|>", 4, True),
        ("<fim_prefix>", 4, True),
        ("<start_of_turn>", 4, True),
        ("</s>", 4, True),
        ("</s>", 1, False),
        ("<think>", 4, False),
        ("[PAD500]", 3, False),
    ],
)
def test_what_looks_like_control_is_control(text: str, kind: int, is_control: bool) -> None:
    tokenizer = read_gguf_vocabulary(retyped(text, kind)).tokenizer()
    assert (text in tokenizer.control_tokens) == is_control
    assert tokenizer.special_ids.isdisjoint(tokenizer.encode(f"a{text}b"))
    assert tokenizer.decode(tokenizer.encode(f"a{text}b")) == f"a{text}b"


def test_remarks_tell_what_the_file_does_not() -> None:
    assert not read_gguf_vocabulary(gguf_vocabulary()).remarks
    (remark,) = read_gguf_vocabulary(gguf_vocabulary(pre=None)).remarks
    assert "pre-tokenizer" in remark
    tokens = tuple(
        f"?{text}?" if len(text) == 1 and text > "Ā" else text for text in gguf_vocabulary().tokens
    )
    (remark,) = read_gguf_vocabulary(gguf_vocabulary(tokens=tokens, merges=())).remarks
    assert "256 bytes" in remark


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "bert"}, "WordPiece"),
        ({"model": "t5"}, "unigram"),
        ({"model": "weird"}, "does not know"),
        ({"pre": "weird-bpe"}, "'weird-bpe'.*llama-bpe.*smollm"),
    ],
)
def test_other_kinds_are_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedFormatError, match=words):
        read_gguf_vocabulary(gguf_vocabulary(**changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"merges": None}, "merges"),
        ({"merges": ("a",)}, "merge 0"),
        ({"merges": ("a b c",)}, "merge 0"),
        ({"merges": ("a qqq",)}, "merge 0"),
        ({"merges": ("z z",)}, "merge 0"),  # makes no token
        ({"tokens": (*TOKENS[:-1], TOKENS[0])}, "both"),
        ({"tokens": (*TOKENS[:-1], "x" * 5000)}, "5,000 characters"),
        ({"tokens": (*TOKENS[:-1], "☃"), "types": np.full(len(TOKENS), 3), "merges": ()}, "single character"),
        ({"tokens": (), "types": None, "merges": ()}, "0 tokens"),
    ],
)
def test_damaged_merged_vocabularies(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(FormatError, match=words):
        read_gguf_vocabulary(gguf_vocabulary(**changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scores": None}, "scores"),
        ({"put": {300: ("x", 1, float("nan"))}}, "not a number"),
        ({"put": {300: ("x", 1, float("inf"))}}, "infinite"),
        ({"put": {3: ("<0x-1>", 6, 0)}}, "'<0x-1>'"),
        ({"put": {3: ("<0x0a>", 6, 0)}}, "'<0x0a>'"),
        ({"put": {3: ("<0x100>", 6, 0)}}, "'<0x100>'"),
        ({"put": {3: ("gone", 1, 0)}}, "255 byte tokens"),
        ({"put": {300: ("<0xab>", 1, 0)}}, "not marked as a byte token"),
        ({"put": {300: ("<0x41>", 6, 0)}}, "both"),
    ],
)  # fmt: skip
def test_damaged_joined_vocabularies(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(FormatError, match=words):
        read_gguf_vocabulary(joined(**changes))


def test_joined_vocabularies_that_no_list_of_merges_can_say() -> None:
    with pytest.raises(UnsupportedFormatError, match="share one score"):  # what some converters write
        read_gguf_vocabulary(joined(scores=np.full(len(joined().tokens), -1000.0, np.float32)))
    with pytest.raises(UnsupportedFormatError, match="no token itself"):
        read_gguf_vocabulary(joined(put={300: ("☃☃", 1, 0.5)}))
    with pytest.raises(UnsupportedFormatError, match="unused token"):
        read_gguf_vocabulary(joined(put={300: ("ee", 5, 0.5)}))


def test_ids_without_text_are_gaps() -> None:
    vocabulary = gguf_vocabulary(tokens=(*TOKENS, "", ""), types=np.append(gguf_vocabulary().types, [1, 5]))
    tokenizer = read_gguf_vocabulary(vocabulary).tokenizer()
    assert tokenizer.decode([*tokenizer.encode("dog"), len(TOKENS)]) == "dog"


def test_user_defined_runs_of_blanks_are_joined() -> None:
    """Gemma's file has them as ▁▁: in a text they are blanks, and so are not found as they stand."""
    vocabulary = joined(flags={"add_space_prefix": False})
    first = len(vocabulary.tokens)
    tokenizer = read_gguf_vocabulary(
        dataclasses.replace(
            vocabulary,
            tokens=(*vocabulary.tokens, "▁▁", "▁▁▁", "▁▁▁▁"),
            types=np.append(vocabulary.types, [4, 4, 4]),
            scores=np.append(vocabulary.scores, [102.0, 103.0, 104.0]),
        )
    ).tokenizer()
    assert tokenizer.encode("    ") == [first + 2]
    assert tokenizer.encode("      ") == [first + 2, first]
    assert tokenizer.decode([first + 2, first]) == " " * 6
