"""The shapes in which people have their rows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tercet.data.rows import RowError, UnusableRowError
from tercet.data.shapes import Conversation, Document, Segments, recognize

USER, ANSWER = {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}
SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = [USER, ANSWER]


def messages_of(row: dict[str, Any], **columns: str) -> list[dict[str, Any]]:
    content = recognize(row, columns)[1]
    assert isinstance(content, Conversation)
    return [turn.message() for turn in content.turns]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Who?", "answer": "Me."},
        {"input": "Who?", "output": "Me."},
        {"instruction": "Who?", "output": "Me."},
        {"instruction": "Who?", "input": "", "output": "Me.", "text": "Below is an instruction ..."},
        {"Instruction": "Who?", " Response ": "Me."},
        {"question": "Who?", "answer": "Me."},
        {"instruction": "Who?", "context": "", "response": "Me.", "category": "open_qa"},
        {"prompt": "Who?", "completion": "Me."},
        {"prompt": [USER], "completion": [ANSWER]},
        {"prompt": [USER], "completion": "Me."},
        {"messages": TURNS},
        {"messages": TURNS, "prompt": "Who?", "prompt_id": "17"},
        {"messages": json.dumps(TURNS)},
        {"messages": [USER | {"name": None, "tool_calls": None}, ANSWER | {"weight": None}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Who?"}]}, ANSWER]},
        {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me."}]},
        {"conversation": [{"input": "Who?", "output": "Me."}]},
        {"conversations": [{"role": "Human", "content": "Who?"}, {"role": "model", "content": "Me."}]},
    ],
)
def test_a_question_and_its_answer(row: dict[str, Any]) -> None:
    assert messages_of(row) == TURNS


@pytest.mark.parametrize(
    "row",
    [
        {"system": "Be brief.", "instruction": "Who?", "output": "Me."},
        {"system_prompt": "Be brief.", "question": "Who?", "response": "Me."},
        {"system": "Be brief.", "conversations": [{"from": "human", "value": "Who?"}, ANSWER]},
        {"messages": [SYSTEM, *TURNS], "system": "not this"},
        {"messages": [{"role": "developer", "content": "Be brief."}, *TURNS]},
    ],
)
def test_a_system_message(row: dict[str, Any]) -> None:
    assert messages_of(row) == [SYSTEM, *TURNS]


def test_the_rest_of_alpaca() -> None:
    row = {"instruction": "Add.", "input": "2 and 3", "output": 5, "history": [["Who?", "Me."]]}
    assert messages_of(row) == [
        *TURNS,
        {"role": "user", "content": "Add.\n\n2 and 3"},
        {"role": "assistant", "content": "5"},
    ]


def test_columns_with_names_of_their_own() -> None:
    row = {"dialogue": "Who?", "summary": "Me.", "text": "other", "input": "other"}
    columns = {"prompt": "dialogue", "answer": "summary"}
    assert messages_of({"dialogue": "Who?", "summary": "Me."}, **columns) == TURNS
    assert messages_of(row, **columns)[0]["content"] == "Who?\n\nother"
    assert recognize({"body": "A text."}, {"text": "body"})[1] == Document("A text.")
    assert messages_of({"chosen": TURNS, "rejected": TURNS}, messages="chosen") == TURNS
    with pytest.raises(RowError, match="no column 'sumary'; it has the columns dialogue, summary"):
        recognize({"dialogue": "Who?", "summary": "Me."}, {"prompt": "dialogue", "answer": "sumary"})


def test_texts_and_segments() -> None:
    assert recognize({"text": "A text.", "meta": 1}) == ("text", Document("A text."))
    assert recognize({"content": "A text."})[1] == Document("A text.")
    pieces = [{"label": False, "text": "<s>Hi"}, {"label": True, "text": " there"}]
    assert recognize({"segments": pieces})[1] == Segments((("<s>Hi", False), (" there", True)))


def test_turns_that_are_not_learned() -> None:
    def learned(row: dict[str, Any]) -> list[bool]:
        content = recognize(row)[1]
        assert isinstance(content, Conversation)
        return [turn.learned for turn in content.turns if turn.role == "assistant"]

    assert learned({"messages": [*TURNS, *TURNS]}) == [True, True]
    assert learned({"messages": [USER, ANSWER | {"weight": 0}, *TURNS]}) == [False, True]
    assert learned({"messages": [USER, ANSWER | {"train": False}, *TURNS]}) == [False, True]
    assert learned({"prompt": [*TURNS, USER], "completion": [ANSWER]}) == [False, True]


def test_tools() -> None:
    tool = {"type": "function", "function": {"name": "clock", "parameters": {}}}
    call = {"function": {"name": "clock", "arguments": '{"zone": "UTC"}'}, "id": "c1", "type": "function"}
    turns = [USER, {"role": "assistant", "content": None, "tool_calls": [call]}]
    turns += [{"role": "tool", "content": "12:00", "tool_call_id": "c1", "name": None}, ANSWER]
    content = recognize({"messages": turns, "tools": json.dumps([tool])})[1]
    assert isinstance(content, Conversation)
    assert content.tools == (tool,)
    made = [turn.message() for turn in content.turns]
    assert made[1]["tool_calls"][0]["function"] == {"name": "clock", "arguments": {"zone": "UTC"}}
    assert made[1]["content"] == ""
    assert made[2] == {"role": "tool", "content": "12:00", "tool_call_id": "c1"}
    sharegpt = [
        {"from": "human", "value": "Who?"},
        {"from": "function_call", "value": '{"name": "clock", "arguments": {"zone": "UTC"}}'},
        {"from": "observation", "value": "12:00"},
        {"from": "gpt", "value": "Me."},
    ]
    again = messages_of({"conversations": sharegpt})
    assert again[1]["tool_calls"][0]["function"] == made[1]["tool_calls"][0]["function"]
    assert [message["role"] for message in again] == ["user", "assistant", "tool", "assistant"]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": "Who?", "answer": ""}, "the answer is empty"),
        ({"prompt": None, "answer": "Me."}, "the prompt is empty"),
        ({"prompt": "Who?", "answer": float("nan")}, "the answer is empty"),
        ({"text": " \n"}, "the text is empty"),
        ({"messages": [USER]}, "no answer to learn"),
        ({"messages": [USER, ANSWER | {"weight": 0}]}, "no answer to learn"),
        ({"segments": [{"text": "a", "label": False}]}, "no segment is learned"),
    ],
)
def test_rows_from_which_nothing_can_be_learned(row: dict[str, Any], told: str) -> None:
    with pytest.raises(UnusableRowError, match=told):
        recognize(row)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"a": 1, "b": 2}, r"has the columns a, b\. Expected messages .*columns"),
        ({}, "has no columns"),
        ({"prompt": "Who?"}, r"has a prompt \(prompt\) and no answer; it has the columns prompt"),
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, "chosen and a rejected answer"),
        ({"prompt": "Who?", "answer": {"text": ["Me."]}}, "answer must be a string, and is a dict"),
        ({"messages": []}, "messages is an empty list"),
        ({"messages": ["Who?"]}, r"messages\[0\] must be an object"),
        ({"messages": [USER, {"role": "narrator", "content": "x"}]}, r"\[1\] has the role 'narrator'"),
        ({"messages": [{"content": "x"}]}, r"messages\[0\] has no role \(content\)"),
        ({"messages": [USER, {"role": "assistant"}]}, r"messages\[1\] has no content"),
        ({"messages": [{"role": "user", "content": {"a": 1}}]}, r"messages\[0\]\.content must be a string"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "part of the type 'image'"),
        ({"messages": [USER, ANSWER | {"tool_calls": [{"function": {}}]}]}, "tool_calls.0. must have"),
        ({"conversations": [{"from": "function_call", "value": "clock()"}]}, "JSON of a call"),
        ({"instruction": "a", "output": "b", "history": ["c"]}, "history must be a list of pairs"),
        ({"messages": TURNS, "tools": "clock"}, "tools must be a list"),
        ({"segments": "abc"}, "segments must be a list"),
    ],
)  # fmt: skip
def test_rows_that_are_not_what_they_should_be(row: dict[str, Any], told: str) -> None:
    with pytest.raises(RowError, match=told) as caught:
        recognize(row)
    assert not isinstance(caught.value, UnusableRowError)
