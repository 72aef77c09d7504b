"""Alerts by HTTP POST, signed as the Standard Webhooks specification has it (standardwebhooks.com).

    webhook-id          of this message; a second try has the same
    webhook-timestamp   seconds since 1970
    webhook-signature   v1,BASE64 of HMAC-SHA256 over ID.TIMESTAMP.BODY, with the secret as its key

The body is `{"type": "alert.firing", "timestamp": ..., "source": ..., "text": ..., "data": {...}}`, where
`data` is the event, `source` the name of the machine and `text` a line for a chat.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import hashlib
import hmac
import http.client
import json
import re
import socket
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from tercet.environment import storage_errors
from tercet.errors import FormatError, ParameterError
from tercet.monitoring.alerts.delivery import DeliveryError
from tercet.monitoring.alerts.events import AlertEvent
from tercet.monitoring.alerts.rules import Severity
from tercet.monitoring.alerts.sinks.conversation import cut_after

__all__ = ["WebhookSink", "signature"]

PREFIX = "whsec_"
FEWEST_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class WebhookSink:
    """A server that takes alerts by HTTP. Redirects are not followed, and proxies not used.

    Attributes:
        url: where to; https, unless the server is this machine or a network that you trust.
        secret_file: of signatures, `whsec_` and BASE64 or any text; None: they are not signed.
        timeout_seconds: for all of it.
        severity: "critical" for those alone.
        source: what this machine is called; None takes its name.

    Raises:
        ParameterError: the address cannot be used.
        StorageError: the secret cannot be read.
        FormatError: it is no secret.
    """

    url: str
    secret_file: Path | None = None
    timeout_seconds: float = 10.0
    severity: Severity = "warning"
    source: str | None = None
    _secret: bytes | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        parts = self._parts
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ParameterError(f"the url of a webhook begins with https://, not {self.url[:40]!r}")
        if parts.username or parts.password or re.search(r"[\x00-\x20\x7f-\U0010ffff]", self.url):
            raise ParameterError(
                f"the url of the webhook at {parts.hostname} has a user, spaces or letters outside ASCII: "
                "secrets belong into secret_file, and the rest is written as %XX"
            )
        if self.secret_file is not None:
            object.__setattr__(self, "_secret", _read_secret(self.secret_file))

    @property
    def label(self) -> str:
        """The host alone: the rest of such an address is often as good as a password."""
        return f"webhook {self._parts.hostname}"

    @functools.cached_property
    def _parts(self) -> SplitResult:
        try:
            parts = urlsplit(self.url)
            _ = parts.port  # it is read when it is asked for
        except ValueError as error:
            raise ParameterError(f"the url of a webhook cannot be read: {error}") from error
        return parts

    def send(self, event: AlertEvent) -> None:
        """Post an event.

        Raises:
            DeliveryError: it was not answered with a status of 200 to 299.
        """
        body = json.dumps(self._message(event), ensure_ascii=True).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "tercet",
            "webhook-id": f"{event.id}-{event.state}",
            "webhook-timestamp": str(int(time.time())),
        }
        if self._secret is not None:
            headers["webhook-signature"] = signature(
                self._secret, headers["webhook-id"], headers["webhook-timestamp"], body
            )
        status, again_after = self._post(body, headers)
        if not 200 <= status < 300:
            raise DeliveryError(
                f"it answered {status}",
                again=status in (408, 425, 429) or status >= 500,
                after_seconds=again_after,
            )

    def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int, float]:
        parts = self._parts
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.timeout_seconds)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            with cut_after(self.timeout_seconds, lambda: connection.sock):
                connection.request("POST", target, body, headers)
                answer = connection.getresponse()
                return answer.status, _seconds(answer.getheader("Retry-After"))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DeliveryError(f"{type(error).__name__} in the conversation with it") from error
        finally:
            with contextlib.suppress(OSError):
                connection.close()

    def _message(self, event: AlertEvent) -> dict[str, object]:
        source = self.source or socket.gethostname()
        return {
            "type": f"alert.{event.state}",
            "timestamp": datetime.fromtimestamp(event.time, timezone.utc).isoformat(),
            "source": source,
            "text": f"[{event.severity}] {event.rule} {event.state} at {source}: {event.message}",
            "data": event.to_dict(),
        }


def signature(secret: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """The value of `webhook-signature`."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


def _read_secret(path: Path) -> bytes:
    with storage_errors(path, opening=True):
        text = path.read_bytes().strip()
    secret = text
    if text.startswith(PREFIX.encode()):
        try:
            secret = base64.b64decode(text.removeprefix(PREFIX.encode()), validate=True)
        except binascii.Error as error:
            raise FormatError(f"{path} begins with {PREFIX}, after which BASE64 follows: {error}") from error
    if len(secret) < FEWEST_BYTES:
        raise FormatError(f"the secret in {path} has {len(secret)} bytes; give it {FEWEST_BYTES} or more")
    return secret


def _seconds(value: str | None) -> float:
    """Retry-After in seconds; 0 for a date, which is not worth a clock that agrees with ours."""
    return float(value) if value is not None and re.fullmatch(r"\d{1,6}", value.strip()) else 0.0
