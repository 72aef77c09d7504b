"""Who may come in: somebody with a key, or anybody where the address or the operator says so.

    no keys, this machine alone     everybody is LOCAL, who may do everything
    no keys, reachable from others  refused at the start, unless told `allow_unauthenticated`
    keys                            whoever has one; with `allow_unauthenticated` others are ANONYMOUS users

A key comes as `Authorization: Bearer KEY`, as `x-api-key: KEY`, or as the password of `Authorization: Basic`,
which is how browsers ask for one when they open the page. A wrong key is refused even where none is needed.
"""

from __future__ import annotations

import base64
import binascii
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from tercet.errors import FormatError, ParameterError, StorageError
from tercet.security.api_keys import Finding, KeyStore
from tercet.security.identity import ANONYMOUS, LOCAL, Caller
from tercet.server.errors import ApiError

if TYPE_CHECKING:
    from tercet.server.settings import ServerSettings

__all__ = ["Access", "UnauthenticatedError", "require_keys_or_loopback"]

LOG = logging.getLogger("tercet.access")
WORDS = {
    "unauthenticated": "this server asks for an API key: send Authorization: Bearer KEY, or x-api-key: KEY",
    "bad_key": "this is not an API key of this server",
    "expired_key": "this API key has expired",
    "revoked_key": "this API key has been revoked",
}


class UnauthenticatedError(ApiError):
    """Nobody is known to have sent the request; `kind` says why, for the audit."""

    def __init__(self, kind: str, *, asks_browser: bool = False) -> None:
        challenge = 'Bearer realm="tercet"' + (
            ', Basic realm="tercet", charset="UTF-8"' if asks_browser else ""
        )
        code = "missing_api_key" if kind == "unauthenticated" else "invalid_api_key"
        super().__init__(401, WORDS[kind], code=code, headers={"WWW-Authenticate": challenge})
        self.kind = kind


class Access:
    """The rule of the module, for one server.

    Args:
        settings: where the keys are, and who may come without one.
        clock: seconds since 1970.

    Attributes:
        on_change: called with `keys=`, the number of good ones, when the file has changed.

    Raises:
        ParameterError: others can reach the port, and there are neither keys nor the word that none need be.
        StorageError, FormatError: the file of keys cannot be used.
    """

    def __init__(self, settings: ServerSettings, clock: Callable[[], float] = time.time) -> None:
        require_keys_or_loopback(settings, settings.host)
        self._clock = clock
        self._store: KeyStore | None = None
        if settings.keys_file is not None:
            self._store = KeyStore(settings.keys_file, clock)
            if not self._store.exists:
                raise StorageError(
                    f"there are no keys at {settings.keys_file}; make one with `tercet keys create`"
                )
        self._stranger: Caller | None = None
        if settings.allow_unauthenticated or self._store is None:
            is_own = self._store is None and settings.is_loopback
            self._stranger = LOCAL if is_own else ANONYMOUS
        self._generation = 0 if self._store is None else self._store.generation
        self._is_broken = False
        self.on_change: Callable[..., None] = lambda *, keys: None

    @property
    def keys_on(self) -> bool:
        """Whether there are keys."""
        return self._store is not None

    @property
    def allows_anyone(self) -> bool:
        """Whether somebody without a key is let in."""
        return self._stranger is not None

    def num_keys(self) -> int:
        """How many keys are good now; raises what `KeyStore` does."""
        records = [] if self._store is None else self._store.records()
        return sum(record.state(self._clock()) == "good" for record in records)

    def caller_of(self, headers: Headers, *, asks_browser: bool = False) -> Caller:
        """Who sends these headers.

        Args:
            headers: of the request.
            asks_browser: whether a browser should ask its user for a key.

        Raises:
            UnauthenticatedError: nobody who is known.
            ApiError: nobody can be known now, because the file of keys cannot be read.
        """
        key = _key_in(headers)
        if self._store is None:  # clients send some word where no key is needed, because they must
            return self._stranger or ANONYMOUS
        if key is None:
            if self._stranger is None:
                raise UnauthenticatedError("unauthenticated", asks_browser=asks_browser)
            return self._stranger
        finding = self._find(key, self._store)
        if finding.caller is None:
            raise UnauthenticatedError(finding.reason or "bad_key", asks_browser=asks_browser)
        return finding.caller

    def caller_with_id(self, key_id: str) -> Caller | None:
        """Who has the key of this id, None where it is not good now; for what was begun earlier.

        Raises:
            StorageError, FormatError: the file of keys cannot be read now.
        """
        for known in (LOCAL, ANONYMOUS):
            if key_id == known.key_id:
                return known
        if self._store is None:  # there were keys once
            return Caller(key_id=key_id)
        record = next((one for one in self._store.records() if one.id == key_id), None)
        return record.caller if record is not None and record.state(self._clock()) == "good" else None

    def _find(self, key: str, store: KeyStore) -> Finding:
        try:
            finding = store.find(key)
        except (StorageError, FormatError) as error:
            if not self._is_broken:  # once, and not with every request
                LOG.error("the keys cannot be read", extra={"error": str(error)})
            self._is_broken = True
            words = "API keys cannot be checked now; the server's log says why"
            raise ApiError(503, words, code="unavailable", retry_after_seconds=5) from error
        if self._is_broken or store.generation != self._generation:
            self._is_broken, self._generation = False, store.generation
            self.on_change(keys=self.num_keys())
        return finding


def require_keys_or_loopback(settings: ServerSettings, address: str) -> None:
    """Refuse to listen where strangers come in.

    Raises:
        ParameterError: `address` is not this machine's own, and there are neither keys nor the word that none
            are needed.
    """
    if settings.keys_file is None and not settings.allow_unauthenticated and not settings.is_own(address):
        raise ParameterError(
            f"{address} can be reached from other machines, and there are no API keys: make one with "
            "`tercet keys create NAME`, or say --allow-unauthenticated if everybody may use the model"
        )


def _key_in(headers: Headers) -> str | None:
    """The key that headers bring; an empty one for what is none, None where they bring nothing."""
    given = headers.getlist("authorization")
    if not given:
        others = headers.getlist("x-api-key")
        return None if not others else others[0].strip() if len(others) == 1 else ""
    kind, _, rest = given[0].strip().partition(" ")
    if len(given) > 1:
        return ""
    if kind.lower() == "bearer":
        return rest.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return ""
