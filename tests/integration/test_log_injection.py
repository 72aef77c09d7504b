"""Whatever bytes a client sends, log and audit log are one JSON object of printable ASCII a line."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

from audited import Audited
from program import tercet
from tercet.security.audit_chain import FIRST, seal

HOSTILE = (
    "\r\nlevel: error",
    "\nforged",
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2028\u2029\x85",
    "\x00\x08\x7f",
    '","hash":"' + "0" * 64 + '"}\n{"kind":"admin.action"',
    "%0d%0aforged",
    "\\u000aforged",
    "é\ufeff\U0001f480",
)
JSON_BODY = json.dumps({"prompt": "Once", "max_tokens": 2}).encode()


def send(audited: Audited, *lines: bytes, body: bytes = b"") -> bytes:
    """Send a request as these bytes; returns what comes back."""
    key = audited.keys["alice"].encode()
    head = b"\r\n".join([*lines, b"Connection: close", b"Content-Length: %d" % len(body)])
    if b"authorization:" not in head.lower():
        head += b"\r\nAuthorization: Bearer " + key
    with socket.create_connection(("127.0.0.1", audited.server.port), timeout=20) as connection:
        connection.sendall(head + b"\r\n\r\n" + body)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def hostile_requests() -> Iterator[tuple[tuple[bytes, ...], bytes]]:
    """(lines of the head, body), with something hostile in each place that could be logged."""
    post, host, kind = b"POST /v1/completions HTTP/1.1", b"Host: localhost", b"Content-Type: application/json"
    for text in HOSTILE:
        data = text.encode("utf-8", "surrogatepass")
        for name in (b"X-Request-Id", b"User-Agent", b"Authorization", b"X-Forwarded-For", b"Referer"):
            yield (post, host, kind, name + b": Bearer " + data), JSON_BODY
        yield (post, b"Host: " + data, kind), JSON_BODY
        yield (b"GET /" + data + b" HTTP/1.1", host), b""
        yield (b"GET /v1/models/" + data + b"?x=" + data + b" HTTP/1.1", host), b""
        yield (b"GE" + data + b"T / HTTP/1.1", host), b""
        for field in ("model", "user", "prompt", "cache_salt", data.decode(errors="replace")):
            value = {"prompt": "Once", "max_tokens": 2, field: text}
            yield (post, host, kind), json.dumps(value).encode()
            yield (post, host, kind), json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def test_whatever_is_sent_a_line_of_the_logs_is_one_object(tmp_path: Path) -> None:
    audited = Audited(tmp_path, "--drain", "0")
    statuses = set()
    try:
        for lines, body in hostile_requests():
            answer = send(audited, *lines, body=body)
            head = answer.partition(b"\r\n\r\n")[0]
            statuses.add(answer.split(b" ")[1])
            assert not any(word in head for word in (b"forged", b"level:")), head
    finally:
        audited.stop()  # a line follows the last byte of its answer: now all are written
    assert (
        {b"200", b"400", b"401", b"404"}
        <= statuses
        <= {b"200", b"400", b"401", b"404", b"405", b"403", b"421"}
    )
    written = audited.everything_written()
    lines_of_log = written["log"].splitlines()
    audit = [
        line for name, data in written.items() if name.startswith("audit/a") for line in data.splitlines()
    ]
    assert len(lines_of_log) > 150 < len(audit)
    for line in (*lines_of_log, *audit):
        assert all(0x20 <= byte <= 0x7E for byte in line), line
        assert type(json.loads(line)) is dict
    console = [line for line in written["console"].splitlines() if line.startswith(b"{")]
    assert len(console) == len(lines_of_log)
    assert all(byte >= 0x20 or byte == 0x0A for byte in written["console"])
    # Nobody has made a line of their own: each is of a kind that we write, in the audit log with our hash.
    assert {json.loads(line)["level"] for line in lines_of_log} <= {"debug", "info", "warning"}
    assert {event["kind"] for event in audited.events()} <= {
        *("audit.opened", "server.started", "server.stopped", "audit.closed"),
        *("request.processed", "request.blocked"),
    }
    for event in audited.events():
        for value in (event["caller"], *event["fields"].values()):
            assert not isinstance(value, str) or " " not in value


def test_a_forged_log_does_not_steer_the_terminal(tmp_path: Path) -> None:
    head, data = FIRST, b""
    for text in HOSTILE:
        content = {"at": text, "caller": text, "fields": {"a": text, text: 1}, "kind": text}
        line, head = seal(content, head, None)
        data += line
    tmp_path.joinpath("audit-000001.jsonl").write_bytes(data)
    for options in ((), ("--json",)):
        shown = tercet("audit", "show", tmp_path, "--unkeyed", *options)
        assert shown.status == 0, shown
        assert len(shown.out.splitlines()) == len(HOSTILE)
        assert all(" " <= one <= "~" or one == "\n" for one in shown.out)
