"""The `tercet` program as a subprocess, as a person would run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 120


class Finished:
    """What a run of the program left: exit status, both streams."""

    def __init__(self, process: subprocess.CompletedProcess[bytes]) -> None:
        self.status = process.returncode
        self.out = process.stdout.decode()
        self.err = process.stderr.decode()

    @property
    def data(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f"exit status {self.status}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def environment(**changes: str) -> dict[str, str]:
    """The environment of the tests, without what would change the program's behaviour."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TERCET_")}
    kept["TERCET_CONFIG"] = os.devnull + "/none"  # where nobody's keys can be
    return {**kept, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120", **changes}


def command(*arguments: str | bytes | Path, first: str = "") -> list[str | bytes | Path]:
    """The command that runs `tercet ARGUMENTS` after the Python statements `first`.

    Those stand for what a shell would set up, such as limits. (`preexec_fn` of subprocess would run in a fork
    of the tests, where threads make that unsafe.)
    """
    if not first:
        return [sys.executable, "-m", "tercet", *arguments]
    program = f"{first}; import runpy; runpy.run_module('tercet', run_name='__main__', alter_sys=True)"
    return [sys.executable, "-B", "-c", program, *arguments]


def tercet(
    *arguments: str | bytes | Path,
    stdin: bytes = b"",
    folder: Path | None = None,
    first: str = "",
    **variables: str,
) -> Finished:
    """Run `tercet ARGUMENTS` to its end."""
    return Finished(
        subprocess.run(
            command(*arguments, first=first),
            input=stdin,
            capture_output=True,
            cwd=folder,
            env=environment(**variables),
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    )


def assert_refused(finished: Finished, *parts: str) -> None:
    """One line on stderr that holds all the parts, nothing on stdout, exit status 2, no traceback."""
    assert finished.status == 2, finished
    assert finished.out == "", finished
    lines = finished.err.splitlines()
    assert len(lines) == 1, finished
    assert lines[0].startswith("tercet: error: "), finished
    assert all(part in lines[0] for part in parts), finished
