"""Guessing the next tokens, so that one pass over the weights may give several.

A step that reads all weights for one token of a sequence could as well check some guesses at what follows
it: the logits after each come out of the same pass. Somebody *proposes* (`prompt_lookup`, `draft`), the
engine *checks*: it draws the token after every guess as it would have without it, from the same logits and
with the random number that belongs to that place in the answer, and goes on while guess and token agree.

So a request's tokens are the ones that it would have without speculation: greedy or sampled, with penalties
and every filter, for any seed. That is stronger than the rule of "Fast Inference from Transformers via
Speculative Decoding" (Leviathan et al. 2023), which keeps the distribution of tokens but not the tokens, and
which makes them depend on what was proposed and hence on who shared the step. For guesses that are certain,
as those of a look-up, both accept equally often: with probability p(guess). For a draft model, which draws
with the same random numbers, agreement is rarer than there (docs/concepts/determinism.md has figures): the
price of an answer that its seed alone decides.

How many tokens are proposed follows what came of it (`Pace`): more after a row that was right to its end,
fewer after one that was wrong from its beginning, and for a while none when that repeats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tercet.engine.request import Request

__all__ = ["Pace", "Proposer", "Speculation"]

MOST_TOKENS = 8
"""Most guesses for one request in a step."""
MOST_STEP_TOKENS = 16
"""Most guesses in a step: beyond, arithmetic costs more than the reading of weights that it saves."""
LONGEST_PAUSE = 64


class Proposer(Protocol):
    """Who guesses."""

    def propose(self, requests: Sequence[Request], counts: Sequence[int]) -> list[list[int]]:
        """At most `counts[i]` tokens, at least 1, that may follow those of each request."""

    def forget(self, request: Request) -> None:
        """The request has ended or rests, whether or not anything was ever proposed for it."""


@dataclass
class Pace:
    """How many tokens to propose next, by what came of the last ones. Depends on nothing else."""

    length: int = 2
    pause: int = 0
    num_misses: int = 0

    def next_length(self) -> int:
        """Tokens to propose in this step, 0 in a pause."""
        if self.pause:
            self.pause -= 1
            return 0
        return self.length

    def checked(self, num_proposed: int, num_accepted: int) -> None:
        """Learn from a row: the pauses double as long as nothing is right."""
        if num_accepted == num_proposed:
            self.length, self.num_misses = min(2 * self.length, MOST_TOKENS), 0
        elif num_accepted:
            self.length, self.num_misses = num_accepted + 1, 0
        else:
            self.length, self.num_misses = max(self.length // 2, 1), self.num_misses + 1
            self.pause = min(2**self.num_misses, LONGEST_PAUSE) if self.num_misses > 1 else 0


class Speculation:
    """A proposer, and a pace for each request."""

    def __init__(self, proposer: Proposer) -> None:
        self.proposer = proposer
        self._paces: dict[Request, Pace] = {}

    def propose(self, requests: Sequence[Request]) -> None:
        """Set `proposed_ids` of requests that are generating."""
        share = MOST_STEP_TOKENS // max(len(requests), 1)
        asked, counts = [], []
        for request in requests:
            request.proposed_ids = []
            room = request.max_new_tokens - len(request.generated_ids) - 1  # the step draws one token more
            count = min(self._paces.setdefault(request, Pace()).next_length(), room, share)
            if count > 0:
                asked.append(request)
                counts.append(count)
        for request, ids in zip(asked, self.proposer.propose(asked, counts) if asked else (), strict=True):
            request.proposed_ids = ids

    def checked(self, request: Request, num_proposed: int, num_accepted: int) -> None:
        """Learn how many of the guesses of a request were right."""
        self._paces[request].checked(num_proposed, num_accepted)

    def released(self, request: Request) -> None:
        """The request has ended, or waits again and has lost its memory."""
        if request.finished:
            self._paces.pop(request, None)
        self.proposer.forget(request)
