"""A report says the same in every form, and a session repeats, times and measures the roofline in between."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tercet.bench.machine import Machine, this_machine
from tercet.bench.plot import write_plot
from tercet.bench.report import Axes, Column, Report
from tercet.bench.session import Session
from tercet.bench.spread import Spread
from tercet.errors import ParameterError

QUIET = dataclasses.replace(this_machine(), load_average=0.0)
COLUMNS = (
    Column("tokens", "tokens", "d"),
    Column("runs", "speed", ".1f"),
    Column("share", "share", ".0%"),
    Column("joules", "J"),
)
ROWS = [
    {"tokens": 1, "runs": Spread.of([1.0, 3.0, 2.0]), "share": 0.5, "joules": None},
    {"tokens": 8, "runs": Spread.of([4.0, 4.0]), "share": 1.25, "joules": 0.25},
]


def report(machine: Machine = QUIET, rows: int = 2) -> Report:
    session = Session(machine=machine, probe_bytes=1 << 20)
    session.roofline(1, "reference").probe()
    axes = Axes("tokens", "runs", "tokens", "speed")
    return Report.of(session, "kernels", "A title", COLUMNS, ROWS[:rows], axes, ["A note."])


def test_a_table_has_medians_spreads_and_what_was_not_measured() -> None:
    text = report().text()
    assert "2.0 [1.0 - 3.0]" in text
    assert "50%" in text
    assert "not measured" in text
    assert "0.25" in text
    assert text.rstrip().endswith("A note.")
    assert "limits, 1 thread, reference: reads" in text


def test_one_row_stands_upright_and_its_values_are_at_the_top_of_the_json() -> None:
    assert "speed   2.0 [1.0 - 3.0]" in report(rows=1).text()
    data = json.loads(json.dumps(report(rows=1).to_dict()))
    assert data["runs"] == {"median": 2.0, "lowest": 1.0, "highest": 3.0, "values": [1.0, 3.0, 2.0]}
    assert data["rows"][0]["share"] == 0.5
    assert data["rooflines"][0]["bandwidth_gb_per_second"] > 0


def test_markdown_is_a_table() -> None:
    lines = report().markdown().splitlines()
    assert lines[2] == "| tokens | speed | share | J |"
    assert lines[3] == "| ---: | ---: | ---: | --- |"
    assert lines[4] == "| 1 | 2.0 [1.0 - 3.0] | 50% | not measured |"


def test_a_busy_machine_is_said_before_anything_else() -> None:
    busy = dataclasses.replace(QUIET, cores=2, load_average=3.0)
    assert "load average of 3.0 on 2 cores" in report(busy).notes[0]
    assert len(report().notes) == 1


def test_a_machine_has_no_name_and_no_paths(tmp_path: Path) -> None:
    cache = tmp_path / "devices/system/cpu/cpu0/cache/index0"
    cache.mkdir(parents=True)
    for name, text in (("level", "1"), ("type", "Data"), ("size", "48K")):
        (cache / name).write_text(text + "\n")
    pages = tmp_path / "kernel/mm/transparent_hugepage"
    pages.mkdir(parents=True)
    (pages / "enabled").write_text("always [madvise] never\n")
    machine = this_machine(tmp_path)
    assert (machine.caches, machine.huge_pages) == ({"L1": "48K"}, "madvise")
    assert machine.clock_ghz is not None
    assert 0.1 < machine.clock_ghz < 10
    assert this_machine(tmp_path / "nothing").huge_pages is None
    assert "/" not in json.dumps(machine.to_dict()).replace("L1", "")


def test_a_plot_is_a_png(tmp_path: Path) -> None:
    write_plot(report(), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ParameterError, match=r"ends with \.png, not \.svg"):
        write_plot(report(), tmp_path / "plot.svg")


def test_a_session_warms_up_and_repeats() -> None:
    calls: list[str] = []
    session = Session(runs=3, probe_bytes=1 << 20, machine=QUIET)
    timing = session.time(lambda: calls.append("step"), 1, "reference", lambda: calls.append("before"))
    assert calls == ["before", "step"] * 4
    assert len(timing.seconds.values) == 3
    assert timing.rate(2).median == pytest.approx(2 / timing.seconds.median)
    assert session.roofline(1, "reference").bandwidth > 1e8
    with pytest.raises(ParameterError, match="runs must be at least 1"):
        Session(runs=0)
