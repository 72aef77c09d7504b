"""The chat of the web page, in a real browser against `tercet serve` with the shipped model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from browser import Visitor
from served import Server

pytestmark = pytest.mark.timeout(120)

Visit = Callable[..., Visitor]

STORY = "Once upon a time there was a little dog"


@pytest.fixture(scope="module")
def unhurried() -> Iterator[Server]:
    """The shipped model writes 500 tokens before a busy machine draws the first; this one takes its time."""
    server = Server(first="from tercet.engine.mock import Faults, inject; inject(Faults(delay_seconds=0.1))")
    yield server
    server.stop()


def settle(visitor: Visitor, **values: Any) -> None:
    """Fill in fields of the settings as a visitor would."""
    visitor.page.click("#open-settings")
    for name, value in values.items():
        field = name if name in ("system", "key") else f"setting-{name}"
        visitor.page.fill(f"#{field}", str(value))
        visitor.page.press(f"#{field}", "Tab")
    visitor.page.keyboard.press("Escape")


def titles(visitor: Visitor) -> list[str]:
    return visitor.page.locator("#conversations a").all_inner_texts()


def version(visitor: Visitor, role: str) -> str:
    return visitor.page.locator(f".message.{role} .versions-count").first.inner_text()


def test_an_answer_grows_on_the_page_and_is_counted(visit: Visit, unhurried: Server) -> None:
    visitor = visit(server=unhurried)
    page = visitor.page
    settle(visitor, seed=1, max_tokens=60)
    page.evaluate(
        """() => {
          window.lengths = new Set();
          new MutationObserver(() => {
            const text = document.querySelector(".message.assistant .message-text")?.textContent ?? "";
            window.lengths.add(text.length);
          }).observe(document, {subtree: true, childList: true, characterData: true});
        }"""
    )
    with page.expect_request("**/v1/chat/completions") as request:
        visitor.say(STORY)
    visitor.picture("chat-light")
    same = {**request.value.post_data_json, "stream": False}
    del same["stream_options"]
    with visitor.server.client() as client:
        direct = client.post("/v1/chat/completions", json=same).json()
    usage = direct["usage"]
    assert visitor.texts("user") == [STORY]
    (answer,) = visitor.texts("assistant")
    assert answer.split() == direct["choices"][0]["message"]["content"].split()
    assert len(answer) > 50
    assert len(page.evaluate("[...window.lengths]")) > 3, "the answer came in one piece"
    figures = page.locator(".message-figures").inner_text()
    assert figures.startswith(f"{usage['completion_tokens']} tokens · ")
    assert re.search(r" tokens/s · first after [\d.]+ m?s · read (\d+)", figures)
    assert f"read {usage['prompt_tokens']}" in figures
    used = usage["prompt_tokens"] + usage["completion_tokens"]
    assert page.locator("#context").inner_text() == f"llama-tercet-tiny · {used} of 512 tokens"


def test_what_was_touched_is_sent_and_nothing_else(visit: Visit) -> None:
    visitor = visit()
    page = visitor.page
    visitor.answer_with("Hello!")
    with page.expect_request("**/v1/chat/completions") as request:
        visitor.say("Hello")
    page.unroute("**/v1/chat/completions")
    sent = request.value.post_data_json
    assert sent.pop("model")
    assert sent == {
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    settle(
        visitor,
        temperature=0,
        seed=7,
        max_tokens=5,
        system=" Be kind. ",
        key="s3cret",
    )
    with page.expect_request("**/v1/chat/completions") as request:
        visitor.say("And now?")
    sent = request.value.post_data_json
    assert (sent["temperature"], sent["seed"], sent["max_tokens"]) == (0, 7, 5)
    assert [message["role"] for message in sent["messages"]] == ["system", "user", "assistant", "user"]
    assert sent["messages"][0]["content"] == "Be kind."
    assert not {"top_p", "top_k", "min_p", "repetition_penalty"} & set(sent)
    assert request.value.headers["authorization"] == "Bearer s3cret"
    assert visitor.page.locator(".message-note").last.inner_text() == "The limit of tokens was reached."
    page.reload()
    page.click("#open-settings")
    assert page.input_value("#setting-seed") == "7"
    page.click("#reset")
    assert (page.input_value("#setting-seed"), page.input_value("#system")) == ("", "")
    assert page.locator("output").first.inner_text() == "model’s own"


def test_an_answer_can_be_stopped_and_is_kept(visit: Visit, unhurried: Server) -> None:
    visitor = visit(server=unhurried)
    page = visitor.page
    settle(visitor, seed=1)
    page.evaluate(
        """() => new MutationObserver(() => {
          const text = document.querySelector(".message.assistant .message-text")?.textContent;
          if (text) document.querySelector("#stop:not([hidden])")?.click();
        }).observe(document, {subtree: true, childList: true, characterData: true})"""
    )
    visitor.say(STORY)
    assert page.locator(".assistant .message-note").inner_text() == "Stopped."
    (kept,) = visitor.texts("assistant")
    assert kept
    page.reload()
    assert visitor.texts("assistant") == [kept]
    assert page.locator("#send").is_visible()
    assert not page.locator("#stop").is_visible()


def test_questions_are_edited_and_answers_regenerated_without_losing_any(visit: Visit) -> None:
    visitor = visit()
    page = visitor.page
    visitor.answer_with("First.")
    visitor.say("one")
    visitor.answer_with("Second.")
    page.click("[data-act=retry]")
    visitor.until("document.querySelector('.message.assistant').innerText.includes('Second')")
    assert (visitor.texts("assistant"), version(visitor, "assistant")) == (["Second."], "2 / 2")
    page.click("[aria-label='Version before']")
    assert (visitor.texts("assistant"), version(visitor, "assistant")) == (["First."], "1 / 2")
    visitor.answer_with("Third.")
    page.click("[data-act=edit]")
    page.fill(".editor textarea", "two")
    page.click(".editor .primary")
    visitor.until("document.querySelector('.message.assistant').innerText.includes('Third')")
    assert (visitor.texts("user"), visitor.texts("assistant")) == (["two"], ["Third."])
    visitor.say("more")
    assert visitor.texts("user") == ["two", "more"]
    page.reload()
    assert visitor.texts("user") == ["two", "more"]
    page.locator("[aria-label='Version before']").first.click()
    assert (visitor.texts("user"), visitor.texts("assistant")) == (["one"], ["First."])


def test_an_answer_being_written_gives_way(visit: Visit, unhurried: Server) -> None:
    """To an edited question, and to the deletion of its conversation; neither comes back by itself."""
    visitor = visit(server=unhurried)
    page = visitor.page
    settle(visitor, seed=1)
    page.fill("#draft", STORY)
    page.press("#draft", "Enter")
    page.wait_for_selector(".message.writing .message-text p")
    page.locator(".message.user").hover()
    page.click("[data-act=edit]")
    page.fill(".editor textarea", "Once upon a time there was a little cat")
    page.press(".editor textarea", "Enter")
    visitor.until("document.querySelector('.message.user').innerText.includes('little cat')")
    page.wait_for_selector(".message.writing .message-text p")
    page.locator("#conversations li").hover()
    page.click("[aria-label='Delete “Once upon a time there was a little cat”']")
    visitor.until("document.querySelector('#welcome').checkVisibility()")
    page.wait_for_timeout(300)
    assert titles(visitor) == []
    page.click("#notice button")
    visitor.until("document.querySelectorAll('.message').length === 2")
    assert page.locator(".assistant .message-note").inner_text() == "Stopped."
    page.click("[aria-label='Version before']")
    assert visitor.texts("user") == [STORY]
    assert page.locator(".assistant .message-note").inner_text() == "Stopped."


def test_conversations_stay_in_the_browser(visit: Visit) -> None:
    visitor = visit()
    page = visitor.page
    visitor.answer_with("A bone.")
    visitor.say("What does a dog eat?")
    first = page.url
    page.click("#new-conversation")
    assert page.locator("#welcome").is_visible()
    visitor.say("What does a cat eat?")
    page.reload()
    assert titles(visitor) == ["What does a cat eat?", "What does a dog eat?"]
    assert visitor.texts("user") == ["What does a cat eat?"]
    page.goto(first)
    assert visitor.texts("user") == ["What does a dog eat?"]

    page.locator("#conversations li.shown").hover()
    page.click("[aria-label='Rename “What does a dog eat?”']")
    page.fill("#conversations input", "Dogs")
    page.press("#conversations input", "Enter")
    assert titles(visitor) == ["What does a cat eat?", "Dogs"]
    page.locator("#conversations li.shown").hover()
    page.click("[aria-label='Delete “Dogs”']")
    assert titles(visitor) == ["What does a cat eat?"]
    page.click("#notice button")
    assert titles(visitor) == ["What does a cat eat?", "Dogs"]
    with page.expect_download() as download:
        page.click("#export")
    exported = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert [one["title"] for one in exported["conversations"]] == ["What does a cat eat?", "Dogs"]
    with page.expect_event("framenavigated"):
        page.goto("/#/c/nothing")
    visitor.until("location.hash === '#/new'")
    assert "not in this browser" in page.locator("#notice").inner_text()


def test_what_the_server_refuses_is_said_and_can_be_tried_again(visit: Visit) -> None:
    visitor = visit()
    visitor.answer_with("", status=503, error={"message": "Too many requests wait.", "code": "overloaded"})
    visitor.say("Hello")
    assert visitor.page.locator(".message-note.failure").inner_text() == "Too many requests wait."
    visitor.answer_with("Hello!")
    visitor.page.click("[data-act=retry]")
    visitor.until("document.querySelector('.message.assistant').innerText.includes('Hello!')")


def test_a_long_conversation_loses_its_oldest_exchange_and_says_so(visit: Visit) -> None:
    """The shipped model has room for 512 tokens. The server never cuts: the page leaves out the oldest."""
    visitor = visit()
    settle(visitor, max_tokens=20, seed=1)
    for number in range(3):
        visitor.say(f"{number} " + "a little dog and a little cat " * 30)
    note = visitor.page.locator(".message-note").last.inner_text()
    assert re.search(
        r"The [24] oldest messages no longer fit in the model's context and were left out\.", note
    )
    assert len(visitor.texts("assistant")[-1]) > 0


def test_everything_works_from_the_keyboard(visit: Visit) -> None:
    visitor = visit()
    page = visitor.page
    visitor.answer_with("Yes.")
    focused = "document.activeElement.id"
    end = [page.keyboard.press("Shift+Tab") for _ in range(40) if page.evaluate(focused) != "skip"]
    assert len(end) < 40, "the first stop is the link to the message field"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "draft"
    page.keyboard.type("first line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    page.keyboard.press("Enter")
    page.wait_for_selector(".message.assistant .message-foot button")
    assert visitor.texts("user") == ["first line\nsecond line"]
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Edit your message"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.act") == "edit"
    page.keyboard.press("Alt+r")
    page.wait_for_selector(".message.assistant .versions")
    page.keyboard.press("Alt+d")
    page.wait_for_selector("#dashboard:not([hidden])")
    page.keyboard.press("Alt+d")
    page.wait_for_selector("#chat:not([hidden])")
    page.keyboard.press("Alt+,")
    assert page.locator("#settings").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#settings").is_visible()
    page.keyboard.press("Alt+n")
    page.wait_for_selector("#welcome:not([hidden])")
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {
        "new-conversation",
        "export",
        "show-help",
        "tab-dashboard",
        "open-settings",
        "suggestion",
        "draft",
    } <= reached


def test_escape_stops_an_answer(visit: Visit, unhurried: Server) -> None:
    visitor = visit(server=unhurried)
    page = visitor.page
    settle(visitor, seed=1)
    page.evaluate(
        """() => new MutationObserver(() => {
          if (document.querySelector(".message.assistant .message-text")?.textContent)
            document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape", bubbles: true}));
        }).observe(document, {subtree: true, childList: true, characterData: true})"""
    )
    visitor.say(STORY)
    assert page.locator(".assistant .message-note").inner_text() == "Stopped."
