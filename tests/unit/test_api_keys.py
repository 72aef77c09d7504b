"""API keys: what the file holds, who is recognized, and what happens to a file that is not as it was."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.errors import FormatError, ParameterError, StorageError
from tercet.security.api_keys import KeyStore, looks_like_key
from tercet.security.identity import LOCAL, Caller, calling, current_caller
from tercet.security.key_record import read_records

NOW = 1_763_900_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> KeyStore:
    return KeyStore(tmp_path / "settings" / "keys.jsonl", clock)


def test_a_key_is_recognized_with_all_that_it_may_do(store: KeyStore) -> None:
    key, record = store.create(
        "alice",
        role="admin",
        models=["a", "b"],
        policy="redact",
        requests_per_minute=5,
        tokens_per_minute=1000,
        max_parallel_requests=2,
    )
    expected = Caller(
        key_id=record.id,
        role="admin",
        models=frozenset({"a", "b"}),
        policy="redact",
        requests_per_minute=5,
        tokens_per_minute=1000,
        max_parallel_requests=2,
    )
    assert store.find(key) == (expected, None)
    assert KeyStore(store.path, Clock()).find(key).caller == expected
    assert looks_like_key(key)


def test_the_file_holds_the_digest_and_nothing_else_of_the_secret(store: KeyStore) -> None:
    key, record = store.create("alice")
    text = store.path.read_text()
    secret = key.rpartition("_")[2]
    assert hashlib.sha256(key.encode()).hexdigest() in text
    assert not any(secret[at : at + 8] in text for at in range(len(secret) - 8))
    assert len(bytes.fromhex(secret)) * 8 == 192
    assert record.id in key
    if os.name == "posix":
        assert store.path.stat().st_mode & 0o777 == 0o600
        assert store.path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("change", ["", "x", "last", "first", "upper", "space", "other"])
def test_nothing_but_the_key_is_the_key(store: KeyStore, change: str) -> None:
    key, _ = store.create("alice")
    wrong = {
        "": "",
        "x": "\udcff" * 10,
        "last": key[:-1] + ("0" if key[-1] != "0" else "1"),
        "first": "tct_000000000000_" + key.rpartition("_")[2],
        "upper": key.upper(),
        "space": key + "\n",
        "other": store.create("bob")[0][:17] + key[17:],
    }[change]
    assert store.find(wrong) == (None, "bad_key")


def test_an_expired_key_is_refused(store: KeyStore, clock: Clock) -> None:
    key, record = store.create("alice", seconds=60)
    clock.now = NOW + 59
    assert store.find(key).caller is not None
    clock.now = NOW + 60
    assert store.find(key) == (None, "expired_key")
    assert record.state(clock.now) == "expired"


def test_a_key_that_another_process_revokes_is_refused_at_once(store: KeyStore) -> None:
    key, record = store.create("alice")
    other = KeyStore(store.path, Clock())
    assert store.find(key).caller is not None
    assert other.revoke(record.id).revoked_at == int(NOW)
    assert store.find(key) == (None, "revoked_key")
    added, _ = other.create("bob")
    assert store.find(added).caller is not None


def test_revoking_needs_one_key(store: KeyStore) -> None:
    first, second = store.create("alice")[1], store.create("alice")[1]
    with pytest.raises(ParameterError, match=f"{first.id}, {second.id}"):
        store.revoke("alice")
    store.revoke(first.id)
    assert store.revoke("alice").id == second.id
    with pytest.raises(ParameterError, match="was revoked already"):
        store.revoke("alice")
    with pytest.raises(ParameterError, match="does not exist"):
        store.revoke("carol")


@pytest.mark.parametrize(
    "values",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"name": "a\u202eb"},
        {"name": 3},
        {"role": "root"},
        {"models": []},
        {"models": ["a b"]},
        {"seconds": 0},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"policy": "Block it"},
        {"requests_per_minute": 0},
        {"tokens_per_minute": 1.5},
        {"max_parallel_requests": True},
    ],
)
def test_what_cannot_be_is_not_written(store: KeyStore, values: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        store.create(**{"name": "alice", **values})
    assert not store.path.exists()


def test_writers_at_the_same_time_lose_nothing(store: KeyStore) -> None:
    program = (
        "import sys, time; from tercet.security.api_keys import KeyStore;"
        "store = KeyStore(sys.argv[1], time.time);"
        "[print(store.create(f'p{n}')[0]) for n in range(20)]"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(store.path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    with ThreadPoolExecutor(4) as pool:
        keys = [key for key, _ in pool.map(lambda n: store.create(f"t{n}"), range(40))]
    for process in processes:
        keys += process.communicate(timeout=60)[0].split()
        assert process.returncode == 0
    assert len(set(keys)) == 80
    assert all(store.find(key).caller for key in keys)
    assert len(KeyStore(store.path, Clock()).records()) == 80


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_line_that_a_crash_cut_off_is_as_if_it_were_not_written(store: KeyStore, cut: int) -> None:
    key, _ = store.create("alice")
    store.create("bob")
    data = store.path.read_bytes()
    store.path.write_bytes(data[: data.index(b"\n") + cut])
    again = KeyStore(store.path, Clock())
    assert [record.name for record in again.records()] == ["alice"]
    assert again.find(key).caller is not None
    added, _ = again.create("carol")
    assert again.find(added).caller is not None
    assert [record.name for record in KeyStore(store.path, Clock()).records()] == ["alice", "carol"]


def test_a_last_line_without_its_end_counts(store: KeyStore) -> None:
    key, record = store.create("alice")
    with store.path.open("ab") as file:
        file.write(json.dumps({"event": "revoked", "id": record.id, "at": 5}).encode())
    assert store.find(key) == (None, "revoked_key")
    added, _ = store.create("bob")
    assert store.find(added).caller is not None
    assert store.find(key) == (None, "revoked_key")


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"no JSON\n",
        b"[]\n",
        b'"created"\n',
        b"[" * 100_000 + b"\n",
        b'{"event": "created"}\n',
        b'{"event": "deleted", "id": "000000000000"}\n',
        b'{"event": "revoked", "id": "ffffffffffff", "at": 1}\n',
        b'{"event": "created", "id": "000000000000", "name": "x", "sha256": "00", "created_at": 1}\n',
        b'{"event": "created", "id": "000000000000", "name": "x", "sha256": "'
        + b"0" * 64
        + b'", "god": 1}\n',
        b"\xff\xfe\n",
    ],
)
def test_damage_lets_nobody_in_and_says_where(store: KeyStore, line: bytes) -> None:
    key, _ = store.create("alice")
    before = store.path.read_bytes()
    with store.path.open("ab") as file:
        file.write(line)
    for use in (lambda: store.find(key), lambda: KeyStore(store.path, Clock()), lambda: store.create("bob")):
        with pytest.raises(FormatError, match=r"keys\.jsonl is not a file of keys: line 2"):
            use()
    assert store.path.read_bytes() == before + line
    store.path.write_bytes(before)
    assert store.find(key).caller is not None


CREATED = {
    "event": "created",
    "id": "0" * 12,
    "name": "x",
    "sha256": "0" * 64,
    "role": "user",
    "created_at": 1,
}


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*CREATED, "models", "expires_at", "policy", "more"]),
        st.none() | st.integers() | st.text() | st.lists(st.text()),
    )
)
def test_any_line_is_a_record_or_an_error(changes: dict[str, object]) -> None:
    line = json.dumps({**CREATED, **changes}).encode() + b"\n"
    try:
        records = read_records(line, "here")
    except FormatError:
        return
    assert len(records) == 1


def test_a_file_that_is_gone_lets_nobody_in(store: KeyStore) -> None:
    key, _ = store.create("alice")
    store.path.rename(store.path.with_name("elsewhere"))
    with pytest.raises(StorageError, match="are gone"):
        store.find(key)


@pytest.mark.skipif(os.name != "posix", reason="this system has no modes of files")
def test_a_file_that_others_may_change_is_refused(store: KeyStore) -> None:
    key, _ = store.create("alice")
    store.path.chmod(0o620)
    with pytest.raises(StorageError, match="chmod 600"):
        store.find(key)


def test_a_full_disk_is_told_and_leaves_the_file_as_it_was(store: KeyStore, monkeypatch: Any) -> None:
    key, _ = store.create("alice")
    before = store.path.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:30]))
    with pytest.raises(StorageError, match="no space is left"):
        store.create("bob")
    assert store.path.read_bytes() == before
    assert store.find(key).caller is not None


def test_digests_are_compared_in_constant_time() -> None:
    """By the program's text, not by a stopwatch: no secret or digest of one meets `==`."""
    import ast

    import tercet.security.api_keys as module

    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    compared = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and "sha" in ast.unparse(node)
    ]
    assert compared == []
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert "hmac.compare_digest" in calls


def test_the_caller_is_that_of_the_task_and_its_threads() -> None:
    alice = Caller(key_id="alice", models=frozenset({"a"}))
    assert current_caller() is LOCAL
    with calling(alice):
        assert current_caller() is alice
    assert current_caller() is LOCAL
    assert (alice.may_use("a", "b"), alice.may_use("b"), LOCAL.may_use("b")) == (True, False, True)
    assert (LOCAL.salt(b"x"), alice.salt(b"x")) == (b"x", b"alice\0x")
