"""Tools: how a model is told of them, how it is made to call one, and how calls are found in its answer.

    use = ToolUse(tools, tool_choice)                       # checked
    messages, described = use.conversation(messages, template)
    ids = template.encode(messages, tools=described)        # the prompt
    spec = use.constraint(template)                         # None where the model is free
    parser = use.parser()                                   # reads the answer

A template that knows tools is given them; it says in its own words what the model was trained on. For all
others the system message says it, and calls and results of earlier turns become text.

A call that must happen (`tool_choice` "required", or one by name) is forced by a constraint, in the form that
the template teaches, so that its name is that of a tool and its arguments keep to the tool's schema, whatever
the model would have liked to say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tercet.errors import ParameterError
from tercet.sampling.constraints import ConstraintSpec
from tercet.sampling.json_schemas import checked_schema, moved_schema
from tercet.service.tool_call_parser import CALL_MARKS, CallDelta, ContentDelta, ToolCallParser, new_call_id
from tercet.tokenization import IncrementalDecoder, Tokenizer
from tercet.tokenization.chat_template import ChatTemplate, Message, check_messages

__all__ = ["CallDelta", "ContentDelta", "ToolCallParser", "ToolUse", "new_call_id"]

MOST_TOOLS = 128
MOST_CALLS = 16
"""Calls that a constraint lets one answer make."""
MOST_DESCRIPTION = 16_384
_MESSAGE_KEYS = ("role", "content", "tool_calls", "tool_call_id")
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_JSON_OPTIONS = {"whitespace_pattern": " ?"}  # nobody reads it: in one line
_INSTRUCTIONS = """\
You can call functions. They are listed here, one in a line, as JSON:
{functions}
To call a function, answer with JSON alone and no other text, in the form \
{{"name": <name of the function>, "arguments": <object with its arguments>}}. \
To call several at once, answer with a list of such objects."""


class ToolUse:
    """The tools of one request, and whether they may or must be called.

    Args:
        tools: `{"type": "function", "function": {"name", "description", "parameters", "strict"}}` each.
        choice: "none", "auto" (which None means, too), "required", or `{"type": "function", "function":
            {"name": ...}}` for one tool that must be called.
        parallel: whether one answer may make several calls.

    Raises:
        ParameterError: a tool or the choice is malformed, or a tool's schema cannot be enforced although a
            call of it is.
    """

    def __init__(
        self,
        tools: Sequence[Mapping[str, Any]] | None,
        choice: str | Mapping[str, Any] | None = None,
        parallel: bool = True,
    ) -> None:
        self.tools: list[dict[str, Any]] = _checked_tools(tools or ())
        self.parallel = parallel
        names = [tool["function"]["name"] for tool in self.tools]
        self.must_call: bool = choice not in (None, "none", "auto")
        """Whether the answer is a call, and nothing else."""
        self._forced = [self.tools[index] for index in _forced(choice, names)]
        self._schemas = [_schema_of(tool["function"]) for tool in self._forced]
        if choice == "none":
            self.tools = []

    @property
    def may_call(self) -> bool:
        """Whether calls are to be looked for in the answer."""
        return bool(self.tools)

    def parser(self) -> ToolCallParser:
        """Return a parser for one answer."""
        return ToolCallParser(self.tools, parallel=self.parallel)

    def decoder(self, tokenizer: Tokenizer) -> IncrementalDecoder:
        """Return what turns the answer's tokens into the text that a parser reads."""
        return IncrementalDecoder(tokenizer, shown=CALL_MARKS if self.may_call else ())

    def conversation(
        self, messages: Sequence[Message], template: ChatTemplate
    ) -> tuple[list[Message], list[dict[str, Any]] | None]:
        """Return what a template is given: messages in its words, and tools if it knows any.

        Arguments of earlier calls may be JSON text, as OpenAI has it, or objects.

        Raises:
            ParameterError: such a text is no JSON object.
        """
        read = [_with_objects(message, index) for index, message in enumerate(messages)]
        if template.uses_tools:
            return read, self.tools or None
        check_messages(read)
        told = _as_text(read)
        if self.tools:
            told = _with_system_text(told, _INSTRUCTIONS.format(functions=_lines(self.tools)))
        return told, None

    def constraint(self, template: ChatTemplate) -> ConstraintSpec | None:
        """What the answer must look like if it must be a call, in the form that the template teaches."""
        if not self._forced:
            return None
        key: Literal["arguments", "parameters"] = "arguments"
        if '"parameters": dictionary' in template.source and "<tool_call>" not in template.source:
            key = "parameters"
        call: dict[str, Any] = {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {
                        "name": {"const": tool["function"]["name"]},
                        key: {"$ref": f"#/$defs/{index}"},
                    },
                    "required": ["name", key],
                    "additionalProperties": False,
                }
                for index, tool in enumerate(self._forced)
            ]
        }
        # References of a tool's schema are to its own beginning, which is no longer that of the whole.
        definitions = {
            str(index): moved_schema(schema, f"#/$defs/{index}") for index, schema in enumerate(self._schemas)
        }
        whole: dict[str, Any] = {"$defs": {**definitions, "call": call}, "$ref": "#/$defs/call"}
        is_tagged = "<tool_call>" in template.source
        if self.parallel and key == "arguments" and not is_tagged:
            several = {
                "type": "array",
                "items": {"$ref": "#/$defs/call"},
                "minItems": 1,
                "maxItems": MOST_CALLS,
            }
            whole["anyOf"] = [{"$ref": whole.pop("$ref")}, several]
        more = f'("\\n" call){{0,{MOST_CALLS - 1}}}' if is_tagged and self.parallel else ""
        call_rule = '"<tool_call>\\n" body "\\n</tool_call>"' if is_tagged else "body"
        body = json.dumps({**json.loads(checked_schema(whole)), "x-guidance": _JSON_OPTIONS})
        return ConstraintSpec("grammar", f"start: call {more}\ncall: {call_rule}\nbody: %json {body}")


def _checked_tools(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if not isinstance(tools, (list, tuple)):
        raise ParameterError(f"tools must be a list, not {type(tools).__name__}")
    if len(tools) > MOST_TOOLS:
        raise ParameterError(f"there are {len(tools)} tools, and may be {MOST_TOOLS}")
    names: set[str] = set()
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or tool.get("type", "function") != "function":
            raise ParameterError(f"tools[{index}] must be of the type function and have a function")
        name, description = function.get("name"), function.get("description")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ParameterError(
                f"tools[{index}].function.name must be 1 to 64 letters, digits, _, - or ., not {name!r:.80}"
            )
        if name in names:
            raise ParameterError(f"tools[{index}].function.name is {name!r}, as that of a tool before it")
        names.add(name)
        if not isinstance(description, (str, type(None))) or len(description or "") > MOST_DESCRIPTION:
            raise ParameterError(
                f"tools[{index}].function.description must be text of at most {MOST_DESCRIPTION:,} characters"
            )
        if not isinstance(function.get("parameters"), (Mapping, type(None))):
            raise ParameterError(f"tools[{index}].function.parameters must be a JSON schema, an object")
    return [
        {"type": "function", "function": {k: v for k, v in tool["function"].items() if v is not None}}
        for tool in tools
    ]


def _forced(choice: str | Mapping[str, Any] | None, names: Sequence[str]) -> Sequence[int]:
    """Which tools are the ones of which one must be called."""
    if choice in (None, "none", "auto"):
        return ()
    if choice == "required":
        if not names:
            raise ParameterError("tool_choice requires a call, and there are no tools")
        return range(len(names))
    function = choice.get("function") if isinstance(choice, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ParameterError(
            'tool_choice must be "none", "auto", "required" or '
            f'{{"type": "function", "function": {{"name": ...}}}}, not {choice!r:.80}'
        )
    if function["name"] not in names:
        raise ParameterError(f"tool_choice names {function['name']!r:.80}, and no tool is called so")
    return (names.index(function["name"]),)


def _schema_of(function: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a function's arguments; without one it takes none."""
    given = function.get("parameters")
    if given is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    try:
        schema: dict[str, Any] = json.loads(checked_schema(given))
    except ParameterError as error:
        raise ParameterError(f"parameters of the tool {function['name']}: {error}") from error
    if schema.setdefault("type", "object") != "object":
        raise ParameterError(f"parameters of the tool {function['name']} must be of the type object")
    return schema


def _with_objects(message: Message, index: int) -> Message:
    """A message with the arguments of its calls as objects, which templates expect."""
    if not isinstance(message, Mapping):
        return message
    read = {key: value for key, value in message.items() if key in _MESSAGE_KEYS}
    if message.get("content") is None and message.get("tool_calls"):
        read["content"] = ""
    if message.get("role") != "assistant" or not isinstance(message.get("tool_calls"), (list, tuple)):
        return read
    calls: list[Any] = []
    for number, call in enumerate(message["tool_calls"]):
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping) and isinstance(function.get("arguments"), str):
            place = f"messages[{index}].tool_calls[{number}].function.arguments"
            function = {**function, "arguments": _object(function["arguments"] or "{}", place)}
            call = {**call, "function": function}
        calls.append(call)
    return {**read, "tool_calls": calls}


def _object(text: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"{place} must be JSON: {error}") from error
    if not isinstance(value, dict):
        raise ParameterError(f"{place} must be a JSON object, not a {type(value).__name__}")
    return value


def _as_text(messages: Sequence[Message]) -> list[Message]:
    """Calls and results as words: what a template is given that knows neither."""
    told: list[Message] = []
    for message in messages:
        content = message["content"]
        if message.get("tool_calls"):
            calls = [call["function"] for call in message["tool_calls"]]
            written = [{"name": call["name"], "arguments": call["arguments"]} for call in calls]
            text = json.dumps(written[0] if len(written) == 1 else written, ensure_ascii=False)
            told.append({"role": "assistant", "content": f"{content}\n{text}" if content else text})
        elif message["role"] == "tool":
            result = f"The function returned: {content}"
            if told and told[-1]["role"] == "user" and told[-1].get("is_result"):
                told[-1] = {**told[-1], "content": f"{told[-1]['content']}\n{result}"}
            else:
                told.append({"role": "user", "content": result, "is_result": True})
        else:
            told.append(message)
    return [{"role": message["role"], "content": message["content"]} for message in told]


def _with_system_text(messages: list[Message], text: str) -> list[Message]:
    if messages[0]["role"] != "system":
        return [{"role": "system", "content": text}, *messages]
    before = messages[0]["content"]
    return [{"role": "system", "content": f"{before}\n\n{text}" if before else text}, *messages[1:]]


def _lines(tools: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
