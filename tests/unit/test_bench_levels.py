"""`tercet bench levels`: real measurements of the tiny model, and the arithmetic on top of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tercet.bench import levels
from tercet.bench.levels import FORMULA, LEVEL_COLUMNS, bench_levels
from tercet.bench.session import Session
from tercet.engine.processors import available_cores
from tercet.errors import ParameterError, TercetError
from tercet.models.profiles import LEVELS


def test_every_level_is_measured_beside_baseline(tiny_model_file: Path) -> None:
    told: list[str] = []
    session = Session(runs=1, progress=told.append)
    report = bench_levels(session, tiny_model_file, "tiny", tokens=4, requests=2, together=2)
    rows = {row["level"]: row for row in report.rows}
    assert list(rows) == list(LEVELS)
    for name, row in rows.items():
        assert row["threads"] == min(LEVELS[name].max_threads, available_cores())
        assert row["tokens_per_second"] > 0
        assert row["latency_p95_ms"] >= row["latency_mean_ms"] * 0.5
        assert row["requests_per_minute"] > 0
        assert row["memory_mb"] > 10
        speedup = row["tokens_per_second"] / rows["baseline"]["tokens_per_second"]
        assert row["efficiency"] == pytest.approx(speedup / row["threads"])
        assert row["same_answers_as_its_first_run"]
    assert rows["baseline"]["efficiency"] == 1
    assert FORMULA in report.notes
    text, page, data = report.text(), report.markdown(), report.to_dict()
    assert all(column.title in page for column in LEVEL_COLUMNS)
    assert "aggressive: " in text
    assert json.loads(json.dumps(data))["rows"][0]["level"] == "baseline"
    assert len(told) == len(LEVELS)
    measured = all(row["joules_per_token"] is not None for row in rows.values())
    assert measured or "not measured" in text


def figures(speed: float, threads: int, joules: float | None) -> dict[str, Any]:
    return {
        "threads": threads,
        "isa": "reference",
        "tokens_per_second": speed,
        "latencies": [0.010, 0.020, 0.030],
        "requests_per_minute": 100.0,
        "joules_per_token": joules,
        "energy_reason": None if joules is not None else "there is no energy counter: none",
        "peak_bytes": 100_000_000,
        "answers": [[1, 2]],
    }


@pytest.mark.parametrize("joules", [0.5, None])
def test_the_arithmetic(monkeypatch: pytest.MonkeyPatch, joules: float | None) -> None:
    asked: list[dict[str, Any]] = []

    def measured(one: dict[str, Any]) -> dict[str, Any]:
        asked.append(one)
        is_base = one["settings"]["level"] == "baseline"
        return figures(10.0 if is_base else 30.0, 1 if is_base else 4, joules)

    monkeypatch.setattr(levels, "_measured", measured)
    report = bench_levels(Session(runs=2), Path("model"), "model", threads=4, levels=["optimized"])
    base, other = report.rows
    assert [one["settings"]["level"] for one in asked] == ["baseline", "optimized"] * 2  # in alternation
    assert [one["settings"]["threads"] for one in asked[:2]] == [None, 4]
    assert (base["efficiency"], other["efficiency"]) == (1.0, 0.75)
    assert (other["latency_mean_ms"], other["latency_p95_ms"]) == (pytest.approx(20), pytest.approx(30))
    assert other["memory_mb"] == 100
    assert other["joules_per_token"] == joules
    assert any("there is no energy counter" in note for note in report.notes) == (joules is None)


def test_what_cannot_be_measured_is_refused(tiny_model_file: Path, tmp_path: Path) -> None:
    session = Session(runs=1)
    with pytest.raises(ParameterError, match="no level 'fast'"):
        bench_levels(session, tiny_model_file, "tiny", levels=["fast"])
    for wrong in ({"tokens": 1}, {"requests": 0}, {"together": 0}):
        with pytest.raises(ParameterError, match=next(iter(wrong))):
            bench_levels(session, tiny_model_file, "tiny", **wrong)
    with pytest.raises(TercetError, match="do not fit into a context of 64"):
        bench_levels(session, tiny_model_file, "tiny", tokens=64)
    (tmp_path / "broken.tercet").write_bytes(b"nothing of the kind")
    with pytest.raises(TercetError, match=r"broken\.tercet"):
        bench_levels(session, tmp_path / "broken.tercet", "broken")
