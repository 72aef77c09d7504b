"""A skip is a promise not kept, so it has to be explained, and in CI it has to be allowed.

Two rules. Everywhere: a skip's reason names what is missing; a bare `pytest.skip()` fails the run. In CI
(the environment says CI=true) or with --strict-skips: the reason matches a line of tests/allowed_skips.txt,
or the run fails although no test did. Expected failures (xfail) are not skips.

Works under xdist too: the controller sees every worker's reports.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

BARE_REASONS = {"", "unconditional skip", "no reason given"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--strict-skips",
        action="store_true",
        help="fail on a skip whose reason is not in tests/allowed_skips.txt (always on when CI=true)",
    )


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # an xdist worker only runs tests; its controller judges
        strict = bool(config.getoption("--strict-skips")) or os.environ.get("CI") == "true"
        allowed = read_allowed(config.rootpath / "tests" / "allowed_skips.txt") if strict else ["*"]
        config.pluginmanager.register(SkipJudge(allowed), "skip-judge")


def read_allowed(path: Path) -> list[str]:
    """The patterns of the file; no file means that no skip is allowed."""
    if not path.exists():
        return []
    lines = [line.split("  #")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


class SkipJudge:
    """Collects the skips of one run and fails it for those that are not allowed."""

    def __init__(self, allowed: list[str]) -> None:
        self.allowed = allowed
        self.refused: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.judge(report.nodeid, report.longrepr)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.judge(report.nodeid, report.longrepr)

    def judge(self, nodeid: str, longrepr: Any) -> None:
        reason = (
            longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
        )  # (path, line, "Skipped: reason")
        reason = reason.removeprefix("Skipped:").strip()
        if reason in BARE_REASONS:
            self.refused.append(f"{nodeid}: the skip does not say what is missing")
        elif not any(fnmatchcase(reason, pattern) for pattern in self.allowed):
            self.refused.append(f"{nodeid}: {reason}")

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        if self.refused and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        yield

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.refused:
            terminalreporter.section("skips that are not allowed", red=True)
            for line in self.refused:
                terminalreporter.line(line)
