"""Whatever bytes come from strangers, readers return or refuse: no crash, no endless loop, no full memory.

`untrusted_kinds` lists the kinds of bytes, `damage_worker` is the process that reads them under limits. This
is the short form, the same in every run; tests/long has the same code with 200,000 files.
"""

from __future__ import annotations

import pytest

from damage_worker import Report, Work, run
from untrusted_kinds import KINDS

FILES = 30
"""Files of a kind with the share 1."""
CUTS = 250
MAX_GROWN_BYTES = 256 << 20
TIMEOUT = 500


@pytest.fixture(scope="module")
def reports() -> dict[tuple[str, str], Report]:
    work = [Work(name, "damage", 0, FILES * kind.share) for name, kind in KINDS.items()]
    work += [Work(name, "cut", 0, CUTS) for name in KINDS]
    return {(report.kind, report.how): report for report in run(work, TIMEOUT)}


@pytest.mark.parametrize("how", ["damage", "cut"])
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_refused_or_read(reports: dict[tuple[str, str], Report], kind: str, how: str) -> None:
    assert (kind, how) in reports, "\n\n".join(failure for r in reports.values() for failure in r.failures)
    report = reports[kind, how]
    assert not report.failures, "\n\n".join(report.failures)
    assert report.grown_bytes < MAX_GROWN_BYTES
    assert report.refused > 0
    assert report.refused < report.files or how == "cut" or kind == "native", (
        "nothing got past the front door"
    )


def test_what_ends_the_process_is_told() -> None:
    (report,) = run([Work("no such kind", "damage", 0, 1)], TIMEOUT)
    assert "KeyError" in report.failures[0]
