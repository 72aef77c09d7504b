"""`/openapi.json` against the server: schemathesis looks for a difference, in every phase with every check.

Three settings differ from its own. 501, 503 and 504 are answers that the description tells of, so they are
no faults. A 400 to valid data is judged by `schema_checks`. Answers are short, since it is not their text
that is tested, and a profile lasts as long as it is asked to.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from served import Server

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
NUM_EXAMPLES = 5
CONFIGURATION = """
hooks = "schema_checks"

[checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", "501", "503", "504"]

[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "404", "501", "503", "504"]

[[operations]]
include-path = "/profile"
parameters = { "query.seconds" = 0.05 }
"""


def failures(report: str) -> str:
    """What it found, without what it says about itself."""
    return report.partition("= FAILURES =")[2][:8_000] or report[-8_000:]


@pytest.mark.timeout(600)
def test_the_description_is_true(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve("--context", "96", "--batch-dir", tmp_path / "batches", "--drain", "0")
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    arguments = ["--config-file", "schemathesis.toml", "run", f"{server.base_url}/openapi.json"]
    arguments += ["--checks", "all", "--phases", "examples,coverage,fuzzing,stateful"]
    arguments += ["--max-examples", str(NUM_EXAMPLES), "--seed", "7", "--continue-on-failure"]
    arguments += ["--warnings", "off"]  # that random names of models find none
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PLUGINS), "NO_COLOR": "1", "COLUMNS": "160"},
        capture_output=True,
        text=True,
    )
    print(f"{time.monotonic() - began:.0f} s, {done.stdout.splitlines()[-1].strip('= ')}")
    assert done.returncode == 0, failures(done.stdout) + done.stderr[-2000:]
    generated, passed = re.findall(r"(\d+) generated, (\d+) passed", done.stdout)[0]
    assert int(generated) == int(passed) > 2000
    assert '"code": "fault"' not in server.log
    assert "Traceback" not in server.log
