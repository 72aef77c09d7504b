"""The `llm` command in a session with `tercet serve`, as people set it up: a file of extra models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from idle import assert_idle
from served import Server

MODEL = "llama-tercet-tiny"
ASK = "Tell me a story about a dog."
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, serving: Server) -> Path:
    folder = tmp_path_factory.mktemp("llm")
    entries = [
        {"model_id": "tercet", "supports_schema": True, "supports_tools": True},
        {"model_id": "tercet-responses", "responses": True, "supports_schema": True},
        {"model_id": "tercet-completion", "completion": True},
        {"model_id": "elsewhere", "model_name": "gpt-4o"},
    ]
    models = [{"model_name": MODEL, "api_base": f"{serving.base_url}/v1", **entry} for entry in entries]
    (folder / "extra-openai-models.yaml").write_text(json.dumps(models))  # JSON is YAML
    return folder


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "llm", *arguments]


def environment(home: Path) -> dict[str, str]:
    """Settings of its own, and no plugins that others have installed."""
    own = {"LLM_USER_PATH": str(home), "LLM_LOAD_PLUGINS": "", "OPENAI_API_KEY": "none"}
    return {**os.environ, **own, "PYTHONUNBUFFERED": "1"}


def run(home: Path, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        command(*arguments), env=environment(home), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def test_it_streams_and_waits_with_the_same_words(home: Path) -> None:
    options = ("-o", "temperature", "0", "-o", "max_tokens", "40")
    streamed = run(home, "-m", "tercet", *options, ASK)
    assert len(streamed) > 40
    assert run(home, "-m", "tercet", "--no-stream", *options, ASK) == streamed
    assert run(home, "-m", "tercet-responses", *options, ASK).strip()
    assert run(home, "-m", "tercet-completion", *options, "Once upon a time").strip()
    assert run(home, "-c", "-o", "max_tokens", "20", "Go on.").strip()  # the conversation so far, and more


@pytest.mark.parametrize("model", ["tercet", "tercet-responses"])
def test_answers_as_objects(home: Path, model: str) -> None:
    answer = run(home, "-m", model, "--schema", json.dumps(SCHEMA), "-o", "temperature", "0", ASK)
    assert set(json.loads(answer)) == {"name", "age"}


def test_it_may_offer_tools(home: Path) -> None:
    function = 'def get_weather(city: str) -> str:\n    "The weather in a city"\n    return "Sunny"\n'
    answer = run(home, "-m", "tercet", "--functions", function, "-o", "max_tokens", "30", ASK)
    assert answer.strip()


def test_errors_are_told(home: Path) -> None:
    assert "there is no model 'gpt-4o'" in run(home, "-m", "elsewhere", ASK, status=1)
    assert "tokens" in run(home, "-m", "tercet", "dog " * 600, status=1)


def test_an_interrupt_ends_the_answer_at_the_server(home: Path, serving: Server) -> None:
    arguments = command("-m", "tercet", "-o", "max_tokens", "480", ASK)
    with subprocess.Popen(
        arguments, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
    assert_idle(serving)
