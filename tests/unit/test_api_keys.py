"""The file of API keys: what it holds, what it never holds, and who is let in by it."""

from __future__ import annotations

import ast
import inspect
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.errors import FormatError, ParameterError, StorageError
from tercet.security import api_keys
from tercet.security.api_keys import KEY, KeyStore, looks_like_key
from tercet.security.identity import LOCAL, Caller, calling, current_caller
from tercet.security.key_record import read_records


class Clock:
    """A clock that goes where it is put."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> KeyStore:
    return KeyStore(tmp_path / "folder" / "keys.jsonl", clock)


def test_a_key_is_shown_once_and_the_file_holds_its_digest_alone(store: KeyStore) -> None:
    assert not store.exists
    key, record = store.create("alice", models=["a", "b"], requests_per_minute=5, policy="redact")
    assert looks_like_key(key)
    assert not looks_like_key(key[:-1])
    text = store.path.read_text()
    assert key not in text
    assert key.rpartition("_")[2] not in text
    assert record.sha256 in text
    found = store.find(key)
    wanted = {"models": frozenset("ab"), "requests_per_minute": 5, "policy": "redact"}
    assert found == (Caller(key_id=record.id, **wanted), None)
    assert store.path.stat().st_mode & 0o777 == 0o600


def test_two_keys_are_never_the_same(store: KeyStore) -> None:
    keys = [store.create("x")[0] for _ in range(50)]
    assert len(set(keys)) == len({KEY.fullmatch(key)[1] for key in keys}) == 50


def test_only_the_whole_key_is_a_key(store: KeyStore) -> None:
    key, record = store.create("alice")
    swapped = key[:-1] + ("0" if key[-1] != "0" else "1")
    unknown = f"tct_{'0' * 12}_{key[-48:]}"
    for wrong in (
        "",
        key.upper(),
        key + " ",
        key[:-1],
        swapped,
        unknown,
        record.sha256,
        record.id,
        "ключ\ud800",
    ):
        assert store.find(wrong) == (None, "bad_key"), wrong


def test_a_key_expires_with_the_clock(store: KeyStore, clock: Clock) -> None:
    key, record = store.create("guest", seconds=60)
    clock.now += 59
    assert store.find(key).caller is not None
    assert record.state(clock.now) == "good"
    clock.now += 1
    assert store.find(key) == (None, "expired_key")
    assert record.state(clock.now) == "expired"


def test_another_process_revokes_and_this_one_refuses_at_once(store: KeyStore, clock: Clock) -> None:
    key, record = store.create("alice")
    other, _ = store.create("bob", role="admin")
    there = KeyStore(store.path, clock)
    assert there.revoke("alice").revoked_at == clock.now
    assert store.find(key) == (None, "revoked_key")
    assert store.find(other).caller.is_admin
    assert [found.state(clock.now) for found in store.records()] == ["revoked", "good"]
    with pytest.raises(ParameterError, match="already"):
        store.revoke(record.id)


def test_revoking_needs_to_know_which(store: KeyStore) -> None:
    with pytest.raises(ParameterError, match="does not exist"):
        store.revoke("nobody")
    first = store.create("twin")[1]
    store.create("twin")
    with pytest.raises(ParameterError, match="several"):
        store.revoke("twin")
    store.revoke(first.id)
    store.revoke("twin")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"name": "x" * 101},
        {"role": "root"},
        {"models": []},
        {"models": ["a b"]},
        {"seconds": 0},
        {"policy": "ignore"},
        {"max_parallel": 0},
        {"tokens_per_minute": -1},
    ],
)
def test_a_key_that_cannot_be_is_not_made(store: KeyStore, wrong: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        store.create(**{"name": "x", **wrong})
    assert not store.path.exists()


def test_a_line_that_a_crash_cut_off_counts_for_nothing_and_is_replaced(
    store: KeyStore, clock: Clock
) -> None:
    key, _ = store.create("alice")
    whole = store.path.read_bytes()
    with store.path.open("ab") as file:
        file.write(b'{"event": "created", "id": "ab')
    assert store.find(key).caller is not None
    later, _ = store.create("bob")
    assert store.path.read_bytes().startswith(whole)
    assert len(store.path.read_bytes().splitlines()) == 2
    assert KeyStore(store.path, clock).find(later).caller is not None


def test_a_file_that_is_damaged_or_gone_lets_nobody_in(store: KeyStore, clock: Clock) -> None:
    key, _ = store.create("alice")
    saved = store.path.read_bytes()
    store.path.write_bytes(saved + b"garbage\n")
    with pytest.raises(FormatError, match="line 2") as error:
        store.find(key)
    assert "garbage" not in str(error.value)
    store.path.unlink()
    with pytest.raises(StorageError, match="gone"):
        store.find(key)
    store.path.write_bytes(saved)
    store.path.chmod(0o600)
    assert store.find(key).caller is not None


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_file_that_others_may_change_is_refused(store: KeyStore, clock: Clock) -> None:
    key, _ = store.create("alice")
    store.path.chmod(0o666)
    with pytest.raises(StorageError, match="chmod 600"):
        store.find(key)
    with pytest.raises(StorageError, match="chmod 600"):
        KeyStore(store.path, clock)


def test_a_full_disk_leaves_the_file_as_it_was(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create("alice")
    before = store.path.read_bytes()
    write = os.write
    monkeypatch.setattr(api_keys.os, "write", lambda descriptor, data: write(descriptor, data[:20]))
    with pytest.raises(StorageError, match="no space"):
        store.create("bob")
    assert store.path.read_bytes() == before


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
        st.sampled_from([*CREATED, "models", "expires_at", "more"]), st.none() | st.integers() | st.text()
    )
)
def test_any_line_is_a_record_or_an_error(changes: dict[str, object]) -> None:
    line = json.dumps({**CREATED, **changes}).encode() + b"\n"
    try:
        records = read_records(line, "here")
    except FormatError:
        return
    assert len(records) == 1


def test_digests_are_compared_in_constant_time() -> None:
    """No `==` between digests or keys: it would tell by its time how far a guess is right."""
    tree = ast.parse(inspect.getsource(api_keys.KeyStore.find).lstrip().replace("\n    ", "\n"))
    compared = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    assert not [text for text in compared if "sha256" in text or "_digest" in text]
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert "hmac.compare_digest" in calls


def test_a_caller_is_current_in_its_block_alone() -> None:
    assert current_caller() is LOCAL
    caller = Caller(key_id="k", models=frozenset({"m"}))
    with calling(caller):
        assert current_caller() is caller
    assert current_caller() is LOCAL
    assert caller.may_use("m")
    assert not caller.may_use("n")
    assert caller.salt(b"s") != Caller(key_id="l").salt(b"s")
    assert LOCAL.salt(b"s") == b"s"
