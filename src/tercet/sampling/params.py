"""The parameters of one request, checked before anything else looks at them.

Three parties have a say: what the caller writes wins over the model's own generation config, and that wins
over the defaults here. `SamplingParams` therefore remembers which of its fields the caller named, even if
the value is the default: `SamplingParams(temperature=0.7).with_defaults({"temperature": 1.0})` stays at
0.7.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
import operator
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from tercet.errors import ParameterError

__all__ = ["SamplingParams"]

LARGEST_COUNT = 2**31 - 1
LARGEST_SEED = 2**64 - 1
MOST_BIASES = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How to choose the tokens of one request, and when to stop.

    Raises:
        ParameterError: a value is of the wrong type, not finite or out of its range.
    """

    max_tokens: int = 256
    """Most tokens to generate; at least 1."""
    temperature: float = 0.7
    """Logits are divided by this; 0 always takes the likeliest token."""
    top_p: float = 0.9
    """Keep the fewest likeliest tokens whose probabilities reach this sum; above 0, and 1 keeps all."""
    top_k: int = 0
    """Keep this many likeliest tokens; 0 keeps all."""
    min_p: float = 0.0
    """Keep tokens at least this fraction as likely as the likeliest; from 0 (all) to 1."""
    repetition_penalty: float = 1.0
    """Divides the positive logits of all tokens so far, multiplies the negative; from 0.01 to 100."""
    presence_penalty: float = 0.0
    """Subtracted from the logit of every token that the answer holds already; from -2 to 2."""
    frequency_penalty: float = 0.0
    """Subtracted as often as the answer holds the token already; from -2 to 2."""
    seed: int | None = None
    """The same seed gives the same tokens, whatever else runs; None draws a new one for each request."""
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these strings; one string or several."""
    ignore_eos: bool = False
    """Go on when the model says that it has finished."""
    min_tokens: int = 0
    """Nothing that the model says ends the answer before it has so many tokens; at most max_tokens."""
    logit_bias: Mapping[int, float] = dataclasses.field(default_factory=dict, hash=False)
    """Added to the logits of these token ids before the penalties; -100 to 100, at most 1,024 tokens."""
    logprobs: int | None = None
    """Report the log probability of every token, and this many of the likeliest in its place (0 to 20)."""
    explicit: frozenset[str] = dataclasses.field(init=False, repr=False, compare=False)
    """Names of the fields that the caller gave."""

    def __new__(cls, **values: Any) -> SamplingParams:
        """Note which fields the caller names; `__init__`, which dataclasses writes, cannot tell any more."""
        self = object.__new__(cls)
        object.__setattr__(self, "explicit", frozenset(values))
        return self

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            "max_tokens": _integer("max_tokens", self.max_tokens, 1, LARGEST_COUNT),
            "temperature": _number("temperature", self.temperature, 0),
            "top_p": _number("top_p", self.top_p, 0, 1, above=True),
            "top_k": _integer("top_k", self.top_k, 0, LARGEST_COUNT),
            "min_p": _number("min_p", self.min_p, 0, 1),
            "repetition_penalty": _number("repetition_penalty", self.repetition_penalty, 0.01, 100),
            "presence_penalty": _number("presence_penalty", self.presence_penalty, -2, 2),
            "frequency_penalty": _number("frequency_penalty", self.frequency_penalty, -2, 2),
            "seed": None if self.seed is None else _integer("seed", self.seed, 0, LARGEST_SEED),
            "stop": _stop_strings(self.stop),
            "logit_bias": _biases(self.logit_bias),
            "logprobs": None if self.logprobs is None else _integer("logprobs", self.logprobs, 0, 20),
        }
        checked["min_tokens"] = _integer("min_tokens", self.min_tokens, 0, checked["max_tokens"])
        if not isinstance(self.ignore_eos, bool):
            raise ParameterError(f"ignore_eos is True or False, not {self.ignore_eos!r}")
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def with_defaults(self, defaults: Mapping[str, Any]) -> SamplingParams:
        """Return these parameters, with the fields that the caller did not name taken from `defaults`.

        Raises:
            ParameterError: `defaults` has a name that is no sampling parameter, or a value out of range.
        """
        if unknown := sorted(set(defaults) - set(_NAMES)):
            raise ParameterError(
                f"no sampling parameter is called {', '.join(unknown)}; there are {', '.join(_NAMES)}"
            )
        return self._changed({name: value for name, value in defaults.items() if name not in self.explicit})

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raise ParameterError where `logit_bias` names a token that a vocabulary of this size lacks."""
        if (largest := max(self.logit_bias, default=0)) >= vocab_size:
            raise ParameterError(
                f"logit_bias names the token {largest}, but the vocabulary has ids 0 to {vocab_size - 1}"
            )

    def seeded(self) -> SamplingParams:
        """Return these parameters with a seed: their own, or a fresh random one."""
        return self if self.seed is not None else self._changed({"seed": secrets.randbits(64)})

    def _changed(self, values: Mapping[str, Any]) -> SamplingParams:
        changed = SamplingParams(**{name: getattr(self, name) for name in _NAMES} | dict(values))
        object.__setattr__(changed, "explicit", self.explicit)
        return changed


_NAMES = tuple(field.name for field in dataclasses.fields(SamplingParams) if field.init)

# What `help` and editors show is the signature of `__init__`; Python would show that of `__new__`.
_INIT = inspect.signature(SamplingParams.__init__)
SamplingParams.__signature__ = _INIT.replace(  # type: ignore[attr-defined]
    parameters=list(_INIT.parameters.values())[1:], return_annotation=inspect.Signature.empty
)


def _integer(name: str, value: object, lowest: int, highest: int) -> int:
    wanted = f"{name} is a whole number from {lowest} to {highest}, not {value!r}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ParameterError(wanted)
    number = operator.index(value)
    if not lowest <= number <= highest:
        raise ParameterError(wanted)
    return number


def _number(
    name: str, value: object, lowest: float, highest: float | None = None, above: bool = False
) -> float:
    limit = f"above {lowest}" if above else f"of at least {lowest}"
    limit += "" if highest is None else f" and at most {highest}"
    wanted = f"{name} is a finite number {limit}, not {value!r}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ParameterError(wanted)
    try:
        number = float(value)
    except OverflowError as error:  # an int beyond the largest float
        raise ParameterError(wanted) from error
    too_low = number <= lowest if above else number < lowest
    if not math.isfinite(number) or too_low or (highest is not None and number > highest):
        raise ParameterError(wanted)
    return number


def _biases(value: object) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise ParameterError(f"logit_bias maps token ids to numbers, and is not {value!r}")
    if len(value) > MOST_BIASES:
        raise ParameterError(f"logit_bias names {len(value):,} tokens, and may name {MOST_BIASES:,}")
    return {
        _integer("a token of logit_bias", token, 0, LARGEST_COUNT): _number(
            f"logit_bias of token {token}", bias, -100, 100
        )
        for token, bias in value.items()
    }


def _stop_strings(value: object) -> tuple[str, ...]:
    strings = (value,) if isinstance(value, str) else value
    if isinstance(strings, bytes) or not isinstance(strings, Iterable):
        raise ParameterError(f"stop is a string or a sequence of strings, not {value!r}")
    result = tuple(strings)
    for string in result:
        if not isinstance(string, str) or not string:
            raise ParameterError(f"stop strings are strings that are not empty, not {string!r}")
    return result
