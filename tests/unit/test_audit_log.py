"""The audit log: whatever is changed in it shows, and whatever kills its writer leaves it whole."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import ChecksumError, ParameterError, StorageError
from tercet.security.audit_chain import Head, audit_files, seal, verify
from tercet.security.audit_log import AuditLog
from tercet.security.events import SecurityEvents

KEY = bytes(range(32))


def clock() -> float:
    return 1_800_000_000.0


def written(folder: Path, count: int = 20, key: bytes | None = None, **bounds: int) -> Head:
    log = AuditLog(folder, clock, key=key, **bounds)
    for number in range(count):
        log.append("request.processed", "c_1", prompt_tokens=number)
    log.close()
    return log.head


def lines_of(folder: Path) -> list[bytes]:
    return [line for _, path in audit_files(folder) for line in path.read_bytes().splitlines(True)]


@pytest.mark.parametrize("key", [None, KEY])
def test_what_was_written_is_whole(tmp_path: Path, key: bytes | None) -> None:
    folder = tmp_path / "audit"
    events = SecurityEvents(clock)
    log = AuditLog(folder, clock, key=key)
    events.subscribe(log.record)
    events.emit("request.blocked", "c_1", reason="rate_limit", status=429)
    log.close()
    verdict = verify(folder, key=key)
    assert (verdict.first, verdict.head, verdict.is_closed) == (1, log.head, True)
    blocked = json.loads(lines_of(folder)[1])
    assert blocked["fields"] == {"reason": "rate_limit", "status": 429}
    assert (blocked["kind"], blocked["caller"], blocked["seq"]) == ("request.blocked", "c_1", 2)
    assert blocked["at"] == "2027-01-15T08:00:00.000000+00:00"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    with pytest.raises(ChecksumError, match="another key"):
        verify(folder, key=b"x" * 32)
    with pytest.raises(StorageError, match="closed"):
        log.append("server.started")


def changed_value(lines: list[bytes], at: int) -> None:
    lines[at] = lines[at].replace(b"request.processed", b"request.cancelled")


def resealed(lines: list[bytes], at: int) -> None:
    """Somebody who can compute a hash, of one line."""
    content = json.loads(lines[at])
    del content["hash"]
    before = Head(content.pop("seq") - 1, content.pop("before"))
    lines[at] = seal({**content, "caller": "c_2"}, before, None)[0]


def left_out(lines: list[bytes], at: int) -> None:
    del lines[at]


def moved(lines: list[bytes], at: int) -> None:
    lines[at], lines[at + 1] = lines[at + 1], lines[at]


def repeated(lines: list[bytes], at: int) -> None:
    lines.insert(at, lines[at])


def put_in(lines: list[bytes], at: int) -> None:
    lines.insert(at, b"hello\n")


@pytest.mark.parametrize("change", [changed_value, resealed, left_out, moved, repeated, put_in])
@pytest.mark.parametrize("at", [0, 1, 10])
def test_every_change_shows(tmp_path: Path, change: Callable[[list[bytes], int], None], at: int) -> None:
    if change is changed_value and at == 0:
        at = 2  # line 1 is of another kind
    head = written(tmp_path)
    path = tmp_path / "audit-000001.jsonl"
    lines = path.read_bytes().splitlines(True)
    change(lines, at)
    path.write_bytes(b"".join(lines))
    with pytest.raises(ChecksumError):
        verify(tmp_path)
    with pytest.raises(ChecksumError):
        AuditLog(tmp_path, clock)
    assert head.seq == 22


def test_every_flipped_bit_shows(tmp_path: Path) -> None:
    written(tmp_path, 3)
    path = tmp_path / "audit-000001.jsonl"
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[at] ^= 1 << (at % 8)
        path.write_bytes(damaged)
        if damaged[:-1] == data[:-1]:
            continue  # the last newline: half a line
        with pytest.raises(ChecksumError):
            verify(tmp_path, expected=Head(5, json.loads(data.splitlines()[-1])["hash"]))


@pytest.mark.parametrize("content", [[], {}, {"seq": "1"}, {"seq": 1, "before": 2, "kind": 3}, "x" * 70_000])
def test_a_line_of_somebody_elses_is_named_by_file_and_line(tmp_path: Path, content: object) -> None:
    written(tmp_path, 3)
    path = tmp_path / "audit-000001.jsonl"
    plain = json.dumps(content, separators=(",", ":"))
    digest = hashlib.sha256(plain.encode()).hexdigest()
    with path.open("a") as file:
        file.write(f'{plain[:-1]},"hash":"{digest}"}}\n')
    with pytest.raises(ChecksumError, match=r"audit-000001\.jsonl, line 6: "):
        verify(tmp_path)


def test_an_end_that_was_cut_off_shows_to_whoever_knows_the_head(tmp_path: Path) -> None:
    head = written(tmp_path)
    path = tmp_path / "audit-000001.jsonl"
    lines = path.read_bytes().splitlines(True)
    middle = json.loads(lines[7])
    assert verify(tmp_path, expected=head).head == head
    assert verify(tmp_path, expected=Head(middle["seq"], middle["hash"])).head == head
    path.write_bytes(b"".join(lines[:-5]))
    assert not verify(tmp_path).is_closed
    with pytest.raises(ChecksumError, match="now ends before it"):
        verify(tmp_path, expected=head)
    with pytest.raises(ChecksumError, match="not there"):
        verify(tmp_path, expected=Head(8, "f" * 64))


def test_files_follow_each_other_and_the_oldest_go(tmp_path: Path) -> None:
    head = written(tmp_path, 300, file_bytes=4_096, file_count=3)
    files = audit_files(tmp_path)
    assert [number for number, _ in files] == list(range(files[-1][0] - 2, files[-1][0] + 1))
    assert all(path.stat().st_size < 4_096 + 512 for _, path in files)
    verdict = verify(tmp_path)
    assert (verdict.head, verdict.num_files) == (head, 3)
    assert verdict.first > 200
    written(tmp_path, 50, file_bytes=4_096, file_count=3)
    assert verify(tmp_path).head.seq > head.seq + 50
    audit_files(tmp_path)[0][1].unlink()
    with pytest.raises(ChecksumError, match="nothing in it says"):
        verify(tmp_path)


def test_a_file_that_is_missing_in_the_middle_shows(tmp_path: Path) -> None:
    written(tmp_path, 100, file_bytes=4_096)
    files = audit_files(tmp_path)
    assert len(files) > 3
    files[1][1].unlink()
    with pytest.raises(ChecksumError, match="lines are missing"):
        verify(tmp_path)


def test_half_a_line_is_cut_off_and_told(tmp_path: Path) -> None:
    written(tmp_path, 5)
    path = tmp_path / "audit-000001.jsonl"
    path.write_bytes(path.read_bytes() + b'{"at":"2027')
    assert verify(tmp_path).torn_bytes == 11
    written(tmp_path, 1)
    assert verify(tmp_path).torn_bytes == 0
    recovered = [json.loads(line) for line in lines_of(tmp_path) if b"audit.recovered" in line]
    assert [one["fields"]["bytes"] for one in recovered] == [11]


def test_a_process_that_dies_after_it_has_begun_a_file(tmp_path: Path) -> None:
    head = written(tmp_path, 5)
    (tmp_path / "audit-000002.jsonl").touch()
    assert verify(tmp_path).head == head
    written(tmp_path, 5)
    assert verify(tmp_path).first == 1


def test_kill_9_leaves_a_log_that_goes_on(tmp_path: Path) -> None:
    program = (
        "import sys, time; from tercet.security.audit_log import AuditLog\n"
        "log = AuditLog(sys.argv[1], time.time, file_bytes=4096)\n"
        "while True: log.append('request.processed', 'c_1', tokens=1); print(log.head.seq, flush=True)"
    )
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(random.randrange(5, 60)):
                told = int(process.stdout.readline())
            process.kill()
        verdict = verify(tmp_path)
        assert verdict.head.seq >= told  # what was told of is there
        assert not verdict.is_closed
    written(tmp_path, 1)
    assert verify(tmp_path).is_closed


def test_a_full_disk_loses_lines_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path, clock)
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        return real(descriptor, data[:20])

    def broken(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "no space left")

    for fake in (full, broken):
        monkeypatch.setattr(os, "write", fake)
        with pytest.raises(StorageError, match="no space"):
            log.append("request.processed")
        monkeypatch.setattr(os, "write", real)
    verify(tmp_path)
    log.append("request.processed", tokens=1)
    log.append("request.processed", tokens=2)
    log.close()
    verify(tmp_path)
    fields = [json.loads(line)["fields"] for line in lines_of(tmp_path)]
    assert fields[1:3] == [{"tokens": 1, "lost_before": 2}, {"tokens": 2}]


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, clock)
    with pytest.raises(StorageError, match="another process"):
        AuditLog(tmp_path, clock)
    log.close()
    AuditLog(tmp_path, clock).close()
    with pytest.raises(ParameterError):
        AuditLog(tmp_path, clock, file_count=1)


@given(st.text(max_size=40) | st.sampled_from(['"}\n{"kind":"x"', "\u2028", "\x7f", "\ud800", "\r\n\x1b[2J"]))
def test_whatever_a_field_holds_it_is_one_line_of_ascii(text: str) -> None:
    line, _ = seal({"caller": text, "fields": {text: text}, "kind": text, "at": ""}, Head(0, "0" * 64), KEY)
    assert line.count(b"\n") == 1
    assert all(0x20 <= byte <= 0x7E for byte in line[:-1])
    assert json.loads(line)["caller"] == text


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no audit log"):
        verify(tmp_path)
    with pytest.raises(StorageError, match="cannot read"):
        verify(tmp_path / "none")
    (tmp_path / "audit-000001.jsonl").touch()
    with pytest.raises(ChecksumError, match="not one whole line"):
        verify(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        AuditLog(tmp_path / "file" / "audit", clock)
