"""`Monitor` as other programs use it: what it is told is what it says, to the last request."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from fake_machine import START, FakeMachine
from tercet import Monitor
from tercet.errors import ParameterError, StorageError
from tercet.monitoring.snapshots import COUNTS
from tercet.monitoring.summary import NO_DATA


@pytest.fixture
def machine() -> FakeMachine:
    return FakeMachine()


def made(machine: FakeMachine, **options: Any) -> Monitor:
    return Monitor(machine=machine.read, clock=machine.clock, wall=machine.wall, **options)


def loaded(monitor: Monitor, machine: FakeMachine, windows: int = 30) -> dict[str, Any]:
    """Tell of random requests, and say what was told."""
    draw = random.Random(7)
    told: dict[str, Any] = dict.fromkeys(("requests", "succeeded", "failed", "cache_hits"), 0)
    told |= {"generated_tokens": 0, "seconds": []}
    for _ in range(windows):
        for _ in range(draw.randrange(20)):
            success, hit = draw.random() < 0.9, draw.random() < 0.3
            seconds, tokens = draw.expovariate(1), draw.randrange(1, 100) if success else 0
            monitor.record_request(success, seconds, tokens, hit)
            told["requests"] += 1
            told["succeeded" if success else "failed"] += 1
            told["cache_hits"] += hit
            told["generated_tokens"] += tokens
            if success:
                told["seconds"].append(seconds)
        machine.pass_time(60, process_busy=0.5)
        machine.memory += 2**20
        monitor.sample()
    return told


def test_the_summary_is_what_it_was_told(machine: FakeMachine) -> None:
    monitor = made(machine)
    told = loaded(monitor, machine)
    summary = monitor.summary(hours=1)
    for name in ("requests", "succeeded", "failed", "cache_hits", "generated_tokens"):
        assert summary["totals"][name] == told[name]
    assert summary["data"] == "recorded"
    assert summary["windows"] == 30
    assert summary["recorded_seconds"] == 1800
    assert summary["rates"]["success_rate"] == told["succeeded"] / told["requests"]
    assert summary["rates"]["error_rate"] == told["failed"] / told["requests"]
    assert summary["rates"]["cache_hit_rate"] == told["cache_hits"] / told["requests"]
    assert summary["rates"]["generated_tokens_per_second"] == told["generated_tokens"] / 1800
    exact = sorted(told["seconds"])
    assert summary["times"]["latency_average_seconds"] == pytest.approx(sum(exact) / len(exact))
    assert summary["times"]["latency_p95_seconds"] == pytest.approx(
        exact[-(-len(exact) * 95 // 100) - 1], rel=0.011
    )
    memory = summary["figures"]["resident_memory_bytes"]
    assert (memory["lowest"], memory["highest"]) == (51 * 2**20, 80 * 2**20)
    assert memory["average"] == pytest.approx(65.5 * 2**20)
    assert summary["figures"]["process_cpu_percent"]["average"] == pytest.approx(50)
    assert summary["totals"]["prompt_tokens"] is None
    assert summary["energy"]["joules"] is None or summary["energy"]["joules"] > 0


def test_only_the_hours_that_were_asked_for(machine: FakeMachine) -> None:
    monitor = made(machine)
    for _ in range(10):
        monitor.record_request(True, 1.0, 5)
        machine.pass_time(3600)
        monitor.sample()
    assert monitor.summary(hours=3.5)["totals"]["requests"] == 4
    assert monitor.summary(hours=24)["totals"]["requests"] == 10


def test_the_window_that_has_begun_counts(machine: FakeMachine) -> None:
    monitor = made(machine)
    monitor.record_request(True, 1.0, 5)
    machine.pass_time(1)
    assert monitor.summary()["totals"]["requests"] == 1
    monitor.sample()
    assert monitor.summary()["totals"]["requests"] == 1


def test_no_data_is_said(machine: FakeMachine) -> None:
    summary = made(machine).summary(hours=2)
    assert summary["data"] == NO_DATA
    assert set(summary["totals"].values()) == {None}
    assert set(summary["rates"].values()) == {None}


def test_an_export_has_everything(machine: FakeMachine, tmp_path: Path) -> None:
    monitor = made(machine)
    told = loaded(monitor, machine, windows=5)
    monitor.export(tmp_path / "all.json", hours=1)
    content = json.loads((tmp_path / "all.json").read_text())
    assert list(content) == [
        *("timestamp", "period", "snapshots", "request_totals", "alerts", "thresholds", "summary")
    ]
    assert content["period"]["from"] == START
    assert content["period"]["to"] == START + 300
    assert len(content["snapshots"]) == 5
    for name in ("requests", "succeeded", "failed", "cache_hits", "generated_tokens"):
        assert content["request_totals"][name] == told[name]
        assert sum(one[name] for one in content["snapshots"]) == told[name]
    assert content["summary"] == json.loads(json.dumps(monitor.summary(hours=1)))


def test_tables_have_the_same_windows(machine: FakeMachine, tmp_path: Path) -> None:
    monitor = made(machine)
    told = loaded(monitor, machine, windows=5)
    monitor.export(tmp_path / "all.CSV", hours=1)
    with (tmp_path / "all.CSV").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("requests", "failed", "generated_tokens"):
        assert sum(int(row[name]) for row in rows) == told[name]
    assert {row["prompt_tokens"] for row in rows} == {""}
    parquet = pytest.importorskip("pyarrow.parquet")
    monitor.export(tmp_path / "all.parquet", hours=1)
    table = parquet.read_table(tmp_path / "all.parquet")
    assert [str(one) for one in table.column("time").to_pylist()] == [row["time"] for row in rows]
    assert {str(table.schema.field(name).type) for name in COUNTS} == {"int64"}
    rest = json.loads(table.schema.metadata[b"tercet"])
    assert rest["request_totals"]["requests"] == told["requests"]


def test_a_file_outlives_the_process_that_wrote_it(machine: FakeMachine, tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    for _ in range(2):
        monitor = made(machine, history=path)
        monitor.record_request(True, 1.0, 5)
        machine.pass_time(60)
        monitor.close()
    assert made(machine, history=path).summary()["totals"]["requests"] == 2


@pytest.mark.parametrize("name", ["none/x.json", "x.xlsx", "x"])
def test_an_export_that_cannot_be_is_an_error_and_nothing_else(
    machine: FakeMachine, tmp_path: Path, name: str
) -> None:
    monitor = made(machine)
    monitor.record_request(True, 1.0, 5)
    machine.pass_time(60)
    monitor.sample()
    with pytest.raises((StorageError, ParameterError)):
        monitor.export(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    assert monitor.summary()["totals"]["requests"] == 1


@pytest.mark.parametrize(
    "values", [(True, -1.0, 3), (True, float("nan"), 3), (True, 1.0, -3), (True, 1.0, 1.5)]
)
def test_what_cannot_be_is_refused(machine: FakeMachine, values: tuple[Any, ...]) -> None:
    monitor = made(machine)
    with pytest.raises(ParameterError):
        monitor.record_request(*values)
    assert monitor.summary()["totals"]["requests"] is None


def test_hours_are_above_zero(machine: FakeMachine) -> None:
    with pytest.raises(ParameterError, match="hours"):
        made(machine).summary(hours=0)


def test_it_starts_and_stops(tmp_path: Path) -> None:
    with Monitor(interval=0.02, history=tmp_path / "history.sqlite") as monitor:
        monitor.record_request(True, 0.5, 10)
        monitor.start()  # has begun already
        monitor.stop()
        monitor.record_request(True, 0.5, 10)
        monitor.start()
    again = Monitor(history=tmp_path / "history.sqlite")
    assert again.summary()["totals"]["generated_tokens"] == 20
