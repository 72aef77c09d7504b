"""An end to every conversation with another machine, however slowly it answers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

__all__ = ["cut_after"]

AGAIN_SECONDS = 0.1


@contextlib.contextmanager
def cut_after(seconds: float, connected: Callable[[], socket.socket | None]) -> Iterator[None]:
    """Shut the socket down after so long; whoever reads from it then sees its end.

    A timeout of a socket is one for each read: a peer that sends a byte now and then never reaches it.
    """
    done = threading.Event()

    def cut() -> None:
        pause = seconds
        while not done.wait(pause):
            pause = AGAIN_SECONDS  # in case it was still connecting
            opened = connected()
            if opened is not None:
                with contextlib.suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=cut, name="tercet-alerts deadline", daemon=True).start()
    try:
        yield
    finally:
        done.set()
