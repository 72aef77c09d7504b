"""A stretch of history in a few figures: sums, rates, averages with the lowest and highest of any window.

Every rate is that of its sums (failures of all windows over requests of all windows), never a mean of rates.
What was not measured, or would be a ratio of nothing, is None; a stretch without any window says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tercet.monitoring.energy import NOT_MEASURED
from tercet.monitoring.snapshots import COUNTS, RATES, TIMES, Snapshot
from tercet.monitoring.spans import EXTREMES, Span, merged

__all__ = ["NO_DATA", "summarize"]

NO_DATA = "no data: nothing was recorded in this time"


def summarize(spans: Sequence[Span], hours: float) -> dict[str, Any]:
    """Sum up what was recorded in the last so many hours.

    Keys: `hours` (as asked), `data` ("recorded", or why there is nothing), `windows`, `recorded_seconds`,
    `first_time` (where the first begins) and `last_time`, `totals` (counts by name), `rates` (`success_rate`,
    `error_rate`, `cache_hit_rate` and tokens per second), `times` (seconds, of all requests together),
    `figures` (name -> `average`, `lowest`, `highest`, `last`) and `energy`.
    """
    if not spans:
        return {
            "hours": hours,
            "data": NO_DATA,
            "windows": 0,
            "recorded_seconds": 0.0,
            "first_time": None,
            "last_time": None,
            "totals": dict.fromkeys(COUNTS),
            "rates": dict.fromkeys(("success_rate", *RATES)),
            "times": dict.fromkeys(TIMES),
            "figures": {},
            "energy": _energy([]),
        }
    whole = merged(spans)
    one = whole.snapshot
    ended = one.succeeded + one.failed
    first = spans[0].snapshot
    return {
        "hours": hours,
        "data": "recorded",
        "windows": whole.windows,
        "recorded_seconds": one.period_seconds,
        "first_time": first.time - first.period_seconds,
        "last_time": one.time,
        "totals": {name: getattr(one, name) for name in COUNTS},
        "rates": {
            "success_rate": one.succeeded / ended if ended else None,
            **{name: getattr(one, name) for name in RATES},
        },
        "times": {name: getattr(one, name) for name in TIMES},
        "figures": _figures(whole, spans[-1].snapshot),
        "energy": _energy(spans),
    }


def _figures(whole: Span, last: Snapshot) -> dict[str, dict[str, float | None]]:
    figures = {}
    for name in EXTREMES:
        if name in whole.lowest:
            figures[name] = {
                "average": getattr(whole.snapshot, name),
                "lowest": whole.lowest[name],
                "highest": whole.highest[name],
                "last": getattr(last, name),
            }
    return figures


def _energy(spans: Sequence[Span]) -> dict[str, Any]:
    """Joules of the windows in which they were measured, and the tokens of these windows."""
    measured = [one.snapshot for one in spans if one.snapshot.energy_joules is not None]
    if not measured:
        return {"source": NOT_MEASURED, "joules": None, "joules_per_token": None, "measured_seconds": 0.0}
    joules = sum(one.energy_joules or 0.0 for one in measured)
    tokens = sum(one.generated_tokens for one in measured)
    return {
        "source": "counters of the processors",
        "joules": joules,
        "joules_per_token": joules / tokens if tokens else None,
        "measured_seconds": sum(one.period_seconds for one in measured),
    }
