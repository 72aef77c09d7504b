"""The commands of a chat, and what they do to the conversation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercet.cli.conversation import COMMANDS, Conversation, Leave, execute
from tercet.errors import FormatError, ModelNotFoundError, ParameterError, StorageError


def talk(*contents: str) -> Conversation:
    conversation = Conversation(system="Be kind.")
    for index, content in enumerate(contents):
        conversation.say("assistant" if index % 2 else "user", content)
    return conversation


def test_help_names_every_command() -> None:
    text = execute("/help", Conversation())
    assert all(command.usage in text for command in COMMANDS.values())


def test_reset_keeps_the_system_message() -> None:
    conversation = talk("hello", "hi")
    execute("/reset", conversation)
    assert conversation.messages == [{"role": "system", "content": "Be kind."}]


def test_undo_takes_back_a_question_with_its_answer() -> None:
    conversation = talk("one", "1", "two", "2")
    execute("/undo", conversation)
    assert [turn["content"] for turn in conversation.turns] == ["one", "1"]
    execute("/undo", conversation)
    assert "nothing" in execute("/undo", conversation)


def test_the_oldest_exchange_is_forgotten_but_never_the_last_question() -> None:
    conversation = talk("one", "1", "two", "2", "three")
    assert conversation.forget_oldest()
    assert [turn["content"] for turn in conversation.turns] == ["two", "2", "three"]
    assert conversation.forget_oldest()
    assert not conversation.forget_oldest()
    assert [turn["content"] for turn in conversation.turns] == ["three"]


def test_system_sets_and_removes() -> None:
    conversation = Conversation()
    execute("/system  Speak like a pirate. ", conversation)
    assert conversation.system == "Speak like a pirate."
    execute("/system", conversation)
    assert conversation.messages == []


def test_sampling_changes_and_wrong_values_change_nothing() -> None:
    conversation = Conversation()
    execute("/temperature 0.5", conversation)
    execute("/max-tokens 12", conversation)
    for line in ("/temperature nan", "/temperature -1", "/temperature warm", "/temperature", "/seed 1.5"):
        with pytest.raises(ParameterError):
            execute(line, conversation)
    assert conversation.sampling == {"temperature": 0.5, "max_tokens": 12}


def test_saved_and_loaded(tmp_path: Path) -> None:
    execute(f"/save {tmp_path / 'talk.json'}", talk("hällo", "hi"))
    conversation = Conversation()
    assert "Loaded 2 turns" in execute(f"/load {tmp_path / 'talk.json'}", conversation)
    assert conversation.messages == talk("hällo", "hi").messages


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"messages": 3}', b'{"messages": [{"role": "user"}]}', b"\xff",
     b'{"messages": [{"role": "tool", "content": "x"}]}', b'{"messages": [{"role": "user", "content": 1}]}',
     b'{"messages": [{"role": "system", "content": 1}]}'],
)  # fmt: skip
def test_what_is_no_conversation_changes_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    conversation = talk("hello", "hi")
    with pytest.raises(FormatError, match=r"x\.json holds"):
        execute(f"/load {tmp_path / 'x.json'}", conversation)
    assert conversation == talk("hello", "hi")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="cannot read"):
        execute(f"/load {tmp_path / 'none.json'}", Conversation())
    with pytest.raises(StorageError, match="does not exist"):
        execute(f"/save {tmp_path / 'none' / 'talk.json'}", Conversation())
    with pytest.raises(ParameterError, match="which file"):
        execute("/save", Conversation())


@pytest.mark.parametrize("line", ["/exit", "/quit"])
def test_leaving(line: str) -> None:
    with pytest.raises(Leave):
        execute(line, Conversation())


def test_an_unknown_command_says_where_the_list_is() -> None:
    with pytest.raises(ParameterError, match="no command /hepl; /help lists them"):
        execute("/hepl", Conversation())
