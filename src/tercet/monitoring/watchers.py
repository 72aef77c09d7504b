"""Who looks at every window, and says what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from tercet.monitoring.snapshots import Snapshot

__all__ = ["Event", "Nobody", "Watcher"]


class Event(Protocol):
    """Something began to be wrong, or ended; its `to_dict` has its `time`, in seconds since 1970."""

    def to_dict(self) -> dict[str, Any]:
        """Fit for JSON."""


class Watcher(Protocol):
    """What judges windows. Called in the sampler's thread, asked in any."""

    def observe(self, snapshot: Snapshot) -> Sequence[Event]:
        """Judge a window, and say what began or ended with it."""

    def active_alerts(self) -> Sequence[Event]:
        """What is wrong now."""

    def recent_alerts(self) -> Sequence[Event]:
        """What was wrong a while ago."""

    def thresholds(self) -> Mapping[str, Any]:
        """By what it judges."""

    def restore(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Take up what was wrong when the process before this one ended; its events, oldest first."""

    def close(self) -> None:
        """Tell whoever is still to be told."""


class Nobody:
    """Finds nothing wrong."""

    def observe(self, snapshot: Snapshot) -> Sequence[Event]:
        """Nothing begins."""
        return ()

    def active_alerts(self) -> Sequence[Event]:
        """Nothing is wrong."""
        return ()

    def recent_alerts(self) -> Sequence[Event]:
        """Nothing was wrong."""
        return ()

    def thresholds(self) -> Mapping[str, Any]:
        """There are none."""
        return {}

    def restore(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Nothing was wrong."""

    def close(self) -> None:
        """Nobody is told."""
