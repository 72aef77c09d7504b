"""Which shape a row has, and what it says: a conversation, a text, or segments.

    messages | conversations        a list of turns: {role, content} as OpenAI, {from, value} as ShareGPT
    prompt, completion              the same, as two lists of messages
    instruction, (input), output    Alpaca; `system` and `history` too
    prompt | question, answer       one turn
    segments                        [{"text": ..., "label": true}, ...]: pieces that are learned or not
    text                            plain text

The first shape that fits is taken, from top to bottom, so that Alpaca's rows, which also have a `text`, are
conversations. Upper and lower case make no difference in the names of columns. Columns of other names are
told with `columns`: `{"prompt": "dialogue", "answer": "summary"}`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tercet.data.messages import Turn, read_turns
from tercet.data.rows import Fields, RowError, UnusableRowError

__all__ = ["COLUMNS", "Content", "Conversation", "Document", "Segments", "recognize"]

_MESSAGES = ("messages", "conversations", "conversation", "chat", "dialog", "dialogue", "turns")
_PROMPT = ("instruction", "prompt", "question", "query", "problem", "user", "human", "input")
_CONTEXT = ("input", "context")
_ANSWER = ("output", "answer", "response", "completion", "assistant", "target", "solution", "gpt")
_SYSTEM = ("system", "system_prompt", "system_message")
_TEXT = ("text", "content", "document")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "messages": _MESSAGES,
    "prompt": _PROMPT,
    "context": _CONTEXT,
    "answer": _ANSWER,
    "system": _SYSTEM,
    "history": ("history",),
    "tools": ("tools", "functions"),
    "segments": ("segments",),
    "text": _TEXT,
}
"""What `columns` may name -> the names of columns that are known without it."""
EXPECTED = (
    "messages (or conversations), a prompt and an answer (such as instruction and output, input and output, "
    "question and response), or text"
)


@dataclass(frozen=True)
class Conversation:
    """Turns, of which those of the assistant are learned."""

    turns: tuple[Turn, ...]
    tools: tuple[Mapping[str, Any], ...] | None = None

    @property
    def key(self) -> str:
        """What leads to the first answer."""
        first = next(i for i, turn in enumerate(self.turns) if turn.role == "assistant")
        return "\n".join(turn.content for turn in self.turns[:first] if turn.role != "system")

    @property
    def num_characters(self) -> int:
        """How much text there is."""
        return sum(len(turn.content.strip()) for turn in self.turns)


@dataclass(frozen=True)
class Document:
    """Plain text, all of it learned."""

    text: str

    @property
    def key(self) -> str:
        """The text."""
        return self.text

    @property
    def num_characters(self) -> int:
        """How much text there is."""
        return len(self.text.strip())


@dataclass(frozen=True)
class Segments:
    """Pieces of text with control tokens in them, each learned or not."""

    pieces: tuple[tuple[str, bool], ...]

    @property
    def key(self) -> str:
        """What stands before the first piece that is learned."""
        first = next(i for i, (_, learned) in enumerate(self.pieces) if learned)
        return "\n".join(text for text, _ in self.pieces[:first])

    @property
    def num_characters(self) -> int:
        """How much text there is."""
        return sum(len(text.strip()) for text, _ in self.pieces)


Content = Conversation | Document | Segments


def recognize(fields: Fields, columns: Mapping[str, str] | None = None) -> tuple[str, Content]:
    """Return the name of a row's shape, and what it says.

    Args:
        fields: the row.
        columns: one of `COLUMNS` -> the name of the column in this data.

    Raises:
        UnusableRowError: it has the fields, and one that is needed is empty.
        RowError: a column is missing, or a value is of another type than its column needs.
    """
    row = _Row(fields, columns or {})
    if (found := row.find("messages")) is not None and isinstance(_from_json(found[1]), (list, tuple)):
        return found[0], _conversation(row, read_turns(_from_json(found[1]), found[0]))
    if (found := row.find("segments")) is not None:
        return found[0], _segments(found[1])
    prompt, answer = row.find("prompt"), row.find("answer")
    if prompt is not None and answer is not None:
        context = row.find("context")
        name = f"{prompt[0]}/{answer[0]}"
        if isinstance(prompt[1], (list, tuple)):
            turns = [turn.unlearned() for turn in read_turns(prompt[1], prompt[0])]
            return name, _conversation(row, [*turns, *_answer_turns(answer)])
        parts = [_text(prompt, "the prompt")]
        if context is not None and context[0] != prompt[0] and _is_text(context[1]):
            parts.append(_text(context, "the context"))
        return name, _conversation(row, [Turn("user", "\n\n".join(parts)), *_answer_turns(answer)])
    if (found := row.find("text")) is not None:
        return found[0], Document(_text(found, "the text"))
    raise RowError(row.missing(prompt))


class _Row:
    """A row whose columns are found by what they are for."""

    def __init__(self, fields: Fields, columns: Mapping[str, str]) -> None:
        self._fields = fields
        self._columns = columns
        self._by_name = {str(name).strip().lstrip("\ufeff").lower(): name for name in fields}

    def find(self, purpose: str) -> tuple[str, Any] | None:
        """The column for this purpose and its value; one with a value goes before an empty one."""
        if purpose in self._columns:
            name = self._columns[purpose]
            if name not in self._fields:
                raise RowError(f"has no column {name!r}; it has {self._found()}")
            return name, self._fields[name]
        taken = set(self._columns.values())
        known = [self._by_name[name] for name in COLUMNS[purpose] if name in self._by_name]
        columns = [name for name in known if name not in taken]
        filled = [name for name in columns if self._fields[name] not in (None, "", [])]
        # `input` is a prompt of its own only where nothing else is one.
        order = filled if purpose in ("context", "system") else columns
        return (str(order[0]), self._fields[order[0]]) if order else None

    def missing(self, prompt: tuple[str, Any] | None) -> str:
        if {"chosen", "rejected"} <= set(self._by_name):
            return (
                "is a pair of a chosen and a rejected answer, and here a model learns from answers alone; to "
                "take the chosen ones, name their column as answer (or as messages, if it is a list)"
            )
        lacks = (
            f"has a prompt ({prompt[0]}) and no answer; it has {self._found()}"
            if prompt
            else (f"has {self._found()}")
        )
        return f"{lacks}. Expected {EXPECTED}; name columns that are called otherwise with columns"

    def _found(self) -> str:
        return "the columns " + ", ".join(map(str, list(self._fields)[:12])) if self._fields else "no columns"


def _conversation(row: _Row, turns: Sequence[Turn]) -> Conversation:
    past: list[Turn] = []
    if (history := row.find("history")) is not None:
        for pair in _from_json(history[1]) or []:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise RowError(f"{history[0]} must be a list of pairs of a question and its answer")
            past += [
                Turn("user", _text(("history", pair[0]), "a question")),
                Turn("assistant", _text(("history", pair[1]), "an answer")),
            ]
    if (system := row.find("system")) is not None and not any(turn.role == "system" for turn in turns):
        past.insert(0, Turn("system", _text(system, "the system message")))
    turns = [*past, *turns]
    if not any(turn.role == "assistant" and turn.learned for turn in turns):
        raise UnusableRowError("there is no answer to learn")
    tools = row.find("tools")
    return Conversation(tuple(turns), None if tools is None else _tools(tools[0], tools[1]))


def _answer_turns(answer: tuple[str, Any]) -> list[Turn]:
    if isinstance(answer[1], (list, tuple)):
        return list(read_turns(answer[1], answer[0]))
    return [Turn("assistant", _text(answer, "the answer"))]


def _tools(name: str, value: object) -> tuple[Mapping[str, Any], ...] | None:
    value = _from_json(value)
    if value in (None, "", []):
        return None
    if not isinstance(value, (list, tuple)) or not all(isinstance(tool, Mapping) for tool in value):
        raise RowError(f"{name} must be a list of functions")
    return tuple(value)


def _segments(value: object) -> Segments:
    pieces = []
    if not isinstance(value, (list, tuple)):
        raise RowError("segments must be a list of objects with text and label")
    for piece in value:
        if not isinstance(piece, Mapping) or not isinstance(piece.get("text"), str):
            raise RowError("segments must be a list of objects with text and label")
        pieces.append((piece["text"], bool(piece.get("label"))))
    if not any(learned and text for text, learned in pieces):
        raise UnusableRowError("no segment is learned")
    return Segments(tuple(pieces))


def _text(found: tuple[str, Any], what: str) -> str:
    name, value = found
    if isinstance(value, float) and math.isnan(value):  # how pandas says that a cell is empty
        value = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise UnusableRowError(f"{what} is empty")
    if not isinstance(value, str):
        raise RowError(f"{name} must be a string, and is a {type(value).__name__}")
    return value


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _from_json(value: object) -> Any:
    """A list that came as its JSON, as in CSV files."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
