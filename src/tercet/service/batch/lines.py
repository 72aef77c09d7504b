"""One line of a batch: a request in one of two forms, and the record that answers it.

    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {...}}      as OpenAI has it
    {"id": "a", "prompt": "Once upon", "max_tokens": 20, "metadata": {...}}                 plain

The record of the first is OpenAI's too. The plain one has the id and the metadata of its line, the text and
what it cost. Both carry a request id made of the line's number and the hash of its bytes, by which a later
run recognizes what is done.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from tercet.errors import ParameterError

__all__ = [
    "MAX_LINE_BYTES",
    "BatchLine",
    "Outcome",
    "RawLine",
    "fallback_line",
    "parse_line",
    "parse_request_id",
    "read_lines",
    "request_id",
]

MAX_LINE_BYTES = 16 << 20
_READ_BYTES = 1 << 20
_REQUEST_ID = re.compile(r"batch_req_(\d{8,18})_([0-9a-f]{16})")
_OPENAI_FIELDS = {"custom_id", "method", "url", "body"}


@dataclass(frozen=True)
class RawLine:
    """The bytes of a line that is not blank."""

    number: int
    """Counted from 1, blank lines included, as editors do."""
    digest: int
    """64 bits of the hash of its bytes."""
    data: bytes | None
    """Without the line end; None where the line is longer than `MAX_LINE_BYTES`."""

    @property
    def request_id(self) -> str:
        """What the record of this line is known by."""
        return request_id(self.number, self.digest)


@dataclass(frozen=True)
class Outcome:
    """How a request ended."""

    status_code: int
    """As HTTP would say it: 200 for an answer."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """OpenAI form: the body of the response. Plain form: fields of the record."""
    error: Mapping[str, Any] | None = None
    """Type and message, where there is no answer."""

    @property
    def succeeded(self) -> bool:
        """Whether there is an answer."""
        return self.error is None and self.status_code < 400


@dataclass(frozen=True)
class BatchLine:
    """A request, read and checked for its form; what it asks for is checked by who answers it."""

    number: int
    request_id: str
    id: str
    """`custom_id` or `id`; `req_{i}` for the line i, from 0, of a plain request without one."""
    url: str | None = None
    """The route of OpenAI's form, `/v1/...`; None for a plain request."""
    body: Mapping[str, Any] = field(default_factory=dict)
    metadata: Any = None

    def record(self, outcome: Outcome) -> dict[str, Any]:
        """The line of the output."""
        if self.url is not None:
            response = {
                "status_code": outcome.status_code,
                "request_id": self.request_id,
                "body": dict(outcome.body),
            }
            shown = None if outcome.error is not None and not outcome.body else response
            return {
                "id": self.request_id,
                "custom_id": self.id,
                "response": shown,
                "error": None if shown else outcome.error,
            }
        return {
            "id": self.id,
            "line": self.number,
            "status": "succeeded" if outcome.succeeded else "failed",
            **outcome.body,
            "error": outcome.error,
            "metadata": self.metadata,
            "request_id": self.request_id,
        }


def request_id(number: int, digest: int) -> str:
    """Name line `number` with these bytes."""
    return f"batch_req_{number:08d}_{digest:016x}"


def parse_request_id(text: str) -> tuple[int, int] | None:
    """Return number and hash of the line that `request_id` has named; None where it has not."""
    found = _REQUEST_ID.fullmatch(text)
    return found and (int(found[1]), int(found[2], 16))


def read_lines(file: BinaryIO) -> Iterator[RawLine]:
    """Read the lines that are not blank, one at a time, from where the file stands (its beginning)."""
    number = 0
    while part := file.readline(_READ_BYTES):
        number += 1
        hashed = hashlib.blake2b(part.rstrip(b"\r\n"), digest_size=8)
        parts, size = [part], len(part)
        while not part.endswith(b"\n") and (part := file.readline(_READ_BYTES)):
            hashed.update(part.rstrip(b"\r\n"))
            size += len(part)
            if size <= MAX_LINE_BYTES:
                parts.append(part)
        data = b"".join(parts).strip()
        if data:
            digest = int.from_bytes(hashed.digest(), "big")
            yield RawLine(number, digest, data if size <= MAX_LINE_BYTES else None)


def parse_line(raw: RawLine) -> BatchLine:
    """Read the request of a line.

    Raises:
        ParameterError: it is none. The message does not name the line.
    """
    if raw.data is None:
        raise ParameterError(f"the line is longer than {MAX_LINE_BYTES >> 20} MiB")
    try:
        text = raw.data.decode()
        value = json.loads(text, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ParameterError(f"the line is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"the line is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ParameterError(f"the line is JSON, but not an object: {_shortened(text)}")
    _check_unicode(value)
    return _openai_line(raw, value) if _OPENAI_FIELDS & value.keys() - {"id"} else _plain_line(raw, value)


def fallback_line(raw: RawLine) -> BatchLine:
    """What can be said of a line that is no request, to record its failure: its id, if it has one."""
    default = f"req_{raw.number - 1}"
    try:
        value = json.loads(raw.data or b"")
        _check_unicode(value)
    except (ValueError, RecursionError):
        return BatchLine(raw.number, raw.request_id, default)
    if not isinstance(value, dict):
        return BatchLine(raw.number, raw.request_id, default)
    is_openai = bool(_OPENAI_FIELDS & value.keys())
    found = value.get("custom_id" if is_openai else "id")
    return BatchLine(
        raw.number,
        raw.request_id,
        found if isinstance(found, str) and found else default,
        url="" if is_openai else None,
        metadata=None if is_openai else value.get("metadata"),
    )


def _openai_line(raw: RawLine, value: dict[str, Any]) -> BatchLine:
    if missing := sorted(_OPENAI_FIELDS - value.keys()):
        raise ParameterError(f"the line lacks {', '.join(missing)}; it has {', '.join(value)}")
    custom_id, method, url, body = (value[name] for name in ("custom_id", "method", "url", "body"))
    if not isinstance(custom_id, str) or not custom_id:
        raise ParameterError(f"custom_id is a text that is not empty, not {_shortened(custom_id)}")
    if method != "POST":
        raise ParameterError(f"method is POST, not {_shortened(method)}")
    if not isinstance(url, str) or not url.startswith("/v1/"):
        raise ParameterError(
            f"url is the path of a route, such as /v1/chat/completions, not {_shortened(url)}"
        )
    if not isinstance(body, dict):
        raise ParameterError(f"body is a JSON object, not {_shortened(body)}")
    return BatchLine(raw.number, raw.request_id, custom_id, url, body)


def _plain_line(raw: RawLine, value: dict[str, Any]) -> BatchLine:
    given = value.get("id")
    if isinstance(given, int) and not isinstance(given, bool):
        given = str(given)
    if given is not None and (not isinstance(given, str) or not given):
        raise ParameterError(f"id is a text that is not empty, or a whole number, not {_shortened(given)}")
    body = {name: one for name, one in value.items() if name not in ("id", "metadata")}
    return BatchLine(
        raw.number,
        raw.request_id,
        f"req_{raw.number - 1}" if given is None else given,
        body=body,
        metadata=value.get("metadata"),
    )


def _check_unicode(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ParameterError("the line holds half a surrogate pair, which is no character") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _shortened(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
