"""HTTPS, with certificates that are exchanged while the server runs.

Those who renew certificates write new files in place of the old ones, and not both at the same moment. So the
files are looked at every few seconds; what fits together is taken up for new connections, and what does not
is tried again, with the old certificate in use meanwhile. TLS is 1.2 or 1.3.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

from tercet.errors import FormatError, ParameterError, StorageError, TercetError

__all__ = ["Certificates"]

LOG = logging.getLogger("tercet.server")


class Certificates:
    """The certificate and the key of a server, and the context of TLS that has them.

    Args:
        certificate: PEM; the server's certificate first, then those between it and the root.
        key: PEM; None: it is in the same file.

    Raises:
        StorageError: a file cannot be read.
        FormatError: they are no certificate and key, or do not belong together.
    """

    def __init__(self, certificate: Path, key: Path | None) -> None:
        self._files = (certificate, key)
        self._seen = self._states()
        self.context = self._context()

    def reload(self) -> bool:
        """Take up files that have changed, for connections from now on; returns whether they were.

        Raises:
            StorageError, FormatError: they cannot be taken up; the old ones stay.
        """
        states = self._states()
        if states == self._seen:
            return False
        self._context()  # first for trial: one that fails half way has a new certificate, the old key
        self.context.load_cert_chain(*self._files)
        self._seen = states
        return True

    async def watch(self, seconds: float, on_change: Callable[[], None]) -> None:
        """Look at the files again and again, and call `on_change` when new ones are in use."""
        told = ""
        while True:
            await asyncio.sleep(seconds)
            try:
                changed = await asyncio.to_thread(self.reload)
            except TercetError as error:
                if str(error) != told:  # once, and not every few seconds
                    LOG.error("the certificate is not exchanged", extra={"error": str(error)})
                told = str(error)
                continue
            told = ""
            if changed:
                LOG.info("the certificate is exchanged", extra={"file": str(self._files[0])})
                on_change()

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        certificate, key = self._files
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except ParameterError as error:
            raise FormatError(
                f"the key in {key or certificate} asks for a password; give one without"
            ) from error
        except ssl.SSLError as error:
            raise FormatError(
                f"{certificate}{f' and {key}' if key else ''} are no certificate in PEM with its key "
                f"({error.reason or 'unreadable'})"
            ) from error
        except OSError as error:
            raise StorageError(
                f"cannot read {certificate} or {key or 'its key'}: {error.strerror}"
            ) from error
        return context

    def _states(self) -> tuple[tuple[int, ...], ...]:
        states = []
        for path in self._files:
            if path is None:
                continue
            try:
                status = path.stat()
            except OSError as error:
                raise StorageError(f"cannot read {path}: {error.strerror}") from error
            states.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(states)


def _no_password() -> str:
    """Asked for by OpenSSL where it would otherwise wait for somebody at the terminal."""
    raise ParameterError("the key is encrypted")
