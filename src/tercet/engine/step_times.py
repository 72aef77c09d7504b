"""Where the time of steps goes, outside the decoder's own count: always on, a few readings of a clock a step.

    planning      what has arrived and what is cancelled, guesses at tokens, who computes what
    running       the arrays of a step and the decoder, which divides its own part (`Decoder.profile`)
    drawing       a token from each row of logits
    committing    what was computed is in the cache; who has ended
    delivering    text for the readers, handed to their event loops (counted by the engine's thread)

The difference of two accounts says where the time between them went.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

__all__ = ["PARTS", "StepAccount", "StepTimes"]

PARTS = ("planning", "running", "drawing", "committing", "delivering")


class StepTimes:
    """Seconds of each part; one thread at a time."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._clock = clock
        self._last = 0.0

    def begin(self) -> None:
        """What comes now is part of something."""
        self._last = self._clock()

    def add(self, part: str) -> float:
        """What was done since the last call was this; returns how long that took."""
        now = self._clock()
        spent = now - self._last
        self.seconds[part] += spent
        self._last = now
        return spent


@dataclass(frozen=True)
class StepAccount:
    """What an engine has done until the end of one of its steps.

    Attributes:
        steps: how many there were.
        prompt_tokens: computed.
        generated_tokens: drawn.
        seconds: by the names of `PARTS`.
        operations: seconds of the decoder's operations, within `running`; empty where it counts none.
    """

    steps: int
    prompt_tokens: int
    generated_tokens: int
    seconds: Mapping[str, float]
    operations: Mapping[str, float]

    def __sub__(self, before: StepAccount) -> StepAccount:
        """What was done between two of them."""
        return replace(
            self,
            steps=self.steps - before.steps,
            prompt_tokens=self.prompt_tokens - before.prompt_tokens,
            generated_tokens=self.generated_tokens - before.generated_tokens,
            seconds={name: own - before.seconds[name] for name, own in self.seconds.items()},
            operations={
                name: max(own - before.operations.get(name, 0.0), 0.0)  # a sum of floats may be 1e-11 short
                for name, own in self.operations.items()
            },
        )
