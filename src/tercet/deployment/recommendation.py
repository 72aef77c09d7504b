"""What to run a model with, for a use: `tercet deploy recommend --use-case edge`.

A use has a limit of memory (that of its scenario in `tercet.models.profiles`), a goal that decides among what
keeps within it, and sometimes a strategy that it asks for whatever that costs. The advice names every figure
of this machine that it follows from, so that who reads it may weigh them otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tercet.deployment.selection import MIB, exclusion, select
from tercet.deployment.trials import Measurement
from tercet.errors import ParameterError
from tercet.models.profiles import SCENARIOS

__all__ = ["USE_CASES", "Advice", "UseCase", "recommend", "use_case_named"]


@dataclasses.dataclass(frozen=True)
class UseCase:
    """What matters in a use."""

    name: str
    summary: str
    goal: str
    """The one of `GOALS` that decides."""
    because: str
    """Why this goal."""
    next_step: str
    """The command to go on with, where our own engine is chosen."""
    scenario: str | None = None
    """Whose memory is the limit; None for this machine's."""
    wanted: str | None = None
    """The strategy that this use asks for, where it succeeds."""
    wanted_because: str = ""

    @property
    def memory_bytes(self) -> int | None:
        """Most resident memory."""
        return None if self.scenario is None else SCENARIOS[self.scenario].memory_bytes


USE_CASES: Mapping[str, UseCase] = {
    use.name: use
    for use in (
        UseCase(
            "production",
            "a service for many callers on a machine of your own",
            "throughput",
            "what an answer costs decides how many callers the machine has room for",
            "tercet serve --scenario server",
            scenario="server",
        ),
        UseCase(
            "development",
            "trying prompts and programs out, again and again",
            "latency",
            "whoever tries things out waits for the first token",
            "tercet chat",
        ),
        UseCase(
            "mobile",
            "a telephone, beside other programs",
            "latency",
            "one person waits for the answer",
            "tercet optimize mobile",
            scenario="mobile",
        ),
        UseCase(
            "research",
            "looking inside a model and changing it",
            "throughput",
            "experiments are many",
            "tercet eval",
            wanted="transformers",
            wanted_because="layers, hooks and gradients are PyTorch's, and published code runs on it",
        ),
        UseCase(
            "edge",
            "a small computer beside other work",
            "throughput",
            "texts are worked off one after the other, with little processor to spare",
            "tercet serve --scenario edge",
            scenario="edge",
        ),
        UseCase(
            "cloud",
            "instances that are paid for by the hour",
            "throughput",
            "tokens a second of an instance are what the money buys",
            "tercet serve --scenario cloud",
            scenario="cloud",
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Advice:
    """A strategy for a use, with its reasons."""

    use_case: str
    chosen: str
    reasons: tuple[str, ...]
    """Sentences, the most important first; every strategy is in one of them."""
    next_step: str
    """The command to go on with."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**dataclasses.asdict(self), "reasons": list(self.reasons)}


def use_case_named(name: str) -> UseCase:
    """Return a use; ParameterError where there is none of the name."""
    if name not in USE_CASES:
        raise ParameterError(f"there is no use case {name!r}; there are {', '.join(USE_CASES)}")
    return USE_CASES[name]


def recommend(measurements: Sequence[Measurement], use_case: str) -> Advice:
    """Recommend a strategy for a use.

    Args:
        measurements: what `tercet.deployment.trials.measure` found.
        use_case: one of `USE_CASES`.

    Raises:
        ParameterError: there is no such use.
        UnavailableError: no strategy succeeded within the limits.
    """
    use = use_case_named(use_case)
    within = [_limited(one, use) for one in measurements]
    wanted = [one.strategy for one in within if one.strategy == use.wanted and exclusion(one) is None]
    ranked = select(within, use.goal)
    chosen = wanted[0] if wanted else ranked.chosen
    reasons = []
    if wanted:
        reasons.append(f"{chosen}, because {use.wanted_because}")
        if chosen != ranked.chosen:
            reasons.append(f"by {use.goal} alone it would be {ranked.explanation()}")
    else:
        reasons.append(f"{use.goal} decides, because {use.because}")
        reasons.append(ranked.explanation())
    if use.memory_bytes is not None:
        reasons.append(f"the memory of {use.name} is {use.memory_bytes // MIB} MiB for the whole process")
    reasons += [f"not {name}: {reason}" for name, reason in ranked.excluded.items()]
    own = chosen == "native"
    return Advice(
        use_case, chosen, tuple(reasons), use.next_step if own else f"tercet deploy run -s {chosen}"
    )


def _limited(one: Measurement, use: UseCase) -> Measurement:
    """Return a measurement, without success where it took more memory than the use has."""
    limit = use.memory_bytes
    if not one.success or limit is None or one.memory_bytes is None or one.memory_bytes <= limit:
        return one
    reason = f"it takes {one.memory_bytes // MIB} MiB, more than the {limit // MIB} MiB of {use.name}"
    return dataclasses.replace(one, success=False, reason=reason)
