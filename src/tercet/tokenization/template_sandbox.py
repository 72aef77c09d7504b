"""Rendering chat templates in a process of their own: bounded steps, bounded time, bounded memory.

One such process serves all templates of a program. It starts with the first, stays, and ends with the program
or when a template goes too far; the next template then gets a new one. What runs in it, and why, is in
`template_process`. A rendering costs a fraction of a millisecond more than it would here, the start about a
twentieth of a second.

Linux bounds the memory. Other systems have no such limit that works, and there time alone bounds it.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tercet.errors import FormatError, MissingExtraError, ParameterError, TercetError
from tercet.tokenization import template_process

__all__ = ["MEMORY_BYTES", "TemplateError", "check_template", "render_template"]

MEMORY_BYTES = 96 << 20
"""What rendering may take, besides `BYTES_PER_CHARACTER` for each character of the conversation."""
BYTES_PER_CHARACTER = 64
OUTPUT_CHARACTERS = 4 << 20
"""How much a template may write, besides four characters for each character of the conversation."""
WALL_SECONDS = 20
"""Of processor time a template has one second; this is for systems that do not measure it."""


class TemplateError(FormatError):
    """A template that is no Jinja, fails, or does more than it may. The message says which."""


def check_template(source: str) -> None:
    """Raise TemplateError unless `source` is a template."""
    _ask(source, None, 0, 0)


def render_template(source: str, context: Mapping[str, Any], fuel: int, characters: int) -> str:
    """Render a template.

    Args:
        source: the Jinja template.
        context: its variables, JSON.
        fuel: how many steps it may take.
        characters: the length of the conversation: longer ones may take more memory.

    Raises:
        TemplateError: the template fails, or does more than it may.
        ParameterError: it called `raise_exception`; the message is what it said.
    """
    return _ask(source, context, fuel, characters)


def _ask(source: str, context: Mapping[str, Any] | None, fuel: int, characters: int) -> str:
    memory = MEMORY_BYTES + BYTES_PER_CHARACTER * (characters + len(source))
    most = OUTPUT_CHARACTERS + 4 * characters
    request = {"source": source, "context": context, "fuel": fuel, "memory": memory}
    # A character is at most 12 bytes of JSON.
    reply = _process.ask(request, 1024 + 12 * most, memory)
    if "refused" in reply:
        raise ParameterError(reply["refused"])
    if "error" in reply:
        raise TemplateError(reply["error"])
    rendered: str = reply["rendered"]
    if len(rendered) > most:
        raise TemplateError(f"it writes {len(rendered)} characters, and may write {most}")
    return rendered


class _Process:
    """The process, started when it is first needed. Threads take turns."""

    def __init__(self) -> None:
        self._running: _Running | None = None
        self._lock = threading.Lock()

    def ask(self, request: Mapping[str, Any], reply_bytes: int, memory: int) -> dict[str, str]:
        with self._lock:
            if self._running is None or self._running.process.poll() is not None:
                self.end()
                self._running = _start()
            running = self._running
            try:
                reply = _exchange(running, request, reply_bytes)
            except BaseException:  # Ctrl-C among them: the reply would be taken for that of the next request
                self.end()
                raise
            if reply is None:
                ended_with = running.process.poll()
                self.end()
                raise TemplateError(_reason(ended_with, memory))
            return reply

    def end(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.close()
            running.process.kill()
            running.process.wait()

    def forget(self) -> None:
        """Leave the process to the parent after a fork; the lock may be held by a thread that is not here."""
        running, self._running = self._running, None
        self._lock = threading.Lock()
        if running is not None:
            running.close()
            running.process.returncode = 0  # nobody here can wait for it, nor should be warned of that


@dataclasses.dataclass(frozen=True)
class _Running:
    """A process and our ends of its two pipes."""

    process: subprocess.Popen[bytes]
    requests: int
    replies: int

    def close(self) -> None:
        os.close(self.requests)
        os.close(self.replies)


def _start() -> _Running:
    library = importlib.util.find_spec("minijinja")
    if library is None or library.origin is None:
        raise MissingExtraError(
            "chat templates need the package minijinja. Install it: pip install minijinja"
        )
    # Isolated (-I, -S): nothing of the caller's Python set-up runs there. A session of its own: Ctrl-C does
    # not reach it.
    command = [sys.executable, "-I", "-S", template_process.__file__, str(Path(library.origin).parents[1])]
    their_requests, requests = os.pipe()
    replies, their_replies = os.pipe()
    try:
        process = subprocess.Popen(
            command,
            stdin=their_requests,
            stdout=their_replies,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        os.close(requests)
        os.close(replies)
        raise TercetError(f"cannot start the process that renders chat templates: {error}") from error
    finally:
        os.close(their_requests)
        os.close(their_replies)
    running = _Running(process, requests, replies)
    if template_process.read_message(replies, 16) != "ready":
        running.close()
        process.kill()
        process.wait()
        raise TercetError(
            f"the process that renders chat templates does not start: `{' '.join(command)}` "
            f"ended with {process.returncode}. Run it to see why."
        )
    return running


def _exchange(running: _Running, request: Mapping[str, Any], reply_bytes: int) -> dict[str, str] | None:
    """Return the reply, or None where the process ended, went on for too long or said too much."""
    clock = threading.Timer(WALL_SECONDS, running.process.kill)
    clock.daemon = True
    clock.start()
    try:
        template_process.write_message(running.requests, request)
        reply: dict[str, str] | None = template_process.read_message(running.replies, reply_bytes)
    except OSError:  # a broken pipe
        reply = None
    finally:
        clock.cancel()
    if reply is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.process.wait(1)  # for the status that says why; one that lives said too much
    return reply


def _reason(ended_with: int | None, memory: int) -> str:
    if ended_with is None:
        return "it writes too much"
    if sys.platform != "win32" and ended_with in (-signal.SIGPROF, -signal.SIGKILL):
        return f"it takes more than {template_process.SECONDS} s of processor time"
    return f"it takes more than {memory >> 20} MiB of memory, or a deeper stack than there is"


_process = _Process()
atexit.register(_process.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.forget)
