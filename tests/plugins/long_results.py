"""Results of the long checks are kept: `./dev test-long --record` writes tests/long/results/NAME.json.

A test that takes the fixture `record_long_result` calls it with a name and its figures. The date, the commit,
the machine and how long the test took are added here. Without --record nothing is written.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tercet.bench.machine import this_machine

RESULTS = Path(__file__).resolve().parents[1] / "long" / "results"

RecordLongResult = Callable[[str, Mapping[str, Any]], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="keep the results of the long checks")


@pytest.fixture
def record_long_result(request: pytest.FixtureRequest) -> RecordLongResult:
    """A function of a name and figures that keeps them, if the run is one that records."""
    started = time.monotonic()

    def record(name: str, figures: Mapping[str, Any]) -> None:
        result = {
            "check": request.node.nodeid,
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "commit": commit(),
            "machine": this_machine().to_dict(),
            "seconds": round(time.monotonic() - started, 1),
            "figures": dict(figures),
        }
        text = json.dumps(result, indent=1)
        print(text)
        if request.config.getoption("--record"):
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{name}.json").write_text(text + "\n")

    return record


def commit() -> str:
    """The commit that was checked, with a mark if the tree had changes."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True).stdout.strip()
