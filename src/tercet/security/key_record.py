"""What is kept of an API key, and how the lines of a file of keys are read."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any

from tercet.errors import FormatError, ParameterError
from tercet.security.identity import Caller, Role

__all__ = ["KeyRecord", "read_records", "whole_bytes"]

ROLES = ("user", "admin")
POLICY = re.compile(r"[a-z][a-z0-9_-]{0,63}")
NAME = re.compile(r"[\w .@:+-]{1,100}")
MODEL = re.compile(r"[^\x00-\x20\x7f]{1,200}")


@dataclass(frozen=True, kw_only=True)
class KeyRecord:
    """One key, without what is secret. Times are seconds since 1970.

    Raises:
        ParameterError: a value cannot be.
    """

    id: str
    name: str
    sha256: str
    role: Role = "user"
    models: frozenset[str] | None = None
    created_at: int = 0
    expires_at: int | None = None
    revoked_at: int | None = None
    policy: str | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_parallel_requests: int | None = None

    def __post_init__(self) -> None:
        if re.fullmatch("[0-9a-f]{12}", self.id) is None or re.fullmatch("[0-9a-f]{64}", self.sha256) is None:
            raise ParameterError("id and sha256 are 12 and 64 hexadecimal digits")
        if not isinstance(self.name, str) or NAME.fullmatch(self.name) is None:
            raise ParameterError("name is 1 to 100 letters, digits, spaces or any of .@:+-_")
        if self.role not in ROLES:
            raise ParameterError(f"role is one of {', '.join(ROLES)}, not {self.role!r}")
        if self.models is not None and not (self.models and all(map(MODEL.fullmatch, self.models))):
            raise ParameterError("models are names of models, at least one, without spaces")
        if self.policy is not None and POLICY.fullmatch(self.policy) is None:
            raise ParameterError(f"policy is a name, as block, flag or redact, not {self.policy!r}")
        for field in ("requests_per_minute", "tokens_per_minute", "max_parallel_requests"):
            value = getattr(self, field)
            if value is not None and not (type(value) is int and value > 0):
                raise ParameterError(f"{field} is a whole number above 0, not {value!r}")

    @property
    def caller(self) -> Caller:
        """Who comes with this key."""
        return Caller(
            key_id=self.id,
            role=self.role,
            models=self.models,
            policy=self.policy,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            max_parallel_requests=self.max_parallel_requests,
        )

    def state(self, now: float) -> str:
        """One word: good, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "good"

    def to_dict(self) -> dict[str, Any]:
        """As a line of the file has it: what is None is left out."""
        values = dataclasses.asdict(self)
        values["models"] = None if self.models is None else sorted(self.models)
        return {name: value for name, value in values.items() if value is not None}


def read_records(data: bytes, where: str) -> dict[str, KeyRecord]:
    """Read the lines of a file of keys; a last line that a crash cut off counts as not written.

    Being cut off, it lacks its brace: a last line that is complete counts, with its end of line or without.

    Raises:
        FormatError: a line is not what it should be. Its words are not in the message.
    """
    records: dict[str, KeyRecord] = {}
    for number, line in enumerate(data[: whole_bytes(data)].splitlines(), 1):
        try:
            value = json.loads(line)
            event = value.pop("event")
            if event == "created" and value["id"] not in records:
                records[value["id"]] = _record(value)
            elif event == "revoked":
                old = records[value["id"]]
                records[old.id] = dataclasses.replace(old, revoked_at=_number(value["at"]))
            else:
                raise ValueError
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise FormatError(
                f"{where} is not a file of keys: line {number} is no event of a key; "
                "put back a copy of it, or remove the line"
            ) from error
    return records


def whole_bytes(data: bytes) -> int:
    """How many bytes of a file there are before a last line that was cut off."""
    end = data.rfind(b"\n") + 1
    try:
        json.loads(data[end:])
    except (ValueError, RecursionError):
        return end
    return len(data)


def _record(value: dict[str, Any]) -> KeyRecord:
    kinds: dict[str, Any] = {
        "id": str,
        "name": str,
        "sha256": str,
        "role": str,
        "models": list,
        "policy": str,
    }
    for name, found in value.items():
        if type(found) is not kinds.get(name, int):
            raise TypeError(name)
    models = value.pop("models", None)
    return KeyRecord(**value, models=None if models is None else frozenset(models))


def _number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value
