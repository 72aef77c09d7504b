"""A runner without a model, with faults on demand: for tests of what happens around an engine when it fails.

    runner = MockRunner(faults=Faults(hang_at_step=3))
    engine = Engine(runner, KvBlockPool(64, 16))
    ...                                     # the third step does not return
    runner.release.set()                    # now it does

It stands where `tercet.engine.runner.Runner` stands and computes the next token from the tokens so far, so
that what an engine does around it (batches, preemption, prefixes) can be checked to the token. Given another
runner it lets that one compute, and adds the faults: a real model that becomes slow, fails, hangs or runs out
of memory. Nothing in the product makes one: it is for tests, ours and those of programs built on the engine.
To put faults into a server that is a process of its own, run `inject(Faults(...))` in it before it opens its
model; every model that is opened afterwards has them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tercet.engine import opening
from tercet.engine.adapters import ChosenAdapter
from tercet.engine.devices import StepCache, StepDecoder
from tercet.engine.engine import Logits, StepRunner
from tercet.engine.plan import Chunk
from tercet.engine.request import Request
from tercet.engine.runner import Runner
from tercet.formats.mapped_file import MappedFile
from tercet.kernels.sampling import sample

__all__ = ["EngineDeath", "Faults", "MockRunner", "inject"]

STATE_SIZE = 8
"""Length of the vectors that `embed` makes."""
LIKELY = 20.0
"""Logit of the likeliest token; the others have 0, so that even temperature 1 hardly ever draws one."""


class EngineDeath(BaseException):
    """Ends the thread of an engine: no `except Exception` stops it, like a failure of the interpreter."""


@dataclass(frozen=True)
class Faults:
    """What goes wrong. Steps count from 1, and a step is every call that computes."""

    delay_seconds: float = 0.0
    """How long each step takes at least."""
    crash_at_step: int | None = None
    """This step raises RuntimeError: its requests fail, the engine goes on."""
    out_of_memory_at_step: int | None = None
    """This step raises MemoryError: the same."""
    hang_at_step: int | None = None
    """This step does not return until `MockRunner.release` is set."""
    die_at_step: int | None = None
    """This step ends the engine's thread (`EngineDeath`)."""
    die_from_step: int | None = None
    """So does every step from this one on."""
    die_every: int | None = None
    """So does every step whose number this divides."""
    nan_at_step: int | None = None
    """The first row of logits of this step is NaN: its request fails, the others go on."""


class MockRunner:
    """Computes tokens by arithmetic, or lets another runner compute, with faults.

    Args:
        runner: what computes; None for arithmetic alone.
        faults: what goes wrong.
        vocab_size: tokens that there are, for arithmetic.

    `num_steps` counts the calls that computed or failed; `release` ends a hang, and all later ones.
    """

    def __init__(
        self, runner: StepRunner | None = None, faults: Faults | None = None, vocab_size: int = 256
    ) -> None:
        self.faults = faults or Faults()
        self.vocab_size = vocab_size
        self.num_steps = 0
        self.release = threading.Event()
        self._runner = runner

    def next_token(self, token_ids: Sequence[int]) -> int:
        """The token that arithmetic puts behind these."""
        return (sum(token_ids) + 7 * len(token_ids)) % self.vocab_size

    def run(self, chunks: Sequence[Chunk]) -> Logits:
        """Logits [rows, vocab] after the last `num_drawn` tokens of each chunk."""
        logits = self._run(chunks)
        if self.num_steps == self.faults.nan_at_step and len(logits):
            logits = np.concatenate([np.full_like(logits[:1], np.nan), logits[1:]])
        return logits

    def _run(self, chunks: Sequence[Chunk]) -> Logits:
        self._begin_step()
        if self._runner is not None:
            return self._runner.run(chunks)
        rows = []
        for chunk in chunks:
            end = chunk.request.num_cached + chunk.num_tokens
            for length in range(end - chunk.num_drawn + 1, end + 1):
                rows.append(self._logits(chunk.request.tokens(0, length)))
        return np.array(rows, np.float32).reshape(len(rows), self.vocab_size)

    def score(
        self,
        sequences: Sequence[Sequence[int]],
        num_cached: Sequence[int],
        blocks: Sequence[Sequence[int]],
        num_scored: Sequence[int],
        adapters: Sequence[ChosenAdapter] = (),
    ) -> Logits:
        """Logits [rows, vocab] after the last tokens of each sequence; arithmetic forgets those before."""
        self._begin_step()
        if self._runner is not None:
            return self._runner.score(sequences, num_cached, blocks, num_scored, adapters)
        rows = [
            self._logits(ids[: end + 1])
            for ids, count in zip(sequences, num_scored, strict=True)
            for end in range(len(ids) - count, len(ids))
        ]
        return np.array(rows, np.float32).reshape(len(rows), self.vocab_size)

    def embed(
        self, sequences: Sequence[Sequence[int]], blocks: Sequence[Sequence[int]], step_tokens: int
    ) -> Logits:
        """A vector of length 1 for each sequence, in the direction that its next token gives."""
        self._begin_step()
        if self._runner is not None:
            return self._runner.embed(sequences, blocks, step_tokens)
        directions = [self.next_token(ids) % STATE_SIZE for ids in sequences]
        return np.eye(STATE_SIZE, dtype=np.float32)[directions]

    def sample(self, logits: Logits, request: Request) -> int:
        """Draw the next token of a request."""
        if self._runner is not None:
            return self._runner.sample(logits, request)
        params = request.params
        return sample(
            logits, temperature=params.temperature, seed=params.seed or 0, step=len(request.generated_ids)
        )

    def _logits(self, token_ids: Sequence[int]) -> Logits:
        row = np.zeros(self.vocab_size, np.float32)
        row[self.next_token(token_ids)] = LIKELY
        return row

    def _begin_step(self) -> None:
        self.num_steps += 1
        faults = self.faults
        if faults.delay_seconds:
            time.sleep(faults.delay_seconds)
        if self.num_steps == faults.hang_at_step:
            self.release.wait()
        if self.num_steps == faults.crash_at_step:
            raise RuntimeError(f"mock: step {self.num_steps} crashes")
        if self.num_steps == faults.out_of_memory_at_step:
            raise MemoryError(f"mock: no memory for step {self.num_steps}")
        if (
            self.num_steps == faults.die_at_step
            or (faults.die_from_step is not None and self.num_steps >= faults.die_from_step)
            or (faults.die_every is not None and self.num_steps % faults.die_every == 0)
        ):
            raise EngineDeath(f"mock: the engine dies in step {self.num_steps}")


def inject(faults: Faults) -> None:
    """Give these faults to every model that this process opens from now on."""

    def faulty(decoder: StepDecoder, cache: StepCache, files: Sequence[MappedFile] = ()) -> MockRunner:
        return MockRunner(Runner(decoder, cache, files), faults)

    vars(opening)["Runner"] = faulty
