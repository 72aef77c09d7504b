"""200,000 damaged files, and every sound one cut off at every byte. The same code as in tests/property.

./dev test-long tests/long/test_many_damaged_bytes.py            about 15 minutes on two cores
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from damage_worker import Report, Work, run
from long_results import RecordLongResult
from untrusted_kinds import KINDS

FILES = 205_000
FIRST_SEED = 1_000_000
"""Other files than those of the short form."""
MAX_GROWN_BYTES = 256 << 20
PROCESSES = 2
TIMEOUT = 7200

pytestmark = [pytest.mark.long, pytest.mark.timeout(2 * TIMEOUT)]


def run_side_by_side(work: list[Work]) -> list[Report]:
    """Spread the work over processes; a piece that ends its process takes no other one with it."""
    with ThreadPoolExecutor(PROCESSES) as pool:
        return [
            report for reports in pool.map(lambda piece: run([piece], TIMEOUT), work) for report in reports
        ]


def check(reports: list[Report], name: str, record: RecordLongResult) -> None:
    failures = [failure for report in reports for failure in report.failures]
    assert not failures, "\n\n".join(failures)
    assert max(report.grown_bytes for report in reports) < MAX_GROWN_BYTES
    figures = {
        report.kind: {
            "files": report.files,
            "refused": report.refused,
            "slowest_seconds": round(report.slowest_seconds, 3),
            "grown_mib": round(report.grown_bytes / (1 << 20), 1),
        }
        for report in reports
    }
    record(name, {"files": sum(report.files for report in reports), "failures": 0, "kinds": figures})


def test_very_many_damaged_files(record_long_result: RecordLongResult) -> None:
    shares = sum(kind.share for kind in KINDS.values())
    work = [
        Work(name, "damage", FIRST_SEED, -(-FILES * kind.share // shares)) for name, kind in KINDS.items()
    ]
    reports = run_side_by_side(work)
    assert sum(report.files for report in reports) >= 200_000 or any(report.failures for report in reports)
    check(reports, "damaged-files", record_long_result)


def test_truncation_at_every_byte(record_long_result: RecordLongResult) -> None:
    reports = run_side_by_side([Work(name, "cut", 0, 10**9) for name in KINDS])
    check(reports, "truncated-files", record_long_result)
