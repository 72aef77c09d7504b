"""Several windows as one: counts and distributions added up, readings averaged, extremes kept.

Nothing that can be added is lost by it, so that the sums of thirty days of hours are those of their seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tercet.monitoring.distribution import Distribution
from tercet.monitoring.snapshots import COUNTS, DISTRIBUTIONS, GAUGES, RATES, TIMES, Snapshot

__all__ = ["EXTREMES", "Span", "merged"]

EXTREMES = (*GAUGES, *RATES, *TIMES)
"""Figures of which a span keeps the lowest and the highest that a window had."""


@dataclass(frozen=True)
class Span:
    """One window, or several that follow each other.

    Attributes:
        snapshot: all of them as one: `time` is the end of the last, `period_seconds` their sum, and what
            was read at the end of each is its mean, weighted by their length.
        windows: how many they are.
        lowest, highest: name of a figure -> the extreme that a single window had.
    """

    snapshot: Snapshot
    windows: int = 1
    lowest: Mapping[str, float] = field(default_factory=dict)
    highest: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: Snapshot) -> Span:
        """One window, with its extremes."""
        figures = {name: getattr(snapshot, name) for name in EXTREMES}
        found = {name: value for name, value in figures.items() if value is not None}
        return cls(snapshot, 1, found, found)

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` makes the same span of, fit for JSON; a single window needs no extremes."""
        values = {"snapshot": self.snapshot.to_dict(), "windows": self.windows}
        if self.windows > 1:
            values.update(lowest=dict(self.lowest), highest=dict(self.highest))
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Span:
        """The span that `to_dict` told of."""
        snapshot = Snapshot.from_dict(values["snapshot"])
        if values["windows"] == 1:
            return cls.of(snapshot)
        return cls(snapshot, values["windows"], values["lowest"], values["highest"])


def merged(spans: Iterable[Span]) -> Span:
    """All of them as one; there is at least one."""
    parts = list(spans)
    if len(parts) == 1:
        return parts[0]
    snapshots = [one.snapshot for one in parts]
    last = snapshots[-1]
    changes: dict[str, Any] = {"period_seconds": sum(one.period_seconds for one in snapshots)}
    for name in (*COUNTS, "generating_seconds"):
        changes[name] = _sum([getattr(one, name) for one in snapshots])
    for name in DISTRIBUTIONS:
        changes[name] = sum((getattr(one, name) for one in snapshots), Distribution())
    for name in GAUGES:
        changes[name] = _mean([(getattr(one, name), one.period_seconds) for one in snapshots])
    # Energy of a part of the time, beside the tokens of all of it, would be a wrong price.
    joules = [one.energy_joules for one in snapshots]
    changes["energy_joules"] = None if None in joules else _sum(joules)
    return Span(
        replace(last, **changes),
        sum(one.windows for one in parts),
        _extremes([one.lowest for one in parts], min),
        _extremes([one.highest for one in parts], max),
    )


def _sum(values: list[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) if found else None


def _mean(values: list[tuple[float | None, float]]) -> float | None:
    found = [(value, weight) for value, weight in values if value is not None]
    weights = sum(weight for _, weight in found)
    return sum(value * weight for value, weight in found) / weights if weights > 0 else None


def _extremes(parts: list[Mapping[str, float]], choose: Any) -> dict[str, float]:
    names = {name for part in parts for name in part}
    return {name: choose(part[name] for part in parts if name in part) for name in names}
