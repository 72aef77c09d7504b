"""The best way of running a model here, for a goal, by measurement.

    latency      the shortest time to the first token
    throughput   the most tokens a second, one answer at a time
    memory       the least resident memory

Only what succeeded takes part, and only what says what the model says: a strategy whose greedy tokens differ
from the reference's where two were not as good as tied is left out, and the margin is the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tercet.deployment.trials import Measurement
from tercet.errors import ParameterError, UnavailableError

__all__ = ["GOALS", "MIB", "TIED_MARGIN", "Goal", "Selection", "exclusion", "goal_named", "select"]

TIED_MARGIN = 0.1
"""Two logits that are nearer are as good as tied: programs that round activations to int8, and add floats in
other orders, may choose either."""
MIB = 1 << 20


@dataclass(frozen=True)
class Goal:
    """What the best has most, or least, of."""

    name: str
    summary: str
    figure: Callable[[Measurement], float | None]
    largest_wins: bool
    shown: Callable[[float], str]


def _first_token(one: Measurement) -> float | None:
    # Where an answer comes in one piece, its first token comes with the last.
    first = one.time_to_first_token_seconds
    return one.generation_seconds if first is None else first


GOALS: Mapping[str, Goal] = {
    goal.name: goal
    for goal in (
        Goal(
            "latency",
            "the shortest time to the first token",
            _first_token,
            False,
            lambda x: f"{x * 1e3:.3g} ms",
        ),
        Goal(
            "throughput",
            "the most tokens a second, one answer at a time",
            lambda one: one.tokens_per_second,
            True,
            lambda x: f"{x:.3g} tokens/s",
        ),
        Goal(
            "memory",
            "the least resident memory",
            lambda one: one.memory_bytes,
            False,
            lambda x: f"{x / MIB:,.0f} MiB",
        ),
    )
}


@dataclass(frozen=True)
class Selection:
    """Who won, and why."""

    goal: str
    chosen: str
    ranking: tuple[tuple[str, float], ...]
    """Strategies and their figures, the best first."""
    excluded: Mapping[str, str]
    """The others, and why they do not take part."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "goal": self.goal,
            "chosen": self.chosen,
            "ranking": [{"strategy": name, "figure": figure} for name, figure in self.ranking],
            "excluded": dict(self.excluded),
        }

    def explanation(self) -> str:
        """Say in a sentence who has which figure, the winner first."""
        goal = GOALS[self.goal]
        (name, best), *others = self.ranking
        behind = ", ".join(f"{other} has {goal.shown(figure)}" for other, figure in others)
        return f"{name} with {goal.summary}: {goal.shown(best)}" + (f"; {behind}" if behind else "")


def goal_named(name: str) -> Goal:
    """Return a goal; ParameterError where there is none of the name."""
    if name not in GOALS:
        raise ParameterError(f"there is no goal {name!r}; there are {', '.join(GOALS)}")
    return GOALS[name]


def exclusion(one: Measurement) -> str | None:
    """Say why a strategy cannot be chosen, None where it can."""
    if not one.success:
        return one.reason
    agreement = one.agreement
    if agreement is None or agreement.complete:
        return None
    if not agreement.prompt_differs and agreement.margin is not None and agreement.margin <= TIED_MARGIN:
        return None
    return f"its greedy tokens are not the model's: {agreement}"


def select(measurements: Sequence[Measurement], goal: str) -> Selection:
    """Choose by measurement.

    Args:
        measurements: what `tercet.deployment.trials.measure` found.
        goal: one of `GOALS`.

    Raises:
        ParameterError: there is no such goal.
        UnavailableError: no strategy succeeded.
    """
    wanted = goal_named(goal)
    figures: dict[str, float] = {}
    excluded: dict[str, str] = {}
    for one in measurements:
        figure, reason = wanted.figure(one), exclusion(one)
        if reason is None and figure is not None:
            figures[one.strategy] = figure
        else:
            excluded[one.strategy] = reason or f"{wanted.name} could not be measured"
    if not figures:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in excluded.items())
        raise UnavailableError(f"no strategy can be chosen for {goal}. {reasons}")
    ranking = sorted(figures.items(), key=lambda pair: pair[1], reverse=wanted.largest_wins)
    return Selection(goal, ranking[0][0], tuple(ranking), excluded)
