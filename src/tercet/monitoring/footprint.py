"""Energy and CO2 of what was generated: joules that were measured, a grid's intensity that is stated.

Joules are those of the windows in which the processors' counters were read, tokens those of the same windows:
idle time, and all that the machine did besides, is in the price. What was not measured has no price.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tercet.errors import ParameterError
from tercet.monitoring.energy import NOT_MEASURED
from tercet.monitoring.spans import Span
from tercet.monitoring.summary import summarize

__all__ = ["footprint", "grams_of_co2"]

JOULES_PER_KWH = 3.6e6


def grams_of_co2(joules: float | None, grid_intensity: float | None) -> float | None:
    """Of so much energy, None where it or the intensity is not known.

    Args:
        joules: the energy.
        grid_intensity: grams of CO2 (or its equivalent) for a kilowatt-hour.

    Raises:
        ParameterError: an intensity below 0, or no number.
    """
    if grid_intensity is not None and not (math.isfinite(grid_intensity) and grid_intensity >= 0):
        raise ParameterError(f"a grid's intensity is grams of CO2 per kWh from 0, not {grid_intensity}")
    if joules is None or grid_intensity is None:
        return None
    return joules / JOULES_PER_KWH * grid_intensity


def footprint(spans: Sequence[Span], hours: float, grid_intensity: float | None = None) -> dict[str, Any]:
    """What a stretch of history took.

    Returns `hours`, `recorded_seconds`, `measured_seconds`, `generated_tokens` and `requests` of the measured
    ones, `source`, `joules`, `joules_per_1000_tokens`, `grid_intensity`, `co2_grams` and
    `co2_grams_per_1000_tokens`; None for what nothing measured or nobody stated.

    Raises:
        ParameterError: an intensity below 0, or no number.
    """
    measured = [one.snapshot for one in spans if one.snapshot.energy_joules is not None]
    tokens = sum(one.generated_tokens for one in measured)
    energy = summarize(spans, hours)["energy"]
    joules = energy["joules"]
    each = 1000 * joules / tokens if joules is not None and tokens else None
    return {
        "hours": hours,
        "recorded_seconds": sum(one.snapshot.period_seconds for one in spans),
        "measured_seconds": energy["measured_seconds"],
        "requests": sum(one.requests for one in measured) if measured else None,
        "generated_tokens": tokens if measured else None,
        "source": energy["source"] if measured else NOT_MEASURED,
        "joules": joules,
        "joules_per_1000_tokens": each,
        "grid_intensity": grid_intensity,
        "co2_grams": grams_of_co2(joules, grid_intensity),
        "co2_grams_per_1000_tokens": grams_of_co2(each, grid_intensity),
    }
