"""The two streams: what was asked for on stdout, what is told about it on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console

from tercet.cli.border import writing_stdout
from tercet.errors import ParameterError

PIPED_WIDTH = 120


def told() -> Console:
    """A console on stderr, for progress and figures."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def shown() -> Console:
    """A console on stdout, for tables that were asked for; wide enough for them where it is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_WIDTH
    return console


def write_text(text: str) -> None:
    """Write text to stdout at once; what the stream's encoding lacks becomes `?`."""
    with writing_stdout():
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError:
            encoding = sys.stdout.encoding or "ascii"
            sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()


def decoded(data: bytes) -> str:
    """What standard input says; ParameterError names the first byte that is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ParameterError(
            f"standard input is not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}; "
            "convert it first, for example with iconv"
        ) from error


def write_json(values: Mapping[str, Any]) -> None:
    """Write one JSON object to stdout; a number that JSON cannot say (NaN, infinity) is an error of ours."""
    write_text(json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal that something takes its time; the function that it gives tells how far it has come.

    Silent where stderr is not a terminal, so that logs hold no spinners.
    """
    console = told()
    if not console.is_terminal:
        yield lambda state: None
        return
    with console.status(what) as status:
        yield lambda state: status.update(f"{what}: {state}")


def mebibytes(num_bytes: int | None) -> str:
    """A size for people, or what to say when it could not be measured."""
    if num_bytes is None:
        return "not measured"
    return f"{num_bytes / 2**30:.2f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MiB"
