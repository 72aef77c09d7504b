"""Text and numbers that are what they say, and text without what a browser would run."""

from __future__ import annotations

import contextlib
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import InvalidInputError
from tercet.security.sanitize import plain_text, safe_html
from tercet.security.validation import check_number, check_text, has_control_characters


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "text, not int"),
        (None, "text, not NoneType"),
        (b"bytes", "text, not bytes"),
        ("a\ud800b", "half of a surrogate pair at character 1"),
        ("a\x00", "U\\+0000 at character 1"),
        ("\x1b[31m", "U\\+001B at character 0"),
        ("\x85", "U\\+0085"),
        ("\x7f", "U\\+007F"),
    ],
)
def test_text_that_is_none_is_refused_and_not_quoted(value: object, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as caught:
        check_text("prompt", value)
    assert caught.value.param == "prompt"
    assert caught.value.code == "INVALID_INPUT"


@pytest.mark.parametrize("value", ["", "a\tb\r\nc", "grüße 👋🏽 \u200b", "\u202eabc"])
def test_text_of_any_language_is_text(value: str) -> None:
    assert check_text("prompt", value) is value
    assert not has_control_characters(value)


def test_control_characters_can_be_allowed_and_surrogates_cannot() -> None:
    assert check_text("prompt", "\x1b", control_characters=True) == "\x1b"
    with pytest.raises(InvalidInputError):
        check_text("prompt", "\udfff", control_characters=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "1", None, 3.5, 11, -1, 1e400])
def test_numbers_that_are_none_are_refused(value: object) -> None:
    with pytest.raises(InvalidInputError):
        check_number("top_k", value, whole=True, least=0, most=10)


def test_numbers_are_numbers() -> None:
    assert check_number("top_k", 3, whole=True, least=0, most=10) == 3
    assert check_number("temperature", 0.5) == 0.5


DANGEROUS = [
    "<script>alert(1)</script>hi",
    "<SCRIPT SRC=//evil>x</SCRIPT >",
    "<scr<script>ipt>alert(1)</script>",
    "<scr<script></script>ipt>alert(1)</script>",
    "<iframe src=//evil></iframe>",
    "<IFRAME",
    "<a href='java\tscript:alert(1)'>x</a>",
    "JaVaScRiPt:alert(1)",
    "javajavascript:script:alert(1)",
    "[x](data:text/html;base64,PHNj)",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<b onclick = 'x'>",
    "data:data:text/html,text/html,x",
]


@pytest.mark.parametrize("text", DANGEROUS)
def test_what_a_browser_would_run_is_taken_out(text: str) -> None:
    for cleaned in (plain_text(text), safe_html(text)):
        folded = "".join(cleaned.lower().split())
        for word in ("<script", "<iframe", "<svg", "onerror=", "onload=", "onclick="):
            assert word not in folded
    assert "javascript:" not in "".join(plain_text(text).lower().split())
    assert "data:text/html" not in plain_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "a < b && c > d",
        "the data: 1, 2 and 3",
        "vector<int> x; x << 1; metadata: none",
        "<b>bold</b> & <i>italic</i>",
        "Is JavaScript a script? on=1",
        "\u4e2d\u6587 <- \u00fc",
    ],
)
def test_other_text_stays_as_it_was(text: str) -> None:
    assert plain_text(text) == text


@given(st.text(st.sampled_from("<>/scriptajv:ond=x'\" \t\u200b"), max_size=60))
def test_taking_out_leaves_nothing_to_take_out(text: str) -> None:
    cleaned = plain_text(text)
    assert plain_text(cleaned) == cleaned


def test_html_for_pages_keeps_what_is_harmless() -> None:
    assert safe_html("<p>a &lt; b <b>c</b></p><style>x</style>") == "<p>a &lt; b <b>c</b></p>"
    assert "javascript" not in safe_html("<a href='javascript:x'>y</a>")
    assert safe_html("<img src='http://evil/?q=secret'>").count("data:") == 0


@pytest.mark.parametrize(
    "piece", ["<script", "<script>", "<a on", "data:a/", "<", "java script", "<scr<script>"]
)
def test_no_text_takes_more_than_linear_time(piece: str) -> None:
    began = time.perf_counter()
    with contextlib.suppress(InvalidInputError):  # nested too deep
        plain_text(piece * 10_000)
    assert time.perf_counter() - began < 5
