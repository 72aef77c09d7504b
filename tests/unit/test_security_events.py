"""Events hold kinds, hashes and numbers; client ids can be compared and not read."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import FormatError, ParameterError, StorageError
from tercet.security.client_ids import ClientIds
from tercet.security.counts import MAX_CLIENTS, SecurityCounts
from tercet.security.events import KINDS, REASONS, SecurityEvent, SecurityEvents
from tercet.security.secret_file import derived_key, load_secret

SECRET = bytes(range(32))
DAY = 86_400.0


def collected() -> tuple[SecurityEvents, list[SecurityEvent]]:
    events = SecurityEvents(lambda: 5.0)
    seen: list[SecurityEvent] = []
    events.subscribe(seen.append)
    return events, seen


def test_an_event_reaches_everybody_even_if_one_fails() -> None:
    faults: list[Exception] = []
    events = SecurityEvents(lambda: 5.0, faults.append)

    def broken(event: SecurityEvent) -> None:
        raise OSError("full")

    seen: list[SecurityEvent] = []
    events.subscribe(broken)
    events.subscribe(seen.append)
    events.emit("request.processed", "c_1", prompt_tokens=3, cached=True)
    assert seen == [SecurityEvent("request.processed", 5.0, "c_1", {"prompt_tokens": 3, "cached": True})]
    assert (events.num_faults, str(faults[0])) == (1, "full")


@given(st.text(min_size=1) | st.sampled_from(["two words", "a\nb", "é", "\u202e", "x" * 129, "\x00"]))
def test_text_does_not_get_in(text: str) -> None:
    events, seen = collected()
    events.emit("request.processed", text, note=text)
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/+=@{}-")
    wanted = text if set(text) <= allowed and len(text) <= 128 else "?"
    assert (seen[0].caller, seen[0].fields["note"]) == (wanted, wanted)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**60, ["a"], {"a": 1}, b"bytes"])
def test_what_json_has_no_number_for_does_not_get_in(value: Any) -> None:
    events, seen = collected()
    events.emit("request.processed", note=value)
    assert seen[0].fields == {"note": "?"}


def test_kinds_and_reasons_are_closed_sets() -> None:
    events, seen = collected()
    for kind, fields in (
        ("request.eaten", {}),
        ("request.blocked", {}),
        ("request.blocked", {"reason": "mood"}),
        ("request.processed", {"Name": 1}),
        ("request.processed", {f"field_{number}": 1 for number in range(41)}),
    ):
        with pytest.raises(ParameterError):
            events.emit(kind, **fields)  # type: ignore[arg-type]
    assert seen == []


def test_a_client_keeps_its_hash_for_a_period_and_not_longer() -> None:
    now = [0.0]
    ids = ClientIds(SECRET, lambda: now[0], period_seconds=DAY)
    first = ids.hash("127.0.0.1")
    assert first.startswith("c_")
    assert len(first) == 26
    now[0] = DAY - 1
    assert ids.hash("127.0.0.1") == first != ids.hash("127.0.0.2")
    now[0] = DAY
    assert ids.hash("127.0.0.1") != first
    now[0] = 0.0  # a clock that jumps back
    assert ids.hash("127.0.0.1") == first
    assert ClientIds(b"another secret here", lambda: 0.0).hash("127.0.0.1") != first
    assert ids.hash("\ud800") != ids.hash("?")
    for secret, period in ((b"short", DAY), (SECRET, 0.0)):
        with pytest.raises(ParameterError):
            ClientIds(secret, lambda: 0.0, period)


def test_the_secret_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    secret = load_secret(file)
    assert (len(secret), load_secret(file)) == (32, secret)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert derived_key(secret, "client ids") != derived_key(secret, "audit chain")
    for content in (b"", b"xyz", b"ab" * 31, "ü".encode()):
        file.write_bytes(content)
        with pytest.raises(FormatError):
            load_secret(file)
    assert len(load_secret(tmp_path / "new" / "secret")) == 32
    with pytest.raises(StorageError):
        load_secret(file / "secret")
    with pytest.raises(StorageError):
        load_secret(tmp_path / "other", make=False)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_secret_that_others_may_read_is_none(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "secret"
    load_secret(file)
    file.chmod(mode)
    with pytest.raises(StorageError, match="chmod 600"):
        load_secret(file)


def test_what_is_counted() -> None:
    now = [1_000.0]
    counts = SecurityCounts(lambda: now[0])
    events = SecurityEvents(lambda: 5.0)
    events.subscribe(counts.record)
    for caller in ("c_1", "c_2", "c_1"):
        events.emit("request.processed", caller)
    events.emit("request.blocked", "c_3", reason="rate_limit")
    now[0] += 1_800
    events.emit("request.blocked", "c_3", reason="rate_limit")
    events.emit("request.blocked", "", reason="unauthenticated")
    for _ in range(2):
        events.emit("content.redacted", "c_1", secret=2, email=1)
    events.emit("content.flagged", "c_1", injection=1)
    found = counts.summary()
    assert (found["unique_clients"], found["requests_processed"], found["requests_blocked"]) == (3, 3, 3)
    assert set(found["blocked_by_reason"]) == set(REASONS)
    assert found["content_redacted"] == {"secret": 4, "email": 2}
    assert found["content_flagged"] == {"injection": 1}
    assert found["blocked_by_reason"]["rate_limit"] == 2
    assert counts.blocked_last_hour == 3
    now[0] += 1_800
    assert counts.blocked_last_hour == 2
    now[0] += 10 * 3_600
    assert counts.blocked_last_hour == 0


@given(st.lists(st.tuples(st.integers(0, 600), st.integers(1, 3)), max_size=40))
def test_the_last_hour_is_what_was_blocked_in_it(steps: list[tuple[int, int]]) -> None:
    now = [0.0]
    counts, events = SecurityCounts(lambda: now[0]), SecurityEvents(lambda: 0.0)
    events.subscribe(counts.record)
    times: list[float] = []
    for seconds, times_blocked in steps:
        now[0] += seconds
        for _ in range(times_blocked):
            events.emit("request.blocked", reason="other")
            times.append(now[0])
    wanted = sum(now[0] // 60 - then // 60 < 60 for then in times)
    assert counts.blocked_last_hour == wanted


def test_a_crowd_does_not_grow_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tercet.security.counts.MAX_CLIENTS", 100)
    counts, events = SecurityCounts(lambda: 0.0), SecurityEvents(lambda: 0.0)
    events.subscribe(counts.record)
    for number in range(1_000):
        events.emit("request.blocked", f"c_{number}", reason="other")
    assert counts.unique_clients == 100 < MAX_CLIENTS
    assert counts.summary()["unique_clients_is_a_lower_bound"]
    assert (set(counts.events), set(counts.blocked)) == (set(KINDS), set(REASONS))
