"""Settings of `tercet serve` from a file and from the environment, beside its flags.

    tercet serve --config serve.json                 {"port": 9000, "max_input_length": 20000}
    TERCET_SERVE_PORT=9000 tercet serve

A flag wins over the environment, the environment over the file, and the file over what is built in. Every
option can be set in each of the three ways; the name in a file is that of docs/reference/settings.md. A name
that does not exist is an error, in the file and in the environment: a limit that was misspelt would not hold.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
import typer.core

from tercet.errors import ParameterError, StorageError

__all__ = ["CONTEXT", "PREFIX", "Config", "Configured", "effective", "settable"]

PREFIX = "TERCET_SERVE_"
CONTEXT = {"auto_envvar_prefix": PREFIX.rstrip("_")}
"""The settings of the command's context."""
MOST_BYTES = 1 << 20
NOT_SETTABLE = ("help", "config")
KINDS: Mapping[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int, str), "a whole number"),
    float: ((int, float, str), "a number"),
}
"""Type of an option -> what JSON has for it; some numbers may be words (`none`, `all`)."""


def _read(context: typer.Context, value: Path | None) -> Path | None:
    """Have the options that follow take their defaults from the file."""
    if context.resilient_parsing:
        return value
    kinds = _kinds(context.command)
    _check_environment(kinds)
    if value is not None:
        context.default_map = {**(context.default_map or {}), **_of_file(value, kinds)}
    return value


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        is_eager=True,
        callback=_read,
        help="A JSON file with settings, by the names on the page Settings; flags and TERCET_SERVE_... "
        "win over it.",
        show_default=False,
    ),
]


class Configured(typer.core.TyperCommand):
    """A command whose help does not repeat the name in the environment for each of many options."""

    def __init__(self, *arguments: Any, **values: Any) -> None:
        super().__init__(*arguments, **values)
        for option in self.params:
            option.show_envvar = False  # type: ignore[attr-defined]


def settable(command: Any) -> list[Any]:
    """Return the options and arguments of a command that a file may name."""
    return [option for option in command.params if option.name not in NOT_SETTABLE]


def effective(command: Any, arguments: list[str]) -> dict[str, Any]:
    """Return the settings that a command would run with, by name; it does not run.

    Raises:
        ParameterError: the file or the environment names what there is not, or a value is not valid.
        StorageError: the file cannot be read.
    """
    context = command.make_context(command.name, arguments)
    return dict(context.params)


def _check_environment(kinds: Mapping[str, type]) -> None:
    known = {PREFIX + name.upper() for name in (*kinds, "config")}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            raise ParameterError(
                f"the environment sets {name[:100]}, which is no setting{_nearest(name, known)}"
            )


def _of_file(path: Path, kinds: Mapping[str, type]) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise StorageError(f"cannot read the settings at {path}: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise ParameterError(f"{path} is larger than {MOST_BYTES} bytes, which no file of settings is")
    try:
        found = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ParameterError(f"{path} has to hold one JSON object, with a name for each setting")
    for name in found:
        if name not in kinds:
            raise ParameterError(f"{path} sets {name[:100]!r}, which is no setting{_nearest(name, kinds)}")
    return {
        name: _checked(f"{name} in {path}", value, kinds[name])
        for name, value in found.items()
        if value is not None
    }


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"it sets {name[:100]!r} twice")
        found[name] = value
    return found


def _kinds(command: Any) -> dict[str, type]:
    """The types of a command's settings, by their names."""
    hints = get_type_hints(command.callback)
    kinds = {}
    for option in settable(command):
        kind = hints[option.name]
        while get_origin(kind) in (Union, UnionType):  # int | None
            kind = next(part for part in get_args(kind) if part is not type(None))
        kinds[option.name] = list if get_origin(kind) is list else kind
    return kinds


def _checked(what: str, value: Any, kind: type) -> Any:
    """A value as the option takes it: JSON's type must be the option's."""
    if kind is list:
        return [_checked(what, one, str) for one in (value if isinstance(value, list) else [value])]
    types, words = KINDS.get(kind, ((str,), "a string"))
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        shown = json.dumps(value)
        raise ParameterError(f"{what} is {words}, not {shown if len(shown) <= 60 else shown[:60] + '...'}")
    # As it would stand on the command line, whose options have parsers of their own.
    return value if isinstance(value, bool) else str(value)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; is {near[0]} meant?" if near else "; docs/reference/settings.md lists them all"
