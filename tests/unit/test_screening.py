"""Requests and answers on their way through the content policy of a caller."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.engine.request_stream import TokenEvent
from tercet.engine.result import GenerationResult
from tercet.errors import ContentFilteredError, InvalidInputError
from tercet.sampling.logprobs import TokenLogprobs
from tercet.security.content.policies import ContentPolicies, Policy
from tercet.security.content.screen import Direction
from tercet.security.content.word_lists import WordList
from tercet.service.request import GenerationRequest
from tercet.service.request_texts import with_texts
from tercet.service.screening import ContentGuard, ScreenedAnswer, current_content_guard

WORDS = WordList({"animal": ["zebra", "zebra crossing"]})


def policy(action: Any) -> Policy:
    way = Direction((WORDS,), {}, action)
    return Policy("own", way, way)


class Letters:
    """A tokenizer whose tokens are letters, and 0 a control token."""

    special_ids = frozenset({0})

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]


class Pieces:
    """An answer in pieces, each letter a token; what `end` was called with is kept."""

    is_remembered = False
    changed = False
    prompt_tokens = 3

    def __init__(self, pieces: list[str]) -> None:
        self._pieces = iter(pieces)
        self.text = "".join(pieces)
        self.given: list[int] = []
        self.ended = False

    def __aiter__(self) -> AsyncIterator[TokenEvent]:
        return self

    async def __anext__(self) -> TokenEvent:
        piece = next(self._pieces, None)
        if piece is None or self.ended:
            raise StopAsyncIteration
        ids = [ord(letter) for letter in piece]
        self.given += ids
        return TokenEvent(piece, ids, [TokenLogprobs(one, -0.5, ()) for one in ids], 1.0)

    def end(self, error: BaseException | None = None) -> None:
        self.ended = True

    def summary(self, arrived_at: float, last_at: float) -> GenerationResult:
        return GenerationResult(self.text, list(self.given), "stop", 3, len(self.given), 1.0, 0.1, 10.0)


class LetterDecoder:
    def push(self, token_id: int) -> str:
        return chr(token_id)

    def finish(self) -> str:
        return ""


def read(
    action: Any, pieces: list[str], told: Counter[tuple[str, str]] | None = None
) -> tuple[list[TokenEvent], ScreenedAnswer, Pieces]:
    counts: Counter[tuple[str, str]] = Counter() if told is None else told
    guard = ContentGuard(
        policy(action), tell=lambda action, category, times: counts.update({(action, category): times})
    )
    source = Pieces(pieces)
    answer = guard.answer(source, LetterDecoder)
    assert isinstance(answer, ScreenedAnswer)

    async def collect() -> list[TokenEvent]:
        return [event async for event in answer]

    return asyncio.run(collect()), answer, source


# Answers --------------------------------------------------------------------------------------------


def test_a_blocked_answer_ends_before_the_word_and_the_engine_is_told() -> None:
    told: Counter[tuple[str, str]] = Counter()
    events, answer, source = read("block", ["A ze", "bra", " ran", " away"], told)
    assert "".join(event.text for event in events) == "A "
    assert source.ended
    summary = answer.summary(0, 1)
    assert (summary.text, summary.finish_reason) == ("A ", "content_filter")
    assert summary.token_ids == [ord(letter) for letter in "A "]
    assert answer.changed
    assert told == {("block", "animal"): 1}


def test_a_redacted_answer_has_neither_the_tokens_nor_the_log_probabilities_of_what_was_taken_out() -> None:
    events, answer, source = read("redact", ["A ze", "bra ran"])
    assert "".join(event.text for event in events) == "A [REDACTED:ANIMAL] ran"
    summary = answer.summary(0, 1)
    assert "".join(map(chr, summary.token_ids)) == "A  ran"
    assert [one.token_id for one in summary.logprobs] == summary.token_ids
    assert summary.finish_reason == "stop"
    assert summary.generated_tokens == len(source.text), "what was generated was generated"


def test_a_flagged_answer_passes_at_once_with_all_that_belongs_to_it() -> None:
    told: Counter[tuple[str, str]] = Counter()
    events, answer, source = read("flag", ["A ze", "bra", " ran"], told)
    assert [event.text for event in events] == ["A ze", "bra", " ran"]
    assert dataclasses.replace(answer.summary(0, 1), logprobs=[]) == source.summary(0, 1)
    assert not answer.changed
    assert told == {("flag", "animal"): 1}


@settings(max_examples=100, deadline=None)
@given(pieces=st.lists(st.sampled_from(["zeb", "ra", "zebra", " ", "cros", "sing", "a", "x."]), max_size=12))
def test_no_token_leaves_before_its_text(pieces: list[str]) -> None:
    guard = ContentGuard(policy("redact"))
    source = Pieces(pieces)
    answer = guard.answer(source, LetterDecoder)
    assert isinstance(answer, ScreenedAnswer)

    async def follow() -> None:
        text, ids = "", []
        async for event in answer:
            text += event.text
            ids += event.token_ids
            plain = text.replace("[REDACTED:ANIMAL]", "")
            assert plain.startswith("".join(map(chr, ids)))
        assert "zebra" not in "".join(map(chr, ids)).split()
        assert text.replace("[REDACTED:ANIMAL]", "") == "".join(map(chr, ids))

    asyncio.run(follow())


def test_what_remains_of_an_answer_without_a_policy_is_the_source_itself() -> None:
    source = Pieces(["zebra"])
    assert ContentGuard(None).answer(source, LetterDecoder) is source
    off = ContentPolicies.builtin().of("off")
    assert ContentGuard(off).answer(source, LetterDecoder) is source


# Prompts --------------------------------------------------------------------------------------------


def admitted(request: GenerationRequest, action: Any = "redact", sanitize: bool = False) -> GenerationRequest:
    guard = ContentGuard(policy(action), sanitize=sanitize)
    return asyncio.run(guard.admit(request, Letters()))  # type: ignore[arg-type]


CALL = {
    "id": "a",
    "type": "function",
    "function": {"name": "run", "arguments": '{"who": "\\u007aebra", "n": [1]}'},
}
TOOL = {
    "type": "function",
    "function": {
        "name": "run",
        "description": "a zebra",
        "parameters": {"type": "object", "properties": {"x": {"enum": ["zebra"], "description": "zebra"}}},
    },
}


def test_every_text_of_a_conversation_is_redacted_and_nothing_else_changes() -> None:
    messages = [
        {"role": "system", "content": "No zebra."},
        {"role": "user", "content": [{"type": "text", "text": "zebra"}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "a", "content": "one zebra"},
    ]
    changed = admitted(GenerationRequest(messages=messages, tools=[TOOL]))
    assert [message["content"] for message in changed.messages or ()] == [
        "No [REDACTED:ANIMAL].",
        [{"type": "text", "text": "[REDACTED:ANIMAL]"}],
        None,
        "one [REDACTED:ANIMAL]",
    ]
    call = (changed.messages or ())[2]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"]) == {"who": "[REDACTED:ANIMAL]", "n": [1]}
    function = (changed.tools or ())[0]["function"]
    assert function["description"] == "a [REDACTED:ANIMAL]"
    assert function["parameters"]["properties"]["x"] == {
        "enum": ["zebra"],
        "description": "[REDACTED:ANIMAL]",
    }


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest(prompt="a horse"),
        GenerationRequest(prompt=[0, 97, 98, 0]),
        GenerationRequest(
            messages=[{"role": "user", "content": "a horse"}], tools=[{**TOOL, "function": {"name": "x"}}]
        ),
    ],
)
def test_a_request_without_findings_is_the_same_object(request_: GenerationRequest) -> None:
    assert admitted(request_, "block", sanitize=True) is request_


def test_token_ids_are_screened_as_text_and_control_tokens_stay() -> None:
    prompt = [0, *map(ord, "a zebra"), 0, *map(ord, "b")]
    changed = admitted(GenerationRequest(prompt=prompt))
    assert changed.prompt == [0, *map(ord, "a [REDACTED:ANIMAL]"), 0, *map(ord, "b")]
    with pytest.raises(ContentFilteredError):
        admitted(GenerationRequest(prompt=prompt), "block")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (GenerationRequest(prompt="zebra"), "prompt"),
        (GenerationRequest(prompt="zebra " + "x" * 5_000), "prompt"),
        (GenerationRequest(messages=[{"role": "user", "content": "zebra"}]), "messages[0].content"),
        (GenerationRequest(messages=[{"role": "user", "content": "x", "name": "zebra"}]), "messages[0].name"),
        (
            GenerationRequest(messages=[{"role": "user", "content": "x"}], tools=[TOOL]),
            "tools[0].function.description",
        ),
        (
            GenerationRequest(messages=[{"role": "assistant", "content": "", "tool_calls": [CALL]}]),
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
)
def test_a_blocked_prompt_says_which_field_and_not_what(request_: GenerationRequest, field: str) -> None:
    with pytest.raises(ContentFilteredError) as caught:
        admitted(request_, "block")
    assert caught.value.param == field
    assert str(caught.value) == f"{field} was refused by the content filter (animal); say it in other words"


def test_inputs_are_sanitized_where_that_is_asked() -> None:
    asked = GenerationRequest(prompt="<script>x</script>a\x07")
    with pytest.raises(InvalidInputError):
        admitted(asked, "pass", sanitize=True)
    assert admitted(asked, "pass") is asked
    clean = admitted(GenerationRequest(prompt="<script>x</script>a"), "pass", sanitize=True)
    assert clean.prompt == "a"


def test_malformed_messages_are_left_to_whoever_says_what_is_wrong_with_them() -> None:
    odd: list[Any] = [3, {"role": "user"}, {"role": "user", "content": 5, "tool_calls": [7, {"function": 8}]}]
    request = GenerationRequest(messages=odd, tools=[{"function": 9}])  # type: ignore[list-item]
    assert with_texts(request, lambda field, text: text, None) is request


def test_the_guard_is_current_for_what_runs_within() -> None:
    guard = ContentGuard(None)
    assert current_content_guard() is None
    with guard.working():
        assert current_content_guard() is guard
        assert asyncio.run(asyncio.to_thread(current_content_guard)) is guard
    assert current_content_guard() is None
