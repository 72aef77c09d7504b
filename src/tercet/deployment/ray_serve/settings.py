"""How many replicas there are, and how much each of them takes."""

from __future__ import annotations

from dataclasses import dataclass

from tercet.errors import ParameterError

__all__ = ["RaySettings"]


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """What `tercet deploy ray` is told.

    Raises:
        ParameterError: a bound is not above 0, or the least of something is above its most.
    """

    name: str = "tercet"
    """Of the application in the cluster."""
    min_replicas: int = 1
    max_replicas: int = 2
    cpus_per_replica: float = 1.0
    """What Ray sets aside for each; the threads of the engine are its own setting."""
    max_running: int = 16
    """Requests that a replica takes at one time."""
    target_running: float = 8.0
    """Requests, running and waiting, that there should be for each replica: more make more replicas."""
    max_waiting: int = 64
    """Requests that wait for a replica; one more gets 429 and Retry-After."""
    scale_up_seconds: float = 30.0
    """How long there must be too many requests before there are more replicas."""
    scale_down_seconds: float = 600.0
    """How long there must be too few before there are fewer."""
    drain_seconds: float = 30.0
    """How long the requests of a replica that is to end may go on."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "name" and not value > 0:
                raise ParameterError(f"{name} is above 0, not {value!r}")
        if self.min_replicas > self.max_replicas:
            raise ParameterError(
                f"min_replicas is at most max_replicas, {self.max_replicas}, not {self.min_replicas}"
            )
        if self.target_running > self.max_running:
            raise ParameterError(
                f"target_running is at most max_running, {self.max_running}, not {self.target_running}: "
                "with all replicas full there would never be another"
            )
