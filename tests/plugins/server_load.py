"""A crowd of clients for a server: good ones, impatient ones, slow ones and wrong ones, mixed by a seed.

    account = asyncio.run(run_load(server, seconds=60, seed=1, answers=answers))

Each worker asks one thing after another over connections of its own, made by hand: some misbehave. What came
back is checked at once, and counted: `Account` says for every kind of request how often which status came.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from served import Server

WORKERS = 24
MAX_TOKENS = 48
PATIENCE_SECONDS = 60
HUNG_UP = 0
"""Stands for the status of a request that its client gave up."""

Answers = Mapping[str, str]
"""Prompt -> the greedy answer of MAX_TOKENS tokens."""


@dataclass
class Account:
    """What the clients did, and what they got."""

    seen: dict[str, Counter[int]] = field(default_factory=dict)
    """Kind of request -> status -> how often."""
    mistakes: list[str] = field(default_factory=list)
    """Answers that were not what they should be; the first ones."""

    def add(self, kind: str, status: int) -> None:
        """Count a request."""
        self.seen.setdefault(kind, Counter())[status] += 1

    def wrong(self, kind: str, what: object) -> None:
        """Remember an answer that should not be."""
        if len(self.mistakes) < 20:
            self.mistakes.append(f"{kind}: {str(what)[:500]}")

    @property
    def total(self) -> int:
        """All requests."""
        return sum(count.total() for count in self.seen.values())

    def times(self, status: int, *kinds: str) -> int:
        """How often a status came, for some kinds or all."""
        return sum(self.seen.get(kind, Counter())[status] for kind in kinds or self.seen)


class Reply:
    """Reads an answer from a connection."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.status = 0
        self.headers: dict[str, str] = {}

    async def head(self) -> int:
        """Read the status and the headers."""
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        pairs = (line.partition(": ") for line in lines[1:] if line)
        self.headers = {name.lower(): value for name, _, value in pairs}
        return self.status

    async def body(self) -> bytes:
        """Read the rest; the connection is closed behind it."""
        data = await self._reader.read(-1)
        if "chunked" in self.headers.get("transfer-encoding", ""):
            whole, rest = b"", data
            while rest:
                size, _, rest = rest.partition(b"\r\n")
                length = int(size, 16)
                whole, rest = whole + rest[:length], rest[length + 2 :]
            return whole
        return data

    async def line(self) -> bytes:
        """Read one line of a stream, chunk headers included; empty at its end."""
        return await self._reader.readline()


def post(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    """The bytes of a request whose connection ends with it."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        "Connection: close",
        f"Content-Length: {len(body) if length is None else length}",
        *(headers or ["Content-Type: application/json"]),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Client:
    """One worker: what it does next is the random generator's choice."""

    def __init__(self, port: int, account: Account, answers: Answers, seed: int) -> None:
        self._port = port
        self._account = account
        self._answers = answers
        self._random = random.Random(seed)
        self._kinds: dict[Callable[[], Awaitable[int]], int] = {
            self.whole: 6, self.stream: 8, self.chat: 4, self.several: 1, self.sampled: 3,
            self.hang_up_in_stream: 5, self.hang_up_at_once: 3, self.hang_up_while_waiting: 2,
            self.malformed: 5, self.unknown: 2, self.oversized: 2, self.too_long: 2,
            self.slow_upload: 1, self.slow_headers: 1, self.slow_reader: 1,
            self.embeddings: 1, self.look: 3,
        }  # fmt: skip

    async def work(self, until: float) -> None:
        """Ask until the time has come."""
        kinds, weights = list(self._kinds), list(self._kinds.values())
        while time.monotonic() < until:
            (kind,) = self._random.choices(kinds, weights)
            name = kind.__name__  # type: ignore[attr-defined]
            try:
                status = await asyncio.wait_for(kind(), PATIENCE_SECONDS)
            except (asyncio.TimeoutError, OSError, asyncio.IncompleteReadError, ValueError) as error:
                self._account.wrong(name, repr(error))
                continue
            self._account.add(name, status)
            if status == 503:
                await asyncio.sleep(0.2)

    # What people do ---------------------------------------------------------------------------------

    async def whole(self) -> int:
        """A completion in one piece, whose text is known."""
        prompt = self._prompt()
        status, body = await self._ask("/v1/completions", self._body(prompt))
        if self._is_answered("whole", status, body):
            choice = json.loads(body)["choices"][0]
            if choice["text"] != self._answers[prompt]:
                self._account.wrong("whole", choice)
        return status

    async def stream(self) -> int:
        """A stream that is read to its end."""
        prompt = self._prompt()
        async with self._connection(post("/v1/completions", self._body(prompt, stream=True))) as (reply, _):
            if await reply.head() != 200:
                self._is_answered("stream", reply.status, await reply.body())
                return reply.status
            text, done = "", False
            while line := await reply.line():
                if line.startswith(b"data: {"):
                    data = json.loads(line[6:])
                    if "error" in data:
                        self._account.wrong("stream", data)
                        return 500
                    text += "".join(choice["text"] for choice in data["choices"])
                done = done or line.startswith(b"data: [DONE]")
        if not done or text != self._answers[prompt]:
            self._account.wrong("stream", (done, prompt, text))
        return 200

    async def chat(self) -> int:
        """A turn of a conversation."""
        messages = [{"role": "user", "content": f"Tell me of number {self._random.randrange(50)}."}]
        body = json.dumps({"messages": messages, "max_tokens": self._tokens(), "seed": 1}).encode()
        status, answer = await self._ask("/v1/chat/completions", body)
        if self._is_answered("chat", status, answer):
            json.loads(answer)["choices"][0]["message"]["content"].encode()
        return status

    async def several(self) -> int:
        """Several answers at once."""
        body = self._body(self._prompt(), n=3, temperature=1.0, max_tokens=8)
        status, answer = await self._ask("/v1/completions", body)
        if self._is_answered("several", status, answer) and len(json.loads(answer)["choices"]) != 3:
            self._account.wrong("several", answer)
        return status

    async def sampled(self) -> int:
        """A new prompt, a few tokens: the prefix cache turns over."""
        prompt = f"{self._random.random()} " * self._random.randrange(1, 12)
        body = self._body(prompt, temperature=1.0, max_tokens=self._tokens())
        status, answer = await self._ask("/v1/completions", body)
        self._is_answered("sampled", status, answer)
        return status

    async def embeddings(self) -> int:
        """Nothing that this model can do: refused as such."""
        status, answer = await self._ask("/v1/embeddings", b'{"input": "a text"}')
        if status not in (200, 400, 404, 501, 503):
            self._account.wrong("embeddings", (status, answer))
        return status

    async def look(self) -> int:
        """What operators ask, which is never refused."""
        path = self._random.choice(["/livez", "/readyz", "/health", "/v1/models", "/metrics", "/"])
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        async with self._connection(request) as (reply, _):
            if await reply.head() != 200:
                self._account.wrong("look", (path, reply.status, await reply.body()))
            await reply.body()
        return reply.status

    # Those who leave --------------------------------------------------------------------------------

    async def hang_up_in_stream(self) -> int:
        """Leaves after some events."""
        body = self._body(self._prompt(), stream=True, max_tokens=400)
        async with self._connection(post("/v1/completions", body)) as (reply, _):
            if await reply.head() != 200:
                return reply.status
            for _ in range(self._random.randrange(1, 30)):
                await reply.line()
        return HUNG_UP

    async def hang_up_at_once(self) -> int:
        """Sends a request, perhaps only in part, and is gone."""
        request = post("/v1/completions", self._body(self._prompt(), max_tokens=400))
        cut = self._random.choice([len(request), len(request), self._random.randrange(len(request))])
        async with self._connection(request[:cut]):
            pass
        return HUNG_UP

    async def hang_up_while_waiting(self) -> int:
        """Waits for a whole answer, but not long enough."""
        request = post("/v1/completions", self._body(self._prompt(), max_tokens=400))
        async with self._connection(request) as (reply, _):
            with contextlib.suppress(asyncio.TimeoutError):
                return await asyncio.wait_for(reply.head(), 0.02 + 0.2 * self._random.random())
        return HUNG_UP

    # Those who are wrong ----------------------------------------------------------------------------

    async def malformed(self) -> int:
        """Bodies that are no requests."""
        body, *headers = self._random.choice(
            [
                (b"{",), (b"",), (b"[]",), (b"\xff\xfe",), (b'{"prompt": 5}',), (b"[" * 100_000,),
                (b'{"prompt": "x", "temperature": "hot"}',), (b'{"prompt": "x", "temperature": NaN}',),
                (b'{"prompt": "x", "max_tokens": -1}',), (b'{"prompt": "\\ud800"}',),
                (b"prompt=x", "Content-Type: application/x-www-form-urlencoded"),
                (b'{"prompt": "x"}', "Content-Type: application/json", "Content-Encoding: gzip"),
            ]
        )  # fmt: skip
        status, answer = await self._ask("/v1/completions", body, *headers)
        if status not in (400, 415, 422) or b"error" not in answer:
            self._account.wrong("malformed", (body[:100], status, answer))
        return status

    async def unknown(self) -> int:
        """Models and routes that are not there."""
        path = self._random.choice(["/v1/completions", "/v1/nothing"])
        status, answer = await self._ask(path, self._body("x", model="no-such-model"))
        if status != 404:
            self._account.wrong("unknown", (path, status, answer))
        return status

    async def oversized(self) -> int:
        """More bytes than are taken, announced or not."""
        announced = self._random.random() < 0.5
        body = b"{" if announced else b" " * (5 << 20)
        async with self._connection(b"") as (reply, writer):
            with contextlib.suppress(ConnectionError):  # it need not read on
                writer.write(post("/v1/completions", body, length=5 << 20))
                await writer.drain()
            try:
                status = await reply.head()
            except (ConnectionError, asyncio.IncompleteReadError):
                return 413  # closed before our bytes were through: the answer was lost on the way
        if status != 413:
            self._account.wrong("oversized", status)
        return status

    async def too_long(self) -> int:
        """A prompt that no context holds."""
        status, answer = await self._ask("/v1/completions", self._body("word " * 2000))
        if status not in (400, 503) or (status == 400 and b"context_length_exceeded" not in answer):
            self._account.wrong("too_long", (status, answer))
        return status

    # Those who are slow -----------------------------------------------------------------------------

    async def slow_upload(self) -> int:
        """A body that comes drop by drop: 408."""
        body = self._body(self._prompt())
        async with self._connection(post("/v1/completions", b"", length=len(body))) as (reply, writer):
            answer = asyncio.ensure_future(reply.head())
            with contextlib.suppress(ConnectionError):
                for byte in body:
                    if answer.done():
                        break
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.15)
            status = await answer
        if status != 408:
            self._account.wrong("slow_upload", status)
        return status

    async def slow_headers(self) -> int:
        """Headers that never end: 408."""
        async with self._connection(b"GET /livez HTTP/1.1\r\nHost: x\r\n") as (reply, writer):
            answer = asyncio.ensure_future(reply.head())
            with contextlib.suppress(ConnectionError):
                while not answer.done():
                    writer.write(b"X: y\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.15)
            status = await answer
        if status != 408:
            self._account.wrong("slow_headers", status)
        return status

    async def slow_reader(self) -> int:
        """Asks for much and reads nothing for a while, then goes."""
        body = self._body(self._prompt(), stream=True, n=4, max_tokens=400)
        async with self._connection(post("/v1/completions", body)) as (reply, _):
            if await reply.head() != 200:
                return reply.status
            await asyncio.sleep(3 * self._random.random())
        return HUNG_UP

    # What they share --------------------------------------------------------------------------------

    def _prompt(self) -> str:
        return self._random.choice(list(self._answers))

    def _tokens(self) -> int:
        return self._random.randrange(1, 40)

    def _body(self, prompt: str, **fields: Any) -> bytes:
        usual = {"prompt": prompt, "max_tokens": MAX_TOKENS, "temperature": 0, "ignore_eos": True}
        return json.dumps({**usual, **fields}).encode()

    def _is_answered(self, kind: str, status: int, body: bytes) -> bool:
        """Whether this is an answer; only a full queue is a reason for none."""
        if status not in (200, 503) or (status == 503 and b"overloaded" not in body):
            self._account.wrong(kind, (status, body))
        return status == 200

    async def _ask(self, path: str, body: bytes, *headers: str) -> tuple[int, bytes]:
        async with self._connection(post(path, body, *headers)) as (reply, _):
            await reply.head()
            return reply.status, await reply.body()

    @contextlib.asynccontextmanager
    async def _connection(self, request: bytes) -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 22)
        try:
            writer.write(request)
            yield Reply(reader), writer
        finally:
            writer.transport.abort()  # what was not read is not waited for


async def run_load(
    server: Server, seconds: float, seed: int, answers: Answers, workers: int = WORKERS
) -> Account:
    """Let the crowd in for a while."""
    account = Account()
    until = time.monotonic() + seconds
    clients = [Client(server.port, account, answers, seed * 1000 + number) for number in range(workers)]
    await asyncio.gather(*(client.work(until) for client in clients))
    return account
