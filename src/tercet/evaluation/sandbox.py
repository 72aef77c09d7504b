"""Runs a program that a model wrote, in a process of its own with little that it may do and little time.

`guard.py` is what that process runs first. It takes away the network (a namespace of its own, where Linux
lets it), memory, processor time and file sizes (resource limits), and by an audit hook everything that a
solution of a programming puzzle has no business with: other processes, sockets, and files outside of an empty
folder and Python's own library. This stops accidents and clumsy malice. It is no wall: CPython does not
promise that its audit hooks cannot be got around. Who runs many programs of unknown models does so in a
virtual machine.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tercet.errors import UnsupportedModelError

__all__ = ["Outcome", "run_program"]

GUARD = Path(__file__).with_name("guard.py")
MEMORY_BYTES = 1 << 30
SHOWN_CHARACTERS = 2000


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    completed: bool
    """Whether its last line was reached; a program that exits by itself has not completed."""
    reached: tuple[str, ...]
    """Marks that it passed, in order: it calls `reach("name")`."""
    message: str
    """The end of what it wrote to standard error, or why it was ended."""


def run_program(source: str, seconds: float = 10.0, memory_bytes: int = MEMORY_BYTES) -> Outcome:
    """Run Python source and wait for it, at most so long.

    Raises:
        UnsupportedModelError: this system has no resource limits.
    """
    if os.name != "posix":
        raise UnsupportedModelError("programs that models write are run under Linux and macOS only")
    token = secrets.token_hex(16)  # so that the program cannot say by itself that it has passed
    with tempfile.TemporaryDirectory(prefix="tercet-program-") as folder:
        program = Path(folder) / "program.py"
        program.write_text(source, "utf-8")
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(GUARD), folder, str(seconds), str(memory_bytes)],
            cwd=folder,
            env={"PATH": "", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(token.encode(), timeout=seconds)
            message = err.decode(errors="replace")[-SHOWN_CHARACTERS:]
        except subprocess.TimeoutExpired:
            _kill(process)
            out, _ = process.communicate()
            message = f"ended after {seconds:g} s"
        finally:
            _kill(process)
    said = out.decode(errors="replace").split("\n")
    marks = tuple(line.removeprefix(f"{token} ") for line in said if line.startswith(f"{token} "))
    return Outcome("END" in marks, tuple(mark for mark in marks if mark != "END"), message)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
