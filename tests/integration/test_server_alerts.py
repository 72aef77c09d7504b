"""Alerts of a server that runs: a rule that is broken, a webhook that is told, a route for the operator."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from alert_receivers import eventually, receiver
from program import tercet
from served import Server


def test_an_alert_begins_is_told_of_listed_and_stored(serve: Callable[..., Server], tmp_path: Path) -> None:
    path, history = tmp_path / "alerts.json", tmp_path / "history.sqlite"
    with receiver(500) as hook:  # the first time it is out of order
        rules = {"memory": {"above": 2**20, "hold_seconds": 0}, "cpu": None}
        sinks = [{"kind": "webhook", "url": hook.url}, {"kind": "command", "command": ["/no/such/program"]}]
        path.write_text(json.dumps({"rules": rules, "sinks": sinks}))
        server = serve("--alerts", path, "--sample-every", "0.2", "--history", history)
        eventually(lambda: len(hook.requests) == 2)
        with server.client() as client:
            listed = client.get("/alerts").json()
        first, again = hook.requests
        assert first[1]["webhook-id"] == again[1]["webhook-id"]
        told = json.loads(again[2])["data"]
        assert told["rule"] == "memory"
        (active,) = [one for one in listed["active"] if one["rule"] == "memory"]
        assert active["id"] == told["id"]
        assert active["value"] > 2**20
        assert listed["rules"]["memory"]["above"] == 2**20
        assert "cpu" not in listed["rules"]
        server.stop()
        log = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
        assert [one["alert"] for one in log if one["event"] == "alert firing"].count("memory") == 1
        (warning,) = [one for one in log if one["event"].startswith("an alert could not be sent")]
        assert (warning["sink"], warning["level"]) == ("command program", "warning")

        # The next process goes on with it, and tells of it no second time.
        again_served = serve("--alerts", path, "--sample-every", "0.2", "--history", history)
        with again_served.client() as client:
            (still,) = [one for one in client.get("/alerts").json()["active"] if one["rule"] == "memory"]
        assert still["id"] == active["id"]
        again_served.stop()
        assert len(hook.requests) == 2
    done = tercet("monitor", "export", tmp_path / "day.json", "--history", history)
    assert done.status == 0
    events = json.loads((tmp_path / "day.json").read_text())["alerts"]["events"]
    assert [one["state"] for one in events if one["rule"] == "memory"] == ["firing"]


def test_settings_of_alerts_that_are_wrong_are_one_line_and_no_server(tmp_path: Path) -> None:
    path = tmp_path / "alerts.json"
    path.write_text('{"rules": {"memroy": {"above": 5}}}')
    done = tercet("serve", "--port", "0", "--alerts", path)
    assert done.status == 2
    assert "there is no rule 'memroy'" in done.err
    assert "Traceback" not in done.err


def test_commands_for_a_fleet(tmp_path: Path) -> None:
    path = tmp_path / "alerts.json"
    script = "import sys; sys.exit('firing' not in sys.stdin.read())"
    sinks = [{"kind": "command", "command": [sys.executable, "-c", script]}]
    path.write_text(json.dumps({"rules": {"memory": {"above": 5e9}}, "sinks": sinks}))
    printed = tercet("monitor", "rules", "--alerts", path)
    assert "tercet:resident_memory_bytes > 5000000000 or" in printed.out
    written = tercet("monitor", "rules", tmp_path / "rules.yml", "--alerts", path)
    assert f"Wrote {tmp_path / 'rules.yml'}" in written.err
    assert (tmp_path / "rules.yml").read_text() == printed.out
    assert json.loads(tercet("monitor", "dashboard").out)["uid"] == "tercet"
    tried = tercet("monitor", "try-alerts", path)
    assert tried.status == 2  # it does not take the end
    assert "ended with status 1" in tried.err
    refused = tercet("monitor", "dashboard", tmp_path / "missing" / "dashboard.json")
    assert refused.status == 2
    assert "Traceback" not in refused.err
