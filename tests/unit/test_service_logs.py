"""One JSON object a line, whatever anybody sends; nothing of what people write; and never in the way."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet import SamplingParams
from tercet.errors import GenerationError, ParameterError, StorageError, TercetError
from tercet.service import logs
from tercet.service.request import GenerationRequest
from tercet.service.service import Service
from tercet.service.settings import ServiceSettings

HOSTILE = ("\r\n", "\x1b[2J", "\u202e", "\u2028", "\x7f", "\x85", '"}\n{"level": "error"', "\ud800", "\x00")
LOG = logging.getLogger("tercet.tests")


@pytest.fixture
def console() -> io.StringIO:
    """What the console shows, to be read after `logs.configure(console=...)` has been closed."""
    return io.StringIO()


def objects(text: str) -> list[dict[str, Any]]:
    assert all(" " <= character <= "~" or character == "\n" for character in text)
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_has_when_what_and_who(console: io.StringIO) -> None:
    log = logs.configure("debug", console=console)
    LOG.info("loaded %s", "tiny", extra={"request_id": "r1", "seconds": 0.5, "ratio": float("inf")})
    log.close()
    LOG.info("after the end")
    (line,) = objects(console.getvalue())
    assert line.pop("timestamp").endswith("Z")
    wanted = {"event": "loaded tiny", "level": "info", "logger": "tercet.tests", "request_id": "r1"}
    assert line == {**wanted, "seconds": 0.5, "ratio": None}


@given(st.text(max_size=50) | st.sampled_from(HOSTILE), st.text(max_size=50) | st.sampled_from(HOSTILE))
def test_whatever_comes_is_one_object_a_line(message: str, field: str) -> None:
    console = io.StringIO()
    log = logs.configure(console=console)
    LOG.info("%s", message, extra={"request_id": field, "agent": field + message})
    log.close()
    (line,) = objects(console.getvalue())
    assert (line["event"], line["request_id"], line["agent"]) == (message, field, field + message)


def test_what_is_long_is_cut_and_what_is_odd_is_described(console: io.StringIO) -> None:
    log = logs.configure(console=console)
    LOG.info("odd", extra={"long": "x" * 5_000, "list": [1, object], "number": 10**400})
    try:
        raise ValueError("at the end")
    except ValueError:
        LOG.exception("failed")
    log.close()
    odd, failed = objects(console.getvalue())
    assert odd["long"] == "x" * 1_000 + "... (5000 characters)"
    assert odd["list"] == "[1, <class 'object'>]"
    assert failed["exception"].endswith("ValueError: at the end")
    assert failed["level"] == "error"


def test_the_file_is_rotated(tmp_path: Path, console: io.StringIO) -> None:
    file = tmp_path / "tercet.log"
    log = logs.configure(file=file, console=console, file_bytes=2_000, file_count=2)
    for number in range(100):
        LOG.info("line", extra={"number": number})
    log.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["tercet.log", "tercet.log.1", "tercet.log.2"]
    assert all(path.stat().st_size <= 2_000 for path in tmp_path.iterdir())
    assert objects(file.read_text())[-1]["number"] == 99
    assert len(objects(console.getvalue())) == 100


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="debug, info, warning, error, not 'loud'"):
        logs.configure("loud")
    with pytest.raises(StorageError, match="does not exist"):
        logs.configure(file=tmp_path / "none" / "tercet.log")


def test_the_level_is_kept(console: io.StringIO) -> None:
    log = logs.configure("warning", console=console)
    LOG.info("quiet")
    LOG.warning("loud")
    log.close()
    assert [line["event"] for line in objects(console.getvalue())] == ["loud"]


def test_a_pipe_that_nobody_reads_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(io.StringIO):
        gate = threading.Event()

        def write(self, text: str) -> int:
            self.gate.wait(10)
            return super().write(text)

    monkeypatch.setattr(logs, "MAX_WAITING_LINES", 10)
    console = Stuck()
    log = logs.configure(console=console)
    for _ in range(50):
        LOG.info("line")
    assert log.num_lost >= 38
    console.gate.set()
    while not log._queue.queue.empty():
        pass
    LOG.info("later")
    log.close()
    lines = objects(console.getvalue())
    assert lines[-1] == {**lines[-1], "event": "later", "lost_lines": log.num_lost}


def test_requests_are_told_of_and_their_text_is_not(tiny_model_file: Path, console: io.StringIO) -> None:
    canary = "xyzzy"
    greedy = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True)

    async def work() -> None:
        settings = ServiceSettings(models={"tiny": str(tiny_model_file)}, llm={"threads": 1})
        async with Service(settings) as service:
            request = GenerationRequest(id="one\nline", prompt=canary, params=greedy, metadata={"a": canary})
            await (await service.submit(request)).result()
            with pytest.raises(TercetError):
                await service.submit(GenerationRequest(id="two", prompt=canary * 100, params=greedy))

    log = logs.configure("debug", console=console)
    asyncio.run(work())
    log.close()
    assert canary not in console.getvalue()
    finished = [line for line in objects(console.getvalue()) if line["event"] == "request finished"]
    (one,) = finished
    assert (one["request_id"], one["model"], one["outcome"]) == ("one\nline", "tiny", "length")
    assert (one["generated_tokens"], one["response_cached"]) == (4, False)
    assert one["seconds"] > one["first_token_seconds"] > 0
    life = [line["event"] for line in objects(console.getvalue()) if line["logger"] == "tercet.models"]
    assert life == ["model loaded", "model drains", "model unloaded"]
    (refused,) = [line for line in objects(console.getvalue()) if line["event"] == "request refused"]
    assert (refused["request_id"], refused["kind"]) == ("two", "context_length")


def test_texts_are_logged_when_that_is_asked_for(tiny_model_file: Path, console: io.StringIO) -> None:
    greedy = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True)
    answers: list[str] = []

    async def work() -> None:
        models = {"tiny": str(tiny_model_file)}
        async with Service(ServiceSettings(models=models, llm={"threads": 1}, log_prompts=True)) as service:
            for asked in (
                GenerationRequest(prompt="one\ntwo", params=greedy),
                GenerationRequest(messages=[{"role": "user", "content": "three"}], params=greedy),
            ):
                answers.append((await (await service.submit(asked)).result()).text)

    log = logs.configure(console=console)
    asyncio.run(work())
    log.close()
    lines = [line for line in objects(console.getvalue()) if line["event"] == "request finished"]
    assert [line["text"] for line in lines] == answers
    assert lines[0]["prompt"] == "one\ntwo"
    assert json.loads(lines[1]["prompt"]) == [{"role": "user", "content": "three"}]


def test_a_bug_is_told_with_its_place_and_without_its_words(
    tiny_model_file: Path, console: io.StringIO
) -> None:
    async def work() -> None:
        settings = ServiceSettings(models={"tiny": str(tiny_model_file)}, llm={"threads": 1})
        async with Service(settings) as service:

            def failing(chunks: object) -> None:
                raise ZeroDivisionError("xyzzy")

            service.pool.get().llm.engine.runner.run = failing  # type: ignore[assignment, method-assign]
            with pytest.raises(GenerationError):
                await (await service.submit(GenerationRequest(prompt="a"))).result()

    log = logs.configure(console=console)
    asyncio.run(work())
    log.close()
    (line,) = [line for line in objects(console.getvalue()) if line["event"] == "request finished"]
    assert (line["level"], line["bug"], line["outcome"]) == ("error", "ZeroDivisionError", "error")
    assert line["where"].endswith(" failing")
    assert "xyzzy" not in console.getvalue()
