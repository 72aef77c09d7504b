"""Text that was shown is never taken back, and a stop string is never shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.engine.text_output import StopStrings, TextOutput


class Letters:
    """A decoder whose token n is a fixed piece of text."""

    def __init__(self, pieces: list[str], tail: str = "") -> None:
        self._pieces = pieces
        self._tail = tail

    def push(self, token_id: int) -> str:
        return self._pieces[token_id]

    def finish(self) -> str:
        return self._tail


def feed(pieces: list[str], stop: tuple[str, ...]) -> tuple[list[str], str | None]:
    matcher = StopStrings(stop)
    shown = []
    for piece in pieces:
        text, found = matcher.push(piece)
        shown.append(text)
        if found is not None:
            return shown, found
    return [*shown, matcher.finish()], None


@pytest.mark.parametrize(
    ("pieces", "stop", "shown", "found"),
    [
        (["one two"], (), ["one two", ""], None),
        (["one ", "END", "x"], ("END",), ["one ", ""], "END"),
        (["one E", "N", "D two"], ("END",), ["one ", "", ""], "END"),
        (["one E", "N", "x"], ("END",), ["one ", "", "ENx", ""], None),
        (["a E"], ("END",), ["a ", "E"], None),
        (["abab", "c"], ("abc",), ["ab", ""], "abc"),
        (["xab"], ("b", "ab"), ["x"], "ab"),  # the earliest wins
        (["xab"], ("a", "ab"), ["x"], "ab"),  # then the longest
        (["aa", "a", "b"], ("aab",), ["", "a", ""], "aab"),
    ],
)
def test_where_the_text_ends(
    pieces: list[str], stop: tuple[str, ...], shown: list[str], found: str | None
) -> None:
    assert feed(pieces, stop) == (shown, found)


@given(
    st.lists(st.text("ab", max_size=4), max_size=8),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
)
def test_pieces_do_not_matter(pieces: list[str], stop: list[str]) -> None:
    """Streaming shows exactly what cutting the whole text would: nothing lost, no part of a stop string."""
    whole = "".join(pieces)
    shown, found = feed(pieces, tuple(stop))
    text = "".join(shown)
    assert whole.startswith(text)
    if found is None:
        assert text == whole
        assert not any(one in whole for one in stop)
    else:
        assert whole[len(text) :].startswith(found)
        assert not any(one in text for one in stop)


def test_taking_gives_each_piece_once() -> None:
    output = TextOutput(Letters(["Hel", "lo", "!"]))
    output.push(0)
    output.push(1)
    assert output.take() == "Hello"
    assert output.take() == ""
    output.push(2)
    output.finish()
    assert (output.take(), output.text) == ("!", "Hello!")


def test_the_end_releases_what_was_held_back() -> None:
    output = TextOutput(Letters(["a E"], tail="�"), stop=("END",))
    assert not output.push(0)
    assert output.take() == "a "
    output.finish()
    assert output.take() == "E�"
    assert output.stop_string is None


def test_the_last_bytes_may_complete_a_stop_string() -> None:
    output = TextOutput(Letters(["a E"], tail="ND"), stop=("END",))
    output.push(0)
    output.finish()
    assert (output.text, output.stop_string) == ("a ", "END")


def test_nothing_follows_a_stop_string() -> None:
    output = TextOutput(Letters(["one", " END", " two"]), stop=("END",))
    assert [output.push(token) for token in range(3)] == [False, True, True]
    output.finish()
    assert output.text == "one "
