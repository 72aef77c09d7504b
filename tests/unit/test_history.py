"""The history loses nothing that it stored, whatever happens to its file, its clock or its process."""

from __future__ import annotations

import json
import logging
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fake_machine import START, window
from tercet.errors import FormatError, StorageError
from tercet.monitoring import history_file
from tercet.monitoring.distribution import Distribution
from tercet.monitoring.history import ROLL_UP_EVERY, History, read_history
from tercet.monitoring.snapshots import COUNTS, Snapshot
from tercet.monitoring.spans import Span, merged

WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from tercet.monitoring.history import History
from tercet.monitoring.snapshots import Snapshot
history = History(Path(sys.argv[1]))
for number in range(100):
    history.add(Snapshot(time=1000.0 + number, period_seconds=1.0, requests=number))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(history_file, "BUSY_SECONDS", 0.01)
    return tmp_path / "history.sqlite"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


def test_what_goes_in_comes_out(path: Path) -> None:
    snapshot = window(
        requests=3,
        failed=1,
        latency=Distribution.of([0.5, 2.0]),
        resident_memory_bytes=5,
        energy_joules=2.5,
        prompt_tokens=None,
    )
    history = History(path)
    history.add(snapshot, [{"time": START + 1, "rule": "memory"}])
    assert [one.snapshot for one in history.spans()] == [snapshot]
    assert history.spans(since=snapshot.time) == []
    assert history.alerts() == [{"time": START + 1, "rule": "memory"}]
    history.close()
    assert [one.snapshot for one in read_history(path, 0)[0]] == [snapshot]


def test_others_read_while_it_is_written(path: Path) -> None:
    history = History(path)
    for number in range(5):
        history.add(window(number))
        assert len(read_history(path, 0)[0]) == number + 1


def test_a_killed_process_loses_nothing_and_the_next_goes_on(path: Path) -> None:
    process = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, str(path)], check=False)
    assert process.returncode == -9
    spans, _ = read_history(path, 0)
    assert [one.snapshot.requests for one in spans] == list(range(100))
    history = History(path)
    history.add(Snapshot(time=2000.0, period_seconds=1.0, requests=100))
    assert [one.snapshot.requests for one in history.spans()] == list(range(101))


def test_old_windows_become_minutes_and_hours_and_every_sum_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_file, "MINUTES_SECONDS", 10 * 3600.0)
    history = History(path)
    windows = []
    for number in range(40 * 60):  # 40 hours
        windows.append(
            window(
                number,
                requests=number % 7,
                succeeded=number % 5,
                failed=number % 3,
                generated_tokens=number,
                prompt_tokens=2,
                generating_seconds=1.5,
                latency=Distribution.of([0.001 * (number % 50 + 1)]),
                resident_memory_bytes=1000 + number,
                energy_joules=0.5,
            )
        )
        # As far as roll_up goes, one hundred windows at a time are as good as one.
        if len(windows) % 100 == 0:
            history._file = history._file or history._open()
            history._file.add([Span.of(one) for one in windows[-100:]])
            history._file.roll_up(3600, 2.6e6, 2**30)
    spans = history.spans()
    levels = sqlite3.connect(path).execute("SELECT level, count(*) FROM spans GROUP BY level").fetchall()
    assert dict(levels) == {0: 60, 60: 600, 3600: pytest.approx(30, abs=1)}
    whole, expected = merged(spans), merged([Span.of(one) for one in windows])
    assert whole.windows == expected.windows == 2400
    for name in COUNTS:
        assert getattr(whole.snapshot, name) == getattr(expected.snapshot, name)
    assert whole.snapshot.latency.classes == expected.snapshot.latency.classes
    assert whole.snapshot.energy_joules == pytest.approx(1200)
    assert whole.snapshot.generating_seconds == pytest.approx(3600)
    assert whole.snapshot.resident_memory_bytes == pytest.approx(1000 + 2399 / 2)
    assert (whole.lowest, whole.highest) == (expected.lowest, expected.highest)


def test_short_windows_become_minutes(path: Path) -> None:
    file = history_file.HistoryFile(path)
    file.add([Span.of(window(number, seconds=5, requests=1)) for number in range(240)])
    file.roll_up(600, 1e7, 2**30)
    rows = [(one.windows, one.snapshot.requests, one.snapshot.period_seconds) for one in file.spans(0)]
    assert rows[:10] == [(one, one, 5 * one) for one, _, _ in rows[:10]]
    assert max(one for one, _, _ in rows) == 12
    assert sum(one for one, _, _ in rows) == 240
    # A minute that was only partly old is completed by the next time.
    before = len(rows)
    file.add([Span.of(window(240 + number, seconds=5, requests=1)) for number in range(6)])
    file.roll_up(600, 1e7, 2**30)
    rows = [(one.windows, one.snapshot.requests, one.snapshot.period_seconds) for one in file.spans(0)]
    assert sum(one for one, _, _ in rows) == 246
    assert len(rows) <= before + 1


def test_what_is_older_than_everything_kept_goes(path: Path) -> None:
    file = history_file.HistoryFile(path)
    for day in range(6):
        file.add([Span.of(window(24 * day + hour, seconds=3600)) for hour in range(24)])
        file.roll_up(3600, 4 * 86_400, 2**30)
    assert len(file.spans(0)) == pytest.approx(4 * 24, abs=2)


def test_a_file_stays_within_its_bytes(path: Path) -> None:
    file = history_file.HistoryFile(path)
    wide = Distribution.of([1.01**number for number in range(-400, 400)])
    for start in range(0, 400, 50):
        file.add([Span.of(window(start + one, latency=wide)) for one in range(50)])
        file.roll_up(86_400, 30 * 86_400, 512 * 1024)
        size = file._size()
        assert size <= 512 * 1024
    assert file.spans(0)[-1].snapshot.time == window(399).time


@pytest.mark.parametrize("damage", ["no database", "a hole"])
def test_a_damaged_file_is_put_aside_and_a_new_one_begun(
    path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    if damage == "no database":
        path.write_bytes(b"It was a dark and stormy night. " * 100)
    else:
        history = History(path)
        for number in range(300):
            history.add(window(number))
        history.close()
        content = bytearray(path.read_bytes())
        content[4096 * 3 : 4096 * 6] = b"\x5a" * (4096 * 3)
        path.write_bytes(content)
    damaged = path.read_bytes()
    history = History(path)
    for number in range(3):
        history.add(window(number, requests=7))
    assert [one.snapshot.requests for one in history.spans()] == [7, 7, 7]
    (aside,) = path.parent.glob("*.damaged-*")
    assert aside.read_bytes() == damaged
    assert warnings(caplog) == ["history file was damaged; a new one is begun"]
    history.close()
    assert len(read_history(path, 0)[0]) == 3


def test_a_file_that_is_damaged_while_it_is_open(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    history = History(path)
    for number in range(200):
        history.add(window(number))
    assert history._file is not None
    for forget in ("wal_checkpoint(TRUNCATE)", "cache_size = 0", "shrink_memory"):
        history._file._db.execute(f"PRAGMA {forget}")
    path.write_bytes(b"\0" * 8192)
    for number in range(3):
        history.add(window(number, requests=7))
    history.close()
    assert {one.snapshot.requests for one in read_history(path, 0)[0]} == {7}
    assert warnings(caplog) == ["history file was damaged; a new one is begun"]


def test_windows_wait_while_another_program_has_the_file(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    history = History(path)
    history.add(window(0))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for number in range(1, 5):
        history.add(window(number), [{"time": START + number, "rule": "queue"}])
    assert len(history.spans()) == 5
    assert len(history.alerts()) == 4
    assert warnings(caplog) == ["history cannot be written now; it is kept in memory and written later"]
    other.execute("ROLLBACK")
    history.add(window(5))
    assert len(read_history(path, 0)[0]) == 6
    assert len(read_history(path, 0)[1]) == 4
    assert len(warnings(caplog)) == 1
    assert not list(path.parent.glob("*.damaged-*"))


def test_a_place_that_cannot_be_written_keeps_the_history_in_memory(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text("")
    history = History(path / "inside-a-file" / "history.sqlite")
    for number in range(3):
        history.add(window(number))
    assert len(history.spans()) == 3
    assert len(warnings(caplog)) == 1
    history.close()


def test_the_file_of_a_later_version_is_left_as_it_is(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 999")
    later.execute("CREATE TABLE treasure (gold)")
    later.commit()
    later.close()
    history = History(path)
    history.add(window(0))
    history.close()
    assert not list(path.parent.glob("*.damaged-*"))
    assert sqlite3.connect(path).execute("SELECT name FROM sqlite_master").fetchall() == [("treasure",)]
    assert len(warnings(caplog)) == 1
    with pytest.raises(FormatError, match="version 999"):
        read_history(path, 0)


def test_a_clock_that_is_set_costs_nothing(path: Path) -> None:
    history = History(path)
    years = 10 * 365 * 86_400.0
    for number in range(3 * ROLL_UP_EVERY):
        jump = years if ROLL_UP_EVERY <= number < 2 * ROLL_UP_EVERY else 0.0
        one = window(number, requests=1)
        history.add(Snapshot(time=one.time + jump, period_seconds=60.0, requests=1))
    assert sum(one.snapshot.requests for one in history.spans()) == 3 * ROLL_UP_EVERY


def test_reading_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no history at .*none\.sqlite"):
        read_history(tmp_path / "none.sqlite", 0)
    text = tmp_path / "text"
    text.write_text("It was a dark and stormy night. " * 100)
    with pytest.raises(FormatError, match="not a history"):
        read_history(text, 0)


def test_a_history_without_a_file_is_bounded_and_forgets_nothing_at_a_close() -> None:
    history = History()
    for number in range(100):
        history.add(window(number, requests=1))
    assert len(history.spans()) == 100


def test_what_a_later_version_adds_to_a_window_is_passed_over() -> None:
    values = json.loads(json.dumps(window(requests=2).to_dict()))
    assert Snapshot.from_dict({**values, "colour": "blue"}) == window(requests=2)
