"""`tercet audit`, and the log of servers that are killed, find their log changed, or cannot write it."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from audited import Audited
from program import tercet
from served import Server
from tercet.security.audit_log import AuditLog
from tercet.security.secret_file import derived_key, load_secret

ASK = {"prompt": "Once", "max_tokens": 2, "temperature": 0}
FILE = "audit-000001.jsonl"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log of 22 lines in `audit`, keyed with `secret`."""
    key = derived_key(load_secret(tmp_path / "secret"), "audit chain")
    log = AuditLog(tmp_path / "audit", time.time, key=key)
    for number in range(20):
        if number % 2:
            log.append("request.processed", "c_1", prompt_tokens=number)
        else:
            log.append("request.blocked", "c_2", reason="rate_limit", status=429)
    log.close()
    return tmp_path


def verify(folder: Path, *options: str) -> tuple[int, str]:
    done = tercet("audit", "verify", folder / "audit", "--key", folder / "secret", *options)
    return done.status, done.out + done.err


def test_a_whole_log_is_told_with_its_head(folder: Path) -> None:
    status, text = verify(folder)
    assert (status, text.splitlines()[0]) == (0, "whole: lines 1 to 22 in 1 files")
    head = re.findall(r"^head (22:[0-9a-f]{64})$", text, re.MULTILINE)[0]
    assert verify(folder, "--head", head)[0] == 0
    told = json.loads(verify(folder, "--json")[1])
    assert (f"{told['seq']}:{told['hash']}", told["closed"], told["torn_bytes"]) == (head, True, 0)
    path = folder / "audit" / FILE
    lines = path.read_bytes().splitlines(True)
    path.write_bytes(b"".join(lines[:-3]))
    assert "not closed" in verify(folder)[1]
    status, text = verify(folder, "--head", head)
    assert (status, "had a line 22" in text, "now ends before it" in text) == (2, True, True)
    path.write_bytes(b"".join(lines) + b'{"at":')
    assert "half a line at the end, 6 bytes" in verify(folder)[1]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda lines: [*lines[:7], lines[7].replace(b"429", b"200"), *lines[8:]], 8),
        (lambda lines: lines[:6] + lines[7:], 7),
        (lambda lines: [*lines[:6], lines[7], lines[6], *lines[8:]], 7),
        (lambda lines: [*lines[:6], lines[3], *lines[6:]], 7),
        (lambda lines: [*lines[:6], b"\n", *lines[6:]], 7),
        (lambda lines: lines[1:], None),
    ],
    ids=["changed", "left out", "moved", "repeated", "empty", "beginning cut off"],
)
def test_the_first_wrong_line_is_named(
    folder: Path, change: Callable[[list[bytes]], list[bytes]], line: int | None
) -> None:
    path = folder / "audit" / FILE
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(True))))
    for command in ("verify", "show"):
        done = tercet("audit", command, folder / "audit", "--key", folder / "secret")
        assert (done.status, done.out) == (2, "")
        assert (f"{path}, line {line}: " if line else "begins after line 1") in done.err


def test_keys_that_do_not_fit_are_told(folder: Path) -> None:
    audit = folder / "audit"
    for options, words in (
        (("--unkeyed",), "line 1: it does not match its hash"),
        ((), "name the file of `tercet serve --security-key`"),
        (("--key", folder / "none"), "cannot keep a secret"),
        (("--key", folder / "secret", "--unkeyed"), "exclude"),
        (("--key", folder / "secret", "--head", "x"), "SEQ:HASH"),
        (("--key", audit / FILE), "others than its owner|is not a secret"),
    ):
        done = tercet("audit", "verify", audit, *options)
        assert done.status == 2, done
        assert re.search(words, done.err), done
    assert not (folder / "none").exists()
    home = folder / "home"
    home.mkdir()
    shutil.copy2(folder / "secret", home / "security.key")
    assert tercet("audit", "verify", audit, TERCET_CONFIG=str(home)).status == 0


def test_events_are_shown_by_kind_and_client(folder: Path) -> None:
    def show(*options: str) -> list[str]:
        done = tercet("audit", "show", folder / "audit", "--key", folder / "secret", *options)
        assert done.status == 0, done
        return done.out.splitlines()

    assert len(show()) == 22
    assert len(show("--last", "5")) == 5
    assert len(show("--kind", "request.blocked")) == len(show("--caller", "c_2")) == 10
    assert len(show("--kind", "request")) == 20
    assert show("--kind", "req") == []
    row = show("--kind", "request", "-n", "1")[0]
    assert re.fullmatch(r" +21 \d{4}-\d\d-\d\dT[\d:.]{12} request\.processed  c_1 +prompt_tokens=19", row)
    lines = (folder / "audit" / FILE).read_text().splitlines()
    assert show("--json", "--last", "0") == lines


# Servers ---------------------------------------------------------------------------------------------

DIES = """
import os, signal
write = os.write
def half(descriptor, data):
    if b'"request.blocked"' not in data:
        return write(descriptor, data)
    write(descriptor, data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
os.write = half
""".strip()


def test_kill_9_in_the_middle_of_a_line_is_survived(tmp_path: Path) -> None:
    audited = Audited(tmp_path, "--drain", "0", first=DIES)
    with audited.client("alice") as client:
        ids = [client.post("/v1/completions", json=ASK).headers["x-request-id"] for _ in range(3)]
        for one in ids:
            audited.event(one)
        with contextlib.suppress(httpx.HTTPError):  # the line is written just after the answer
            client.post("/v1/completions", json={"prompt": 3.5})
    audited.server.wait(-9)
    path = tmp_path / "audit" / FILE
    assert not path.read_bytes().endswith(b"\n")
    assert "half a line at the end" in verify(tmp_path)[1]
    audited.first = ""
    audited.start()
    with audited.client("alice") as client:
        ids.append(client.post("/v1/completions", json=ASK).headers["x-request-id"])
    audited.event(ids[-1])
    head = json.loads(verify(tmp_path, "--json")[1])
    # Somebody takes a line away behind the back of the server: the next start is refused, and says where.
    audited.stop()
    assert verify(tmp_path, "--head", f"{head['seq']}:{head['hash']}")[0] == 0
    assert [event["fields"]["request_id"] for event in audited.events(status=200)] == ids
    (recovered,) = [event for event in audited.events() if event["kind"] == "audit.recovered"]
    assert recovered["fields"]["bytes"] > 50
    lines = path.read_bytes().splitlines(True)
    path.write_bytes(b"".join(lines[:3] + lines[4:]))
    refused = tercet(
        *("serve", "--port", "0", "--audit-dir", tmp_path / "audit", "--security-key", tmp_path / "secret")
    )
    assert refused.status == 2
    assert f"{path}, line 4: " in refused.err


def test_a_log_that_cannot_be_written_stops_no_answer_and_is_told(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    full = (
        "import os, errno; write = os.write\n"
        "def none(descriptor, data):\n"
        "    if b'request.processed' in data: raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "    return write(descriptor, data)\n"
        "os.write = none"
    )
    server = serve("--audit-dir", tmp_path / "audit", "--security-key", tmp_path / "secret", first=full)
    second = tercet(
        "serve", "--port", "0", "--audit-dir", tmp_path / "audit", "--security-key", tmp_path / "secret"
    )
    assert second.status == 2
    assert "another process writes to the audit log" in second.err
    with server.client() as client:
        for _ in range(3):
            assert client.post("/v1/completions", json=ASK).status_code == 200
        assert client.post("/v1/completions", json={"prompt": 3.5}).status_code == 400
        status = client.get("/security/status").json()
        assert (status["audit"]["errors"], status["requests_processed"]) == (3, 3)
        assert "tercet_audit_errors_total 3.0" in client.get("/metrics").text
    server.stop()
    assert "not written to the audit log" in server.log
    assert verify(tmp_path)[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "audit" / FILE).read_text().splitlines()]
    (blocked,) = [line for line in lines if line["kind"] == "request.blocked"]
    assert blocked["fields"]["lost_before"] == 3
