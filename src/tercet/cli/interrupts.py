"""Ctrl-C stops the generation at its next token, so that what was generated is kept and told."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from tercet.engine.stream import TextStream


@dataclass
class Interrupt:
    """Whether Ctrl-C was pressed."""

    pressed: bool = False


@contextlib.contextmanager
def stopped_by_interrupt(stream: TextStream) -> Iterator[Interrupt]:
    """Let the first Ctrl-C end the stream in order; a second one interrupts as usual."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt  # only the main thread hears of signals
        return
    usual = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        interrupt.pressed = True
        stream.stop()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, handle)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, usual)
