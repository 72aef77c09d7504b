"""Text into words and calls, however it is cut into pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.service.tool_call_parser import CallDelta, ContentDelta, Delta, ToolCallParser

TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "g_2", 'quo"te')]


def joined(deltas: list[Delta]) -> tuple[str, list[tuple[str | None, str]]]:
    """The text, and name and arguments of every call; checks that deltas are well-formed."""
    text, calls, ids = "", [], set()
    for delta in deltas:
        if isinstance(delta, ContentDelta):
            assert delta.text
            text += delta.text
            continue
        assert isinstance(delta, CallDelta)
        if delta.id is not None:
            assert delta.index == len(calls)
            assert delta.id.startswith("call_")
            ids.add(delta.id)
            calls.append((delta.name, ""))
        assert delta.index == len(calls) - 1
        calls[-1] = (calls[-1][0], calls[-1][1] + delta.arguments)
    assert len(ids) == len(calls)
    return text, calls


def parsed(pieces: list[str], **options: Any) -> tuple[str, list[tuple[str | None, str]]]:
    parser = ToolCallParser(TOOLS, **options)
    deltas = [delta for piece in pieces for delta in parser.push(piece)]
    return joined([*deltas, *parser.finish()])


F, G = '{"name": "f", "arguments": {"a": "}\\"{"}}', '{"name":"g_2","parameters":{}}'
F_CALL, G_CALL = ("f", '{"a": "}\\"{"}'), ("g_2", "{}")

CASES: list[tuple[str, str, list[tuple[str, str]]]] = [
    ("Hello, world. ", "Hello, world. ", []),
    (F, "", [F_CALL]),
    (f"\n {G}\n", "", [G_CALL]),
    (f"[{F}, {G}]", "", [F_CALL, G_CALL]),
    (f"{F};{G}", "", [F_CALL, G_CALL]),
    (f"{F}\n{G} and more", " and more", [F_CALL, G_CALL]),
    (f"<tool_call>\n{F}\n</tool_call>\n<tool_call>{G}</tool_call>", "", [F_CALL, G_CALL]),
    (f"I look.\n\n<tool_call>\n{F}\n</tool_call>", "I look.", [F_CALL]),
    (f"I look. <tool_call>{F}</tool_call> Then I wait.", "I look. Then I wait.", [F_CALL]),
    (f"<tool_call>[{F}, {G}]</tool_call>", "", [F_CALL, G_CALL]),
    (f"<tool_call>{F}", "", [F_CALL]),
    (f"<tool_call>{F} no end", " no end", [F_CALL]),
    (f"<|python_tag|>{G}", "", [G_CALL]),
    (f"[TOOL_CALLS] [{G}]", "", [G_CALL]),
    ('{"name": "f"}', "", [("f", "{}")]),
    ('{"name": "f", "id": 1, "arguments": {"a": 1}, "more": {"b": [2]}}', "", [("f", '{"a": 1}')]),
    ('{"name": "f", "arguments": {"a": 1}, "more": {"b": "}"}} x', " x", [("f", '{"a": 1}')]),
    ('{"arguments": {"ä": [1]}, "name": "f"}', "", [("f", '{"ä": [1]}')]),
    ('{"name": "f", "arguments": "{\\"a\\": 1}"}', "", [("f", '{"a": 1}')]),
    ('{"type": "function", "function": {"name": "f", "parameters": {"a": 1}}}', "", [("f", '{"a": 1}')]),
    ('{"name": "quo\\"te", "arguments": {}}', "", [('quo"te', "{}")]),
    ('{"name": "f", "arguments": {"a": "unfinis', "", [("f", '{"a": "unfinis')]),
    ("{", "{", []),
    ("[]", "[]", []),
    ("[1, 2]", "[1, 2]", []),
    ('[{"a": 1}]', '[{"a": 1}]', []),
    ('{"answer": 5} is it', '{"answer": 5} is it', []),
    ('{"name": "unknown", "arguments": {}}', '{"name": "unknown", "arguments": {}}', []),
    ('{"name": 5, "arguments": {}}', '{"name": 5, "arguments": {}}', []),
    ('{"name": "f", "arguments": [1]}', '{"name": "f", "arguments": [1]}', []),
    ('{"name": "f", oops}', '{"name": "f", oops}', []),
    ('{"name": "f"', '{"name": "f"', []),
    (f"Say {F}", f"Say {F}", []),
    ("a <tool_call> b", "a <tool_call> b", []),
    ("a <tool_call>{} b", "a <tool_call>{} b", []),
    ("a <tool_cal", "a <tool_cal", []),
    (f"a <tool_call>no</tool_call> <tool_call>{F}</tool_call>", "a <tool_call>no</tool_call>", [F_CALL]),
    (f"[{F}, 5]", ", 5]", [F_CALL]),
    ('{"name": "f", "arguments": ' + "[" * 3000 + "]" * 3000 + "}", "*", []),
]


@pytest.mark.parametrize(("answer", "text", "calls"), CASES, ids=[repr(case[0])[:40] for case in CASES])
def test_answers(answer: str, text: str, calls: list[tuple[str, str]]) -> None:
    expected = (answer if text == "*" else text, calls)
    assert parsed([answer]) == expected
    assert parsed(list(answer)) == expected


@given(st.lists(st.sampled_from([case[0] for case in CASES[:-1]]), max_size=3), st.data())
def test_pieces_do_not_matter_and_no_call_is_invented(answers: list[str], data: st.DataObject) -> None:
    answer = "".join(answers)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(answer)), max_size=12)))
    pieces = [answer[a:b] for a, b in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
    text, calls = parsed(pieces)
    assert (text, calls) == parsed([answer])
    assert len(calls) == len([part for part in calls if part[0] in ("f", "g_2", 'quo"te')])
    assert parsed(pieces, parallel=False)[1] == calls[:1]


@given(st.text('<tolcal>_{}[]":, \\nameargusf/', max_size=60))
def test_any_text_gets_through(answer: str) -> None:
    text, calls = parsed([answer])
    assert (text, calls) == parsed(list(answer))
    if not calls:
        assert text == answer


def test_arguments_come_while_they_are_written() -> None:
    parser = ToolCallParser(TOOLS)
    assert parser.push('{"name": "f", "argum') == []
    first, *rest = parser.push('ents": {"city": "Par')
    assert isinstance(first, CallDelta)
    assert (first.index, first.name, first.arguments) == (0, "f", "")
    assert rest == [CallDelta(0, arguments='{"city": "Par')]
    assert parser.push('is"}') == [CallDelta(0, arguments='is"}')]
    assert parser.push("}") == parser.finish() == []


def test_text_comes_at_once_and_only_what_is_not_certain_waits() -> None:
    parser = ToolCallParser(TOOLS)
    assert parser.push("Hello") == [ContentDelta("Hello")]
    assert parser.push(" there <") == [ContentDelta(" there")]
    assert parser.push("3 you") == [ContentDelta(" <3 you")]
    long = ToolCallParser(TOOLS)
    assert long.push('{"answer": 1') == [ContentDelta("{"), ContentDelta('"answer": 1')]


def test_long_arguments_take_linear_time() -> None:
    value = json.dumps({"name": "f", "arguments": {"a": "x\\y" * 100_000}})
    text, calls = parsed([value[i : i + 3] for i in range(0, len(value), 3)])
    assert (text, len(calls)) == ("", 1)
    odd = json.dumps({"id": "x" * 300_000, "name": "f"})
    assert parsed([odd[i : i + 7] for i in range(0, len(odd), 7)]) == ("", [("f", "{}")])


@pytest.mark.parametrize("name", ['{"name": "f"}', '["f"]', "1", "null", "true"])
def test_a_name_that_is_no_string_makes_no_call(name: str) -> None:
    """Found by fuzzing: a name that cannot be looked up ended the request with an error of ours."""
    answer = f'[TOOL_CALLS] [{{"name": {name}, "arguments": {{}}}}]'
    parser = ToolCallParser(TOOLS)
    deltas = [*parser.push(answer), *parser.finish()]
    assert deltas
    assert all(isinstance(delta, ContentDelta) for delta in deltas)
