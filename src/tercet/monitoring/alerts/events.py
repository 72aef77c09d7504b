"""What is told of an alert: that it began, or that it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from tercet.monitoring.alerts.rules import Severity

__all__ = ["AlertEvent"]


@dataclass(frozen=True, kw_only=True)
class AlertEvent:
    """An alert at one moment.

    Attributes:
        id: of the alert; its end has that of its beginning.
        rule: the name of the rule.
        state: "firing" or "resolved".
        severity: "warning" or "critical".
        time: when it began to fire, or ended, in seconds since 1970.
        since: when the figure was wrong for the first time.
        seconds: for how long it has fired.
        value: of the figure: the latest one.
        worst: of the figure, since it was wrong for the first time.
        threshold: what it is beyond, or was.
        message: a sentence about it.
    """

    id: str
    rule: str
    state: Literal["firing", "resolved"]
    severity: Severity
    time: float
    since: float
    seconds: float
    value: float
    worst: float
    threshold: float
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Everything by name, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AlertEvent:
        """The event that `to_dict` told of.

        Raises:
            KeyError: something is missing, as in what another release has written.
        """
        return cls(**{field.name: values[field.name] for field in fields(cls)})
