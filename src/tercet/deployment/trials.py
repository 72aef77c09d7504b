"""Real generations through every strategy, each in a process of its own, one after the other.

Every stage has a time limit, and behind it the process is killed with all that it has started: a program that
hangs is a line in the report. The first generation of a strategy is compared with the reference; what is
measured are those after it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from tercet.deployment.agreement import Agreement, Reference
from tercet.deployment.registry import STRATEGIES, create
from tercet.deployment.strategy import (
    TEST_PROMPT,
    TEST_SECONDS,
    TEST_TOKENS,
    Availability,
    DeploymentSettings,
    Generation,
    GenerationRequest,
)
from tercet.errors import ParameterError, TercetError
from tercet.models.registry import resolve

__all__ = ["Measurement", "TimeLimits", "availabilities", "measure"]

RUNS = 3
COMMAND = (sys.executable, "-m", "tercet.deployment.trial_process")


@dataclasses.dataclass(frozen=True)
class TimeLimits:
    """Seconds that each stage of a trial may take."""

    start: float = 120.0
    """Until the process says whether the strategy is available."""
    set_up: float = 900.0
    install: float = 7200.0
    """Instead of `set_up` where a program may be built; its steps have limits of their own."""
    deploy: float = 180.0
    grace: float = 10.0
    """Beyond the time limits that the strategy itself must keep."""

    def with_settings(self, settings: DeploymentSettings) -> TimeLimits:
        """Return the limits with what the user allowed a program."""
        return dataclasses.replace(
            self,
            set_up=self.install if settings.install else self.set_up,
            deploy=max(self.deploy, settings.start_seconds + self.grace),
        )


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What was found out about one strategy; None is what was not measured."""

    strategy: str
    available: bool
    success: bool
    reason: str
    """What was found; or why it is not available, or failed."""
    steps: tuple[str, ...] = ()
    """What would make it available."""
    set_up_seconds: float | None = None
    deploy_seconds: float | None = None
    time_to_first_token_seconds: float | None = None
    """The median of the runs; None where the answer comes in one piece."""
    generation_seconds: float | None = None
    """The median of the runs, from the request to the last token."""
    tokens_per_second: float | None = None
    """The median of the runs, the reading of the prompt included; tokens were counted."""
    memory_bytes: int | None = None
    """Resident memory of the processes that compute."""
    text: str | None = None
    agreement: Agreement | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        agreement = None if self.agreement is None else self.agreement.to_dict()
        return {**dataclasses.asdict(self), "steps": list(self.steps), "agreement": agreement}


def availabilities(
    model: str | None = None, settings: DeploymentSettings | None = None, names: Sequence[str] | None = None
) -> dict[str, Availability]:
    """Ask every strategy, or those named, whether this machine can run it.

    Raises:
        ParameterError: there is no strategy of a name.
    """
    return {name: create(name, model, settings).availability() for name in names or STRATEGIES}


def measure(
    model: str | None = None,
    settings: DeploymentSettings | None = None,
    names: Sequence[str] | None = None,
    *,
    request: GenerationRequest | None = None,
    runs: int = RUNS,
    limits: TimeLimits | None = None,
    tell: Callable[[str], None] = lambda state: None,
) -> list[Measurement]:
    """Generate with every strategy, or those named, and say how it went.

    Args:
        model: name or path; None is the model that ships with the package.
        settings: what the user said about strategies.
        names: of `STRATEGIES`; None is all.
        request: what to generate; None is 16 greedy tokens. With a temperature above 0 nothing is compared
            with the reference.
        runs: generations to measure, after the first.
        limits: seconds for each stage.
        tell: called with what happens now.

    Raises:
        ParameterError: there is no strategy of a name, or no run.
        ModelNotFoundError: there is no such model.
    """
    if runs < 1:
        raise ParameterError(f"runs must be at least 1, not {runs}")
    asked = request or GenerationRequest(TEST_PROMPT, TEST_TOKENS, timeout_seconds=TEST_SECONDS)
    said = dataclasses.replace(settings or DeploymentSettings(), prefix_cache=False)
    comparable = {name: create(name, model, said).comparable for name in names or STRATEGIES}
    resolve(model)
    reference: Reference | None = None  # opened when there is something to compare
    allowed = (limits or TimeLimits()).with_settings(said)
    found = []
    for name, compares in comparable.items():
        tell(name)
        job = {
            "strategy": name,
            "model": model,
            "settings": dataclasses.asdict(said),
            "request": dataclasses.asdict(asked),
            "runs": runs,
        }
        with _process(job) as events:
            one, first = _observed(name, events, asked, allowed, tell)
        if compares and asked.temperature == 0 and first is not None:
            try:
                reference = reference or Reference(model)
                one = dataclasses.replace(one, agreement=reference.agreement(asked, first))
            except TercetError as error:
                one = dataclasses.replace(one, success=False, reason=f"it cannot be compared: {error}")
        found.append(one)
    return found


def _observed(
    name: str, events: _Events, request: GenerationRequest, limits: TimeLimits, tell: Callable[[str], None]
) -> tuple[Measurement, Generation | None]:
    """Follow a trial to its end, which may be a failure; with its first answer where there is one."""
    state: dict[str, Any] = {"strategy": name, "available": False, "success": False, "reason": ""}
    first: Generation | None = None
    runs: list[Generation] = []
    generation = request.timeout_seconds + limits.grace
    limit_after = {"available": limits.set_up, "set up": limits.deploy}
    limit, stage = limits.start, ""
    try:
        while stage != "done":
            event = events.next(limit)
            stage = event["stage"]
            limit = limit_after.get(stage, generation)
            tell(f"{name}: {stage}")
            if stage == "available":
                state |= {"available": event["available"], "reason": event["reason"]}
                if not event["available"]:
                    return Measurement(**state, steps=tuple(event["steps"])), None
            elif stage == "set up":
                state["set_up_seconds"] = event["seconds"]
            elif stage == "deployed":
                state["deploy_seconds"] = event["seconds"]
            elif stage == "tested":
                trial = event["trial"]
                first = _generation(trial["generation"])
                if not trial["success"]:
                    return Measurement(**state | {"reason": trial["reason"]}), None
            elif stage == "generated":
                runs.append(_generation(event["generation"]))  # type: ignore[arg-type]
            elif stage == "failed":
                return Measurement(**state | {"reason": event["reason"]}), None
            elif stage == "done":
                state["memory_bytes"] = event["memory_bytes"]
    except _TrialError as error:
        return Measurement(**state | {"reason": str(error)}), None
    return Measurement(**state | {"success": True} | _medians(runs), text=first.text if first else ""), first


def _medians(runs: Sequence[Generation]) -> dict[str, float | None]:
    def median(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    return {
        "time_to_first_token_seconds": median([run.time_to_first_token_seconds for run in runs]),
        "generation_seconds": median([run.seconds for run in runs]),
        "tokens_per_second": median([run.tokens_per_second for run in runs]),
    }


def _generation(values: Mapping[str, Any] | None) -> Generation | None:
    if values is None:
        return None
    ids = values["token_ids"]
    return Generation(**{**values, "token_ids": None if ids is None else tuple(ids)})


class _TrialError(Exception):
    """A process that ended or hung."""


class _Events:
    """What a process tells, and how it ended."""

    def __init__(self, process: subprocess.Popen[str], said: IO[bytes]) -> None:
        self._process = process
        self._said = said
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self, seconds: float) -> dict[str, Any]:
        """Return what happens next; _TrialError where nothing does."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise _TrialError(f"it did not go on within {seconds:g} seconds, and was ended") from None
        if line is None:
            raise _TrialError(self._ending())
        event: dict[str, Any] = json.loads(line)
        return event

    def _read(self) -> None:
        if self._process.stdout is not None:
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put(None)

    def _ending(self) -> str:
        status = self._process.wait()
        how = f"by signal {-status} ({signal.strsignal(-status)})" if status < 0 else f"with status {status}"
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return f"its process ended {how}: {lines[-1] if lines else 'it said nothing'}"


@contextlib.contextmanager
def _process(job: Mapping[str, Any]) -> Iterator[_Events]:
    """Run a trial; at the end of the block nothing of it is left."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        try:
            events = _Events(process, said)
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):  # it has ended; its events say how
                    process.stdin.write(json.dumps(job) + "\n")
                    process.stdin.flush()
            yield events
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    # Also where it has ended: what it has started may be there still.
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
