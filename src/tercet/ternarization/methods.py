"""What can be chosen for a ternarization, and what follows for a matrix of some depth."""

from __future__ import annotations

import dataclasses

from tercet.errors import ParameterError

__all__ = ["METHODS", "Method"]

METHODS = ("absmean", "calibrated")
GRANULARITIES = ("tensor", "row", "group")
GROUP_MULTIPLE = 16
"""The kernels take groups of whole tiles."""


@dataclasses.dataclass(frozen=True)
class Method:
    """How matrices become ternary.

    Args:
        name: `absmean` or `calibrated`.
        granularity: how far a scale reaches: `tensor`, `row` or `group`. None is what suits the method: the
            tensor for absmean, as BitNet defines it, groups for calibrated.
        group_size: the most columns that share a scale, where the granularity is `group`.
        num_tokens: how much of the calibration text is used.
        window: tokens that stand in one context.
        sweeps: how often all codes are looked at again after the first pass.

    Raises:
        ParameterError: a value is not one of those, or the method cannot have it.
    """

    name: str = "calibrated"
    granularity: str | None = None
    group_size: int = 128
    num_tokens: int = 8192
    window: int = 512
    sweeps: int = 2

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise ParameterError(f"there is no method {self.name!r}; the methods are {', '.join(METHODS)}")
        if self.granularity is None:
            object.__setattr__(self, "granularity", "tensor" if self.name == "absmean" else "group")
        if self.granularity not in GRANULARITIES:
            raise ParameterError(
                f"a scale is for a {', a '.join(GRANULARITIES)}; there is no {self.granularity!r}"
            )
        if self.name == "calibrated" and self.granularity == "tensor":
            raise ParameterError(
                "calibration chooses its scales row by row: take scales for a row or a group"
            )
        lowest = {"group_size": GROUP_MULTIPLE, "num_tokens": 2, "window": 2, "sweeps": 0}
        for name, least in lowest.items():
            if getattr(self, name) < least:
                raise ParameterError(f"{name} must be at least {least}, not {getattr(self, name)}")

    def group_of(self, depth: int) -> int:
        """Return how many columns share a scale in a matrix of this depth.

        For groups that is the largest multiple of 16 up to `group_size` that divides the depth.

        Raises:
            ParameterError: there is none.
        """
        if self.granularity != "group":
            return depth
        most = min(self.group_size, depth) // GROUP_MULTIPLE * GROUP_MULTIPLE
        for size in range(most, 0, -GROUP_MULTIPLE):
            if depth % size == 0:
                return size
        raise ParameterError(
            f"no multiple of {GROUP_MULTIPLE} up to {self.group_size} divides the width {depth} of this "
            "model's layers. Take scales for a row."
        )
