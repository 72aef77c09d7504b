"""How a strategy does on prompts of one's own: how many answers, how fast, and how many failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tercet.deployment.strategy import Generation, GenerationRequest, Strategy
from tercet.errors import ParameterError, TercetError

__all__ = ["Benchmark", "benchmark"]


@dataclass(frozen=True)
class Benchmark:
    """What came of the runs."""

    strategy: str
    total: int
    """Generations that were asked for."""
    successful: int
    average_seconds: float | None
    """Of the successful ones."""
    tokens_per_second: float | None
    """From tokens that were counted, over the time of the answers that they are of; None: nobody counted."""
    failures: tuple[str, ...] = ()
    """Why the others failed, each reason once."""

    @property
    def success_rate(self) -> float:
        """Share of the generations that were successful."""
        return self.successful / self.total

    def to_dict(self) -> dict[str, Any]:
        """The fields and the rate."""
        return {**asdict(self), "failures": list(self.failures), "success_rate": self.success_rate}


def benchmark(
    strategy: Strategy, prompts: Sequence[str], num_runs: int = 3, max_tokens: int = 64
) -> Benchmark:
    """Answer every prompt so many times, one after the other, greedily. A failure is counted, not raised.

    Args:
        strategy: is deployed if need be.
        prompts: texts to continue.
        num_runs: how often each.
        max_tokens: of each answer, at most.

    Raises:
        ParameterError: there is nothing to do.
        TercetError: it cannot be deployed.
    """
    if not prompts or isinstance(prompts, str) or num_runs < 1:
        raise ParameterError("a benchmark takes a list of prompts and at least one run")
    requests = [GenerationRequest(prompt, max_tokens) for prompt in prompts]
    strategy.deploy()
    done: list[Generation] = []
    failures: dict[str, None] = {}
    for _ in range(num_runs):
        for request in requests:
            try:
                done.append(strategy.generate(request))
            except TercetError as error:
                failures[str(error)] = None
    seconds = [one.seconds for one in done]
    counted = [one for one in done if one.generated_tokens is not None]
    return Benchmark(
        strategy=strategy.name,
        total=num_runs * len(requests),
        successful=len(done),
        average_seconds=sum(seconds) / len(seconds) if seconds else None,
        tokens_per_second=(
            sum(one.generated_tokens or 0 for one in counted) / sum(one.seconds for one in counted)
            if counted
            else None
        ),
        failures=tuple(failures),
    )
