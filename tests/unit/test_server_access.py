"""The door of the server: every route is closed to strangers, and what is for whom is in one table.

The application is the real one; behind the door there is no model, so what passes ends in an error that is
neither 401 nor 403.
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the package fastapi is not installed")

import httpx
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute

from empty_server import application, asked, bearer
from tercet.errors import ParameterError, StorageError
from tercet.security.api_keys import KeyStore
from tercet.security.identity import ANONYMOUS, LOCAL, Caller, current_caller
from tercet.server.access import Access
from tercet.server.authorization import ADMIN_PATHS, PAGE_FOLDER, USER_PATHS, RoleTable, every_route
from tercet.server.middleware.authentication import Authentication
from tercet.server.serving import listen
from tercet.server.settings import ServerSettings

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "ODD")


class Clock:
    now = 1_763_900_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys.jsonl", Clock())


@pytest.fixture
def user(store: KeyStore) -> str:
    return store.create("alice")[0]


@pytest.fixture
def admin(store: KeyStore) -> str:
    return store.create("operator", role="admin")[0]


@pytest.fixture
def app(store: KeyStore, user: str, admin: str) -> FastAPI:
    return application(ServerSettings(keys_file=store.path))


def addresses(app: FastAPI) -> Iterator[tuple[Any, str]]:
    for route in every_route(app.routes):
        yield route, re.sub(r"\{[^}]*\}", "x", str(getattr(route, "path", "/")))


# Every route --------------------------------------------------------------------------------------------


def test_every_route_is_in_the_table_once(app: FastAPI) -> None:
    paths = {str(getattr(route, "path", "")) for route in every_route(app.routes)}
    assert not USER_PATHS & ADMIN_PATHS
    named = {path for path in paths if not path.startswith(PAGE_FOLDER)}
    assert named == USER_PATHS | ADMIN_PATHS


def test_no_route_answers_without_a_key(app: FastAPI, user: str) -> None:
    """Of the real application, with methods that a route has and such that it has not, aliases as well."""
    seen = 0
    for route, path in addresses(app):
        for method in sorted({*(route.methods or ()), "GET", "OPTIONS"}):
            answer = asked(app, method, path)
            assert (answer.status_code, path) == (401, path)
            if method != "HEAD":
                error = answer.json()["error"]
                assert set(error) == {"message", "type", "param", "code"}
                assert (error["type"], error["code"]) == ("authentication_error", "missing_api_key")
            assert answer.headers["www-authenticate"].startswith("Bearer")
            seen += 1
    assert seen > 100


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "path", ["/v1/models", "/nothing", "/V1/models", "/v1/models/", "//v1/models", "/%761/models"]
)
def test_no_method_and_no_spelling_gets_by(app: FastAPI, method: str, path: str) -> None:
    assert asked(app, method, path).status_code == 401


def test_what_is_added_later_is_closed_too(app: FastAPI, user: str, admin: str) -> None:
    """A mounted application, a router with a prefix and a plain route: 401, and 403 for users."""

    async def words(request: Any) -> PlainTextResponse:
        return PlainTextResponse("in")

    router = APIRouter(prefix="/added")
    router.add_api_route("/route", words, methods=["GET"], response_model=None)
    app.include_router(router)
    app.router.routes.append(Mount("/mounted", Starlette(routes=[Route("/inner", words)])))
    app.router.routes.append(Route("/plain", words))
    for path in ("/added/route", "/mounted/inner", "/plain"):
        statuses = [
            asked(app, "GET", path, headers).status_code for headers in ({}, bearer(user), bearer(admin))
        ]
        assert statuses[:2] == [401, 403]
        assert statuses[2] not in (401, 403)


def test_a_websocket_is_closed_before_it_opens(app: FastAPI, user: str) -> None:
    app.router.routes.append(WebSocketRoute("/socket", lambda socket: socket.accept()))
    for headers in (
        [],
        [(b"authorization", b"Bearer wrong")],
        [(b"authorization", f"Bearer {user}".encode())],
    ):
        scope = {"type": "websocket", "path": "/socket", "headers": headers, "root_path": ""}
        assert asyncio.run(said_to(app, scope)) == [{"type": "websocket.close", "code": 1008}]


async def said_to(app: Any, scope: dict[str, Any]) -> list[Any]:
    """What the application sends to somebody who opens a WebSocket."""
    sent = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def test_operators_routes_take_an_admins_key(app: FastAPI, user: str, admin: str) -> None:
    for route, path in addresses(app):
        is_admins = route.path in ADMIN_PATHS
        for method in () if path.startswith(PAGE_FOLDER) else route.methods:
            answer = asked(app, method, path, bearer(user))
            assert (answer.status_code == 403) is is_admins, path
            if is_admins and method != "HEAD":
                error = answer.json()["error"]
                assert (error["type"], error["code"]) == ("permission_error", "admin_required")
            assert asked(app, method, path, bearer(admin)).status_code not in (401, 403)


def test_health_can_be_opened_and_nothing_else(store: KeyStore, user: str) -> None:
    app = application(ServerSettings(keys_file=store.path, open_health=True))
    open_paths = {path for route, path in addresses(app) if asked(app, "GET", path).status_code != 401}
    assert open_paths == {"/livez", "/readyz", "/health", "/v1/health"}
    assert asked(app, "POST", "/health").status_code == 401


def test_the_figures_can_be_opened_and_nothing_else(store: KeyStore, user: str) -> None:
    app = application(ServerSettings(keys_file=store.path, open_metrics=True))
    assert {path for _, path in addresses(app) if asked(app, "GET", path).status_code != 401} == {"/metrics"}


# Keys in headers ----------------------------------------------------------------------------------------


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def test_a_key_comes_in_any_of_three_ways(app: FastAPI, user: str) -> None:
    for headers in (
        bearer(user),
        {"authorization": f"bearer   {user} "},
        {"x-api-key": user},
        basic(f"me:{user}"),
    ):
        assert asked(app, "GET", "/version", headers).status_code == 200
    both = {"x-api-key": "wrong"} | bearer(user)
    assert asked(app, "GET", "/version", both).status_code == 200  # the first that is there counts, alone
    assert asked(app, "GET", "/version", {"x-api-key": user} | bearer("wrong")).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        bearer(""),
        bearer("none"),
        bearer("tct_000000000000_" + "0" * 48),
        {"Authorization": "Digest x"},
        {"Authorization": "Basic ???"},
        {"Authorization": ""},
        {"x-api-key": ""},
        basic("no colon"),
        bearer("x" * 10_000),
    ],
)
def test_what_is_no_key_lets_nobody_in(app: FastAPI, headers: dict[str, str]) -> None:
    answer = asked(app, "GET", "/version", headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert all(word not in answer.text for word in headers.values() if word)


def test_two_keys_in_one_request_are_none(app: FastAPI, user: str, admin: str) -> None:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1"
        ) as client:
            headers = [("Authorization", f"Bearer {user}"), ("Authorization", f"Bearer {admin}")]
            return await client.get("/version", headers=headers)

    assert asyncio.run(ask()).status_code == 401


def test_expired_and_revoked_keys_say_so(store: KeyStore, admin: str) -> None:
    expired, _ = store.create("old", seconds=1)
    revoked, record = store.create("gone")
    store.revoke(record.id)
    app = application(ServerSettings(keys_file=store.path))  # whose clock is years after the store's
    for key, words in ((expired, "has expired"), (revoked, "has been revoked")):
        answer = asked(app, "GET", "/version", bearer(key))
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert words in answer.text


def test_keys_change_without_a_restart(app: FastAPI, store: KeyStore, user: str) -> None:
    events: list[Any] = []
    app.state.security_events.subscribe(events.append)
    assert asked(app, "GET", "/version", bearer(user)).status_code == 200
    added, record = store.create("bob")
    assert asked(app, "GET", "/version", bearer(added)).status_code == 200
    store.revoke(record.id)
    assert asked(app, "GET", "/version", bearer(added)).status_code == 401
    assert asked(app, "GET", "/version", bearer(user)).status_code == 200
    changes = [event.fields for event in events if event.kind == "configuration.changed"]
    assert changes == [{"what": "keys", "keys": 3}, {"what": "keys", "keys": 2}]


def test_a_damaged_file_lets_nobody_in_until_it_is_mended(app: FastAPI, store: KeyStore, user: str) -> None:
    good = store.path.read_bytes()
    store.path.write_bytes(good.replace(b'"sha256"', b'"sha257"'))
    answer = asked(app, "GET", "/version", bearer(user))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert str(store.path) not in answer.text
    assert asked(app, "GET", "/version").status_code == 401
    store.path.write_bytes(good)
    assert asked(app, "GET", "/version", bearer(user)).status_code == 200


# Who may come without one -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "keys", "anyone", "stranger"),
    [
        ("127.0.0.1", False, False, LOCAL),
        ("::1", False, False, LOCAL),
        ("localhost", False, True, LOCAL),
        ("127.0.0.1", True, False, None),
        ("127.0.0.1", True, True, ANONYMOUS),
        ("0.0.0.0", True, False, None),
        ("0.0.0.0", False, True, ANONYMOUS),
        ("0.0.0.0", True, True, ANONYMOUS),
    ],
)
def test_who_comes_without_a_key(
    store: KeyStore, user: str, host: str, keys: bool, anyone: bool, stranger: Caller | None
) -> None:
    settings = ServerSettings(host=host, keys_file=store.path if keys else None, allow_unauthenticated=anyone)
    app = application(settings)
    answer = asked(app, "GET", "/version")
    assert answer.status_code == (401 if stranger is None else 200)
    if stranger is not None:
        assert app.state.access.caller_of(httpx_headers({})) == stranger
        assert (asked(app, "GET", "/security/status").status_code == 200) is stranger.is_admin
    assert app.state.security.profile == ("local" if stranger == LOCAL else "strict")


def httpx_headers(values: dict[str, str]) -> Any:
    from starlette.datastructures import Headers

    return Headers(values)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.com"])
def test_strangers_are_not_let_in_by_mistake(host: str) -> None:
    for start in (application, listen):
        with pytest.raises(ParameterError, match="tercet keys create"):
            start(ServerSettings(host=host, port=0))


def test_a_name_that_leads_elsewhere_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("0.0.0.0", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
    with pytest.raises(ParameterError, match="can be reached from other machines"):
        listen(ServerSettings(host="localhost", port=0))


def test_keys_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="tercet keys create"):
        application(ServerSettings(keys_file=tmp_path / "none.jsonl"))


def test_the_caller_is_known_to_whatever_runs_for_the_request(store: KeyStore) -> None:
    key, record = store.create("alice", models=["a"], requests_per_minute=3)
    seen: list[Any] = []

    async def route(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([current_caller(), scope["state"]["caller"], await asyncio.to_thread(current_caller)])
        await PlainTextResponse("")(scope, receive, send)

    door = Authentication(route, Access(ServerSettings(keys_file=store.path), Clock()), lambda: RoleTable([]))
    asked(door, "GET", "/", bearer(key))
    assert seen == [record.caller] * 3
    assert current_caller() is LOCAL
