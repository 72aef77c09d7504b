"""Another program as a child that cannot be left behind, hang, or fill the memory with what it says.

    with GuardedProcess([program, "-m", model], folder) as process:
        process.wait(60)                    # its exit status, or None where it still runs
        process.errors.text()               # the last that it said
                                            # here it is ended, with all that it has started

`tercet.deployment.guard` stands between: it and the program are a process group of their own, which is killed
at the end of the block, and also when this process ends in any other way. Windows has no groups; there the
program alone is ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, cast

from tercet.deployment.answer_text import said
from tercet.errors import UnavailableError

__all__ = ["GuardedProcess", "SpokenText", "ending"]

GROUPS = hasattr(os, "killpg")
MOST_KEPT = 1 << 20
LAST_WORDS_SECONDS = 5.0
"""How long the streams of a program that has ended may take to end too."""


class SpokenText:
    """What a program says on one stream, read as it comes; of more than a mebibyte the end is kept."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._kept = bytearray()
        self._changed = threading.Condition()
        self._ended = False
        self.num_bytes = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def overflown(self) -> bool:
        """Whether the beginning is lost."""
        return self.num_bytes > MOST_KEPT

    def data(self) -> bytes:
        """What is kept so far."""
        with self._changed:
            return bytes(self._kept)

    def text(self) -> str:
        """The same as text; what is no UTF-8 is shown as such."""
        return self.data().decode(errors="replace")

    def telling_line(self, *marks: str) -> str:
        """The first line that has one of these words, whatever their case, or else the last line.

        A program that fails often says first why, and then what it could not do for that reason.
        """
        lines = [line for line in self.text().splitlines() if line.strip()]
        telling = [line for line in lines if any(mark in line.lower() for mark in marks)]
        return said((telling or lines[-1:] or ["it said nothing"])[0])

    def wait_for(self, condition: Callable[[bytes], bool], seconds: float) -> bool:
        """Wait until so is what was said, the stream has ended, or the time is over; say whether it is so."""
        end = time.monotonic() + seconds
        with self._changed:
            while not (met := condition(bytes(self._kept))) and not self._ended:
                if not self._changed.wait(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
                    break
            return met

    def join(self, seconds: float) -> None:
        """Wait for the end of the stream."""
        self._thread.join(seconds)

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed under it
            while piece := os.read(self._stream.fileno(), 1 << 16):
                with self._changed:
                    self._kept += piece
                    del self._kept[:-MOST_KEPT]
                    self.num_bytes += len(piece)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class GuardedProcess:
    """A program that runs until it ends, or the block does.

    Args:
        command: the program and its arguments.
        folder: where it runs; None: here.
        variables: of its environment, besides ours.
        reads: whether it gets a standard input (`write`); otherwise that is empty.

    Raises:
        UnavailableError: no process can be made. A program that cannot be run ends with status 126.
    """

    patience_seconds = 5.0
    """How long it may take to end after SIGTERM."""

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        folder: Path | None = None,
        variables: Mapping[str, str] | None = None,
        reads: bool = False,
    ) -> None:
        words = [os.fspath(word) for word in command]
        lifeline: tuple[int, ...] = ()
        if GROUPS:
            reading, self._lifeline = os.pipe()
            lifeline = (reading,)
            words = [sys.executable, "-I", "-S", os.fspath(GUARD), str(reading), *words]
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE if reads else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                env={**os.environ, **(variables or {})},
                bufsize=0,
                pass_fds=lifeline,
                start_new_session=GROUPS,
            )
        except OSError as error:
            if GROUPS:
                os.close(self._lifeline)
            raise UnavailableError(f"{command[0]} cannot be run: {error.strerror}") from error
        finally:
            for descriptor in lifeline:
                os.close(descriptor)
        self.output = SpokenText(cast("IO[bytes]", self._process.stdout))
        self.errors = SpokenText(cast("IO[bytes]", self._process.stderr))

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal, or None while it runs."""
        return self._process.poll()

    def write(self, text: str) -> None:
        """Give it text to read; that it reads no more is no error here."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(text.encode())

    def wait(self, seconds: float) -> int | None:
        """Wait for its end, and for what it said last; None where it still runs."""
        try:
            status = self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return None
        for stream in (self.output, self.errors):
            stream.join(LAST_WORDS_SECONDS)
        return status

    def memory_bytes(self) -> int | None:
        """Resident memory of the program and what it has started; None where /proc does not tell."""
        pages = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = stat.read_text(errors="replace").rpartition(")")[2].split()  # proc_pid_stat(5)
                if int(fields[2]) == self._process.pid and stat.parent.name != str(self._process.pid):
                    pages += int(fields[21])
        return pages * os.sysconf("SC_PAGE_SIZE") if pages else None

    def close(self) -> None:
        """End it, politely first, and all that it has started; nothing where that has happened."""
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self.patience_seconds)
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))  # what it has started may be there still
        self._process.wait()
        for stream in (self.output, self.errors):
            stream.join(LAST_WORDS_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        if GROUPS and self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def __enter__(self) -> GuardedProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, number) if GROUPS else self._process.send_signal(number)


GUARD = Path(__file__).with_name("guard.py")


def ending(status: int) -> str:
    """Say how a program ended."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
