"""How the page shows things: to eyes, to screen readers, on a phone, in the dark, from right to left."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from browser import Visitor

pytestmark = pytest.mark.timeout(120)

Visit = Callable[..., Visitor]

ANSWER = """A **bold** word, an *emphasized* one, `code` and [a link](https://example.org/a?b=c).

# Heading

1. one
2. two
   - inner
   - other

> quoted

```python
def bark(times: int) -> str:
    return " ".join(["woof"] * times)  # a long line that a phone cannot show without scrolling sideways
```

| name | age |
| --- | --- |
| Rex | 3 |

שלום, זה כלב קטן.

- مرحبا بالعالم
- hello

averyveryveryveryveryveryveryveryveryveryveryveryveryveryveryverylongwordthatdoesnotfit
"""
CODE = ANSWER.split("```python\n")[1].split("\n```")[0]
CONTROLS = {"button", "link", "textbox", "combobox", "slider", "spinbutton", "radio", "checkbox", "searchbox"}
CONTRAST = """
(pairs) => {
  const probe = document.body.appendChild(document.createElement("span"));
  const channels = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((part) => {
      const value = part / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
  };
  const weights = [0.2126, 0.7152, 0.0722];
  const light = (name) => channels(name).reduce((sum, value, at) => sum + value * weights[at], 0);
  const found = pairs.map(([one, other]) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return [one, other, (high + 0.05) / (low + 0.05)];
  });
  probe.remove();
  return found;
}
"""
TEXT_ON = [
    *(
        ("--ink", on)
        for on in ("--paper", "--surface", "--raised", "--sunken", "--accent-soft", "--danger-soft")
    ),
    *(("--ink-soft", on) for on in ("--paper", "--surface", "--raised", "--sunken", "--accent-soft")),
    *(("--accent", on) for on in ("--paper", "--surface", "--raised")),
    ("--accent-ink", "--accent"),
    ("--ink", "--warning-soft"),
]


def width(visitor: Visitor) -> list[int]:
    return visitor.page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )


def unnamed(visitor: Visitor) -> list[str]:
    """Controls that a screen reader could only call "button"."""
    session = visitor.context.new_cdp_session(visitor.page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    controls = [node for node in nodes if not node["ignored"] and node["role"]["value"] in CONTROLS]
    assert len(controls) > 5
    return [str(node) for node in controls if not node.get("name", {}).get("value", "").strip()]


def test_an_answer_is_shown_as_it_was_meant(visit: Visit) -> None:
    visitor = visit()
    visitor.answer_with(ANSWER)
    visitor.say("Show me")
    answer = visitor.page.locator(".message.assistant .message-text")
    for selector, text in {
        "strong": "bold",
        "em": "emphasized",
        "p > code": "code",
        "h3": "Heading",
        "ol > li:first-of-type": "one",
        "ol ul > li:last-of-type": "other",
        "blockquote p": "quoted",
        "th:last-of-type": "age",
        "td:first-of-type": "Rex",
        "pre code": CODE,
    }.items():
        assert answer.locator(selector).first.inner_text() == text, selector
    link = answer.locator("a")
    assert link.get_attribute("href") == "https://example.org/a?b=c"
    assert link.get_attribute("rel") == "noopener noreferrer nofollow"


def test_code_is_copied_as_it_is(visit: Visit) -> None:
    visitor = visit()
    visitor.answer_with(ANSWER)
    visitor.say("Show me")
    visitor.page.click(".copy-code")
    visitor.until("document.querySelector('.copy-code').innerText.includes('Copied')")
    assert visitor.page.evaluate("navigator.clipboard.readText()") == CODE
    visitor.page.locator(".message.assistant").hover()
    visitor.page.click(".message.assistant [aria-label=Copy]")
    visitor.page.wait_for_selector(".message.assistant .icon-button.done")
    assert visitor.page.evaluate("navigator.clipboard.readText()") == ANSWER


def test_each_paragraph_runs_in_its_own_direction(visit: Visit) -> None:
    visitor = visit()
    visitor.answer_with(ANSWER)
    visitor.say("שלום\nhello")
    page = visitor.page
    directions = page.evaluate(
        """[...document.querySelectorAll(".message-text p, .message-text li, .message-text pre")]
           .map((one) => [one.textContent.trim().slice(0, 5), getComputedStyle(one).direction])"""
    )
    assert ["A bol", "ltr"] in directions
    assert ["שלום,", "rtl"] in directions
    assert ["مرحبا", "rtl"] in directions
    assert ["hello", "ltr"] in directions
    assert ["def b", "ltr"] in directions
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.message.user .message-text')).unicodeBidi")
        == "plaintext"
    )
    page.fill("#draft", "שלום")
    assert page.evaluate("getComputedStyle(document.querySelector('#draft')).direction") == "rtl"
    assert page.get_attribute("#conversations a", "dir") == "auto"


def test_a_phone_shows_everything_without_scrolling_sideways(visit: Visit) -> None:
    visitor = visit(phone=True)
    page = visitor.page
    visitor.picture("phone-welcome")
    visitor.answer_with(ANSWER)
    visitor.say("Show me " + "everything" * 20)
    visitor.picture("phone-chat")
    assert width(visitor) == [360, 360]
    assert page.locator("#sidebar").is_hidden()
    page.tap("#open-sidebar")
    page.wait_for_selector("#sidebar.open")
    assert page.evaluate("document.querySelector('#stage').inert")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "open-sidebar"
    page.tap("#open-settings")
    visitor.picture("phone-settings")
    assert width(visitor) == [360, 360]
    page.tap("#settings [data-close]")
    page.tap("#tab-dashboard")
    page.wait_for_selector(".chart canvas")
    visitor.picture("phone-dashboard")
    assert width(visitor) == [360, 360]
    small = page.evaluate(
        """[...document.querySelectorAll("button, a, input, select")].filter((one) => one.checkVisibility())
           .map((one) => [one.outerHTML.slice(0, 80), one.getBoundingClientRect()])
           .filter(([, box]) => box.width && (box.width < 24 || box.height < 24)).map(([html]) => html)"""
    )
    assert small == [], "smaller than a finger (WCAG 2.2, 2.5.8)"


def test_dark_and_light_and_both_can_be_read(visit: Visit) -> None:
    visitor = visit(color_scheme="dark")
    page = visitor.page
    visitor.answer_with(ANSWER)
    visitor.say("Show me")
    visitor.picture("chat-dark")
    brightness = (
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b)"
    )
    for theme, is_dark in (("auto", True), ("light", False), ("dark", True)):
        page.locator(f"#themes input[value={theme}]").check()
        page.reload()
        assert page.get_attribute("html", "data-theme") == theme
        assert (page.evaluate(brightness) < 200) == is_dark
        weak = [pair for pair in page.evaluate(CONTRAST, TEXT_ON) if pair[2] < 4.5]
        assert weak == [], "WCAG 2.2, 1.4.3"


def test_every_control_has_a_name(visit: Visit) -> None:
    visitor = visit()
    page = visitor.page
    visitor.answer_with(ANSWER)
    visitor.say("Show me")
    visitor.page.click("[data-act=retry]")
    visitor.page.wait_for_selector(".versions")
    assert unnamed(visitor) == []
    page.click("#open-settings")
    assert unnamed(visitor) == []
    page.keyboard.press("Escape")
    page.click("#show-help")
    page.keyboard.press("Escape")
    page.locator(".message.user").hover()
    page.click("[data-act=edit]")
    assert unnamed(visitor) == []
    page.click("#tab-dashboard")
    page.wait_for_selector(".chart canvas")
    assert unnamed(visitor) == []
    roles = page.evaluate(
        "[...document.querySelectorAll('[role=img]')].map((one) => one.getAttribute('aria-label'))"
    )
    assert len(roles) == 12
    assert all(roles)


def test_a_screen_reader_hears_the_answer_once(visit: Visit) -> None:
    visitor = visit()
    visitor.answer_with("A short answer.")
    visitor.say("Hello")
    assert visitor.page.inner_text("#announcement") == "A short answer."
    assert visitor.page.get_attribute("#announcement", "role") == "status"
    assert visitor.page.locator(".message.assistant").get_attribute("aria-busy") == "false"


def test_who_wants_no_motion_gets_none(visit: Visit) -> None:
    visitor = visit(reduced_motion="reduce")
    visitor.page.click("#open-settings")
    moving = visitor.page.evaluate(
        """document.getAnimations().filter((one) => one.playState === "running").length
           + (getComputedStyle(document.querySelector("#settings")).animationName !== "none")"""
    )
    assert moving == 0
