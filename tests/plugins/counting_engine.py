"""An engine without a model: a runner that is pure arithmetic on positions, and requests for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tercet.engine.adapters import ChosenAdapter
from tercet.engine.engine import Engine, Logits
from tercet.engine.plan import Chunk
from tercet.engine.request import Request
from tercet.engine.text_output import TextOutput
from tercet.sampling.params import SamplingParams

BLOCK_TOKENS = 4
VOCAB = 1000


class CountingRunner:
    """The next token is the sum of all tokens so far, modulo 1000; records what it was asked to do.

    Like a real cache it knows only the tokens that it was fed, by block, so a wrong position or block shows.
    """

    def __init__(self, fail_on: int | None = None) -> None:
        self.memory: dict[tuple[int, int], int] = {}
        self.steps: list[list[int]] = []
        self.fail_on = fail_on

    def _feed(self, tokens: Sequence[int], begin: int, blocks: Sequence[int]) -> list[int]:
        for position, token in enumerate(tokens, begin):
            self.memory[blocks[position // BLOCK_TOKENS], position % BLOCK_TOKENS] = token
        known = [
            self.memory[blocks[position // BLOCK_TOKENS], position % BLOCK_TOKENS]
            for position in range(begin + len(tokens))
        ]
        return [sum(known[: end + 1]) % VOCAB for end in range(begin, begin + len(tokens))]

    def run(self, chunks: Sequence[Chunk]) -> Logits:
        self.steps.append([chunk.num_tokens for chunk in chunks])
        rows = []
        for chunk in chunks:
            request = chunk.request
            if self.fail_on in request.prompt_ids:
                raise MemoryError("no")
            sums = self._feed(
                request.tokens(request.num_cached, chunk.num_tokens), request.num_cached, request.blocks
            )
            rows += [[float(value)] for value in sums[len(sums) - chunk.num_drawn :]]
        return np.array(rows, np.float32).reshape(len(rows), 1)

    def score(
        self,
        sequences: Sequence[Sequence[int]],
        num_cached: Sequence[int],
        blocks: Sequence[Sequence[int]],
        num_scored: Sequence[int],
        adapters: Sequence[ChosenAdapter] = (),
    ) -> Logits:
        self.steps.append([len(ids) for ids in sequences])
        rows: list[int] = []
        for ids, begin, owned, count in zip(sequences, num_cached, blocks, num_scored, strict=True):
            rows += self._feed(ids, begin, owned)[len(ids) - count :]
        return np.array(rows, np.float32).reshape(len(rows), 1)

    def sample(self, logits: Logits, request: Request) -> int:
        return int(logits[0])


class Digits:
    """Each token's text is its number and a space."""

    def push(self, token_id: int) -> str:
        return f"{token_id} "

    def finish(self) -> str:
        return ""


def make_request(
    prompt: list[int], max_tokens: int = 5, stop: tuple[str, ...] = (), eos: int = -1
) -> Request:
    return Request(
        prompt,
        SamplingParams(max_tokens=max_tokens, stop=stop, seed=1),
        max_tokens,
        frozenset([eos]),
        TextOutput(Digits(), stop),
    )


def expected(prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(sum(tokens) % VOCAB)
    return tokens[len(prompt) :]


def finish(engine: Engine, *requests: Request) -> None:
    for request in requests:
        while not request.finished:
            engine.advance(request)
