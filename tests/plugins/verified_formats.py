"""What the tests have shown of each model family and each format, recorded as they pass.

A test that compares a reader or writer with something independent asks for the fixture `verified` and says

    verified("llama", "huggingface-packed", "read", "logits of transformers")

What passing tests said is held against `tests/verified_formats.json`, from which docs/generate.py makes the
table in the documentation: a claim that the file lacks, or has of a test that no longer makes it, fails the
run.

    pytest tests/against --write-verified      writes the file anew for the tests that ran

Tests that are skipped (files of other programs are missing, say) leave their claims as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

FILE = "tests/verified_formats.json"
PROPERTY = "verified"
DIRECTIONS = ("read", "write")
Claim = tuple[str, str, str, str]
"""Family, format, direction, against what."""


@pytest.fixture
def verified(record_property: Callable[[str, object], None]) -> Callable[[str, str, str, str], None]:
    """Record what the test shows, if it passes."""

    def record(family: str, form: str, direction: str, against: str) -> None:
        assert direction in DIRECTIONS
        record_property(PROPERTY, [family, form, direction, against])

    return record


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-verified",
        action="store_true",
        help=f"write what the tests show of each family and format to {FILE}",
    )


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # an xdist worker only runs tests; its controller judges
        config.pluginmanager.register(ClaimJudge(config), "claim-judge")


def read_claims(file: Path) -> dict[str, list[Claim]]:
    """Test -> its claims."""
    stored = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {test: [tuple(claim) for claim in claims] for test, claims in stored.items()}


class ClaimJudge:
    """Collects the claims of one run, and compares them with those of the file."""

    def __init__(self, config: pytest.Config) -> None:
        self.file = config.rootpath / FILE
        self.write = bool(config.getoption("--write-verified"))
        self.is_partial = any("::" in argument for argument in config.args)
        self.collected: set[str] = set()
        self.made: dict[str, list[Claim]] = {}
        self.problems: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.collected = {item.nodeid for item in items}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            claims = {tuple(value) for key, value in report.user_properties if key == PROPERTY}
            self.made[report.nodeid] = sorted(claims)

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        stored = read_claims(self.file)
        files = {test.partition("::")[0] for test in self.collected}
        gone = (
            set()
            if self.is_partial
            else {test for test in stored if test.partition("::")[0] in files} - self.collected
        )
        if self.write:
            kept = {test: claims for test, claims in stored.items() if test not in gone} | self.made
            lines = [f"{json.dumps(test)}: {json.dumps(kept[test])}" for test in sorted(kept) if kept[test]]
            self.file.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        else:
            changed = [test for test, claims in self.made.items() if claims != stored.get(test, [])]
            self.problems = sorted({*changed, *gone})
        if self.problems and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        yield

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.problems:
            terminalreporter.section(f"{FILE} is out of date", red=True)
            terminalreporter.line("run: pytest tests/against --write-verified, then ./dev docs")
            for line in self.problems:
                terminalreporter.line(line)
