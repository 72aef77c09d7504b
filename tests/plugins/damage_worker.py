"""A process that reads damaged files, under limits of memory and time, and reports how it went.

    python tests/plugins/damage_worker.py WORK.json PROGRESS REPORT.json

It is a process of its own because what we look for may end it: a crash in a library below Python, memory
without bound, a loop without end. PROGRESS then says which bytes did it. `run` starts one.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Report", "Work", "run"]

EXTRA_BYTES = 512 << 20
"""What reading may take beyond the address space that a process with sound files has."""
SECONDS_EACH = 30.0
"""Until a file counts as one that hangs; the machine may be busy."""
MAX_FAILURES = 5


@dataclasses.dataclass(frozen=True)
class Work:
    """What is to be done with one kind of bytes."""

    kind: str
    how: str
    """`damage`: numbers are seeds; `cut`: numbers are lengths, of the smallest sound file."""
    first: int
    count: int
    """How many; for `cut` about so many, half of them the first lengths, the others spread over the file."""


@dataclasses.dataclass
class Report:
    """How it went with one piece of work."""

    kind: str
    how: str
    files: int = 0
    refused: int = 0
    slowest_seconds: float = 0.0
    grown_bytes: int = 0
    """How much the most memory that the process ever held has grown meanwhile."""
    failures: list[str] = dataclasses.field(default_factory=list)


def run(works: Iterable[Work], timeout: float) -> list[Report]:
    """Start the process and return its reports. What ended it is a failure of the kind it was at."""
    works = list(works)
    with tempfile.TemporaryDirectory() as folder:
        work_file, progress, report_file = (Path(folder) / name for name in ("work", "progress", "report"))
        work_file.write_text(json.dumps([dataclasses.asdict(work) for work in works]))
        environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HOME": folder, "TERCET_CACHE": folder}
        done = subprocess.run(
            [sys.executable, __file__, str(work_file), str(progress), str(report_file)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if done.returncode != 0:
            at = progress.read_text() if progress.exists() else "the beginning"
            told = done.stderr[-3000:]
            return [Report(at, "", failures=[f"{at}: the process ended with {done.returncode}\n{told}"])]
        return [Report(**report) for report in json.loads(report_file.read_text())]


def main(work_file: Path, progress: Path, report_file: Path) -> None:
    """Do the work."""
    faulthandler.enable()
    sys.path.insert(0, str(Path(__file__).parent))
    with tempfile.TemporaryDirectory() as folder:
        reports = [
            dataclasses.asdict(do(Work(**work), Path(folder) / str(number), progress))
            for number, work in enumerate(json.loads(work_file.read_text()))
        ]
        report_file.write_text(json.dumps(reports))
        os._exit(0)  # servers and pools of libraries need no goodbye


def do(work: Work, folder: Path, progress: Path) -> Report:
    """Read all the bytes of one piece of work."""
    from untrusted_kinds import KINDS

    kind = KINDS[work.kind]
    folder.mkdir()
    wholes = kind.wholes(folder)
    read = kind.open(folder)
    for whole in wholes:
        progress.write_text(f"{work.kind}: a sound file")
        read(whole)  # if one is refused, damage proves nothing
    limit_memory()
    report = Report(work.kind, work.how)
    before = peak_memory()
    for number, data in bytes_of(work, kind, wholes):
        progress.write_text(f"{work.kind}: {work.how} {number}")
        started = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, SECONDS_EACH)  # ends the process
        try:
            read(data)
            if work.how == "cut" and kind.ends_matter and len(data) < len(wholes[0].rstrip(b"\0")):
                raise AssertionError(f"a file cut off at {len(data)} of {len(wholes[0])} bytes was accepted")
        except kind.refusals:
            report.refused += 1
        except BaseException:  # a panic of a library in Rust is no Exception
            report.failures.append(f"{work.kind}: {work.how} {number}\n{traceback.format_exc()[-3000:]}")
        signal.setitimer(signal.ITIMER_REAL, 0)
        report.files += 1
        report.slowest_seconds = max(report.slowest_seconds, time.monotonic() - started)
        if len(report.failures) >= MAX_FAILURES:
            break
    report.grown_bytes = peak_memory() - before
    return report


def bytes_of(work: Work, kind: Any, wholes: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield what is to be read, with the number that stands for it."""
    if work.how == "cut":
        length = len(wholes[0])
        front = range(min(length, work.count // 2))
        rest = range(len(front), length, max(1, -(-(length - len(front)) // max(1, work.count - len(front)))))
        for number in (*front, *rest):
            yield number, wholes[0][:number]
        return
    for number in range(work.first, work.first + work.count):
        random = np.random.default_rng([zlib.crc32(work.kind.encode()), number])
        yield number, kind.damage(wholes[random.integers(0, len(wholes))], random)


def limit_memory() -> None:
    """Let the address space grow by `EXTRA_BYTES` from here on."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + EXTRA_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def peak_memory() -> int:
    """Return the most bytes that the process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
