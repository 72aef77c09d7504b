"""Laws of vocabularies of every format: text is never control, and streamed text adds up.

What damaged files do is in test_damaged_bytes.py.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from known_tokenizers import VOCABULARIES
from tercet.tokenization import ChatTemplate, IncrementalDecoder, Tokenizer
from tiny_models import CONTROL_TOKENS

CONTROL = [*CONTROL_TOKENS, "<unk>", "<s>", "</s>", "<|im_end|>", "<start_of_turn>", "<0x41>", "<0x0A>"]


PARTS = [*CONTROL, *(token[:n] for token in CONTROL for n in range(1, len(token)))]
# A literal ▁ is a blank to sentencepiece, so that it cannot come back.
texts = st.text(st.characters(codec="utf-8", exclude_characters="▁"), max_size=12)
hostile = st.lists(st.one_of(texts, st.sampled_from(PARTS)), max_size=8).map("".join)


@pytest.fixture(scope="module", params=VOCABULARIES)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return VOCABULARIES[request.param]().tokenizer()


# Text ------------------------------------------------------------------------------------------------


@given(text=hostile)
@settings(max_examples=200)
def test_text_makes_no_control_token_and_decodes_to_itself(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.special_ids.isdisjoint(ids)
    assert tokenizer.decode(ids) == text


# Streaming -------------------------------------------------------------------------------------------


@given(text=hostile)
@settings(max_examples=100)
def test_streamed_text_never_shows_half_a_character(tokenizer: Tokenizer, text: str) -> None:
    """U+FFFD stands for half a character, and for itself."""
    decoder = IncrementalDecoder(tokenizer)
    ids = tokenizer.encode(text)
    pieces = [*map(decoder.push, ids), decoder.finish()]
    assert "".join(pieces) == tokenizer.decode(ids) == text
    assert sum(piece.count("\ufffd") for piece in pieces) == text.count("\ufffd")


@given(data=st.data(), skip_special=st.booleans())
@settings(max_examples=100)
def test_any_ids_streamed_add_up(tokenizer: Tokenizer, data: st.DataObject, skip_special: bool) -> None:
    """Models pick ids in any order, also those that no token has."""
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 3), max_size=30))
    decoder = IncrementalDecoder(tokenizer, skip_special)
    shown = ""
    for count, token_id in enumerate(ids, 1):
        shown += decoder.push(token_id)
        assert tokenizer.decode(ids[:count], skip_special).startswith(shown), "shown text is never taken back"
    assert shown + decoder.finish() == tokenizer.decode(ids, skip_special)


# Templates -------------------------------------------------------------------------------------------

FRAMES = [
    "{{ A }}{% for m in messages %}{{ B }}{{ m.role }}\n{{ m.content }}{{ C }}\n{% endfor %}",
    "{{ A }}{% for m in messages %}{{ B ~ m['role'] ~ '\n\n' ~ m['content'] | trim ~ C }}{% endfor %}",
    "{{ A }}{% for m in messages %}{{ B }} [INST] {{ m.content.strip() }} [/INST]{{ C }}{% endfor %}",
    "{{ A }}{% for m in messages %}{{ B + m.content[:5] + m.content[5:] | upper + C }}{% endfor %}",
]
"""Templates as models have them; A, B and C are control tokens of the vocabulary."""
PULLED_APART = [
    "{% for m in messages %}{{ m.content | trim }}{% endfor %}",
    "{% for m in messages %}<|{{ m.content }}|>{% endfor %}",
    "{{ '<' ~ messages[0].content ~ '>' }}",
    "{{ messages | map(attribute='content') | join('') }}",
    "{% for m in messages %}{{ m.content.split('|') | join('|') }}{% endfor %}",
    "{% for m in messages %}{{ m.content | replace('a', '<') }}{% endfor %}",
]
"""Templates that write no control token, however they put texts together."""
conversations = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": hostile}),
    min_size=1,
    max_size=3,
)


@given(messages=conversations, source=st.sampled_from(FRAMES))
@settings(max_examples=60)
def test_control_tokens_are_those_of_the_template(
    tokenizer: Tokenizer, messages: list[dict[str, str]], source: str
) -> None:
    known = sorted(tokenizer.control_tokens - {"<unk>"})
    names = dict(zip("ABC", (known * 3)[:3], strict=True))
    for name, text in names.items():
        source = source.replace(f"{{{{ {name} }}}}", text)  # as the text of the template ...
        source = re.sub(rf"\b{name}\b", repr(text), source)  # ... and as a string in an expression
    first, before, after = (tokenizer.encode(text, allow_special=True) for text in names.values())
    ids = ChatTemplate(source, tokenizer).encode(messages)
    expected = [*first, *(before + after) * len(messages)]
    assert [token_id for token_id in ids if token_id in tokenizer.special_ids] == expected


@given(messages=conversations, source=st.sampled_from(PULLED_APART))
@settings(max_examples=60)
def test_no_template_joins_texts_into_a_control_token(
    tokenizer: Tokenizer, messages: list[dict[str, str]], source: str
) -> None:
    assert tokenizer.special_ids.isdisjoint(ChatTemplate(source, tokenizer).encode(messages))
