"""`tercet doctor --security`: what counts as weak, and that what is strong does not."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

from program import tercet
from tercet.security.api_keys import KeyStore
from tercet.security.config import SecurityConfig
from tercet.server.settings import ServerSettings
from tercet.server.weaknesses import Surroundings, is_exposed, weaknesses


@pytest.fixture
def strong(tmp_path: Path) -> ServerSettings:
    """A server for others with nothing to complain about."""
    keys = tmp_path / "keys.jsonl"
    KeyStore(keys, time.time).create("reader", seconds=1000)
    return ServerSettings(
        host="0.0.0.0", keys_file=keys, tls_certificate=keys, tls_key=keys, audit_folder=tmp_path
    )


SIGNED = Surroundings(model_trust="signed")


def names(
    settings: ServerSettings, around: Surroundings = SIGNED, security: SecurityConfig | None = None
) -> list[str]:
    security = security or settings.security_config(is_exposed(settings))
    return [f"{one.level}: {one.name}" for one in weaknesses(settings, security, around)]


def test_what_is_strong_is_not_called_weak(strong: ServerSettings) -> None:
    assert names(strong) == []
    assert names(ServerSettings(), Surroundings(is_root=True)) == []  # on this machine alone


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"keys_file": None, "allow_unauthenticated": True}, ["weak: keys"]),
        ({"allow_unauthenticated": True}, ["weak: allow_unauthenticated"]),
        ({"open_metrics": True}, ["weak: open_metrics"]),
        ({"tls_certificate": None, "tls_key": None}, ["weak: tls_cert"]),
        ({"cors_origins": ("*",)}, ["weak: cors_origin"]),
        ({"security": {"max_choices": None}}, ["weak: no_limit"]),
        ({"security": {"rate_limit_requests_per_minute": 10_000}}, ["weak: rate_limit_requests_per_minute"]),
        ({"security": {"enable_content_filtering": False}}, ["weak: enable_content_filtering"]),
        ({"content_policy": "off"}, ["weak: content_policy"]),
        ({"security": {"sanitize_inputs": False}}, ["weak: sanitize_inputs"]),
        ({"security": {"log_requests": False}}, ["weak: log_requests"]),
        ({"security": {"rate_limit_storage": "redis://:pass@there/0"}}, ["weak: rate_limit_storage"]),
        ({"security": {"rate_limit_storage": "rediss://there/0"}}, ["weak: rate_limit_storage"]),
        ({"security": {"rate_limit_storage": "rediss://:pass@there/0"}}, []),
        (
            {"security": {"rate_limit_storage": "redis://:pass@127.0.0.1/0", "rate_limit_fail_mode": "open"}},
            ["weak: rate_limit_fail_mode"],
        ),
        ({"header_timeout_seconds": 61.0}, ["weak: header_timeout"]),
        ({"upload_timeout_seconds": 301.0}, ["weak: upload_timeout"]),
        ({"write_timeout_seconds": 301.0}, ["weak: write_timeout"]),
        ({"keep_alive_seconds": 301.0}, ["weak: keep_alive"]),
        ({"max_body_bytes": 2**27}, ["weak: max_body"]),
        ({"audit_folder": None}, ["weak: audit_dir"]),
    ],
)
def test_each_weakness_is_named(strong: ServerSettings, changes: dict[str, Any], found: list[str]) -> None:
    assert names(dataclasses.replace(strong, **changes)) == found


@pytest.mark.parametrize(
    ("around", "found"),
    [
        ({"logs_prompts": True}, ["weak: log_prompts"]),
        ({"is_root": True}, ["weak: user"]),
        ({"model_trust": "checked"}, ["advice: model_trust"]),
        ({"request_timeout_seconds": 7200.0}, ["advice: request_timeout"]),
    ],
)
def test_each_surrounding_is_named(strong: ServerSettings, around: dict[str, Any], found: list[str]) -> None:
    assert names(strong, dataclasses.replace(SIGNED, **around)) == found


def test_the_profile_of_ones_own_machine_is_weak_where_others_come(strong: ServerSettings) -> None:
    found = names(dataclasses.replace(strong, security_profile="local"))
    assert found[:2] == ["weak: security_profile", "weak: no_limit"]


def test_files_that_others_may_change(strong: ServerSettings, tmp_path: Path) -> None:
    path = tmp_path / "serve.json"
    path.write_text("{}")
    path.chmod(0o600)
    assert names(strong, dataclasses.replace(SIGNED, files=(path, tmp_path / "absent"))) == []
    path.chmod(0o666)
    assert names(strong, dataclasses.replace(SIGNED, files=(path,))) == ["weak: file_mode"]


def test_keys_without_an_end_are_worth_a_word(strong: ServerSettings) -> None:
    assert strong.keys_file is not None
    KeyStore(strong.keys_file, time.time).create("for ever")
    assert names(strong) == ["advice: keys"]


def test_the_command_says_what_is_weak_and_exits_with_1(tmp_path: Path) -> None:
    file = tmp_path / "serve.json"
    file.write_text('{"host": "0.0.0.0", "allow_unauthenticated": true}')
    file.chmod(0o600)
    done = tercet("doctor", "--security", "--config", file)
    assert done.status == 1, done
    assert done.out.startswith("Profile strict; others can come.")
    assert "weak: keys: whoever reaches the port may use the server; make keys" in done.out
    told = tercet("doctor", "--security", "--json", TERCET_SERVE_LOG_PROMPTS="1")
    assert told.status == 1
    assert [one["name"] for one in told.data["found"]] == ["log_prompts"]
    assert told.data["settings"]["profile"] == "local"
    own = tercet("doctor", "--security")
    assert (own.status, own.out.splitlines()[-1]) == (0, "Nothing is weak.")
    file.write_text('{"hots": "0.0.0.0"}')
    wrong = tercet("doctor", "--security", "--config", file)
    assert wrong.status == 2
    assert "is host meant" in wrong.err
