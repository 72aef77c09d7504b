"""Laws of tokenization: text comes back, users cannot make control tokens, streaming adds up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.tokenization import ChatTemplate, IncrementalDecoder, Tokenizer
from tiny_models import CHAT_TEMPLATE, CONTROL_TOKENS, tiny_tokenizer_json
from tool_templates import LIKE_LLAMA, LIKE_QWEN

texts = st.text(st.characters(codec="utf-8"), max_size=30)
# Control tokens whole, cut, and mixed with text; private-use characters, which the template code uses itself.
pieces = st.one_of(
    texts,
    st.sampled_from(CONTROL_TOKENS),
    st.sampled_from([token[:n] for token in CONTROL_TOKENS for n in range(1, len(token))]),
    st.sampled_from([token[n:] for token in CONTROL_TOKENS for n in range(1, len(token))]),
    st.text("<|>_ \nuser\U000f0000\U000f0001\U000f0002", max_size=8),
)
hostile = st.lists(pieces, max_size=6).map("".join)
messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": hostile}),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(tiny_tokenizer_json())


@given(hostile)
@settings(max_examples=300)
def test_text_makes_no_control_token_and_decodes_to_itself(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.special_ids.isdisjoint(ids)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(tokenizer.encode(text, allow_special=True), skip_special=False) == text


@given(st.lists(st.integers(0, 520), max_size=40), st.booleans())
@settings(max_examples=300)
def test_streamed_pieces_add_up(tokenizer: Tokenizer, ids: list[int], skip_special: bool) -> None:
    decoder = IncrementalDecoder(tokenizer, skip_special)
    shown = [decoder.push(token_id) for token_id in ids]
    whole = "".join([*shown, decoder.finish()])
    kept = [token_id for token_id in ids if not (skip_special and token_id in tokenizer.special_ids)]
    assert whole == tokenizer.decode(ids, skip_special)
    assert whole == b"".join(map(tokenizer.token_bytes, kept)).decode("utf-8", "replace")
    text = "".join(shown)
    assert whole.startswith(text), "what was shown is never taken back"


@given(messages)
@settings(max_examples=300)
def test_the_control_tokens_of_a_conversation_are_those_of_its_template(
    tokenizer: Tokenizer, messages: list[dict[str, str]]
) -> None:
    ids = ChatTemplate(CHAT_TEMPLATE, tokenizer).encode(messages)
    roles = {"system": 3, "user": 4, "assistant": 5}
    expected = [0, *(i for message in messages for i in (roles[message["role"]], 2)), 5]
    assert [i for i in ids if i in tokenizer.special_ids] == expected
    assert tokenizer.decode(ids) == "".join(message["content"] for message in messages)


json_values = st.recursive(
    st.one_of(
        hostile, st.none(), st.booleans(), st.integers(), st.sampled_from(["string", "type", "function"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(hostile, inner, max_size=3)),
    max_leaves=6,
)


@given(hostile, st.dictionaries(hostile, json_values, max_size=3), st.sampled_from([LIKE_QWEN, LIKE_LLAMA]))
@settings(max_examples=150)
def test_nothing_that_is_said_about_tools_becomes_a_control_token(
    tokenizer: Tokenizer, text: str, values: dict[str, object], source: str
) -> None:
    function = {"name": text, "description": text, "parameters": values}
    calls = [{"id": text, "type": "function", "function": {"name": text, "arguments": values}}]
    conversation = [
        {"role": "user", "content": text},
        {"role": "assistant", "content": text, "tool_calls": calls},
        {"role": "tool", "tool_call_id": text, "content": text},
    ]
    template = ChatTemplate(source, tokenizer)
    ids = template.encode(conversation, tools=[{"type": "function", "function": function}])
    expected = [3, 2, 4, 2, 5, 2, 4, 2, 5]
    assert [i for i in ids if i in tokenizer.special_ids] == expected


# Templates that pull texts apart and put them together, which is where splicing attacks live.
CRAFTY = [
    "{% for m in messages %}{{ m.content | trim }}{% endfor %}",
    "{% for m in messages %}<|{{ m.content }}|>{% endfor %}",
    "{{ '<|' ~ messages[0].content ~ '_of_turn|>' }}",
    "{% for m in messages %}{{ m.content[:3] ~ m.content[3:] ~ m.content.strip() }}{% endfor %}",
    "{{ messages | map(attribute='content') | join('') }}",
    "{% for m in messages %}{{ m.content.split('|') | join('|') }}{% endfor %}",
    "{% for m in messages %}{{ m.content | replace('a', '<|user|>'[0]) }}{% endfor %}",
]


@given(messages, st.sampled_from(CRAFTY))
@settings(max_examples=300)
def test_no_template_joins_texts_into_a_control_token(
    tokenizer: Tokenizer, messages: list[dict[str, str]], source: str
) -> None:
    assert tokenizer.special_ids.isdisjoint(ChatTemplate(source, tokenizer).encode(messages))
