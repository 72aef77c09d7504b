"""Laws of vocabularies of every format: text is never control, and no bytes do harm."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.errors import FormatError
from tercet.tokenization import Tokenizer
from tercet.tokenization.gguf_vocab import read_gguf_vocabulary
from tercet.tokenization.model_file import read_tokenizer_model
from tercet.tokenization.tiktoken_model import read_tiktoken_model
from tercet.tokenization.vocabulary import Vocabulary
from tiny_models import CONTROL_TOKENS
from vocabularies import (
    gguf_of_sentencepiece,
    gguf_vocabulary,
    hand_made_model,
    piece,
    sentencepiece_model,
    tiktoken_ranks,
)

CONTROL = [*CONTROL_TOKENS, "<unk>", "<s>", "</s>", "<|im_end|>", "<start_of_turn>", "<0x41>", "<0x0A>"]


@functools.cache
def joined_model() -> bytes:
    symbols = "<|im_end|>,<start_of_turn>"
    return sentencepiece_model(remove_extra_whitespaces=False, user_defined_symbols=symbols)


VOCABULARIES: dict[str, Callable[[], Vocabulary]] = {
    "gguf, merged": lambda: read_gguf_vocabulary(gguf_vocabulary()),
    "gguf, whole words": lambda: read_gguf_vocabulary(gguf_vocabulary(pre="llama-bpe")),
    "gguf, joined": lambda: read_gguf_vocabulary(gguf_of_sentencepiece(joined_model())),
    "sentencepiece": lambda: read_tokenizer_model(joined_model()),
    "sentencepiece, unigram": lambda: read_tokenizer_model(
        sentencepiece_model("unigram", remove_extra_whitespaces=False)
    ),
    "tiktoken": lambda: read_tiktoken_model(tiktoken_ranks(), control_tokens=CONTROL_TOKENS),
}
PARTS = [*CONTROL, *(token[:n] for token in CONTROL for n in range(1, len(token)))]
# A literal ▁ is a blank to sentencepiece, so that it cannot come back.
texts = st.text(st.characters(codec="utf-8", exclude_characters="▁"), max_size=12)
hostile = st.lists(st.one_of(texts, st.sampled_from(PARTS)), max_size=8).map("".join)


@pytest.fixture(scope="module", params=VOCABULARIES)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return VOCABULARIES[request.param]().tokenizer()


@given(text=hostile)
@settings(max_examples=200)
def test_text_makes_no_control_token_and_decodes_to_itself(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.special_ids.isdisjoint(ids)
    assert tokenizer.decode(ids) == text


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with some overwritten, cut out, doubled or cut off."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        if not changed:
            break
        at = draw(st.integers(0, len(changed) - 1))
        length = draw(st.integers(1, 12))
        kind = draw(st.sampled_from(["overwrite", "remove", "repeat", "end"]))
        if kind == "overwrite":
            changed[at : at + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "remove":
            del changed[at : at + length]
        elif kind == "repeat":
            changed[at:at] = changed[at : at + length]
        elif at:
            del changed[at:]
    return bytes(changed or b"\0")


SMALL = hand_made_model(
    piece("<unk>", 0, "unknown"), piece("<s>", 0, "control"), piece("ab", -1), *(piece(c, -9) for c in "▁ab")
)


FILES: dict[str, Callable[[], bytes]] = {
    "by hand": lambda: SMALL,
    "joined": sentencepiece_model,
    "unigram": lambda: sentencepiece_model("unigram", normalization_rule_name="nmt_nfkc"),
    "ranks": tiktoken_ranks,
}


@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_are_refused_or_read(kind: str) -> None:
    data = FILES[kind]()

    @given(damaged(data))
    @settings(max_examples=150)
    def check(changed: bytes) -> None:
        try:
            tokenizer = read_tokenizer_model(changed, added_tokens={300: "<|x|>"}).tokenizer()
        except FormatError:
            return
        tokenizer.encode("Once upon a time 123 <s> é🙂\r\n")

    check()


def test_a_file_cut_off_anywhere_is_refused_or_read() -> None:
    """Some beginnings of a model are models, too: with fewer tokens, or without settings."""
    for length in range(len(SMALL)):
        try:
            read_tokenizer_model(SMALL[:length]).tokenizer().encode("ab")
        except FormatError:
            continue
