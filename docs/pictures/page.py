"""Makes the pictures of the web page from a real server: `.venv/bin/python docs/pictures/page.py`.

Two conversations with the shipped model, then the dashboard while four clients keep it busy. The texts are
repeatable (seeded), the figures are of the machine that it ran on. Needs Chromium and Playwright.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = Path(__file__).parent
CHROMIUM = "/usr/bin/chromium"
BUSY_SECONDS = 45
PROMPTS = [
    "Once upon a time there was a little dog who lived in a small house near the wood and ",
    "Tell me a story about the moon and the little girl who wanted to visit it with her dog",
    "What is a cat?",
]


def keep_busy(address: str, number: int, done: threading.Event) -> None:
    """One client: asks, reads, pauses, asks again."""
    chance = random.Random(number)
    while not done.wait(chance.random()):
        message = {"role": "user", "content": chance.choice(PROMPTS)}
        body = {
            "messages": [message],
            "max_tokens": chance.choice([40, 120, 200]),
            "seed": chance.randrange(1000),
        }
        request = urllib.request.Request(
            f"{address}/v1/chat/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request).read()


def say(page: Page, text: str) -> None:
    """Sends a message and waits for the answer's figures."""
    page.fill("#draft", text)
    page.press("#draft", "Enter")
    page.wait_for_selector(".message-figures")


def take(address: str) -> None:
    """Both pictures."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        page.wait_for_selector("#model option", state="attached")
        page.click("#open-settings")
        for name, value in {"seed": "5", "max_tokens": "110"}.items():
            page.fill(f"#setting-{name}", value)
            page.press(f"#setting-{name}", "Tab")
        page.keyboard.press("Escape")
        say(page, "Tell me a story about the moon.")
        page.click("[data-act=retry]")
        page.wait_for_selector(".assistant .versions")
        page.click("#new-conversation")
        say(page, "Once upon a time there was a little dog")
        page.click("#conversations li:nth-child(2) a")
        page.screenshot(path=FOLDER / "page-chat.png", animations="disabled")

        done = threading.Event()
        clients = [threading.Thread(target=keep_busy, args=(address, number, done)) for number in range(4)]
        for client in clients:
            client.start()
        page.click("#tab-dashboard")
        page.wait_for_timeout(BUSY_SECONDS * 1000)
        page.screenshot(path=FOLDER / "page-dashboard.png", animations="disabled")
        done.set()
        for client in clients:
            client.join()


def main() -> None:
    """Start a server, take the pictures, stop it."""
    command = [sys.executable, "-m", "tercet", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        lines = iter(server.stdout.readline, "")
        found = next(match for line in lines if (match := re.search(r"Serving .* at (http://\S+)", line)))
        try:
            take(found[1])
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
