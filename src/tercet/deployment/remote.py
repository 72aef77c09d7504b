"""A model behind an OpenAI-compatible endpoint, on this machine or another.

Prompts leave this machine only where the user has said so: without `send_prompts` an endpoint elsewhere is
not even connected to. Which model answers there is its own affair, so its tokens are not compared.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from tercet.deployment.answer_text import said
from tercet.deployment.endpoint import Endpoint, NoRouteError
from tercet.deployment.measured import MeasuredStrategy
from tercet.deployment.strategy import Availability, DeploymentSettings, GenerationRequest, Piece
from tercet.errors import FormatError, ParameterError, TercetError, UnavailableError

__all__ = ["RemoteStrategy"]

QUESTION_SECONDS = 10.0
"""For what is no generation."""
CONSENT = "--send-prompts"
MOST_SHOWN = 10


class RemoteStrategy(MeasuredStrategy):
    """An endpoint with `/models`, `/completions` and `/chat/completions`."""

    name = "remote"
    comparable = False

    def __init__(self, model: str | None, settings: DeploymentSettings) -> None:
        super().__init__()
        self._settings = settings
        self._deployed: tuple[Endpoint, str] | None = None
        self._only_chat = False

    def availability(self) -> Availability:
        """See `Strategy`. The endpoint is asked for its models, within ten seconds."""
        try:
            endpoint, model = self._asked()
        except TercetError as error:
            return Availability(False, str(error))
        return Availability(True, f"{model} at {endpoint.label}")

    def set_up(self) -> None:
        """See `Strategy`: there is nothing to set up."""

    def deploy(self) -> None:
        """See `Strategy`: the endpoint answers, knows the key, and has the model."""
        if self._deployed is None:
            self._deployed = self._asked()

    def close(self) -> None:
        """See `Strategy`."""
        self._deployed = None

    def _memory_bytes(self) -> int | None:
        return None

    def _pieces(self, request: GenerationRequest) -> Generator[Piece, None, None]:
        end = time.monotonic() + request.timeout_seconds
        if not request.chat and not self._only_chat:
            with contextlib.suppress(NoRouteError):
                yield from self._answer("/completions", {"prompt": request.prompt}, request, end)
                return
        # Most services answer messages alone. A prompt is then sent as one.
        messages = [{"role": "user", "content": request.prompt}]
        yield from self._answer("/chat/completions", {"messages": messages}, request, end)
        self._only_chat = not request.chat or self._only_chat

    def _answer(
        self, path: str, asked: dict[str, Any], request: GenerationRequest, end: float
    ) -> Generator[Piece, None, None]:
        if self._deployed is None:
            raise UnavailableError(f"{self.name} is not deployed: call deploy() first")
        endpoint, model = self._deployed
        body: dict[str, Any] = {
            **asked,
            "model": model,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.seed is not None:
            body["seed"] = request.seed
        finished = False
        for event in endpoint.stream(path, body, end - time.monotonic()):
            piece = _piece(event, endpoint.label)
            finished = finished or piece.finish_reason is not None
            yield piece
        if not finished:
            raise UnavailableError(f"{endpoint.label} ended its answer before it was whole")

    def _asked(self) -> tuple[Endpoint, str]:
        """Return the endpoint and the name of the model there, after asking it for its models."""
        endpoint = self._endpoint()
        wanted = self._settings.endpoint_model
        try:
            names = _names(endpoint.get("/models", QUESTION_SECONDS))
        except NoRouteError:
            if wanted is None:
                raise
            return endpoint, wanted  # it is there, and lists no models
        if names is None:
            raise FormatError(f"{endpoint.label} answered /models with something that is no list of models")
        if wanted is None and len(names) == 1:
            return endpoint, names[0]
        shown = ", ".join(said(name) for name in names[:MOST_SHOWN]) or "none"
        shown += ", ..." if len(names) > MOST_SHOWN else ""
        if wanted is None:
            raise ParameterError(f"which model of {endpoint.label}? --endpoint-model names one of: {shown}")
        if wanted not in names:
            raise ParameterError(f"{endpoint.label} has no model {wanted!r}; it has: {shown}")
        return endpoint, wanted

    def _endpoint(self) -> Endpoint:
        url = self._settings.endpoint
        if url is None:
            raise UnavailableError("no endpoint was named: --endpoint takes an address like https://HOST/v1")
        endpoint = Endpoint(url, _key(self._settings.endpoint_key_file))
        if not endpoint.on_this_machine and not self._settings.send_prompts:
            raise UnavailableError(
                f"prompts would leave this machine for {endpoint.label}, and nobody has said that they may: "
                f"{CONSENT} says so"
            )
        return endpoint


def _key(file: str | None) -> str | None:
    if file is None:
        return None
    try:
        return Path(file).expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"the key in {file} cannot be read: {error}") from error


def _names(answer: Any) -> list[str] | None:
    try:
        return [str(one["id"]) for one in answer["data"]]
    except (KeyError, TypeError):
        return None


def _piece(event: dict[str, Any], label: str) -> Piece:
    """One event of a stream, or a whole answer: text in `text`, `delta` or `message`, counts in `usage`."""
    if "error" in event:
        error = event["error"]
        words = error.get("message") if isinstance(error, dict) else error
        raise UnavailableError(f"{label} ended its answer with an error: {said(str(words))}")
    try:
        usage = event.get("usage") or {}
        counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
        text, reason = "", None
        for choice in event["choices"][:1]:
            said_here = choice.get("delta") or choice.get("message") or {}
            text = choice.get("text") or said_here.get("content") or ""
            reason = choice.get("finish_reason")
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{label} sent an event that is none of OpenAI's") from error
    numbers = all(count is None or (isinstance(count, int) and count >= 0) for count in counts)
    if not isinstance(text, str) or not (reason is None or isinstance(reason, str)) or not numbers:
        raise FormatError(f"{label} sent an event whose text, reason or counts are of the wrong type")
    return Piece(text, None, *counts, finish_reason=reason)
