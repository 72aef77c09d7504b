"""Settings of `tercet serve` by flag, environment and file: which wins, and what is no setting."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from tercet.cli import serve, settings_file
from tercet.cli.monitor.place import history_file
from tercet.cli.serve_settings import server_settings, service_settings
from tercet.errors import ParameterError, StorageError
from tercet.security.config import SecurityConfig
from tercet.server.settings import ServerSettings


@pytest.fixture(autouse=True)
def nobodys_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TERCET_CONFIG", str(tmp_path / "none"))


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The settings that a command line has, with a file if there is one."""

    def settings(*arguments: str, file: Any = None) -> dict[str, Any]:
        command: Any = typer.main.get_command(serve.app)
        command.name = "serve"
        path = tmp_path / "serve.json"
        if file is not None:
            path.write_text(file if isinstance(file, str) else json.dumps(file), encoding="utf-8")
            arguments = ("--config", str(path), *arguments)
        return settings_file.effective(command, list(arguments))

    return settings


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    settings: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = {"port": 1001, "host": "localhost"}
    assert settings()["port"] == 8080
    assert settings(file=file)["port"] == 1001
    monkeypatch.setenv("TERCET_SERVE_PORT", "1002")
    assert settings(file=file)["port"] == 1002
    assert settings("--port", "1003", file=file)["port"] == 1003
    assert settings(file=file)["host"] == "localhost"


def test_the_environment_may_name_the_file(
    settings: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"model": "some/model", "log_requests": false}')
    monkeypatch.setenv("TERCET_SERVE_CONFIG", str(path))
    found = settings()
    assert (found["model"], found["log_requests"]) == ("some/model", False)


def test_every_setting_can_be_in_a_file(settings: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Each option takes from a file what it takes from the command line."""
    command: Any = typer.main.get_command(serve.app)
    kinds = settings_file._kinds(command)
    words = {
        "model_trust": "checked", "security_profile": "strict", "rate_limit_fail_mode": "open",
        "rate_limit_storage": "redis://localhost/0", "cors_origin": ["https://example.com"],
    }  # fmt: skip
    values: dict[type, Any] = {int: 5000, float: 50.5, bool: True, list: ["word", "other"]}
    file = {name: words.get(name, values.get(kind, "word")) for name, kind in kinds.items()}
    (tmp_path / "alerts.json").write_text("{}")
    file |= {"alerts": str(tmp_path / "alerts.json"), "otlp_endpoint": "http://127.0.0.1:4318"}
    found = settings(file=file)
    for name, value in file.items():
        shown = found[name]
        expected = value if not isinstance(value, list) else [str(one) for one in value]
        assert (list(map(str, shown)) if isinstance(value, list) else shown) in (
            expected,
            Path(str(expected)),
        ), name
    assert server_settings(found).security["max_input_length"] == 5000
    assert service_settings({**found, "lora": []}).max_concurrent == 5000


def test_every_security_setting_is_one_of_the_server(settings: Callable[..., dict[str, Any]]) -> None:
    names = {field.name for field in dataclasses.fields(SecurityConfig)} - {"profile"}
    assert names <= set(settings())
    strict = server_settings(settings()).security_config(is_exposed=True)
    assert strict == SecurityConfig()
    assert server_settings(settings()).security_config(is_exposed=False) == SecurityConfig.local()


def test_what_is_not_named_is_as_built_in(settings: Callable[..., dict[str, Any]]) -> None:
    built_in = dataclasses.replace(ServerSettings(), history_file=history_file(None, ServerSettings().port))
    assert server_settings(settings()) == built_in


def test_none_is_no_limit(settings: Callable[..., dict[str, Any]]) -> None:
    file = {"max_choices": "none", "max_stop_length": None, "rate_limit_requests_per_minute": 7}
    config = server_settings(settings("--max-input-length", "none", file=file)).security_config(True)
    assert config.max_input_length is config.max_choices is None
    assert (config.max_stop_length, config.rate_limit_requests_per_minute) == (100, 7)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ({"max_input_lenght": 5}, r"'max_input_lenght', which is no setting; is max_input_length meant\?"),
        ({"max-input-length": 5}, "is max_input_length meant"),
        ({"zebra": 5}, "lists them all"),
        ({"help": True}, "no setting"),
        ({"config": "other.json"}, "no setting"),
        ({"port": 80.5}, "port in .* is a whole number, not 80.5"),
        ({"port": True}, "a whole number, not true"),
        ({"log_requests": "no"}, "true or false"),
        ({"log_requests": 0}, "true or false"),
        ({"host": 3}, "a string, not 3"),
        ({"host": {"a": "x" * 100}}, r"a string, not .*\.\.\."),
        ({"allowed_host": [1]}, "a string, not 1"),
        ('{"port": 1, "port": 2}', "'port' twice"),
        ("[]", "one JSON object"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"port": "' + " " * (1 << 20), "larger than"),
    ],
)
def test_what_a_file_cannot_say_is_refused(
    settings: Callable[..., dict[str, Any]], file: Any, words: str
) -> None:
    with pytest.raises(ParameterError, match=words):
        settings(file=file)


@pytest.mark.parametrize("file", [{"port": 70_000}, {"max_choices": 0}, {"max_choices": "many"}])
def test_values_are_checked_as_those_of_flags(
    settings: Callable[..., dict[str, Any]], file: dict[str, Any]
) -> None:
    with pytest.raises(typer.BadParameter):
        settings(file=file)


def test_a_file_that_is_not_there(settings: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read the settings"):
        settings("--config", str(tmp_path / "absent.json"))


def test_a_misspelt_variable_is_an_error(
    settings: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERCET_SERVE_RATE_LIMIT_REQUEST_PER_MINUTE", "5")
    with pytest.raises(ParameterError, match="is TERCET_SERVE_RATE_LIMIT_REQUESTS_PER_MINUTE meant"):
        settings()
