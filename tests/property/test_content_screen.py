"""The law of streaming: a screen gives the same text however the text was cut into pieces."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("re2")
pytest.importorskip("ahocorasick")

from tercet.security.content.patterns import Pattern, PatternFilter
from tercet.security.content.policies import builtin_filter
from tercet.security.content.scores import ScoreFilter
from tercet.security.content.screen import Action, Direction, Screen
from tercet.security.content.word_lists import WordList


def _shouting(text: str) -> Mapping[str, float]:
    return {"loud": float(text.isupper() and len(text) > 3)}


OWN = WordList({"own": ["self harm", "self", "ab ab", "straße"]}, language="de")
INSIDE = WordList({"inside": ["gift"]}, whole_words=False)
PATTERNS = PatternFilter(
    [
        Pattern("digits", r"[0-9]{3,8}", "digits", reach=6),
        Pattern("wide", r"<[^>]*>", "digits", reach=9),
        Pattern("edge", r"\bab(?:\b|.{8}z)", "edge", reach=4),
    ]
)
FILTERS = [*(builtin_filter(name) for name in ("words", "injection", "secrets")), OWN, INSIDE, PATTERNS]
FILTERS.append(ScoreFilter(_shouting, {"loud": 0.5}))
CATEGORIES = sorted(category for one in FILTERS for category in one.categories)

PIECES = st.sampled_from(
    [
        *"aAbhzé 1<>.-_\n\t\u200b\u0301ｈ…ß",
        *(
            "harm",
            "ful",
            "self",
            "hate",
            " ",
            "\u200b" * 20,
            " " * 20,
            "sk-",
            "sk-" + "x" * 22,
            "AKIA",
            "0123456789",
        ),
        *(
            "password: ",
            "PaSSword=",
            "pa\u017f\u017fword: ",
            "hunter22;",
            '"',
            "ignore all ",
            "previous ",
            "instructions",
            "gift",
            "ab ",
            "STOP IT",
            "! ",
        ),
        *(
            "-----BEGIN RSA PRIVATE KEY-----",
            "eyJ" + "a" * 12 + ".",
            "ghp_" + "a" * 36,
            "STRASSE",
            "\ud83d\ude00"[:0],
        ),
    ]
)
TEXTS = st.lists(PIECES, max_size=30).map("".join)


def _screened(direction: Direction, pieces: list[str]) -> tuple[str, Screen]:
    screen = Screen(direction)
    left = []
    for piece in pieces:
        before = screen.at
        left.append(screen.push(piece))
        assert screen.at >= before, "what has left does not come back"
    left.append(screen.finish())
    return "".join(left), screen


def _cut(text: str, places: list[int]) -> list[str]:
    borders = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[begin:end] for begin, end in pairwise(borders)]


@settings(max_examples=300, deadline=None)
@given(
    text=TEXTS,
    places=st.lists(st.integers(0, 10_000), max_size=40),
    actions=st.dictionaries(
        st.sampled_from(CATEGORIES), st.sampled_from(["block", "redact", "flag", "pass"]), max_size=8
    ),
    otherwise=st.sampled_from(["redact", "flag", "pass"]),
)
@example(text="self \u200bharmful", places=[4, 5, 6], actions={"harm": "block"}, otherwise="redact")
@example(text="x" + "\u200b" * 30 + "harm", places=[20, 31], actions={}, otherwise="redact")
@example(text="abXXXXXXXXz", places=[4], actions={}, otherwise="redact")
def test_any_chunking_gives_what_the_whole_gives(
    text: str, places: list[int], actions: dict[str, Action], otherwise: Action
) -> None:
    direction = Direction(tuple(FILTERS), actions, otherwise)
    whole, of_whole = _screened(direction, [text])
    pieces, of_pieces = _screened(direction, _cut(text, places))
    assert pieces == whole
    assert of_pieces.blocked == of_whole.blocked
    assert of_pieces.removed == of_whole.removed
    if not of_whole.blocked:
        assert of_pieces.counts == of_whole.counts


@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
def test_one_character_at_a_time_gives_what_the_whole_gives(text: str) -> None:
    direction = Direction(tuple(FILTERS), {"hate": "block"}, "redact")
    whole, of_whole = _screened(direction, [text])
    pieces, of_pieces = _screened(direction, list(text))
    assert (pieces, of_pieces.blocked, of_pieces.removed) == (whole, of_whole.blocked, of_whole.removed)


@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
def test_what_is_only_flagged_is_never_held_back_nor_changed(text: str) -> None:
    screen = Screen(Direction(tuple(FILTERS), {}, "flag"))
    assert "".join(screen.push(character) for character in text) == text
    assert screen.finish() == ""
    assert not screen.changed


@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
def test_nothing_that_is_redacted_or_blocked_ever_leaves(text: str) -> None:
    words = WordList({"own": ["zebra"]})
    screen = Screen(Direction((words,), {}, "redact"))
    left = "".join(screen.push(one) for one in f"{text} zebra {text}") + screen.finish()
    assert "[REDACTED:OWN]" in left
    assert "zebra" not in left.casefold()
