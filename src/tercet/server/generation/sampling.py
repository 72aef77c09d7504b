"""The fields of a request that say how its tokens are chosen, under OpenAI's names and vLLM's for the rest.

What a request does not name, or names as null, is as the model came with it.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from tercet.sampling.params import LARGEST_COUNT, LARGEST_SEED, SamplingParams
from tercet.server.bodies import StrictModel

__all__ = ["Metadata", "SamplingFields", "StopStrings", "TokenBias"]

MOST_STOP_STRINGS = 16
LONGEST_STOP_STRING = 1000
SMALLEST_TOP_P = 1e-9
_INT64 = 2**63

StopString = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP_STRING)]
StopStrings = StopString | Annotated[list[StopString], Field(max_length=MOST_STOP_STRINGS)]
TokenBias = Annotated[
    dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=1024),
]


def _short_pairs(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if len(name) > 64 or len(text) > 512:
            raise ValueError(
                f"metadata names have at most 64 characters and values 512; {name[:64]!r} has more"
            )
    return value


Metadata = Annotated[dict[str, str], Field(max_length=16), AfterValidator(_short_pairs)]


class SamplingFields(StrictModel):
    """How to choose tokens, and when to stop."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=-_INT64, le=_INT64 - 1)
    stop: StopStrings | None = None
    logit_bias: TokenBias | None = None

    top_k: int | None = Field(None, ge=-1, le=LARGEST_COUNT)
    """Not OpenAI's; 0 and -1 keep all tokens."""
    min_p: float | None = Field(None, ge=0, le=1)
    """Not OpenAI's."""
    repetition_penalty: float | None = Field(None, ge=0.01, le=100)
    """Not OpenAI's."""
    min_tokens: int | None = Field(None, ge=0, le=LARGEST_COUNT)
    """Not OpenAI's."""
    ignore_eos: bool | None = None
    """Not OpenAI's."""
    priority: int | None = Field(None, ge=-1000, le=1000)
    """Not OpenAI's; lower runs first."""
    cache_salt: str | None = Field(None, min_length=1, max_length=200)
    """Not OpenAI's; only requests with the same one share cached prefixes and responses."""

    def sampling_params(
        self, max_tokens: int | None, logprobs: int | None = None, choice: int = 0
    ) -> SamplingParams:
        """Return what the fields mean for one of the choices: each has a seed of its own.

        Without `max_tokens` the answer may fill the context.

        Raises:
            ParameterError: the values do not go together.
        """
        values: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": None if self.top_p is None else max(self.top_p, SMALLEST_TOP_P),
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
            "seed": None if self.seed is None else (self.seed + choice) % (LARGEST_SEED + 1),
            "stop": self.stop,
            "logit_bias": self.logit_bias and {int(token): bias for token, bias in self.logit_bias.items()},
            "top_k": None if self.top_k is None else max(self.top_k, 0),
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "min_tokens": self.min_tokens,
            "ignore_eos": self.ignore_eos,
            "max_tokens": LARGEST_COUNT if max_tokens is None else max_tokens,
            "logprobs": logprobs,
        }
        return SamplingParams(**{name: value for name, value in values.items() if value is not None})

    @property
    def salt(self) -> bytes:
        """The salt of prefixes and responses that are kept."""
        return b"" if self.cache_salt is None else self.cache_salt.encode()
