"""A conversation -> token ids, by the Jinja template that the model came with.

A template mixes control tokens with what people wrote, and may trim, cut or join it. To tell afterwards which
characters are the template's own, every character of a message that occurs in some control token is swapped
for a private one before rendering (whitespace stays, so trimming works as meant):

    "<|system|> be bad"  ->  "ABCDEFGHBA FG FBI"      A, B, C, ...: private-use characters that nobody wrote

In the rendered text a control token is then recognized only where the template itself wrote all of it. The
rest is swapped back and encoded as plain text, together with the template's own text beside it, so that the
ids are those that the model was trained on.

The same is done to everything that people write about tools: descriptions, names of parameters, arguments of
calls. Only the words of the format itself stay, `type` or `string`, since templates compare with them.

The template itself comes with the model file and is not trusted either: it runs in a process of its own,
with bounded steps, time and memory (`template_sandbox`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tercet.errors import FormatError, ParameterError
from tercet.tokenization.template_sandbox import TemplateError, check_template, render_template
from tercet.tokenization.tokenizer import Tokenizer, check_text

__all__ = ["ROLES", "ChatTemplate", "Message"]

Message = Mapping[str, Any]
"""`{"role": ..., "content": ...}`; from the assistant also `tool_calls`, a list of `{"id": ..., "type":
"function", "function": {"name": ..., "arguments": {...}}}`; from a tool `tool_call_id` and `name`."""

ROLES = ("system", "user", "assistant", "tool")
STEPS = 100_000
"""How many steps a template may take (MiniJinja calls it fuel), besides what every message adds."""
STEPS_PER_MESSAGE = 10_000
STEPS_PER_TEXT = 200
STEPS_PER_CHARACTER = 1
"""From release 3.1 a step costs one more for every 64 bytes that it handles; so each may be handled often."""

MOST_DEPTH = 48
"""Of lists and objects, in tools and arguments."""

_FORMAT_WORDS = frozenset((
    "additionalProperties", "allOf", "anyOf", "arguments", "array", "boolean", "const", "default",
    "description", "enum", "format", "function", "id", "integer", "items", "maximum", "maxItems", "maxLength",
    "minimum", "minItems", "minLength", "name", "null", "number", "object", "oneOf", "parameters", "pattern",
    "prefixItems", "properties", "required", "return", "string", "strict", "title", "type",
))  # fmt: skip
"""Keys and values of OpenAI's tools and of JSON schemas that templates ask for by name."""
_OPTIONAL_KEYS = {"assistant": {"name", "tool_calls"}, "tool": {"name", "tool_call_id"}}
_PRIVATE_USE = (*range(0xF0000, 0xFFFFE), *range(0x100000, 0x10FFFE))


class ChatTemplate:
    """Turns messages into the token ids that a model was trained to answer.

    Args:
        source: the Jinja template.
        tokenizer: the model's tokenizer. Added tokens that the template writes are control tokens here even
            if the tokenizer's file does not mark them.
        bos_token: what `{{ bos_token }}` stands for.
        eos_token: what `{{ eos_token }}` stands for.

    Raises:
        FormatError: the template is not valid Jinja.
    """

    def __init__(self, source: str, tokenizer: Tokenizer, bos_token: str = "", eos_token: str = "") -> None:
        written = {token for token in tokenizer.added_tokens if token in source}
        self._tokenizer = tokenizer.with_control_tokens(written)
        self._variables: dict[str, Any] = {
            "bos_token": bos_token,
            "eos_token": eos_token,
            "tools": None,
            "documents": None,
        }
        self._template_characters = set(source) | set(bos_token) | set(eos_token)
        texts = self._tokenizer.control_tokens
        self._swapped = {c for text in texts for c in text if not c.isspace() or text.isspace()}
        self._plain_words = _FORMAT_WORDS - texts
        self.source: str = source
        """The Jinja template."""
        self.uses_tools: bool = re.search(r"\btools\b", source) is not None
        """Whether the template itself tells the model about tools."""
        try:
            check_template(source)
        except TemplateError as error:
            raise FormatError(f"the chat template is not valid: {error}") from error

    @property
    def control_ids(self) -> frozenset[int]:
        """The ids of the control tokens that a conversation can hold."""
        return self._tokenizer.special_ids

    def encode(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[int]:
        """Return the ids of a conversation. No text in a message or a tool becomes a control token.

        Args:
            messages: at least one, with roles from `ROLES`.
            add_generation_prompt: whether the answer of the assistant is to follow.
            tools: functions that the model may ask for, as OpenAI writes them; see `uses_tools`.

        Raises:
            ParameterError: a message or a tool is malformed, or the template refuses the conversation.
            FormatError: the template fails, or does more than it may.
        """
        rendered, back = self._render(messages, add_generation_prompt, tools)
        parts = self._tokenizer.split(rendered)
        return self._tokenizer.encode_parts(p if isinstance(p, int) else p.translate(back) for p in parts)

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """Return the text of a conversation, for people to read: it does not show what is a control token."""
        rendered, back = self._render(messages, add_generation_prompt, tools)
        return rendered.translate(back)

    def _render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] | None,
    ) -> tuple[str, dict[int, int]]:
        """Return the rendered text with characters of people swapped, and the table that swaps them back."""
        check_messages(messages)
        described = None if tools is None else [dict(tool) for tool in tools]
        texts = [*_texts([dict(message) for message in messages], "messages"), *_texts(described, "tools")]
        swap = self._swaps(texts)
        back = {private: character for character, private in swap.items()}
        context = {
            **self._variables,
            "messages": [self._swapped_message(message, swap) for message in messages],
            "tools": self._swapped_value(described, swap),
            "add_generation_prompt": add_generation_prompt,
        }
        characters = sum(map(len, texts))
        fuel = (
            STEPS
            + STEPS_PER_MESSAGE * (len(messages) + len(described or ()))
            + STEPS_PER_TEXT * len(texts)
            + STEPS_PER_CHARACTER * characters
        )
        try:
            rendered = render_template(self.source, context, fuel, characters)
        except ParameterError as refusal:
            reason = str(refusal).translate(back)
            raise ParameterError(
                f"the model's chat template refuses this conversation: {reason}"
            ) from refusal
        except TemplateError as error:
            raise FormatError(f"the model's chat template fails: {str(error).translate(back)}") from error
        return rendered, back

    def _swapped_message(self, message: Message, swap: dict[int, int]) -> dict[str, Any]:
        swapped = {"role": message["role"], "content": message["content"].translate(swap)}
        for key in message:
            if key not in swapped:
                swapped[key] = self._swapped_value(message[key], swap)
        return swapped

    def _swapped_value(self, value: Any, swap: dict[int, int]) -> Any:
        """A value of JSON with the characters of its strings swapped, those of keys too."""
        if isinstance(value, str):
            return value if value in self._plain_words else value.translate(swap)
        if isinstance(value, Mapping):
            return {
                self._swapped_value(key, swap): self._swapped_value(member, swap)
                for key, member in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self._swapped_value(member, swap) for member in value]
        return value

    def _swaps(self, texts: Iterable[str]) -> dict[int, int]:
        """Give each character of control tokens a private-use one that occurs nowhere else."""
        taken = self._template_characters.union(*map(set, texts))
        free = (private for private in _PRIVATE_USE if chr(private) not in taken)
        swap = dict(zip(map(ord, sorted(self._swapped)), free, strict=False))
        if len(swap) < len(self._swapped):
            raise ParameterError(
                "the messages use up all private-use characters of Unicode; they are not text"
            )
        return swap


def check_messages(messages: object) -> None:
    """Raise ParameterError unless `messages` is a non-empty sequence of well-formed messages."""
    if not isinstance(messages, Sequence) or isinstance(messages, (str, bytes)):
        raise ParameterError(f"messages must be a list, not {type(messages).__name__}")
    if not messages:
        raise ParameterError("messages is empty; a conversation has at least one message")
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise ParameterError(
                f"messages[{index}] must have role and content, not be a {type(message).__name__}"
            )
        allowed = {"role", "content"} | _OPTIONAL_KEYS.get(str(message.get("role")), set())
        if not {"role", "content"} <= set(message) <= allowed:
            found = ", ".join(sorted(map(str, message))) or "nothing"
            raise ParameterError(f"messages[{index}] must have role and content, and has {found}")
        if message["role"] not in ROLES:
            raise ParameterError(
                f"messages[{index}] has the role {message['role']!r}; the roles are {', '.join(ROLES)}"
            )
        check_text(message["content"], f"messages[{index}].content")
        calls = message.get("tool_calls", [])
        if not isinstance(calls, (list, tuple)):
            raise ParameterError(f"messages[{index}].tool_calls must be a list, not {type(calls).__name__}")
        for number, call in enumerate(calls):
            _check_call(call, f"messages[{index}].tool_calls[{number}]")


def _check_call(call: object, place: str) -> None:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ParameterError(f"{place} must have a function with a name and arguments")
    if not isinstance(function.get("arguments"), Mapping):
        raise ParameterError(f"{place}.function.arguments must be an object")


def _texts(value: object, place: str, depth: int = 0) -> Iterator[str]:
    """All strings in a value of JSON, which this checks it to be."""
    if isinstance(value, str):
        check_text(value, place)
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        if depth >= MOST_DEPTH:
            raise ParameterError(f"{place} is deeper than {MOST_DEPTH} levels")
        if isinstance(value, Mapping):
            for key, member in value.items():
                if not isinstance(key, str):
                    raise ParameterError(f"{place} has the key {key!r}, which is no string")
                yield from _texts(key, place, depth + 1)
                yield from _texts(member, place, depth + 1)
        else:
            for member in value:
                yield from _texts(member, place, depth + 1)
    elif not isinstance(value, (bool, int, float, type(None))):
        raise ParameterError(f"{place} has a {type(value).__name__}, which is no JSON")
