"""Two replicas to which the worst happens all the time, and clients who get their answers all the same.

    figures = asyncio.run(Chaos(tmp_path, seed=1).run(seconds=60))

Each replica is killed, frozen, asked to end and overrun by crowds, in an order that the seed gives, and its
engine dies by itself every some thousand steps. In front of them: people who try again (on the other replica,
as a balancer would), others who leave, send halves, drip and do not read, and batches. Afterwards:

- everybody who tried again has the answer that an undisturbed model gives, to the letter;
- every batch that was accepted is complete: no item lost, none twice, none with another answer;
- nobody ever saw a status, or an error object, that the documentation does not name;
- every end that was asked for came in time with status 0, and the survivors hold nothing for nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from chaos_replica import Refused, Replica, connected, shuffled_again_and_again
from known_answers import known_answers
from server_load import MAX_TOKENS, post
from server_soak import PROMPTS

DOCUMENTED = frozenset({200, 400, 404, 405, 408, 413, 415, 431, 503, 504})
"""The statuses of docs/guides/serving.md, but for 500: that is a fault of ours, and no other's excuses it."""
CODES = frozenset({"unavailable", "overloaded"})
"""Of an error in a stream, and of a 503."""
TOO_SLOW = (408, "upload_timeout")
"""Another reason to try again."""
KINDS = frozenset({"kill", "freeze", "terminate", "crowd"})
PEOPLE, OTHERS = 5, 3
CROWD = 40
PATIENCE_SECONDS = 600.0
"""Of somebody who tries again; a machine may have other things to do."""
BATCH_ITEMS = 24
BATCH_SECONDS = 600.0
ENDED = ("completed", "failed", "expired", "cancelled")
CUT_OFF = -1
"""Stands for the status of an answer that did not come."""


class Chaos:
    """The whole play.

    Args:
        folder: where the replicas keep their batches.
        seed: of everything that is left to chance.
        pauses: the shortest and the longest time without a fault at a replica, in seconds.
        lives: the fewest and the most steps that an engine takes before it dies by itself.
    """

    def __init__(self, folder: Path, seed: int, pauses: tuple[float, float], lives: tuple[int, int]) -> None:
        self._seed = seed
        self._pauses = pauses
        self._replicas = [Replica(folder / str(number), seed + number, lives) for number in range(2)]
        self._answers = known_answers(PROMPTS, MAX_TOKENS)
        self._until = 0.0
        self.faults: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.done: Counter[str] = Counter()
        self.mistakes: list[str] = []

    async def run(self, seconds: float) -> dict[str, Any]:
        """Let it all happen for so long, and every kind of fault at least once; then look at what is left."""
        await asyncio.gather(*(replica.start() for replica in self._replicas))
        care = [asyncio.create_task(self._look_after(replica)) for replica in self._replicas]
        try:
            self._until = time.monotonic() + seconds
            await asyncio.gather(
                *(self._torment(replica, number) for number, replica in enumerate(self._replicas)),
                *(self._batches(replica, number) for number, replica in enumerate(self._replicas)),
                *(self._person(number) for number in range(PEOPLE)),
                *(self._other(number) for number in range(OTHERS)),
            )
            for task in care:
                task.cancel()
            for replica in self._replicas:
                await self._check_left(replica)
            await asyncio.gather(*(replica.end(signal.SIGTERM, 0) for replica in self._replicas))
        finally:
            for task in care:
                task.cancel()
            for replica in self._replicas:
                replica.server.process.kill()
        assert not self.mistakes, "\n".join(self.mistakes)
        return {
            "seed": self._seed,
            "faults": dict(sorted(self.faults.items())),
            "statuses": {
                "cut off" if status == CUT_OFF else str(status): count
                for status, count in sorted(self.statuses.items())
            },
            "done": dict(sorted(self.done.items())),
        }

    def _wrong(self, what: object) -> None:
        if len(self.mistakes) < 20:
            self.mistakes.append(str(what)[:500])

    @property
    def _is_over(self) -> bool:
        return time.monotonic() >= self._until and self.faults.keys() >= KINDS

    def _choices(self, kind: int, number: int) -> random.Random:
        return random.Random(self._seed * 1000 + 100 * kind + number)

    # What happens to the replicas -------------------------------------------------------------------

    async def _torment(self, replica: Replica, number: int) -> None:
        chance = self._choices(1, number)
        kinds: dict[str, Callable[[Replica, random.Random], Awaitable[None]]] = {
            "kill": self._kill, "freeze": self._freeze, "terminate": self._terminate, "crowd": self._crowd,
        }  # fmt: skip
        for name in shuffled_again_and_again(sorted(KINDS), chance):
            await asyncio.sleep(chance.uniform(*self._pauses) * replica.slowness)
            if self._is_over:
                return
            async with replica.in_hand:
                self.faults[name] += 1
                await kinds[name](replica, chance)

    async def _look_after(self, replica: Replica) -> None:
        """What supervises processes: one whose engine died too often for another try begins anew."""
        while True:
            await asyncio.sleep(0.5)
            async with replica.in_hand:
                if await self._is_beyond_help(replica):
                    self.faults["begun anew for /livez"] += 1
                    await self._terminate(replica, random.Random(0))

    async def _kill(self, replica: Replica, chance: random.Random) -> None:
        self._count_deaths(replica)
        await replica.end(signal.SIGKILL, -signal.SIGKILL)
        await asyncio.sleep(chance.random())
        await replica.start()

    async def _terminate(self, replica: Replica, chance: random.Random) -> None:
        self._count_deaths(replica)
        await replica.end(signal.SIGTERM, 0)
        await replica.start()

    async def _freeze(self, replica: Replica, chance: random.Random) -> None:
        replica.server.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(chance.uniform(0.5, 4))
        replica.server.process.send_signal(signal.SIGCONT)

    async def _crowd(self, replica: Replica, chance: random.Random) -> None:
        """More at once than may wait."""
        async with httpx.AsyncClient(base_url=replica.server.base_url, timeout=60) as client:
            await asyncio.gather(*(self._one_of_many(client, number) for number in range(CROWD)))

    async def _one_of_many(self, client: httpx.AsyncClient, number: int) -> None:
        body = {"prompt": f"{number} little dogs", "max_tokens": 8, "temperature": 0}
        with contextlib.suppress(httpx.TransportError, Refused):
            self._check(await client.post("/v1/completions", json=body))

    async def _is_beyond_help(self, replica: Replica) -> bool:
        """Whether its engine died so often that it asks for another process, as a supervisor would see."""
        with contextlib.suppress(httpx.TransportError):
            async with httpx.AsyncClient(base_url=replica.server.base_url, timeout=10) as client:
                return "restart the process" in (await client.get("/livez")).text
        return False

    def _count_deaths(self, replica: Replica) -> None:
        self.faults["engine died"] += replica.server.log.count("engine died")

    async def _check_left(self, replica: Replica) -> None:
        self._count_deaths(replica)
        async with httpx.AsyncClient(base_url=replica.server.base_url, timeout=30) as client:
            left: list[str] = []
            for _ in range(100):
                lines = (await client.get("/metrics")).text.splitlines()
                held = ("tercet_requests_in_flight ", "tercet_kv_blocks{")
                left = [
                    line
                    for line in lines
                    if line.startswith(held) and "free" not in line and "cached" not in line
                    if not line.endswith(" 0.0")
                ]
                if not left:
                    return
                await asyncio.sleep(0.1)
        self._wrong(f"nobody is there, and this is held: {left}")

    # People who try again ---------------------------------------------------------------------------

    async def _person(self, number: int) -> None:
        chance = self._choices(2, number)
        while not self._is_over:
            prompt = chance.choice(list(self._answers))
            body = {"prompt": prompt, "max_tokens": MAX_TOKENS, "temperature": 0, "ignore_eos": True}
            ask = self._whole if chance.random() < 0.5 else self._stream
            answer = await self._insist(lambda client, ask=ask, body=body: ask(client, body), number)
            if answer != self._answers[prompt]:
                self._wrong(f"{prompt[:30]!r} was answered by {answer!r}")
            self.done["answers"] += 1
            await asyncio.sleep(0.05 * chance.random())

    async def _insist(
        self,
        ask: Callable[[httpx.AsyncClient], Awaitable[Any]],
        number: int,
        replicas: list[Replica] | None = None,
    ) -> Any:
        """Ask one replica after the other until there is an answer."""
        end, turn = time.monotonic() + PATIENCE_SECONDS, number
        choice = replicas or self._replicas
        while time.monotonic() < end:
            replica = choice[turn % len(choice)]
            turn += 1
            pause = 0.1
            try:
                async with httpx.AsyncClient(base_url=replica.server.base_url, timeout=60) as client:
                    return await ask(client)
            except httpx.TransportError:
                self.statuses[CUT_OFF] += 1
            except Refused as refused:
                pause = min(refused.retry_after, 1.0)
            self.done["tried again"] += 1
            await asyncio.sleep(pause)
        told = "\n".join([*self.mistakes, *(one.server.log[-2000:] for one in choice)])
        raise AssertionError(f"no answer in {PATIENCE_SECONDS:.0f} seconds; what there is to say:\n{told}")

    async def _whole(self, client: httpx.AsyncClient, body: dict[str, Any]) -> str:
        answer = self._check(await client.post("/v1/completions", json=body))
        return str(answer["choices"][0]["text"])

    async def _stream(self, client: httpx.AsyncClient, body: dict[str, Any]) -> str:
        pieces: list[str] = []
        async with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as response:
            if response.status_code != 200:
                await response.aread()
                self._check(response)
            self.statuses[200] += 1
            async for line in response.aiter_lines():
                data = line.removeprefix("data: ")
                if not line.startswith("data: "):
                    continue
                if data == "[DONE]":
                    return "".join(pieces)
                event = json.loads(data)
                if "error" in event:
                    if event["error"]["code"] not in CODES:
                        self._wrong(f"a stream ended with {event}")
                    raise Refused(0.1)
                pieces.append(event["choices"][0]["text"])
        raise httpx.RemoteProtocolError("the stream ended without an end")

    def _check(self, response: httpx.Response) -> Any:
        """The object of an answer; Refused where it is to be asked for again."""
        status = response.status_code
        self.statuses[status] += 1
        if status == 200:
            return response.json()
        error = response.json()["error"]
        retry_after = response.headers.get("retry-after", "")
        is_now_refused = status == 503 and error["code"] in CODES and 1 <= int(retry_after or 0) <= 60
        if not is_now_refused and (status, error["code"]) != TOO_SLOW:  # a server that is frozen is slow, too
            self._wrong(f"{status} with Retry-After {retry_after!r}: {error}")
        raise Refused(float(retry_after or 1))

    # Others -----------------------------------------------------------------------------------------

    async def _other(self, number: int) -> None:
        chance = self._choices(3, number)
        while not self._is_over:
            kind = chance.choice([self._half, self._leaver, self._dripper, self._non_reader, self._nonsense])
            port = chance.choice(self._replicas).server.port
            status = CUT_OFF
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
                status = await asyncio.wait_for(kind(port, chance), 20)
            self.statuses[status] += 1
            if status not in DOCUMENTED | {CUT_OFF}:
                self._wrong(f"{kind.__name__} saw {status}")
            self.done["others"] += 1
            await asyncio.sleep(0.1 * chance.random())

    async def _half(self, port: int, chance: random.Random) -> int:
        """Sends the beginning of a request and is gone."""
        request = post("/v1/completions", self._long_body())
        async with connected(port) as (_, writer):
            writer.write(request[: chance.randrange(len(request))])
        return CUT_OFF

    async def _leaver(self, port: int, chance: random.Random) -> int:
        """Leaves in the middle of a stream."""
        async with connected(port) as (reply, writer):
            writer.write(post("/v1/completions", self._long_body()))
            status = await reply.head()
            for _ in range(chance.randrange(20)):
                await reply.line()
        return status

    async def _dripper(self, port: int, chance: random.Random) -> int:
        """Sends a body drop by drop."""
        body = self._long_body()
        async with connected(port) as (reply, writer):
            writer.write(post("/v1/completions", b"", length=len(body)))
            answer = asyncio.ensure_future(reply.head())
            for byte in body:
                if answer.done():
                    break
                with contextlib.suppress(ConnectionError):
                    writer.write(bytes([byte]))
                await asyncio.sleep(0.1)
            return await answer

    async def _non_reader(self, port: int, chance: random.Random) -> int:
        """Asks for much and takes nothing."""
        async with connected(port) as (reply, writer):
            writer.write(post("/v1/completions", self._long_body()))
            status = await reply.head()
            await asyncio.sleep(2 * chance.random())
        return status

    async def _nonsense(self, port: int, chance: random.Random) -> int:
        """Sends what is no request."""
        body = chance.choice([b"{", b"[]", b"\xff", b'{"prompt": 5}', b"[" * 50_000, b" " * (5 << 20)])
        async with connected(port) as (reply, writer):
            writer.write(post(chance.choice(["/v1/completions", "/v1/nothing"]), body))
            return await reply.head()

    def _long_body(self) -> bytes:
        body = {"prompt": "Once upon a time", "max_tokens": 400, "stream": True, "ignore_eos": True}
        return json.dumps(body).encode()

    # Batches ----------------------------------------------------------------------------------------

    async def _batches(self, replica: Replica, number: int) -> None:
        while not self._is_over:
            await self._batch(replica, number)

    async def _batch(self, replica: Replica, number: int) -> None:
        prompts = [list(self._answers)[index % len(self._answers)] for index in range(BATCH_ITEMS)]
        lines = [
            {
                "custom_id": f"i{index}", "method": "POST", "url": "/v1/completions",
                "body": {"prompt": prompt, "max_tokens": MAX_TOKENS, "temperature": 0, "ignore_eos": True},
            }
            for index, prompt in enumerate(prompts)
        ]  # fmt: skip
        data = "\n".join(map(json.dumps, lines)).encode()

        async def upload(client: httpx.AsyncClient) -> Any:
            files = {"file": ("lines.jsonl", data)}
            return self._check(await client.post("/v1/files", files=files, data={"purpose": "batch"}))

        here = [replica]
        file_id = (await self._insist(upload, number, here))["id"]
        wanted = {"input_file_id": file_id, "endpoint": "/v1/completions", "completion_window": "24h"}

        async def create(client: httpx.AsyncClient) -> Any:
            return self._check(await client.post("/v1/batches", json=wanted))

        batch = await self._insist(create, number, here)
        path, end = f"/v1/batches/{batch['id']}", time.monotonic() + BATCH_SECONDS
        while batch["status"] not in ENDED and time.monotonic() < end:
            await asyncio.sleep(0.3)
            batch = await self._insist(self._get(path), number, here)
        counts = batch["request_counts"]
        if batch["status"] != "completed" or counts["completed"] != BATCH_ITEMS:
            self._wrong(f"an accepted batch is {batch['status']}: {counts}")
            return
        found = await self._insist(
            self._content(f"/v1/files/{batch['output_file_id']}/content"), number, here
        )
        records = [json.loads(line) for line in found.splitlines()]
        texts = {one["custom_id"]: one["response"]["body"]["choices"][0]["text"] for one in records}
        if len(records) != BATCH_ITEMS or texts != {
            f"i{index}": self._answers[prompt] for index, prompt in enumerate(prompts)
        }:
            self._wrong(f"{len(records)} records of {BATCH_ITEMS} items, or other answers")
        self.done["batches"] += 1
        self.done["batch items"] += len(texts)

    def _get(self, path: str) -> Callable[[httpx.AsyncClient], Awaitable[Any]]:
        async def get(client: httpx.AsyncClient) -> Any:
            return self._check(await client.get(path))

        return get

    def _content(self, path: str) -> Callable[[httpx.AsyncClient], Awaitable[str]]:
        async def get(client: httpx.AsyncClient) -> str:
            response = await client.get(path)
            if response.status_code != 200:
                self._check(response)
            return response.text

        return get
