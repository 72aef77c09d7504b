"""Tools on their way into a prompt, and the constraints that force a call of one."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tokenizers

from tercet.errors import ParameterError
from tercet.sampling.constraints import ConstraintSpec, compile_constraint
from tercet.service.tool_calls import ContentDelta, ToolUse
from tercet.tokenization import ChatTemplate, Tokenizer
from tiny_models import CHAT_TEMPLATE, tiny_tokenizer_json
from tool_templates import CONVERSATION, LIKE_LLAMA, LIKE_QWEN, TOOLS


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(tiny_tokenizer_json())


def as_openai(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with arguments as JSON text, which is what clients send."""
    return [
        {**message, "content": None, "tool_calls": [
            {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
            for call in message["tool_calls"]
        ]}
        if "tool_calls" in message else message
        for message in messages
    ]  # fmt: skip


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize("source", [LIKE_QWEN, LIKE_LLAMA])
def test_templates_that_know_tools_are_given_them(tokenizer: Tokenizer, source: str) -> None:
    template = ChatTemplate(source, tokenizer, bos_token="<|begin_of_text|>")
    messages, tools = ToolUse(TOOLS).conversation(as_openai(CONVERSATION), template)
    expected = template.render(CONVERSATION, tools=TOOLS)
    assert template.render(messages, tools=tools) == expected
    for use in (ToolUse(TOOLS, "none"), ToolUse(None)):
        assert use.conversation(as_openai(CONVERSATION), template)[1] is None
        assert not use.may_call


def test_other_templates_are_given_words(tokenizer: Tokenizer) -> None:
    template = ChatTemplate(CHAT_TEMPLATE, tokenizer)
    conversation = as_openai([*CONVERSATION[:4], {"role": "tool", "tool_call_id": "b", "content": "more"}])
    messages, tools = ToolUse(TOOLS).conversation(conversation, template)
    assert tools is None
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    system, _, call, results = [message["content"] for message in messages]
    assert system.startswith("Be brief.\n\nYou can call functions.")
    assert [json.loads(line) for line in system.splitlines() if line.startswith("{")] == [
        tool["function"] for tool in TOOLS
    ]
    assert json.loads(call) == CONVERSATION[2]["tool_calls"][0]["function"]
    assert results == "The function returned: 19 degrees\nThe function returned: more"
    (first, *_), _ = ToolUse(TOOLS).conversation([{"role": "user", "content": "x"}], template)
    assert first["role"] == "system"
    assert ToolUse(TOOLS, "none").conversation([{"role": "user", "content": "x"}], template) == (
        [{"role": "user", "content": "x"}],
        None,
    )
    template.encode(messages)


@pytest.mark.parametrize(
    ("tools", "choice", "reason"),
    [
        ("f", None, "tools must be a list"),
        (TOOLS * 65, None, "130 tools, and may be 128"),
        ([5], None, r"tools\[0\] must be of the type function"),
        ([{"type": "web"}], None, r"tools\[0\] must be of the type function"),
        ([{"type": "web", "function": {"name": "f"}}], None, r"tools\[0\] must be of the type function"),
        ([named("f g")], None, r"tools\[0\].function.name must be 1 to 64"),
        ([named("")], None, "must be 1 to 64"),
        ([named("f" * 65)], None, "must be 1 to 64"),
        ([named("f"), named("f")], None, r"tools\[1\].function.name is 'f', as that of a tool before it"),
        ([{"function": {"name": "f", "description": 5}}], None, "description must be text"),
        ([{"function": {"name": "f", "parameters": []}}], None, "parameters must be a JSON schema"),
        (TOOLS, "always", 'tool_choice must be "none"'),
        (TOOLS, 5, 'tool_choice must be "none"'),
        (TOOLS, {"function": {}}, 'tool_choice must be "none"'),
        (TOOLS, named("other"), "names 'other', and no tool is called so"),
        ([], "required", "requires a call, and there are no tools"),
        (
            [{"function": {"name": "f", "parameters": {"uniqueItems": True}}}],
            "required",
            'parameters of the tool f: the schema has "uniqueItems"',
        ),
        ([{"function": {"name": "f", "parameters": {"type": "array"}}}], "required", "of the type object"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_refused(tools: Any, choice: Any, reason: str) -> None:
    with pytest.raises(ParameterError, match=reason):
        ToolUse(tools, choice)


def test_schemas_that_cannot_be_enforced_do_where_nothing_is_forced() -> None:
    tools = [{"function": {"name": "f", "parameters": {"uniqueItems": True}}}]
    assert ToolUse(tools, "auto").tools[0]["function"]["parameters"] == {"uniqueItems": True}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [("{", "must be JSON"), ("[1]", "must be a JSON object, not a list"), ("[" * 100_000, "must be JSON")],
)
def test_arguments_of_earlier_calls_are_objects(tokenizer: Tokenizer, arguments: str, reason: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    with pytest.raises(ParameterError, match=rf"messages\[1\].tool_calls\[0\].function.arguments {reason}"):
        ToolUse(TOOLS).conversation(messages, ChatTemplate(CHAT_TEMPLATE, tokenizer))


@pytest.mark.parametrize(
    "message",
    [5, {}, {"role": "user"}, {"role": "assistant", "content": "", "tool_calls": 5}, {"role": "tool"},
     {"role": "assistant", "content": "", "tool_calls": [{"function": {}}]}, {"role": [], "content": "a"}],
)  # fmt: skip
@pytest.mark.parametrize("source", [LIKE_QWEN, CHAT_TEMPLATE])
def test_malformed_messages_are_refused(tokenizer: Tokenizer, message: Any, source: str) -> None:
    template = ChatTemplate(source, tokenizer)
    with pytest.raises(ParameterError, match=r"messages\[0\]"):
        template.encode(ToolUse(None).conversation([message], template)[0])


def fits(tokenizer: Tokenizer, spec: ConstraintSpec | None, answer: str) -> bool:
    assert spec is not None
    constraint = compile_constraint(spec, tokenizer)
    for token in tokenizer.encode(answer):
        if constraint.is_finished or not constraint.mask()[token]:
            return False
        constraint.accept(token)
    return constraint.is_complete


WEATHER = '{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}'
NOW = '{"name":"now","arguments":{}}'


def test_forced_calls(tokenizer: Tokenizer) -> None:
    template = ChatTemplate(CHAT_TEMPLATE, tokenizer)
    required = ToolUse(TOOLS, "required").constraint(template)
    for good in (WEATHER, NOW, f"[{NOW}]", f"[{NOW}, {WEATHER}]"):
        assert fits(tokenizer, required, good)
    for bad in ("Hello", "[]", '{"name": "other", "arguments": {}}', WEATHER.replace("3", "30"),
                '{"name": "get_weather", "arguments": {}}', NOW + NOW):  # fmt: skip
        assert not fits(tokenizer, required, bad)
    one = ToolUse(TOOLS, "required", parallel=False).constraint(template)
    assert fits(tokenizer, one, NOW)
    assert not fits(tokenizer, one, f"[{NOW}]")
    weather = ToolUse(TOOLS, named("get_weather")).constraint(template)
    assert fits(tokenizer, weather, WEATHER)
    assert not fits(tokenizer, weather, NOW)
    for free in (ToolUse(TOOLS), ToolUse(TOOLS, "auto"), ToolUse(TOOLS, "none"), ToolUse(None)):
        assert free.constraint(template) is None


def test_forced_calls_have_the_form_that_the_template_teaches(tokenizer: Tokenizer) -> None:
    qwen, llama = ChatTemplate(LIKE_QWEN, tokenizer), ChatTemplate(LIKE_LLAMA, tokenizer)
    tagged = f"<tool_call>\n{WEATHER}\n</tool_call>"
    several = ToolUse(TOOLS, "required").constraint(qwen)
    assert fits(tokenizer, several, tagged)
    assert fits(tokenizer, several, f"{tagged}\n<tool_call>\n{NOW}\n</tool_call>")
    assert not fits(tokenizer, several, WEATHER)
    assert not fits(tokenizer, several, tagged.replace("Paris", 'Paris", "other": "x'))
    one = ToolUse(TOOLS, "required", parallel=False).constraint(qwen)
    assert fits(tokenizer, one, tagged)
    assert not fits(tokenizer, one, f"{tagged}\n{tagged}")
    parameters = ToolUse(TOOLS, "required").constraint(llama)
    assert fits(tokenizer, parameters, WEATHER.replace("arguments", "parameters"))
    assert not fits(tokenizer, parameters, WEATHER)


def test_references_of_a_tools_schema_stay_its_own(tokenizer: Tokenizer) -> None:
    node = {
        "type": "object",
        "properties": {
            "value": {"$ref": "#/$defs/value"},
            "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        },
        "required": ["value", "next"],
        "additionalProperties": False,
        "$defs": {"value": {"enum": [1, 2]}},
    }
    tools = [{"function": {"name": name, "parameters": node}} for name in ("f", "g")]
    for source in (CHAT_TEMPLATE, LIKE_QWEN):
        spec = ToolUse(tools, "required").constraint(ChatTemplate(source, tokenizer))
        call = '{"name":"g","arguments":{"value":1,"next":{"value":2,"next":null}}}'
        answer = call if source == CHAT_TEMPLATE else f"<tool_call>\n{call}\n</tool_call>"
        assert fits(tokenizer, spec, answer)
        assert not fits(tokenizer, spec, answer.replace("2", "3"))


def test_marks_that_are_control_tokens_are_seen() -> None:
    library = tokenizers.Tokenizer.from_buffer(tiny_tokenizer_json())
    library.add_special_tokens(["<tool_call>", "</tool_call>", "<think>"])
    tokenizer = Tokenizer(library.to_str().encode())
    ids = tokenizer.encode(
        f"Well. <think><tool_call>\n{NOW}\n</tool_call><|end_of_turn|>", allow_special=True
    )
    for use, expected in (
        (ToolUse(TOOLS), f"Well. <tool_call>\n{NOW}\n</tool_call>"),
        (ToolUse(None), f"Well. \n{NOW}\n"),
    ):
        decoder = use.decoder(tokenizer)
        assert "".join([*map(decoder.push, ids), decoder.finish()]) == expected
    first, call, _ = ToolUse(TOOLS).parser().push(f"Well. <tool_call>\n{NOW}\n</tool_call>")
    assert (first, call.name) == (ContentDelta("Well."), "now")  # type: ignore[union-attr]
