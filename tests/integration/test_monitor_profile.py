"""`tercet monitor profile`: where the time of a server that works goes, asked of it from outside."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

from program import tercet
from served import Server

BODY = {"prompt": "Once upon a time", "max_tokens": 100, "ignore_eos": True, "temperature": 0.7}


def test_a_server_that_works_is_profiled(serving: Server, tmp_path: Path) -> None:
    ends = threading.Event()

    def ask() -> None:
        with serving.client() as client:
            while not ends.is_set():
                client.post("/v1/completions", json=BODY).raise_for_status()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        options = ("--url", serving.base_url, "--seconds", "1", "--flame", tmp_path / "flame.svg")
        shown = tercet("monitor", "profile", *options)
        options = ("--url", serving.base_url, "--seconds", "0.5", "--json")
        found = tercet("monitor", "profile", *options, "--flame", tmp_path / "flame.folded").data
    finally:
        ends.set()
        asking.join()
    assert shown.status == 0, shown.err
    for part in ("linear layers", "attention", "output head", "sampling", "scheduler", "event loop"):
        assert part in shown.out
    assert "<svg" in (tmp_path / "flame.svg").read_text()
    assert found["generated_tokens"] > 0
    parts = {part["name"]: part for part in found["parts"]}
    assert parts["event loop"]["seconds"] > 0
    assert parts["output head"]["microseconds_per_token"] > 0
    assert sum(part["share"] for name, part in parts.items() if name != "event loop") > 0.999
    assert "event loop;" in (tmp_path / "flame.folded").read_text()


def test_profiles_are_for_admins_and_of_bounded_length(serve: Callable[..., Server], tmp_path: Path) -> None:
    keys = tmp_path / "keys.jsonl"
    made = {}
    for name, options in {"user": (), "admin": ("--role", "admin")}.items():
        done = tercet("keys", "create", name, *options, "--keys", keys, "--json")
        assert done.status == 0, done.err
        made[name] = tmp_path / name
        made[name].write_text(f"{json.loads(done.out)['key']}\n")
    server = serve("--keys", keys)
    with server.client() as client:
        assert client.get("/profile?seconds=0.1").status_code == 401
        client.headers["Authorization"] = f"Bearer {made['admin'].read_text().strip()}"
        for wrong in ("61", "nan", "0", "-1", "x"):
            assert client.get(f"/profile?seconds={wrong}").status_code == 400
    options = ("monitor", "profile", "--seconds", "0.1", "--url", server.base_url, "--key-file")
    refused = tercet(*options, made["user"])
    assert refused.status == 2
    assert "refuses" in refused.err
    assert "Traceback" not in refused.err
    done = tercet(*options, made["admin"])
    assert done.status == 0, done.err
