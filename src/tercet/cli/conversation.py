"""A conversation and the /commands that change it, apart from keyboard and screen."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tercet.environment import atomic_write
from tercet.errors import FormatError, ModelNotFoundError, ParameterError
from tercet.sampling.params import SamplingParams

ROLES = ("user", "assistant")


class Leave(Exception):  # noqa: N818 (not an error)
    """The person wants to end the conversation."""


@dataclass
class Conversation:
    """What was said, by whom, and how answers are sampled."""

    system: str | None = None
    turns: list[dict[str, str]] = field(default_factory=list)
    sampling: dict[str, Any] = field(default_factory=dict)

    @property
    def messages(self) -> list[dict[str, str]]:
        """System message and turns, as `LLM.chat` takes them."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, *self.turns]

    def say(self, role: str, content: str) -> None:
        """Add a turn."""
        self.turns.append({"role": role, "content": content})

    def forget_oldest(self) -> bool:
        """Drop the first question and its answer, if that leaves the last question; False if it would not."""
        later = [index for index, turn in enumerate(self.turns) if turn["role"] == "user" and index > 0]
        if not later:
            return False
        del self.turns[: later[0]]
        return True

    def set_sampling(self, name: str, value: Any) -> None:
        """Change one sampling parameter; ParameterError, and no change, if the value is not valid."""
        changed = {**self.sampling, name: value}
        SamplingParams(**changed)
        self.sampling = changed

    def save(self, path: Path) -> None:
        """Write the conversation as JSON."""
        with atomic_write(path) as file:
            file.write(json.dumps({"messages": self.messages}, indent=2, ensure_ascii=False).encode())

    def load(self, path: Path) -> None:
        """Replace the conversation by a saved one.

        Raises:
            ModelNotFoundError, FormatError: there is no such file, or it holds no conversation. Nothing
            changes.
        """
        try:
            messages = json.loads(path.read_bytes())["messages"]
            pairs = [(message["role"], message["content"]) for message in messages]
        except OSError as error:
            raise ModelNotFoundError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f'{path} holds no conversation: expected {{"messages": [...]}}') from error
        system = None
        if pairs and pairs[0][0] == "system":
            system = pairs.pop(0)[1]
        for role, content in [*pairs, *([("user", system)] if system is not None else [])]:
            if role not in ROLES or not isinstance(content, str):
                raise FormatError(
                    f"{path} holds a message that is not text by user or assistant: role {role!r}"
                )
        self.system = system
        self.turns = [{"role": role, "content": content} for role, content in pairs]


def execute(line: str, conversation: Conversation) -> str:
    """Carry out a line that begins with `/`; returns what to tell.

    Raises:
        Leave: the command was to leave.
        TercetError: the command is unknown or cannot be done.
    """
    name, _, argument = line[1:].strip().partition(" ")
    command = COMMANDS.get(ALIASES.get(name, name))
    if command is None:
        raise ParameterError(
            f"there is no command /{name}; /help lists them (begin with a space to send it as text)"
        )
    return command.act(conversation, argument.strip())


def _help(conversation: Conversation, argument: str) -> str:
    width = max(len(command.usage) for command in COMMANDS.values())
    lines = [f"{command.usage:<{width}}  {command.help}" for command in COMMANDS.values()]
    return "\n".join([*lines, "Ctrl-C stops an answer, Ctrl-D leaves, Esc then Enter begins a new line."])


def _reset(conversation: Conversation, argument: str) -> str:
    conversation.turns.clear()
    return "The conversation begins anew."


def _undo(conversation: Conversation, argument: str) -> str:
    questions = [index for index, turn in enumerate(conversation.turns) if turn["role"] == "user"]
    if not questions:
        return "There is nothing to take back."
    del conversation.turns[questions[-1] :]
    return "The last question and its answer are taken back."


def _system(conversation: Conversation, argument: str) -> str:
    conversation.system = argument or None
    return "The system message is set." if argument else "There is no system message now."


def _save(conversation: Conversation, argument: str) -> str:
    path = _path(argument, "/save FILE")
    conversation.save(path)
    return f"Saved {len(conversation.turns)} turns to {path}."


def _load(conversation: Conversation, argument: str) -> str:
    path = _path(argument, "/load FILE")
    conversation.load(path)
    return f"Loaded {len(conversation.turns)} turns from {path}."


def _number(name: str, kind: type[int] | type[float]) -> Callable[[Conversation, str], str]:
    def act(conversation: Conversation, argument: str) -> str:
        try:
            value = kind(argument)
        except ValueError as error:
            raise ParameterError(f"{name} must be a number, not {argument!r}") from error
        conversation.set_sampling(name, value)
        return f"{name} is {value} from now on."

    return act


def _leave(conversation: Conversation, argument: str) -> str:
    raise Leave


def _path(argument: str, usage: str) -> Path:
    if not argument:
        raise ParameterError(f"which file? {usage}")
    return Path(argument).expanduser()


class Command(NamedTuple):
    """One /command."""

    usage: str
    help: str
    act: Callable[[Conversation, str], str]


COMMANDS = {
    "help": Command("/help", "list the commands", _help),
    "reset": Command("/reset", "forget everything that was said", _reset),
    "undo": Command("/undo", "take back the last question and its answer", _undo),
    "system": Command("/system TEXT", "set the system message; without TEXT remove it", _system),
    "temperature": Command(
        "/temperature T", "0 takes the likeliest token, higher is bolder", _number("temperature", float)
    ),
    "max-tokens": Command("/max-tokens N", "most tokens of an answer", _number("max_tokens", int)),
    "seed": Command("/seed N", "the same seed gives the same answer", _number("seed", int)),
    "save": Command("/save FILE", "write the conversation to a file", _save),
    "load": Command("/load FILE", "go on with a saved conversation", _load),
    "exit": Command("/exit", "leave (also /quit, Ctrl-D)", _leave),
}
ALIASES = {"quit": "exit"}
