"""Measures this machine and writes one result file: `./dev bench`.

Runs every case of CASES with `tercet bench ... --json`, each in a process of its own so that none inherits
another's memory, and writes them to benchmarks/results/DATE-PROCESSOR.json together with the commit. The
machine should have nothing else to do; the spread of the runs in each report shows whether it had.
"""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tercet.engine.processors import available_cores
from tercet.environment import atomic_write

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
CASES = [
    ["decode", "--shape", shape, "--threads", str(threads)]
    for shape in ("tiny", "2b4t")
    for threads in sorted({1, available_cores()})
]


def measure(case: list[str]) -> dict[str, Any]:
    """Run one case; returns its report with the command that makes it again."""
    command = ["bench", *case, "--json"]
    print(f"tercet {' '.join(command)}", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "tercet", *command], stdout=subprocess.PIPE, check=True)
    return {"command": f"tercet {' '.join(command)}", **json.loads(done.stdout)}


def commit() -> str:
    """The commit that was measured, with a mark if the tree had changes."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Measure and write."""
    reports = [measure(case) for case in CASES]
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    processor = re.sub(r"[^a-z0-9]+", "-", reports[0]["machine"]["cpu"].lower()).strip("-")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{today}-{processor}.json"
    with atomic_write(path) as file:
        file.write(json.dumps({"date": today, "commit": commit(), "reports": reports}, indent=1).encode())
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
