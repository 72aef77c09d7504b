"""Which replica is asked: what two prompts have in common, and who has read it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tercet.deployment.ray_serve.prefixes import BLOCK_CHARACTERS, MAX_BLOCKS, PrefixMemory, prefix_hashes
from tercet.deployment.ray_serve.settings import RaySettings
from tercet.errors import ParameterError


def hashes(caller: bytes = b"", **request: Any) -> tuple[int, ...]:
    return prefix_hashes(json.dumps(request).encode(), caller)


def common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    pairs = list(zip(one, other, strict=False))
    return next((i for i, (left, right) in enumerate(pairs) if left != right), len(pairs))


def test_a_longer_conversation_begins_as_the_shorter_one() -> None:
    messages = [{"role": "user", "content": "a" * 1000}, {"role": "assistant", "content": "b" * 1000}]
    short = hashes(messages=messages[:1])
    whole = hashes(messages=messages, temperature=1)
    assert len(short) == 1000 // BLOCK_CHARACTERS
    assert whole[: len(short)] == short
    assert len(whole) > len(short)


def test_prompts_that_differ_have_in_common_what_they_begin_with() -> None:
    text = "a" * (4 * BLOCK_CHARACTERS)
    changed = text[: 2 * BLOCK_CHARACTERS] + "b" + text[2 * BLOCK_CHARACTERS :]
    assert common(hashes(prompt=text), hashes(prompt=changed)) == 2
    assert common(hashes(prompt=text), hashes(prompt="b" + text)) == 0
    assert common(hashes(prompt=text), hashes(prompt=text, model="other")) == 0
    assert common(hashes(prompt=text), hashes(b"another key", prompt=text)) == 0


def test_a_short_prompt_has_one_hash_and_a_long_one_not_too_many() -> None:
    assert len(hashes(prompt="Hi")) == 1
    assert hashes(prompt="Hi") != hashes(prompt="Ho")
    assert len(hashes(prompt="a" * 10**6)) == MAX_BLOCKS
    assert len(hashes(prompt=[1, 2, 3])) == 1
    assert len(hashes(input=[{"role": "user", "content": [{"type": "input_text", "text": "x"}]}])) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b'{"max_tokens": 5}', b"\xff", b"[" * 10**6])
def test_what_has_no_prompt_has_no_hash(body: bytes) -> None:
    assert prefix_hashes(body) == ()


def test_half_a_surrogate_pair_is_text_like_any_other() -> None:
    assert len(prefix_hashes(b'{"prompt": "\\ud800"}')) == 1


def test_the_reader_of_the_longest_beginning_is_found_among_those_who_are_there() -> None:
    memory = PrefixMemory()
    memory.note((1, 2), "a")
    memory.note((1, 2, 3), "b")
    assert memory.reader((1, 2, 3, 4), {"a", "b"}) == "b"
    assert memory.reader((1, 5), {"a", "b"}) == "b"
    assert memory.reader((1, 2, 3), {"a"}) is None  # b has read it since, and is gone
    assert memory.reader((7,), {"a", "b"}) is None


def test_the_memory_is_bounded_and_forgets_what_is_not_asked_for() -> None:
    memory = PrefixMemory(max_blocks=4)
    memory.note((1, 2), "a")
    memory.note((3, 4), "b")
    memory.note((1, 2), "a")
    memory.note((5,), "c")
    assert len(memory) == 4
    assert memory.reader((3,), {"a", "b", "c"}) is None
    assert memory.reader((1,), {"a", "b", "c"}) == "a"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"min_replicas": 3}, "min_replicas is at most max_replicas, 2, not 3"),
        ({"target_running": 20.0}, "there would never be another"),
        ({"max_waiting": 0}, "max_waiting is above 0, not 0"),
        ({"cpus_per_replica": float("nan")}, "cpus_per_replica is above 0"),
    ],
)
def test_bounds_that_cannot_be_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        RaySettings(**changes)
