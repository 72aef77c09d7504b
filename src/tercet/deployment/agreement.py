"""Whether another program says what the model says: its greedy tokens, judged by the reference.

One pass of the reference over prompt and answer gives its logits at every place. An answer is the greedy one
exactly if each of its tokens is the likeliest there. The first that is not is shown with its margin, by how
much the reference's own token is ahead of it: a margin of rounding errors means that two tokens were as good
as tied, a large one that something else is computed.

A program that tells no tokens is judged by its text, beside the greedy text. That is found by our engine,
which proposes all its tokens at once, and the reference, which has the last word on each.

The reference is the specification in NumPy, for a model that it can run in seconds; otherwise our engine,
which is tested against it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
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
from tercet.sampling.params import SamplingParams

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
    of_text: bool = False
    """Whether the program told its text alone, so that the texts were compared."""
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
        self._llm = LLM(model)
        self._known: tuple[tuple[int, ...], Logits] | None = None
        self._compute: Callable[[list[int]], Logits]
        if loaded.config.num_parameters <= MOST_PARAMETERS:
            self.name = "NumPy"
            self._compute = ReferenceDecoder(loaded.config, loaded.reference_weights).logits
        else:
            self.name = "engine"
            self._compute = self._llm.logits

    def agreement(self, request: GenerationRequest, answer: Generation) -> Agreement:
        """Compare an answer with the greedy one; at least one token is looked at.

        Raises:
            TercetError: the reference cannot read the prompt.
        """
        prompt = self._prompts.ids(request)
        if answer.token_ids is None:
            return self._agreement_of_text(prompt, answer)
        found = list(answer.token_ids)
        logits = self._logits(prompt, found)
        best = logits.argmax(axis=-1)
        same = [bool(token == own) for token, own in zip(found, best, strict=False)]
        if answer.finish_reason == "stop":
            same.append(int(best[len(found)]) in self._prompts.stop_ids)
        agreed = same.index(False) if False in same else len(same)
        differs = answer.prompt_tokens is not None and answer.prompt_tokens != len(prompt)
        result = Agreement(len(same), agreed, self.name, prompt_differs=differs)
        if agreed == len(same):
            return result
        other = found[agreed] if agreed < len(found) else min(self._prompts.stop_ids)
        return self._with_difference(result, logits[agreed], int(best[agreed]), other)

    def _agreement_of_text(self, prompt: list[int], answer: Generation) -> Agreement:
        """Compare texts, but for the spaces around them, which some programs take off."""
        tokenizer, told = self._prompts.tokenizer, answer.text.strip()
        greedy = self._greedy(prompt, max(answer.generated_tokens or len(tokenizer.encode(told)), 1))
        texts = [tokenizer.decode(greedy[:count]).lstrip() for count in range(len(greedy) + 1)]
        agreed = max(count for count, text in enumerate(texts) if told.startswith(text.rstrip()))
        if agreed == len(greedy) or texts[-1].startswith(told):  # one may end earlier
            return Agreement(agreed, agreed, self.name, of_text=True)
        result = Agreement(len(greedy), agreed, self.name, of_text=True)
        beyond = answer.text.lstrip()[len(texts[agreed]) :]
        other = (tokenizer.encode(beyond) or [min(self._prompts.stop_ids, default=0)])[0]
        return self._with_difference(result, self._logits(prompt, greedy)[agreed], greedy[agreed], other)

    def _with_difference(self, result: Agreement, logits: Logits, own: int, other: int) -> Agreement:
        margin = float(logits[own] - logits[other])
        return replace(result, expected=self._text(own), found=self._text(other), margin=margin)

    def _greedy(self, prompt: list[int], count: int) -> list[int]:
        """Return the greedy answer of so many tokens, or fewer if it ends before."""
        answer: list[int] = []
        while len(answer) < count:
            proposed = self._llm.generate(
                [*prompt, *answer],
                SamplingParams(
                    temperature=0, repetition_penalty=1, max_tokens=count - len(answer), ignore_eos=True
                ),
            ).token_ids
            best = self._logits(prompt, [*answer, *proposed])[len(answer) :].argmax(axis=-1).tolist()
            for token, own in zip(proposed, best, strict=False):
                if own in self._prompts.stop_ids:
                    return answer
                answer.append(own)
                if token != own:
                    break
        return answer

    def _logits(self, prompt: list[int], answer: list[int]) -> Logits:
        """Return the logits of each token of an answer, and of the one behind it."""
        key = (*prompt, *answer)
        if self._known is None or self._known[0] != key:
            self._known = key, self._compute(list(key))
        return self._known[1][len(prompt) - 1 :]

    def _text(self, token: int) -> str:
        try:
            return self._prompts.tokenizer.decode([token], skip_special=False)
        except TercetError:
            return f"token {token}"
