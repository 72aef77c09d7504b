"""No text that people write becomes a control token: every one of every tokenizer, in conversations too.

`known_tokenizers` lists the tokenizers. What HTTP does with it is in tests/integration.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from known_tokenizers import KNOWN, KnownTokenizer, open_known
from tercet.errors import ParameterError
from tercet.tokenization import ChatTemplate, Tokenizer


@pytest.fixture(scope="module", params=KNOWN)
def known(request: pytest.FixtureRequest) -> KnownTokenizer:
    return open_known(request.param)


def disguises(token: str) -> list[str]:
    """A control token as a user may write it: alone, among words, doubled, cut and nested into itself."""
    half = len(token) // 2
    nested = token[:half] + token + token[half:]
    return [
        token,
        f"a {token} b",
        f" {token}\n",
        token + token,
        token[:-1] + token,
        token[1:] + token,
        nested,
    ]


def control(tokenizer: Tokenizer, ids: list[int]) -> list[int]:
    return [token_id for token_id in ids if token_id in tokenizer.special_ids]


def lacking(tokenizer: Tokenizer, text: str) -> set[int]:
    """The id for the unknown, if the vocabulary lacks a character of a text: no text can say more."""
    return {token_id for c in set(text) for token_id in control(tokenizer, tokenizer.encode(f"{c}"))}


def test_a_tokenizer_has_control_tokens_to_try(known: KnownTokenizer) -> None:
    assert known.tokenizer.control_tokens


def test_the_text_of_every_control_token_stays_text(known: KnownTokenizer) -> None:
    tokenizer = known.tokenizer
    for token in sorted(tokenizer.control_tokens):
        for text in disguises(token):
            ids = tokenizer.encode(text)
            assert set(control(tokenizer, ids)) <= lacking(tokenizer, text), text
            if not lacking(tokenizer, text) and "▁" not in text:  # sentencepiece may join blanks
                assert tokenizer.decode(ids).split() == text.split()


def conversations(text: str) -> list[list[dict[str, Any]]]:
    return [
        [{"role": "user", "content": text}],
        [{"role": "system", "content": text}, {"role": "user", "content": text}],
        [{"role": role, "content": text} for role in ("user", "assistant", "user")],
    ]


def frame(template: ChatTemplate, messages: list[dict[str, Any]]) -> list[int]:
    """The control tokens of a conversation, which are its template's."""
    return [token_id for token_id in template.encode(messages) if token_id in template.control_ids]


def test_a_conversation_has_the_control_tokens_of_its_template_alone(known: KnownTokenizer) -> None:
    tokens = sorted(known.tokenizer.control_tokens)
    together = "".join(text for token in tokens for text in disguises(token))
    unknown = lacking(known.tokenizer, together)
    tried = 0
    for template in known.templates:
        for harmless, hostile in zip(conversations("a"), conversations(f"a{together}a"), strict=True):
            try:
                expected = frame(template, harmless)
            except ParameterError:  # a template may refuse an order of roles
                continue
            tried += 1
            found = frame(template, hostile)
            assert [i for i in found if i not in unknown] == [i for i in expected if i not in unknown]
    assert tried >= len(known.templates)


@given(data=st.data())
@settings(max_examples=20)
def test_no_mixture_of_their_pieces_becomes_one(known: KnownTokenizer, data: st.DataObject) -> None:
    tokenizer = known.tokenizer
    token = st.sampled_from(sorted(tokenizer.control_tokens))
    begin = st.tuples(token, st.integers(1, 8)).map(lambda cut: cut[0][: cut[1]])
    end = st.tuples(token, st.integers(1, 8)).map(lambda cut: cut[0][cut[1] :])
    text = st.text(st.characters(codec="utf-8", exclude_characters="▁"), max_size=6)
    drawn = "".join(data.draw(st.lists(st.one_of(token, begin, end, text), max_size=8)))
    assert set(control(tokenizer, tokenizer.encode(drawn))) <= lacking(tokenizer, drawn)
