"""Which names the server answers to (DNS rebinding), and which web pages may use it (cross-site requests)."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the package fastapi is not installed")

from empty_server import application, asked, bearer
from tercet.errors import ParameterError
from tercet.security.api_keys import KeyStore
from tercet.server.middleware.origin import Origin, checked_origin, host_name
from tercet.server.settings import ServerSettings


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys.jsonl", lambda: 1_763_900_000.0)


@pytest.fixture
def user(store: KeyStore) -> str:
    return store.create("alice")[0]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("192.168.1.4", 200),
        ("localhost:1", 200),
        ("LocalHost.", 200),
        ("app.localhost", 200),
        ("tercet", 200),
        ("good.example", 200),
        ("GOOD.example:443", 200),
        ("a.b.inside.example", 200),
        ("evil.example", 403),
        ("notgood.example", 403),
        ("good.example.evil.example", 403),
        ("inside.example.evil", 403),
        ("127.0.0.1.evil.example", 403),
        ("evil.example:80:80", 403),
        ("good.example@evil.example", 403),
        ("a b", 403),
    ],
)
def test_only_our_own_names_are_answered(host: str, status: int) -> None:
    """DNS rebinding: a stranger's name that leads here is refused."""
    app = application(ServerSettings(allowed_hosts=("good.example", ".inside.example")))
    answer = asked(app, "GET", "/version", {"Host": host})
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"]["code"] == "unknown_host"


def test_with_keys_any_name_is_good_unless_some_are_listed(store: KeyStore, user: str) -> None:
    headers = {"Host": "api.example"} | bearer(user)
    app = application(ServerSettings(keys_file=store.path))
    assert asked(app, "GET", "/version", headers).status_code == 200
    for changes in ({"allowed_hosts": ("other.example",)}, {"allow_unauthenticated": True}):
        settings = ServerSettings(keys_file=store.path, **changes)  # type: ignore[arg-type]
        assert asked(application(settings), "GET", "/version", headers).status_code == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8080", 200),
        ("https://127.0.0.1:8080", 200),
        ("https://page.example", 200),
        ("http://page.example", 403),
        ("http://127.0.0.1:8081", 403),
        ("http://127.0.0.1", 403),
        ("https://page.example.evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_pages_of_strangers_may_not_use_the_server(origin: str, status: int, method: str) -> None:
    app = application(ServerSettings(cors_origins=("https://page.example",)))
    headers = {"Host": "127.0.0.1:8080", "Origin": origin}
    answer = asked(app, method, "/version", headers)
    assert (answer.status_code == 403) is (status == 403)
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed == ("https://page.example" if origin == "https://page.example" else None)


def test_cors_is_off_by_default() -> None:
    headers = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    answer = asked(application(ServerSettings()), "OPTIONS", "/v1/chat/completions", headers)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_page_that_may_come_asks_first_without_a_key(store: KeyStore, user: str) -> None:
    app = application(ServerSettings(keys_file=store.path, cors_origins=("https://page.example",)))
    origin = {"Origin": "https://page.example"}
    wanted = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    first = asked(app, "OPTIONS", "/v1/chat/completions", origin | wanted)
    assert first.status_code == 204
    assert first.headers["access-control-allow-headers"] == "authorization, content-type"
    assert "POST" in first.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in first.headers
    then = asked(app, "GET", "/version", origin | bearer(user))
    assert (then.status_code, then.headers["vary"]) == (200, "Origin")
    refused = asked(app, "GET", "/version", origin)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, origin["Origin"])


def test_any_page_may_come_where_that_is_said() -> None:
    app = application(ServerSettings(cors_origins=("*",)))
    answer = asked(app, "GET", "/version", {"Origin": "null"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "null")


@pytest.mark.parametrize("text", ["page.example", "https://", "https://a/b", "https://a?b", "null", ""])
def test_an_origin_is_written_as_browsers_do(text: str) -> None:
    with pytest.raises(ParameterError, match="an origin is"):
        checked_origin(text)
    assert checked_origin("HTTPS://Page.Example/") == "https://page.example"


def test_a_host_that_is_none_is_no_name() -> None:
    assert [host_name(host) for host in ("", "a.b.", "[::1]:80", "a/b", "a\n")] == [
        "",
        "a.b",
        "[::1]",
        None,
        None,
    ]
    assert Origin(lambda *_: None, (), (), any_host=False)._is_good_host("x.example") is False  # type: ignore[arg-type]
