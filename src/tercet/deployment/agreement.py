"""Whether another program says what the model says: its greedy tokens, judged by the reference.

One pass of the reference over prompt and answer gives its logits at every place. An answer is the greedy one
exactly if each of its tokens is the likeliest there. The first that is not is shown with its margin, by how
much the reference's own token is ahead of it: a margin of rounding errors means that two tokens were as good
as tied, a large one that something else is computed.

The reference is the specification in NumPy, for a model that it can run in seconds; otherwise our engine,
which is tested against it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.deployment.prompts import PromptReader
from tercet.deployment.strategy import Generation, GenerationRequest
from tercet.errors import TercetError
from tercet.llm import LLM
from tercet.models.loading import load_model
from tercet.models.registry import resolve
from tercet.reference import ReferenceDecoder

__all__ = ["Agreement", "Reference"]

MOST_PARAMETERS = 100_000_000
"""Of a model that NumPy runs in seconds."""
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """What a comparison with the reference found. Texts of tokens may be parts of characters."""

    compared: int
    """Tokens of the answer that were looked at, the one that ended it included."""
    agreed: int
    """How many agree before the first difference."""
    reference: str
    """Who was right by definition: `NumPy` or `engine`."""
    prompt_differs: bool = False
    """Whether the prompt was read as a different number of tokens."""
    retokenized: bool = False
    """Whether the program told its text alone, so that the tokens are those of that text."""
    expected: str | None = None
    """The token of the reference at the first difference."""
    found: str | None = None
    margin: float | None = None
    """The reference's logit of its own token there, less that of the token that was found."""

    @property
    def complete(self) -> bool:
        """Whether all that was compared agrees."""
        return self.agreed == self.compared and not self.prompt_differs

    def to_dict(self) -> dict[str, Any]:
        """The fields, and whether all agrees."""
        return {**asdict(self), "complete": self.complete}

    def __str__(self) -> str:
        if self.prompt_differs:
            return "it reads the prompt as other tokens"
        if self.complete:
            return f"all {self.compared}"
        return (
            f"{self.agreed} of {self.compared}, then {self.found!r} for {self.expected!r} "
            f"with a margin of {self.margin:.2g}"
        )


class Reference:
    """Judges the greedy answers of other programs to one model's prompts.

    Raises:
        TercetError: the model cannot be loaded, or writes no text.
    """

    def __init__(self, model: str | os.PathLike[str] | None = None) -> None:
        loaded = load_model(resolve(model))
        self._prompts = PromptReader(loaded)
        self._known: tuple[tuple[int, ...], Logits] | None = None
        self._compute: Callable[[list[int]], Logits]
        if loaded.config.num_parameters <= MOST_PARAMETERS:
            self.name = "NumPy"
            self._compute = ReferenceDecoder(loaded.config, loaded.reference_weights).logits
        else:
            self.name = "engine"
            self._compute = LLM(model).logits

    def agreement(self, request: GenerationRequest, answer: Generation) -> Agreement:
        """Compare an answer with the greedy one; at least one token is looked at.

        Raises:
            TercetError: the reference cannot read the prompt.
        """
        prompt = self._prompts.ids(request)
        told = answer.token_ids
        found = list(told) if told is not None else self._prompts.tokenizer.encode(answer.text)
        logits = self._logits(prompt, found)[len(prompt) - 1 :]
        best = logits.argmax(axis=-1)
        same = [bool(token == own) for token, own in zip(found, best, strict=False)]
        ends = answer.finish_reason == "stop"
        if ends:
            same.append(int(best[len(found)]) in self._prompts.stop_ids)
        agreed = same.index(False) if False in same else len(same)
        told_prompt = answer.prompt_tokens
        result = Agreement(
            compared=len(same),
            agreed=agreed,
            reference=self.name,
            # Programs that tell no tokens count in their own way, with a token at the beginning or without.
            prompt_differs=told is not None and told_prompt is not None and told_prompt != len(prompt),
            retokenized=told is None,
        )
        if agreed == len(same):
            return result
        own = int(best[agreed])
        other = found[agreed] if agreed < len(found) else min(self._prompts.stop_ids)
        margin = float(logits[agreed, own] - logits[agreed, other])
        return Agreement(
            **{**asdict(result), "expected": self._text(own), "found": self._text(other), "margin": margin}
        )

    def _logits(self, prompt: list[int], answer: list[int]) -> Logits:
        key = (*prompt, *answer)
        if self._known is None or self._known[0] != key:
            self._known = key, self._compute(list(key))
        return self._known[1]

    def _text(self, token: int) -> str:
        try:
            return self._prompts.tokenizer.decode([token], skip_special=False)
        except TercetError:
            return f"token {token}"
