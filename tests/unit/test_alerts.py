"""Every alert fires and ends, once each, at the times that its rule says; by a clock that tests move."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import pytest

from fake_machine import START, FakeMachine
from tercet.errors import ParameterError
from tercet.monitoring.alerts import RULES, AlertEvent, AlertManager, adjusted
from tercet.monitoring.alerts.judge import KEPT_SECONDS
from tercet.monitoring.distribution import Distribution
from tercet.monitoring.monitor import Monitor
from tercet.monitoring.snapshots import Snapshot

SECONDS = 10.0
GIBIBYTE = 2**30
# Rule -> a window that is wrong, one between `clear` and the threshold, and one that is right.
CONDITIONS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "memory": (
        {"resident_memory_bytes": GIBIBYTE + 1},
        {"resident_memory_bytes": int(0.95 * GIBIBYTE)},
        {"resident_memory_bytes": int(0.9 * GIBIBYTE)},
    ),
    "cpu": ({"process_cpu_percent": 80.1}, {"process_cpu_percent": 80.0}, {"process_cpu_percent": 72.0}),
    "performance": (
        {"decoded_tokens": 49, "generating_seconds": 10.0},
        {"decoded_tokens": 50, "generating_seconds": 10.0},
        {"decoded_tokens": 56, "generating_seconds": 10.0},
    ),
    "reliability": (
        {"failed": 6, "succeeded": 94},
        {"failed": 5, "succeeded": 95},
        {"failed": 4, "succeeded": 96},
    ),
    "latency": (
        {"latency": Distribution.of([4.0, 6.1])},
        {"latency": Distribution.of([4.0, 6.0])},
        {"latency": Distribution.of([3.0, 6.0])},
    ),
    "first_token": (
        {"first_token": Distribution.of([2.7])},
        {"first_token": Distribution.of([2.4])},
        {"first_token": Distribution.of([1.0])},
    ),
    "queue": ({"queue_used": 0.81}, {"queue_used": 0.8}, {"queue_used": 0.72}),
    "kv_cache": ({"kv_cache_used": 0.951}, {"kv_cache_used": 0.95}, {"kv_cache_used": 0.855}),
    "engine": (
        {"engine_tick_age_seconds": 30.1},
        {"engine_tick_age_seconds": 30.0},
        {"engine_tick_age_seconds": 5.0},
    ),
}
JUDGED = {rule.name: rule for rule in RULES if rule.figure is not None}


class Windows:
    """Windows of ten seconds, one after the other, for a manager."""

    def __init__(self, manager: AlertManager | None = None) -> None:
        self.manager = manager or AlertManager()
        self.number = 0

    def add(self, values: dict[str, Any], times: int = 1) -> list[AlertEvent]:
        """What begins or ends with them."""
        events = []
        for _ in range(times):
            self.number += 1
            snapshot = Snapshot(time=START + SECONDS * self.number, period_seconds=SECONDS, **values)
            events += self.manager.observe(snapshot)
        return events

    @property
    def now(self) -> float:
        return START + SECONDS * self.number


def told(events: Iterable[AlertEvent]) -> list[tuple[str, str]]:
    return [(event.rule, event.state) for event in events]


def test_every_rule_has_a_condition() -> None:
    assert set(CONDITIONS) == set(JUDGED)
    assert {"memory", "cpu", "performance", "latency"} <= {
        name for name, rule in JUDGED.items() if rule.severity == "warning"
    }
    assert JUDGED["reliability"].severity == "critical"


@pytest.mark.parametrize("name", CONDITIONS)
def test_it_fires_after_its_hold_time_and_ends_once_it_has_been_right(name: str) -> None:
    wrong, between, right = CONDITIONS[name]
    rule, windows = JUDGED[name], Windows()
    waits = int(rule.hold_seconds / SECONDS)
    assert windows.add(wrong, waits) == []
    assert windows.manager.active_alerts() == []

    (begun,) = windows.add(wrong)
    assert (begun.rule, begun.state, begun.severity) == (name, "firing", rule.severity)
    assert begun.time == windows.now
    assert begun.since == pytest.approx(windows.now - rule.hold_seconds)
    assert begun.threshold == rule.threshold
    assert rule.advice in begun.message
    assert windows.add(wrong, 5) == []  # once is enough
    assert windows.add(between, 50) == []  # not yet right: nothing flaps
    (active,) = windows.manager.active_alerts()
    assert active.id == begun.id
    assert active.seconds == 55 * SECONDS

    ends = int(rule.clear_seconds / SECONDS)
    assert windows.add(right, ends) == []
    (ended,) = windows.add(right)
    assert (ended.id, ended.state, ended.time) == (begun.id, "resolved", windows.now)
    assert ended.seconds == (56 + ends) * SECONDS
    assert rule.is_beyond(ended.worst)
    assert windows.manager.active_alerts() == []
    assert windows.manager.recent_alerts() == [ended]


@pytest.mark.parametrize("name", [name for name, rule in JUDGED.items() if rule.hold_seconds])
def test_what_is_right_in_between_begins_the_wait_anew(name: str) -> None:
    wrong, between, _ = CONDITIONS[name]
    windows = Windows()
    waits = int(JUDGED[name].hold_seconds / SECONDS)
    for _ in range(3):
        assert windows.add(wrong, waits) == []
        assert windows.add(between) == []


def test_an_end_needs_to_be_right_all_the_time() -> None:
    wrong, between, right = CONDITIONS["queue"]
    windows = Windows()
    windows.add(wrong, 7)
    for _ in range(3):
        assert windows.add(right, 6) == []
        assert windows.add(between) == []
    assert told(windows.add(right, 7)) == [("queue", "resolved")]


def test_what_was_not_measured_neither_fires_nor_ends() -> None:
    wrong, _, right = CONDITIONS["performance"]
    windows = Windows()
    for _ in range(12):
        windows.add(wrong)
        assert windows.add({}, 20) == []  # nothing was generated
    (begun,) = windows.add(wrong)
    assert windows.add({"generating_seconds": 0.0, "decoded_tokens": 0}, 100) == []
    assert [one.id for one in windows.manager.active_alerts()] == [begun.id]
    windows.add(right, 6)
    assert told(windows.add(right)) == [("performance", "resolved")]
    assert windows.add({"kv_cache_used": float("nan")}, 100) == []


def test_without_confirmation_it_is_active_for_six_hours() -> None:
    windows = Windows()
    windows.add(CONDITIONS["latency"][0], 13)
    assert windows.add({}, int(KEPT_SECONDS / SECONDS) - 1) == []
    assert len(windows.manager.active_alerts()) == 1
    (ended,) = windows.add({})
    assert "was not measured for six hours" in ended.message
    assert windows.manager.active_alerts() == []


def test_what_is_confirmed_stays_active_and_what_ended_is_listed_for_six_hours() -> None:
    wrong, _, right = CONDITIONS["engine"]
    windows = Windows()
    windows.add(wrong, int(2 * KEPT_SECONDS / SECONDS))
    assert len(windows.manager.active_alerts()) == 1
    windows.add(right)
    windows.add(right, int(KEPT_SECONDS / SECONDS))
    assert len(windows.manager.recent_alerts()) == 1
    windows.add(right)
    assert windows.manager.recent_alerts() == []


def test_several_alerts_at_a_time_the_critical_ones_first() -> None:
    windows = Windows()
    windows.add(CONDITIONS["memory"][0] | CONDITIONS["queue"][0], 7)
    windows.add(CONDITIONS["memory"][0] | CONDITIONS["engine"][0])
    assert [one.rule for one in windows.manager.active_alerts()] == ["engine", "memory", "queue"]


def test_a_clock_that_is_set_neither_fires_nor_ends_anything() -> None:
    wrong, _, right = CONDITIONS["memory"]
    manager = AlertManager()
    for number, day in enumerate([0, 1000, -1000, 0]):
        snapshot = Snapshot(time=START + 86_400 * day + number, period_seconds=SECONDS, **wrong)
        assert manager.observe(snapshot) == []
    assert manager.observe(Snapshot(time=START, period_seconds=40.0, **wrong))
    assert manager.observe(Snapshot(time=START - 10**9, period_seconds=SECONDS, **right)) == []
    assert len(manager.active_alerts()) == 1
    assert manager.observe(Snapshot(time=START - 10**9, period_seconds=-5.0, **right)) == []


def test_an_alert_outlives_its_process_and_is_not_told_of_twice() -> None:
    wrong, _, right = CONDITIONS["cpu"]
    before = Windows()
    stored = [event.to_dict() for event in before.add(wrong, 40)]
    after = Windows()
    after.manager.restore([*stored, {"rule": "memory", "state": "firing"}, {"of": "another release"}])
    assert [one.id for one in after.manager.active_alerts()] == [stored[0]["id"]]
    assert after.add(wrong, 40) == []
    (ended,) = after.add(right, 7)
    assert ended.id == stored[0]["id"]

    once_more = AlertManager()
    once_more.restore([*stored, ended.to_dict()])
    assert once_more.active_alerts() == []


def test_the_log_is_told(caplog: pytest.LogCaptureFixture) -> None:
    windows = Windows()
    with caplog.at_level(logging.INFO, "tercet.alerts"):
        windows.add(CONDITIONS["engine"][0], 3)
        windows.add(CONDITIONS["engine"][2])
    firing, resolved = caplog.records
    assert (firing.getMessage(), firing.levelname) == ("alert firing", "ERROR")
    assert (resolved.getMessage(), resolved.levelname) == ("alert resolved", "INFO")
    assert firing.__dict__["alert_id"] == resolved.__dict__["alert_id"]


def test_rules_can_be_changed() -> None:
    rules = adjusted({"memory": {"above": 100, "hold_seconds": 0, "severity": "critical"}, "cpu": None})
    manager = AlertManager(rules)
    assert "cpu" not in manager.thresholds()
    assert manager.thresholds()["memory"] == {
        "figure": "resident_memory_bytes",
        "above": 100,
        "clear": 90.0,
        "hold_seconds": 0,
        "clear_seconds": 60.0,
        "severity": "critical",
    }
    (event,) = manager.observe(Snapshot(time=START, period_seconds=1.0, resident_memory_bytes=101))
    assert event.severity == "critical"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"memroy": {}}, "there is no rule 'memroy'; there are memory, cpu"),
        ({"memory": {"below": 5}}, "has no 'below'; it has above, clear, hold_seconds"),
        ({"memory": {"above": "5"}}, "above of the rule 'memory' is a number, not '5'"),
        ({"memory": {"above": True}}, "a number, not True"),
        ({"memory": {"above": float("nan")}}, "a number, not nan"),
        ({"memory": {"hold_seconds": -1}}, "at least 0, not -1"),
        ({"memory": {"severity": "fatal"}}, "warning or critical, not 'fatal'"),
        ({"memory": {"above": 5, "clear": 6}}, "would never end: clear 6 is above 5"),
        ({"performance": {"clear": 2}}, "would never end: clear 2 is below 5"),
        ({"memory": 5}, "is an object with above"),
    ],
)
def test_changes_that_cannot_be(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        adjusted(changes)


def test_a_monitor_has_them_and_a_new_one_takes_them_up(tmp_path: Any) -> None:
    """The whole way: from requests of a program to alerts in a history that outlives it."""
    machine, path = FakeMachine(), tmp_path / "history.sqlite"
    options: dict[str, Any] = {
        "history": path,
        "machine": machine.read,
        "clock": machine.clock,
        "wall": machine.wall,
    }
    with Monitor(**options) as monitor:
        for _ in range(2):
            monitor.record_request(success=False, generation_time=0.1)
            machine.pass_time(60)
            monitor.sample()
        (alert,) = monitor.active_alerts()
        assert alert.to_dict()["rule"] == "reliability"
    with Monitor(**options) as monitor:
        assert [one.to_dict()["id"] for one in monitor.active_alerts()] == [alert.to_dict()["id"]]
        for _ in range(2):
            monitor.record_request(success=True, generation_time=0.1)
            machine.pass_time(60)
            monitor.sample()
        assert monitor.active_alerts() == []
        stored = [(one["rule"], one["state"]) for one in monitor.history.alerts()]
    assert stored == [("reliability", "firing"), ("reliability", "resolved")]
