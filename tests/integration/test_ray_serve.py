"""`tercet deploy ray` on this machine: one replica that becomes two, and what becomes of requests meanwhile.

Starting Ray takes most of the time, so that one cluster serves all of this, in this order.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from descendants import descendants
from known_answers import known_answers
from program import assert_refused, command, environment, tercet
from served import wait_until

START_SECONDS, SCALE_SECONDS, STOP_SECONDS = 500, 120, 120
REPLICA = "ray::ServeReplica:tercet:Model"
MAX_TOKENS = 60
CLIENTS, EACH = 6, 4
PROMPTS = [f"The little dog number {number} had a red ball" for number in range(CLIENTS * EACH)]
LONG = "Once upon a time there was a {} who lived near a big forest with many friends. " * 8


class Deployment:
    """The program, its address, and the replicas that it has now."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.process = process
        self.url = url

    @property
    def replicas(self) -> list[int]:
        return descendants(self.process.pid, REPLICA)


@pytest.fixture(scope="module")
def deployed() -> Iterator[Deployment]:
    bounds = ("--max-running", "4", "--target-running", "2", "--max-waiting", "8", "--scale-up-delay", "1")
    arguments = ("deploy", "ray", *bounds, "--cpus-per-replica", "0.5", "--", "--port", "0", "--threads", "1")
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command(*arguments), stdout=log, stderr=log, env=environment())

        def written() -> str:
            return os.pread(log.fileno(), 1 << 20, 0).decode(errors="replace")

        try:
            wait_until(lambda: "Serving on Ray at" in written() or process.poll() is not None, START_SECONDS)
            found = re.search(r"Serving on Ray at (\S+)", written())
            assert found, written()
            yield Deployment(process, found[1])
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_SECONDS) == 0, written()
            assert "Traceback" not in written(), written()
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    """What an undisturbed model says."""
    return known_answers(PROMPTS, MAX_TOKENS, threads=1)


def body(prompt: str, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "max_tokens": MAX_TOKENS, "temperature": 0, "ignore_eos": True, **more}


def test_a_replica_answers_as_a_server_does(deployed: Deployment, answers: dict[str, str]) -> None:
    assert len(deployed.replicas) == 1
    with httpx.Client(base_url=deployed.url, timeout=120) as client:
        whole = client.post("/v1/completions", json=body(PROMPTS[0]))
        assert whole.json()["choices"][0]["text"] == answers[PROMPTS[0]]
        streamed = client.post("/v1/completions", json=body(PROMPTS[1], stream=True)).text
        events = [line.removeprefix("data: ") for line in streamed.splitlines() if line]
        assert events.pop() == "[DONE]"
        assert "".join(json.loads(one)["choices"][0]["text"] for one in events) == answers[PROMPTS[1]]
        wrong = client.post("/v1/completions", json=body("x", temperature=9))
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "temperature")
        assert client.get("/readyz").json() == {"status": "ok"}
        assert (
            client.post("/api/generate", json={"model": "llama-tercet-tiny", "prompt": "A"}).status_code
            == 200
        )
        large = client.post("/v1/completions", content=b" " * (5 << 20))
        assert large.status_code == 413


def test_too_many_requests_are_told_to_come_back_and_bring_a_second_replica(deployed: Deployment) -> None:
    async def crowd() -> Counter[int]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=deployed.url, timeout=300, limits=limits) as client:

            async def ask(number: int) -> int:
                asked = body(f"{number} birds", max_tokens=200)
                response = await client.post("/v1/completions", json=asked)
                if response.status_code != 200:
                    assert int(response.headers["retry-after"]) >= 1
                    assert response.json()["error"]["code"] == "overloaded"
                return response.status_code

            return Counter(await asyncio.gather(*(ask(number) for number in range(40))))

    seen = asyncio.run(crowd())
    assert seen.keys() == {200, 429}
    assert seen[200] >= 12  # what runs and what may wait

    def is_two() -> bool:
        asyncio.run(crowd())
        return len(deployed.replicas) == 2

    wait_until(is_two, SCALE_SECONDS)


def test_a_conversation_goes_where_its_beginning_was_read(deployed: Deployment) -> None:
    with httpx.Client(base_url=deployed.url, timeout=120) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        for animal in ("fox", "bear", "crow", "cat"):
            text = LONG.format(*[animal] * 8)
            for turn in range(4):
                asked = body(text, max_tokens=8)
                answer = client.post("/v1/completions", json=asked).json()
                cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
                assert turn == 0 or cached > answer["usage"]["prompt_tokens"] / 2, (animal, turn, answer)
                text += answer["choices"][0]["text"]


def test_a_client_who_leaves_is_not_answered_further(deployed: Deployment) -> None:
    with httpx.Client(base_url=deployed.url, timeout=120) as client:
        for number in range(4):
            asked = body(f"{number} stars", max_tokens=1500, stream=True)
            with client.stream("POST", "/v1/completions", json=asked) as response:
                next(response.iter_lines())

        def all_idle() -> bool:
            texts = [client.get("/metrics").text for _ in range(8)]  # of either replica, by chance
            return all(re.search(r"^tercet_requests_in_flight{.*} 0\.0$", text, re.M) for text in texts)

        wait_until(all_idle)


def test_a_replica_is_killed_under_load_and_nothing_is_lost(
    deployed: Deployment, answers: dict[str, str]
) -> None:
    seen: Counter[str] = Counter()
    victim = deployed.replicas[0]

    async def whole(client: httpx.AsyncClient, asked: dict[str, Any]) -> str | None:
        response = await client.post("/v1/completions", json=asked)
        assert response.status_code == 200, response.text  # at the first try
        return str(response.json()["choices"][0]["text"])

    async def person(number: int) -> None:
        async with httpx.AsyncClient(base_url=deployed.url, timeout=300) as client:
            for prompt in PROMPTS[number * EACH : (number + 1) * EACH]:
                ask = whole if number % 2 else streamed
                while (text := await ask(client, body(prompt))) is None:
                    seen["asked again"] += 1
                assert text == answers[prompt]
                seen["answered"] += 1
                if seen["answered"] == CLIENTS:
                    os.kill(victim, signal.SIGKILL)

    async def everybody() -> None:
        await asyncio.gather(*(person(number) for number in range(CLIENTS)))

    asyncio.run(everybody())
    assert seen["answered"] == CLIENTS * EACH
    assert victim not in deployed.replicas


async def streamed(client: httpx.AsyncClient, asked: dict[str, Any]) -> str | None:
    """The text of a whole stream; None where its end is missing, which is to be seen."""
    pieces: list[str] = []
    try:
        async with client.stream("POST", "/v1/completions", json=asked | {"stream": True}) as response:
            assert response.status_code == 200, await response.aread()
            async for line in response.aiter_lines():
                if line == "data: [DONE]":
                    return "".join(pieces)
                if line.startswith("data: "):
                    pieces.append(json.loads(line.removeprefix("data: "))["choices"][0]["text"])
    except httpx.TransportError:
        return None
    return None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--", "none.tercet"), "none.tercet"),
        (("--", "--batch-dir", "batches"), "batch_dir is not for replicas: a batch belongs to one server"),
        (("--", "--host", "0.0.0.0"), "there are no API keys"),
        (("--min-replicas", "3"), "min_replicas is at most max_replicas, 2, not 3"),
    ],
)
def test_what_cannot_be_is_told_before_anything_starts(arguments: tuple[str, ...], words: str) -> None:
    assert_refused(tercet("deploy", "ray", *arguments), words)


def test_a_port_in_use_is_told_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert_refused(tercet("deploy", "ray", "--", "--port", port), "cannot listen", port)
