"""HAProxy and nginx before two replicas that share Redis: one is killed under load, and nothing is lost.

What has not begun to be answered is asked of the other replica, unseen by the client. A stream that has begun
cannot be begun again by anybody but the client, who sees that its end is missing. A batch that was accepted
is complete in the end, each of its items once.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from balanced import Replica, balanced
from known_answers import known_answers
from served import wait_until

MAX_TOKENS = 60
CLIENTS, EACH = 8, 5
PROMPTS = [f"The little dog number {number} had a red ball" for number in range(CLIENTS * EACH)]
ITEMS = 24


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    """What an undisturbed model says."""
    return known_answers(PROMPTS, MAX_TOKENS, threads=1)


def body(prompt: str, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "max_tokens": MAX_TOKENS, "temperature": 0, "ignore_eos": True, **more}


@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
def test_a_replica_is_killed_under_load_and_nothing_is_lost(
    kind: str, answers: dict[str, str], tmp_path: Path
) -> None:
    with balanced(kind, tmp_path) as (url, replicas), httpx.Client(base_url=url, timeout=120) as client:
        both_count_together_and_remember_together(client, replicas)
        batch = accepted_batch(client)
        seen = asyncio.run(load(url, answers, replicas[0]))
        assert seen["whole"] + seen["stream"] == CLIENTS * EACH, seen
        assert seen["killed"] == 1

        away = client.get(f"/v1/batches/{batch['id']}")
        assert away.status_code == 503, away.text
        assert int(away.headers["retry-after"]) >= 1
        assert away.json()["error"]["code"] == "unavailable"

        replicas[0].start()
        complete(client, batch)
        before = replicas[0].answers()
        wait_until(lambda: asked_again(client) and replicas[0].answers() > before)


def both_count_together_and_remember_together(client: httpx.Client, replicas: list[Replica]) -> None:
    """One after the other through the balancer: what is left of the limit falls by one each time."""
    left = []
    for number in range(6):
        response = client.post("/v1/completions", json=body("Once upon a time", max_tokens=4, seed=number))
        assert response.status_code == 200, response.text
        left.append(int(response.headers["x-ratelimit-remaining-requests"]))
    assert left == list(range(left[0], left[0] - 6, -1))

    texts = []
    for replica in replicas:
        with replica.server.client() as own:
            texts.append(own.post("/v1/completions", json=body("It was a day")).json()["choices"])
    assert texts[0] == texts[1]
    with replicas[1].server.client() as own:
        metrics = own.get("/metrics").text
    (hits,) = [line for line in metrics.splitlines() if line.startswith("tercet_response_cache_hits_total{")]
    assert float(hits.rpartition(" ")[2]) >= 1


def accepted_batch(client: httpx.Client) -> dict[str, Any]:
    """A batch whose items the first replica has begun to answer."""
    lines = [
        {"custom_id": f"i{number}", "method": "POST", "url": "/v1/completions",
         "body": body(f"{number} birds sat in a tree", max_tokens=80)}
        for number in range(ITEMS)
    ]  # fmt: skip
    file = {"file": ("lines.jsonl", "\n".join(map(json.dumps, lines)).encode())}
    uploaded = client.post("/v1/files", files=file, data={"purpose": "batch"})
    assert uploaded.status_code == 200, uploaded.text
    wanted = {
        "endpoint": "/v1/completions",
        "completion_window": "24h",
        "input_file_id": uploaded.json()["id"],
    }
    created = client.post("/v1/batches", json=wanted)
    assert created.status_code == 200, created.text
    batch: dict[str, Any] = created.json()
    return batch


def complete(client: httpx.Client, batch: dict[str, Any]) -> None:
    """The killed replica has begun again, and goes on with what it had accepted."""
    found: dict[str, Any] = {}

    def is_over() -> bool:
        response = client.get(f"/v1/batches/{batch['id']}")
        found.update(response.json() if response.status_code == 200 else {})
        return found.get("status") in ("completed", "failed", "expired")

    wait_until(is_over, 120)
    assert found["request_counts"] == {"total": ITEMS, "completed": ITEMS, "failed": 0}
    text = client.get(f"/v1/files/{found['output_file_id']}/content").text
    ids = [json.loads(line)["custom_id"] for line in text.splitlines()]
    assert sorted(ids) == sorted(f"i{number}" for number in range(ITEMS))


def asked_again(client: httpx.Client) -> bool:
    """Another few requests, so that each replica gets one."""
    for number in range(4):
        more = body(f"{number} more", max_tokens=2)
        assert client.post("/v1/completions", json=more).status_code == 200
    return True


async def load(url: httpx.URL, answers: dict[str, str], victim: Replica) -> Counter[str]:
    """Clients that ask; after some answers the victim dies, in the middle of others."""
    seen: Counter[str] = Counter()
    began = asyncio.Event()

    async def person(number: int) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            for turn in range(EACH):
                prompt = PROMPTS[number * EACH + turn]  # each its own, or the cache in Redis would answer
                asked = body(prompt)
                if (number + turn) % 2:
                    response = await client.post("/v1/completions", json=asked)
                    assert response.status_code == 200, response.text  # at the first try
                    assert response.json()["choices"][0]["text"] == answers[prompt]
                    seen["whole"] += 1
                else:
                    while (text := await streamed(client, asked)) is None:
                        seen["asked again"] += 1
                    assert text == answers[prompt]
                    seen["stream"] += 1
                if sum(seen.values()) >= CLIENTS:
                    began.set()

    async def power_cut() -> None:
        await began.wait()
        await asyncio.to_thread(victim.kill)
        seen["killed"] += 1

    await asyncio.gather(power_cut(), *(person(number) for number in range(CLIENTS)))
    return seen


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
                    event = json.loads(line.removeprefix("data: "))
                    pieces.append(event["choices"][0]["text"])
    except httpx.TransportError:
        return None
    return None
