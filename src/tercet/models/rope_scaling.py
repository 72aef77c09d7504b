"""How rotary positions are stretched to contexts longer than those a model was first trained on.

    linear     every frequency is divided by `factor`
    llama3     low frequencies are divided by `factor`, high ones kept, those between mixed
    yarn       the same idea with a linear ramp between two numbers of rotations, and a larger attention
    factors    frequency i is divided by `factors[i]` (GGUF files store what llama3 comes to in this way)

What each does to the frequencies is written in `tercet.reference.rotary`. Methods whose frequencies change
while a text grows (`dynamic`) are refused: keys in the cache would have to be made again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tercet.errors import ParameterError
from tercet.models.field_checks import check_choice, check_keys, check_whole, checked_positive

__all__ = ["KINDS", "RopeScaling"]

KINDS: Mapping[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "llama3": ("factor", "original_max_context", "low_freq_factor", "high_freq_factor"),
    "yarn": ("factor", "original_max_context", "beta_fast", "beta_slow", "attention_factor"),
    "factors": ("factors",),
}
"""What each kind is described by; everything else is None."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """One kind of scaling and its numbers; immutable, and checked when it is made.

    Raises:
        ParameterError: the kind is unknown, a number that it needs is missing or impossible, or one is given
            that it does not have.
    """

    kind: str
    """`linear`, `llama3`, `yarn` or `factors`."""
    factor: float | None = None
    """How many times longer the context has become."""
    original_max_context: int | None = None
    """The context before."""
    low_freq_factor: float | None = None
    """llama3: wavelengths above original_max_context / this are stretched in full."""
    high_freq_factor: float | None = None
    """llama3: wavelengths below original_max_context / this are not stretched."""
    beta_fast: float | None = None
    """yarn: frequencies that turn this many times in the original context are not stretched."""
    beta_slow: float | None = None
    """yarn: frequencies that turn this many times or fewer are stretched in full."""
    attention_factor: float | None = None
    """yarn: what cosines and sines are multiplied by."""
    factors: tuple[float, ...] | None = None
    """factors: a divisor for each of the head_dim / 2 frequencies."""

    def __post_init__(self) -> None:
        if self.kind == "dynamic":
            raise ParameterError(
                "rope_scaling of the kind 'dynamic' is not supported: its frequencies change while a text "
                "grows, so that the keys in the cache would have to be made again"
            )
        check_choice("rope_scaling.kind", self.kind, tuple(KINDS))
        for field in dataclasses.fields(self)[1:]:
            name, value = "rope_scaling." + field.name, getattr(self, field.name)
            if field.name not in KINDS[self.kind]:
                if value is not None:
                    raise ParameterError(f"{name} is given, which scaling of the kind {self.kind} has not")
            elif field.name == "original_max_context":
                check_whole(name, value)
            elif field.name == "factors":
                if not isinstance(value, (tuple, list)) or not value:
                    raise ParameterError(f"{name} must be a sequence of positive numbers, not {value!r}")
                object.__setattr__(self, "factors", tuple(checked_positive(name, one) for one in value))
            else:
                object.__setattr__(self, field.name, checked_positive(name, value))
        for low, high in (("low_freq_factor", "high_freq_factor"), ("beta_slow", "beta_fast")):
            smaller, larger = getattr(self, low), getattr(self, high)
            if smaller is not None and smaller >= larger:
                raise ParameterError(
                    f"rope_scaling.{low} must be smaller than {high}, not {smaller} and {larger}"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the kind and its numbers as JSON-compatible values; `from_dict` is the inverse."""
        values = {name: getattr(self, name) for name in ("kind", *KINDS[self.kind])}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RopeScaling:
        """Make a scaling of what `to_dict` returned. Raises ParameterError where it is not like that."""
        return cls(**check_keys("rope_scaling", cls, values))
