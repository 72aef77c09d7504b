"""A file of settings for alerts: other thresholds, and where alerts go.

    {
      "rules": {"memory": {"above": 4294967296, "hold_seconds": 300}, "cpu": null},
      "sinks": [
        {"kind": "webhook", "url": "https://hooks.example.com/tercet", "secret_file": "/etc/tercet/hook"},
        {"kind": "email", "host": "mail.example.com", "sender": "t@example.com", "to": ["ops@example.com"]},
        {"kind": "command", "command": ["/usr/local/bin/page"], "severity": "critical"}
      ]
    }

What is misspelt is an error: an alert that nobody gets is worse than none.
"""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tercet.environment import storage_errors
from tercet.errors import ParameterError
from tercet.monitoring.alerts.delivery import Sink
from tercet.monitoring.alerts.judge import AlertManager
from tercet.monitoring.alerts.rules import RULES, Rule, adjusted
from tercet.monitoring.alerts.sinks.command import CommandSink
from tercet.monitoring.alerts.sinks.mail import EmailSink
from tercet.monitoring.alerts.sinks.webhook import WebhookSink

__all__ = ["SINKS", "AlertSettings"]

SINKS: Mapping[str, type] = {"webhook": WebhookSink, "email": EmailSink, "command": CommandSink}
MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class AlertSettings:
    """The rules in force, and who is told."""

    rules: tuple[Rule, ...] = RULES
    sinks: tuple[Sink, ...] = ()

    @classmethod
    def read(cls, path: Path) -> AlertSettings:
        """Read a file.

        Raises:
            StorageError: it, or a file that it names, cannot be read.
            ParameterError: it is not JSON, or names what there is not.
        """
        with storage_errors(path, opening=True), path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ParameterError(f"{path} is larger than {MOST_BYTES} bytes, which no file of settings is")
        try:
            found = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise ParameterError(f"{path} is not JSON: {error}") from error
        try:
            return cls.of(found)
        except ParameterError as error:
            raise ParameterError(f"{path}: {error}") from error

    @classmethod
    def of(cls, found: Any) -> AlertSettings:
        """Make them of what a file holds.

        Raises:
            ParameterError: it names what there is not, or a value is not valid.
            StorageError: a secret cannot be read.
        """
        _check_names("the settings of alerts", found, ("rules", "sinks"))
        rules, sinks = found.get("rules", {}), found.get("sinks", [])
        if not isinstance(rules, Mapping):
            raise ParameterError("rules is an object, with a name for each rule")
        if not isinstance(sinks, list):
            raise ParameterError("sinks is a list")
        return cls(adjusted(rules), tuple(_sink(one) for one in sinks))

    def manager(self) -> AlertManager:
        """What judges and tells by them."""
        return AlertManager(self.rules, self.sinks)


def _sink(found: Any) -> Sink:
    kind = found.get("kind") if isinstance(found, Mapping) else None
    if not isinstance(kind, str) or kind not in SINKS:
        raise ParameterError(f"a sink is an object whose kind is {', '.join(SINKS)}, not {kind!r}")
    made = SINKS[kind]
    known = {one.name: one for one in fields(made) if one.init}
    _check_names(f"a sink of kind {kind}", found, ("kind", *known))
    hints = get_type_hints(made)
    values = {
        name: _checked(f"{name} of a sink of kind {kind}", found[name], hints[name])
        for name in known
        if found.get(name) is not None
    }
    missing = [name for name, one in known.items() if name not in values and _is_needed(one)]
    if missing:
        raise ParameterError(f"a sink of kind {kind} needs {', '.join(missing)}")
    sink: Sink = made(**values)
    return sink


def _is_needed(one: Field[Any]) -> bool:
    return one.default is MISSING and one.default_factory is MISSING


def _checked(what: str, value: Any, kind: Any) -> Any:
    """A value of JSON as the field of a sink."""
    while get_origin(kind) in (Union, types.UnionType):  # str | None
        kind = next(part for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ParameterError(f"{what} is {' or '.join(map(repr, get_args(kind)))}, not {value!r}")
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ParameterError(f"{what} is a list of strings")
        return tuple(value)
    if kind is float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 3600:
            raise ParameterError(f"{what} is a number above 0 and below 3600, not {value!r}")
        return float(value)
    if kind is int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ParameterError(f"{what} is a whole number, not {value!r}")
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ParameterError(f"{what} is a string, and not an empty one")
    return Path(value) if kind is Path else value


def _check_names(what: str, found: Any, known: Iterable[str]) -> None:
    if not isinstance(found, Mapping):
        raise ParameterError(f"{what} are an object")
    for name in found:
        if name not in known:
            near = difflib.get_close_matches(name, list(known), 1)
            meant = f"; is {near[0]} meant?" if near else f"; there are {', '.join(known)}"
            raise ParameterError(f"{what}: there is no {name[:100]!r}{meant}")


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"it has {name[:100]!r} twice")
        found[name] = value
    return found
