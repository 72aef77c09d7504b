"""A request of a batch is answered by the very routes that answer it over HTTP, in this process.

So it is checked as strictly, and its answer is the same object. It runs behind the requests of people who
wait (`priority`), and the time limit of those does not hold for it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from tercet.errors import FormatError, ParameterError, StorageError, UnavailableError
from tercet.security.identity import LOCAL, Caller
from tercet.server.access import UnauthenticatedError
from tercet.server.errors import error_object
from tercet.service.batch.lines import BatchLine, Outcome
from tercet.service.batch.run import StopBatch, TryAgain
from tercet.service.generation import Generation
from tercet.service.request import GenerationRequest

if TYPE_CHECKING:
    from tercet.service.service import Service

__all__ = ["ENDPOINTS", "AppAnswer", "PatientService"]

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
BEHIND_OTHERS = 1_000
YEAR_SECONDS = 365 * 86_400.0
AGAIN_SECONDS = 1.0
NO_ROOM = frozenset({429, 503})


class PatientService:
    """A service whose requests run after all others, and may take their time; everything else is as there."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    async def submit(self, request: GenerationRequest) -> Generation:
        """Queue a request behind those of people who wait."""
        return await self._service.submit(
            dataclasses.replace(
                request,
                priority=request.priority + BEHIND_OTHERS,
                timeout_seconds=YEAR_SECONDS,
                first_token_timeout_seconds=YEAR_SECONDS,
            )
        )


class AppAnswer:
    """Answers lines of OpenAI's form.

    Args:
        app: the application, over a `PatientService`.
        endpoint: the route of the batch; None takes that of each line.
        model: answers, whatever model a line names; None follows the line.
        owner: the id of the key as whose requests they run; one that is not good any more gets 401.
    """

    def __init__(
        self,
        app: FastAPI,
        endpoint: str | None = None,
        model: str | None = None,
        owner: str = LOCAL.key_id,
    ) -> None:
        self._app = app
        self._endpoint = endpoint
        self._model = model
        self._owner = owner

    async def __call__(self, line: BatchLine) -> Outcome:
        """Answer one line; raises what is wrong with its form, TryAgain or StopBatch."""
        if line.url is None:
            raise ParameterError("the line lacks custom_id, method, url and body, which a request here has")
        if self._endpoint is not None and line.url != self._endpoint:
            raise ParameterError(f"url is {line.url}, and the batch is for {self._endpoint}")
        if line.url not in ENDPOINTS:
            raise ParameterError(f"url is one of {', '.join(ENDPOINTS)}, not {line.url[:60]!r}")
        if line.body.get("stream"):
            raise ParameterError("body.stream: an answer in a file does not stream; leave it out")
        caller = self._caller()
        if caller is None:
            status, body = error_object(UnauthenticatedError("revoked_key"))
            return Outcome(status, body)
        status, headers, body = await self._ask(line.url, line, caller)
        if status in NO_ROOM:
            service = self._app.state.service
            if service.state != "ready":
                raise StopBatch(UnavailableError(f"the service is {service.state}"))
            raise TryAgain(float(headers.get(b"retry-after", b"") or AGAIN_SECONDS))
        return Outcome(status, body)

    def _caller(self) -> Caller | None:
        try:
            found: Caller | None = self._app.state.access.caller_with_id(self._owner)
        except (StorageError, FormatError) as error:  # the keys cannot be read: who it is shows later
            raise TryAgain(AGAIN_SECONDS) from error
        return found

    async def _ask(
        self, path: str, line: BatchLine, caller: Caller
    ) -> tuple[int, dict[bytes, bytes], dict[str, Any]]:
        """Call the application as a server would."""
        sent = False
        status = 500
        headers: dict[bytes, bytes] = {}
        parts: list[bytes] = []
        asked = dict(line.body) if self._model is None else {**line.body, "model": self._model}
        body = json.dumps(asked, ensure_ascii=False).encode()

        async def receive() -> MutableMapping[str, Any]:
            nonlocal sent
            if sent:
                return {"type": "http.disconnect"}
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], dict(message["headers"])
            else:
                parts.append(message.get("body", b""))

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"x-request-id", line.request_id.encode())],
            "client": None,
            "server": None,
            "state": {},
            "tercet.internal": True,
            "tercet.caller": caller,
        }
        await self._app(scope, receive, send)
        return status, headers, json.loads(b"".join(parts))
