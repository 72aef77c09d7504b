"""What the server remembers of who asked and what came of it: events, counts, and the audit log.

    Audit (middleware) -> SecurityEvents -> SecurityCounts    GET /security/status, Prometheus
                                         -> AuditLog          with --audit-dir

No text of anybody gets here: events are words of closed sets, numbers and keyed hashes. Without
`--security-key` the hashes are keyed with a secret of this process, so nobody can link them to those of
another day or server; with it, they stay the same, and the audit log can only be continued by whoever has
the key.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import Scope

from tercet.security.audit_log import AuditLog
from tercet.security.client_ids import ClientIds
from tercet.security.counts import SecurityCounts
from tercet.security.events import SecurityEvents
from tercet.security.identity import ANONYMOUS
from tercet.security.secret_file import derived_key, load_secret, new_secret
from tercet.server.middleware.limits import client_of
from tercet.server.settings import ServerSettings
from tercet.server.slow_requests import SlowRequests

__all__ = ["Auditing"]

LOG = logging.getLogger("tercet.audit")


class Auditing:
    """One for each server; the requests of its batches count, too.

    Attributes:
        events: where whatever is worth remembering is told.
        client_ids: makes the hashes.
        counts: the numbers.
        slow_requests: the slowest of the last day.
        log: the audit log, None where there is none.

    Raises:
        StorageError: the folder or the key cannot be used, or another process writes to the folder.
        ChecksumError: the log was changed.
        FormatError: the key is none.
    """

    def __init__(
        self,
        settings: ServerSettings,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        file = settings.security_key_file
        secret = new_secret() if file is None else load_secret(file)
        self.client_ids = ClientIds(derived_key(secret, "client ids"), clock)
        self.events = SecurityEvents(clock, self._failed)
        self.counts = SecurityCounts(monotonic)
        self.events.subscribe(self.counts.record)
        self.slow_requests = SlowRequests()
        self.events.subscribe(self.slow_requests.record)
        self.log: AuditLog | None = None
        if settings.audit_folder is not None:
            self.log = AuditLog(
                settings.audit_folder,
                clock,
                key=None if file is None else derived_key(secret, "audit chain"),
                file_bytes=settings.audit_file_bytes,
                file_count=settings.audit_files,
            )
            self.events.subscribe(self.log.record)

    def client(self, scope: Scope) -> str:
        """The hash of who sent a request: of the key, or of the address if there is none; may be empty."""
        caller = scope.get("state", {}).get("caller", ANONYMOUS)
        if caller is ANONYMOUS and scope.get("client") is None:
            return ""
        return self.client_ids.hash(client_of(caller, scope))

    def status(self) -> Mapping[str, Any]:
        """The counts, and where the audit log stands: keep `seq` and `hash` to notice a cut end."""
        log = self.log
        audit = None
        if log is not None:
            seq, digest = log.head
            audit = {"seq": seq, "hash": digest, "keyed": log.is_keyed, "errors": self.counts.audit_errors}
        return {**self.counts.summary(), "audit": audit}

    def begin(self) -> None:
        """Remember with which settings the server starts."""
        self.events.emit("server.started", **self.counts.configuration)

    def close(self) -> None:
        """End the log in order; what happens afterwards is counted only."""
        if self.log is not None:
            self.events.emit("server.stopped")
            self.events.unsubscribe(self.log.record)
            try:
                self.log.close()
            except Exception as error:
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        """An answer does not depend on it, but somebody must hear of it: `errors`, and a line in the log."""
        self.counts.audit_errors += 1
        LOG.error("not written to the audit log", extra={"error": f"{type(error).__name__}: {error}"})
