"""One of the two servers of `chaos`: it ends in every way there is and begins again; how it is met."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from served import Server
from server_load import Reply

OPTIONS = (
    *("--max-queued", "8", "--max-concurrent", "8", "--drain", "2"),
    *("--header-timeout", "2", "--upload-timeout", "2", "--write-timeout", "3"),
)
FAULTS = "from tercet.engine.mock import Faults, inject; inject(Faults(die_every={}))"
USUAL_START_SECONDS = 2.5


class Replica:
    """One server, begun again whenever it has ended."""

    def __init__(self, folder: Path, seed: int, lives: tuple[int, int]) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._lives = lives
        self._server: Server | None = None
        self.in_hand = asyncio.Lock()
        """Held by whoever does something to it."""
        self.slowness = 1.0
        """How many times slower it starts than alone on its machine; it is left in peace as much longer."""

    @property
    def server(self) -> Server:
        """The process, or the latest one."""
        assert self._server is not None
        return self._server

    async def start(self) -> None:
        """Begin, with an engine that will die."""
        fault = FAULTS.format(self._random.randrange(*self._lives))
        begin = lambda: Server("--batch-dir", self._folder, *OPTIONS, first=fault)  # noqa: E731
        began = time.monotonic()
        self._server = await asyncio.to_thread(begin)
        self.slowness = max((time.monotonic() - began) / USUAL_START_SECONDS, 1.0)

    async def end(self, sign: int, status: int) -> None:
        """End the process, which must come with this exit status."""
        self.server.process.send_signal(sign)
        await asyncio.to_thread(self.server.wait, status)


@contextlib.asynccontextmanager
async def connected(port: int) -> Any:
    """A reader of answers and a writer, over a connection of one's own that ends when the block does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        yield Reply(reader), writer
    finally:
        writer.transport.abort()


class Refused(Exception):  # noqa: N818
    """Not now."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


def shuffled_again_and_again(kinds: list[str], chance: random.Random) -> Iterator[str]:
    """Each kind once in every round, so that a short play has them all."""
    while True:
        chance.shuffle(kinds)
        yield from kinds
