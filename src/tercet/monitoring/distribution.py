"""Many durations as counts in narrow classes: what quantiles are read from, exact to one percent.

Class i holds the values v with GROWTH**(i-1) < v <= GROWTH**i, and stands for the middle of them, so that no
quantile is more than one percent off (the sketch of Masson, Rim and Lee, "DDSketch", VLDB 2019). Two
distributions add up class by class, and a later state of a growing one less an earlier one is what came
between. So minutes become hours, and totals become windows, without a loss. Number and sum are exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["ACCURACY", "Distribution", "class_of"]

ACCURACY = 0.01
GROWTH = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GROWTH = math.log(GROWTH)
_LEAST, _MOST = -1000, 1000
"""Two nanoseconds and fifteen years: what lies outside counts as that, so the classes stay few."""


def class_of(value: float) -> int:
    """The number of the class that a value belongs to; 0 and less belong to the lowest."""
    if value <= 0:
        return _LEAST
    return min(max(math.ceil(math.log(value) / _LOG_GROWTH), _LEAST), _MOST)


@dataclass(frozen=True)
class Distribution:
    """How values spread, in seconds.

    Attributes:
        count: how many there are.
        total: their sum.
        classes: number of a class -> how many are in it.
    """

    count: int = 0
    total: float = 0.0
    classes: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Iterable[float]) -> Distribution:
        """The distribution of these values."""
        count, total, classes = 0, 0.0, dict[int, int]()
        for value in values:
            count, total = count + 1, total + value
            number = class_of(value)
            classes[number] = classes.get(number, 0) + 1
        return cls(count, total, classes)

    @property
    def average(self) -> float | None:
        """The mean, None of nothing."""
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """The value that this share of all (0 to 1) does not exceed, None of nothing."""
        if not self.count:
            return None
        rank = max(math.ceil(share * self.count), 1)
        below = 0
        for number in sorted(self.classes):
            below += self.classes[number]
            if below >= rank:
                break
        return 0.0 if number == _LEAST else 2 * GROWTH**number / (GROWTH + 1)

    def __add__(self, other: Distribution) -> Distribution:
        classes = dict(self.classes)
        for number, count in other.classes.items():
            classes[number] = classes.get(number, 0) + count
        return Distribution(self.count + other.count, self.total + other.total, classes)

    def __sub__(self, earlier: Distribution) -> Distribution:
        classes = {
            number: count - earlier.classes.get(number, 0)
            for number, count in self.classes.items()
            if count != earlier.classes.get(number, 0)
        }
        return Distribution(sum(classes.values()), max(self.total - earlier.total, 0.0), classes)
