"""The process in which chat templates run. `template_sandbox` starts this file as a program and talks to it.

A template comes with a model file, from anybody. MiniJinja gives it no files, no Python objects and a bounded
number of steps, but a single step can be as large as it likes: doubling a string, printing a list that holds
itself twice, forty times over, or recursing until the stack ends, which is the end of the process. So this
happens in a process that has nothing to lose, under limits that the operating system keeps: address space,
processor time, no core file.

    request    {"source", "context" or null, "fuel", "memory"}        null: is it a template at all?
    reply      {"rendered"} | {"error"} | {"refused"}                 refused: it called raise_exception

Each is UTF-8 JSON behind its length, 8 bytes, little endian, on standard input and output. This file imports
nothing of Tercet, so that the process is small and starts quickly.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any, NoReturn

SECONDS = 1
"""Processor time for one template. An ordinary one takes about a millisecond."""
KEPT_TEMPLATES = 8


class Refused(Exception):  # noqa: N818 (it never leaves this module)
    """The template called raise_exception: the conversation is not one that it was made for."""


class Renderer:
    """Compiles templates, keeps the last few, and renders them."""

    def __init__(self) -> None:
        self._environments: dict[str, Any] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, str]:
        """Do what a request asks for; whatever goes wrong with the template is in the reply."""
        import minijinja

        try:
            environment = self._environment(request["source"])
            if request["context"] is None:
                return {"rendered": ""}
            environment.fuel = request["fuel"]
            return {"rendered": environment.render_template("chat", **request["context"])}
        except Refused as refusal:
            return {"refused": str(refusal)}
        except (minijinja.TemplateError, UnicodeEncodeError, TypeError, ValueError, RecursionError) as error:
            return {"error": str(error)}  # the last three are of tojson

    def _environment(self, source: str) -> Any:
        import minijinja

        if source not in self._environments:
            # Semi-strict: an undefined value may be tested, since many templates ask whether there are tools,
            # but not used. (The library's type hints do not know this value.)
            undefined: Any = "semi_strict"
            environment = minijinja.Environment(
                undefined_behavior=undefined,
                trim_blocks=True,
                lstrip_blocks=True,
                debug=False,
                globals={"raise_exception": _raise_exception},
                filters={"tojson": _to_json},
            )
            environment.add_template("chat", source)
            while len(self._environments) >= KEPT_TEMPLATES:
                del self._environments[next(iter(self._environments))]
            self._environments[source] = environment
        return self._environments[source]


class Limits:
    """What the operating system lets a request take, where it knows such limits (address space: Linux)."""

    def __init__(self) -> None:
        self._base = 0
        if sys.platform == "linux":
            import resource

            with open("/proc/self/statm") as file:  # noqa: PTH123 (pathlib is not worth its import here)
                self._base = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def begin(self, num_bytes: int) -> None:
        """Allow so many bytes, and `SECONDS`, from here on. Whoever takes more is ended by a signal."""
        self._limit_memory(self._base + num_bytes)
        if sys.platform != "win32":
            signal.setitimer(signal.ITIMER_PROF, SECONDS)

    def end(self) -> None:
        """Stop the clock, and make room for the next request."""
        if sys.platform != "win32":
            signal.setitimer(signal.ITIMER_PROF, 0)
        self._limit_memory(None)

    @staticmethod
    def _limit_memory(most: int | None) -> None:
        if sys.platform == "linux":
            import resource

            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            if most is None or hard != resource.RLIM_INFINITY:
                most = hard if most is None else min(most, hard)
            resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def read_message(file: int, limit: int | None = None) -> Any:
    """Return the next message from a pipe, or None where it ends, or where one is longer than `limit`."""
    prefix = _read(file, 8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or (limit is not None and length > limit):
        return None
    body = _read(file, length)
    return json.loads(body) if len(body) == length else None


def write_message(file: int, message: Any) -> None:
    """Send a message into a pipe."""
    body = json.dumps(message).encode()
    rest = memoryview(len(body).to_bytes(8, "little") + body)
    while rest:
        rest = rest[os.write(file, rest) :]


def _read(file: int, length: int) -> bytearray:
    data = bytearray()
    while len(data) < length and (part := os.read(file, min(length - len(data), 1 << 20))):
        data += part
    return data


def _raise_exception(message: object = "it gives no reason") -> NoReturn:
    raise Refused(str(message))


def _to_json(
    value: object,
    indent: int | None = None,
    ensure_ascii: bool = False,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as transformers does, whose output models were trained on; MiniJinja's own is for HTML."""
    if separators is not None:
        separators = tuple(separators)
    return json.dumps(
        value, indent=indent, ensure_ascii=ensure_ascii, separators=separators, sort_keys=sort_keys
    )


def main() -> None:
    """Answer requests until there are no more."""
    sys.path.append(sys.argv[1])
    import minijinja  # noqa: F401  (here, so that its memory is no template's)

    requests, replies = sys.stdin.fileno(), sys.stdout.fileno()
    renderer, limits = Renderer(), Limits()
    write_message(replies, "ready")
    while (request := read_message(requests)) is not None:
        limits.begin(request["memory"])
        try:
            write_message(replies, renderer.answer(request))
        except MemoryError:
            os.abort()  # as MiniJinja does where its own memory ends
        limits.end()


if __name__ == "__main__":
    main()
