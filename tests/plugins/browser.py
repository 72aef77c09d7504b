"""A real browser, headless Chromium, as a visitor of the page; what it must never see is checked each time.

    def test_it(visit: Callable[..., Visitor]) -> None:
        visitor = visit(phone=True, color_scheme="dark")
        visitor.page.fill("#draft", "Hello")
        visitor.picture("hello")          # hello.png in TERCET_SCREENSHOTS, or in the test's folder

Never: an error of a script, a violation of the page's policy, a dialog, a request to another server.
Use it from modules of their own: while Chromium is driven, no event loop can be started in the same thread,
so it lives as long as a module's tests and no longer.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, Route

    from served import Server

CHROMIUM = "/usr/bin/chromium"
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
DESK = {"viewport": {"width": 1280, "height": 820}}
PATIENCE_MS = 45_000

# A policy violation that no console message tells of would be seen here.
WATCH_POLICY = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


class Visitor:
    """A window of the browser on the page, with a storage of its own."""

    def __init__(self, browser: Browser, server: Server, folder: Path, options: dict[str, Any]) -> None:
        self.server = server
        self.folder = folder
        self.complaints: list[str] = []
        self.context = browser.new_context(base_url=server.base_url, **options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.add_init_script(WATCH_POLICY)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page: Page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(f"script: {error}"))
        self.page.on("console", self._heard)
        self.page.on("dialog", self._interrupted)
        self.page.on("request", self._asked)
        self.page.goto("/")
        self.until("document.querySelector('#model').value !== ''")

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(f"console: {message.text}")

    def _interrupted(self, dialog: Dialog) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.server.base_url, "blob:")):
            self.complaints.append(f"request: {request.url}")

    def until(self, condition: str) -> None:
        """Wait until an expression holds. (Playwright waits by `eval`, which the policy forbids.)"""
        end = time.monotonic() + PATIENCE_MS / 1000
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, f"this did not come true: {condition}"
            self.page.wait_for_timeout(10)

    def picture(self, name: str) -> None:
        """Take a screenshot."""
        self.page.screenshot(path=self.folder / f"{name}.png", animations="disabled")

    def answer_with(self, text: str, **parts: Any) -> None:
        """Let the server's next answers be this text, since a small model does not write what a test wants.

        `status` and `error` make it a refusal instead.
        """

        def fulfill(route: Route) -> None:
            if "error" in parts:
                body = json.dumps({"error": parts["error"]})
                route.fulfill(status=parts["status"], content_type="application/json", body=body)
                return
            pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
            chunks: list[dict[str, Any]] = [{"choices": [{"delta": {"content": one}}]} for one in pieces]
            chunks.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            chunks.append({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(pieces)}})
            lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
            body = ": keep-alive\n\n" + "".join(lines) + "data: [DONE]\n\n"
            route.fulfill(content_type="text/event-stream", body=body)

        self.page.unroute("**/v1/chat/completions")
        self.page.route("**/v1/chat/completions", fulfill)

    def say(self, text: str) -> None:
        """Write a message, send it and wait for the end of the answer."""
        answers = self.page.locator(".message.assistant").count()
        self.page.fill("#draft", text)
        self.page.press("#draft", "Enter")
        self.until(
            f"document.querySelectorAll('.message.assistant').length > {answers}"
            " && !document.querySelector('.message[aria-busy=true]')"
        )

    def texts(self, role: str) -> list[str]:
        """The messages of `user` or `assistant` that are shown."""
        return self.page.locator(f".message.{role} .message-text").all_inner_texts()

    def leave(self) -> None:
        """Close the window; fail if something happened that never should."""
        violations = self.page.evaluate("window.violations")
        self.context.close()
        assert not [*self.complaints, *violations]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser itself."""
    from playwright.sync_api import sync_playwright

    if not Path(CHROMIUM).exists():
        pytest.skip("chromium is not installed")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser, serving: Server, tmp_path: Path) -> Iterator[Callable[..., Visitor]]:
    """Open the page in a new window: `phone=True` for a small one; other options are Playwright's."""
    folder = Path(os.environ.get("TERCET_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    visitors: list[Visitor] = []

    def open_window(*, phone: bool = False, server: Server = serving, **options: Any) -> Visitor:
        visitors.append(Visitor(chromium, server, folder, {**(PHONE if phone else DESK), **options}))
        return visitors[-1]

    yield open_window
    for visitor in visitors:
        visitor.leave()
