"""A window is the difference of two readings, and nothing that fails inside the sampler gets out of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest

from fake_machine import START, FakeMachine
from tercet.errors import ParameterError
from tercet.monitoring.energy import EnergyMeter
from tercet.monitoring.history import History
from tercet.monitoring.metrics import BusyTime
from tercet.monitoring.readings import Reading, Tally
from tercet.monitoring.sampler import Sampler
from tercet.monitoring.snapshots import Snapshot


class Joules(EnergyMeter):
    """A meter that a test reads for."""

    total: float | None = 0.0

    def __enter__(self) -> Joules:
        return self

    def so_far(self) -> float | None:
        return self.total


@pytest.fixture
def machine() -> FakeMachine:
    return FakeMachine()


@pytest.fixture
def tally(machine: FakeMachine) -> Tally:
    return Tally(machine.clock)


@pytest.fixture
def sampler(machine: FakeMachine, tally: Tally) -> Iterator[Sampler]:
    made = made_sampler(machine, tally)
    made.begin()
    yield made
    made.close()


def made_sampler(machine: FakeMachine, tally: Tally, **changes: object) -> Sampler:
    options = {
        "read_machine": machine.read,
        "clock": machine.clock,
        "wall": machine.wall,
        "energy": Joules(),
    }
    return Sampler(tally.reading, History(), **(options | changes))  # type: ignore[arg-type]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


def test_a_window_has_what_happened_in_it(sampler: Sampler, machine: FakeMachine, tally: Tally) -> None:
    tally.record(True, 2.0, 40, False)
    machine.pass_time(10, process_busy=0.25, machine_busy=0.5)
    tally.record(True, 1.0, 20, False)
    tally.record(False, 9.0, 0, False)
    tally.record(True, 0.001, 30, True)
    first = sampler.sample()
    assert first is not None
    assert (first.time, first.period_seconds) == (START + 10, 10)
    assert (first.requests, first.succeeded, first.failed) == (4, 3, 1)
    assert (first.cache_hits, first.cache_misses, first.cache_hit_rate) == (1, 3, 0.25)
    assert first.generated_tokens == 90
    assert first.error_rate == 0.25
    assert first.generated_tokens_per_second == 9.0
    assert first.generating_tokens_per_second == pytest.approx(60 / 3.0)
    assert first.latency.count == 3
    assert first.process_cpu_percent == pytest.approx(25)
    assert first.machine_cpu_percent == pytest.approx(50)
    assert first.resident_memory_bytes == machine.memory
    assert first.gpu_memory_bytes is None
    assert first.prompt_tokens is None
    assert first.cancelled is None
    assert first.active_requests is None
    machine.pass_time(5)
    second = sampler.sample()
    assert second is not None
    assert (second.requests, second.error_rate, second.latency_average_seconds) == (0, None, None)
    assert second.generated_tokens_per_second == 0
    assert second.generating_tokens_per_second is None
    assert second.process_cpu_percent == 0
    assert [one.snapshot for one in sampler.history.spans()] == [first, second]


def test_joules_of_a_window(machine: FakeMachine, tally: Tally) -> None:
    energy = Joules()
    sampler = made_sampler(machine, tally, energy=energy)
    sampler.begin()
    energy.total = 12.5
    machine.pass_time(60)
    assert sampler.sample().energy_joules == 12.5  # type: ignore[union-attr]
    energy.total = None
    machine.pass_time(60)
    assert sampler.sample().energy_joules is None  # type: ignore[union-attr]


def test_a_peek_changes_nothing(sampler: Sampler, machine: FakeMachine, tally: Tally) -> None:
    tally.record(True, 1.0, 5, False)
    machine.pass_time(3)
    peeked = sampler.peek()
    assert peeked is not None
    assert peeked.requests == 1
    machine.pass_time(3)
    snapshot = sampler.sample()
    assert snapshot is not None
    assert (snapshot.requests, snapshot.period_seconds) == (1, 6)


def test_a_service_that_cannot_be_read_is_one_warning_and_loses_nothing(
    machine: FakeMachine, tally: Tally, caplog: pytest.LogCaptureFixture
) -> None:
    broken = False

    def read() -> Reading:
        if broken:
            raise RuntimeError("no figures today")
        return tally.reading()

    sampler = Sampler(read, History(), read_machine=machine.read, clock=machine.clock, wall=machine.wall)
    sampler.begin()
    broken = True
    for _ in range(3):
        tally.record(True, 1.0, 5, False)
        machine.pass_time(60)
        assert sampler.sample() is None
    assert warnings(caplog) == ["sampler cannot read the service"]
    broken = False
    machine.pass_time(60)
    snapshot = sampler.sample()
    assert snapshot is not None
    assert (snapshot.requests, snapshot.period_seconds) == (3, 240)
    broken = True
    sampler.sample()
    assert len(warnings(caplog)) == 2  # it had been well between


def test_whoever_judges_may_fail(
    machine: FakeMachine, tally: Tally, caplog: pytest.LogCaptureFixture
) -> None:
    class Judge:
        def observe(self, snapshot: Snapshot) -> list[object]:
            raise ZeroDivisionError

    sampler = made_sampler(machine, tally, watcher=Judge())
    sampler.begin()
    for _ in range(3):
        machine.pass_time(60)
        assert sampler.sample() is not None
    assert len(sampler.history.spans()) == 3
    assert warnings(caplog) == ["alerts cannot be judged"]


def test_events_are_stored_with_the_window(machine: FakeMachine, tally: Tally) -> None:
    class Event:
        def to_dict(self) -> dict[str, object]:
            return {"time": machine.time, "rule": "memory", "state": "firing"}

    class Judge:
        def observe(self, snapshot: Snapshot) -> list[Event]:
            return [Event()]

    sampler = made_sampler(machine, tally, watcher=Judge())
    sampler.begin()
    machine.pass_time(60)
    sampler.sample()
    assert sampler.history.alerts() == [{"time": START + 60, "rule": "memory", "state": "firing"}]


@pytest.mark.parametrize("seconds", [-86_400.0, 86_400.0])
def test_a_clock_that_was_set_is_told_and_no_window_is_longer_for_it(
    sampler: Sampler, machine: FakeMachine, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    machine.pass_time(60)
    machine.time += seconds
    snapshot = sampler.sample()
    assert snapshot is not None
    assert snapshot.period_seconds == 60
    assert snapshot.time == machine.time
    assert warnings(caplog) == ["the clock of the machine was set; the history goes on at the new time"]
    machine.pass_time(60)
    sampler.sample()
    assert len(warnings(caplog)) == 1


def test_the_thread_samples_by_itself_and_stores_the_last_window_at_its_end() -> None:
    tally = Tally()
    sampler = Sampler(tally.reading, History(), interval_seconds=0.02)
    sampler.start()
    end = time.monotonic() + 10
    while len(sampler.history.spans()) < 3 and time.monotonic() < end:
        tally.record(True, 0.001, 1, False)
        time.sleep(0.005)
    tally.record(True, 0.001, 1, False)
    sampler.stop()
    total = tally.reading().counts["requests"]
    assert sum(one.snapshot.requests for one in sampler.history.spans()) == total
    number = len(sampler.history.spans())
    sampler.stop()
    time.sleep(0.05)
    assert len(sampler.history.spans()) == number


def test_this_machine_is_measured() -> None:
    sampler = Sampler(Tally().reading, History())
    sampler.begin()
    begin = time.process_time()
    while time.process_time() < begin + 0.05:
        pass
    snapshot = sampler.sample()
    assert snapshot is not None
    assert snapshot.resident_memory_bytes is not None
    assert snapshot.resident_memory_bytes > 10 * 2**20
    assert snapshot.process_cpu_percent is not None
    assert 0 < snapshot.process_cpu_percent <= 110
    if snapshot.machine_cpu_percent is not None:
        assert 0 <= snapshot.machine_cpu_percent <= 100


def test_an_interval_is_above_zero() -> None:
    with pytest.raises(ParameterError, match="interval"):
        Sampler(Tally().reading, History(), interval_seconds=0)


def test_busy_time_counts_what_overlaps_once(machine: FakeMachine) -> None:
    busy = BusyTime(machine.clock)
    busy.enter()
    machine.pass_time(2)
    busy.enter()
    machine.pass_time(3)
    busy.leave()
    machine.pass_time(1)
    assert busy.seconds == 6
    busy.leave()
    machine.pass_time(10)
    assert busy.seconds == 6
    busy.enter()
    machine.pass_time(1)
    assert busy.seconds == 7
