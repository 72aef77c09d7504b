"""The body of `POST /v1/completions`: all fields of OpenAI's, and some of vLLM's and llama.cpp's."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from tercet.server.generation.constraints import ConstraintFields
from tercet.server.generation.inputs import Texts, as_list
from tercet.server.generation.refusals import contradiction, refused
from tercet.server.generation.sampling import SamplingFields
from tercet.server.streaming.options import StreamOptions

__all__ = ["CompletionBody"]

DEFAULT_MAX_TOKENS = 16
MOST_ANSWERS = 512


class CompletionBody(SamplingFields, ConstraintFields):
    """Texts to be continued."""

    prompt: Texts
    model: str | None = Field(None, max_length=512)
    """None is the server's first model."""
    max_tokens: int = Field(DEFAULT_MAX_TOKENS, ge=1)
    n: int | None = Field(None, ge=1, le=128)
    best_of: int | None = Field(None, ge=1, le=20)
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    """Accepted, and used for nothing."""
    suffix: Annotated[None, refused("the model continues texts and does not fill gaps")] = None

    @model_validator(mode="after")
    def _goes_together(self) -> CompletionBody:
        n, best_of = self.n or 1, self.best_of or 1
        if self.best_of is not None and best_of < n:
            raise contradiction("best_of", f"is at least n, which is {n}, and not {best_of}")
        if self.stream and best_of > n:
            raise contradiction("best_of", "needs whole answers to choose from, and stream asks for pieces")
        if self.echo and self.logprobs is not None:
            raise contradiction("echo", "gives the prompt without logprobs; leave one of them out")
        if self.num_generations > MOST_ANSWERS:
            raise contradiction("prompt", f"asks, with n or best_of, for more than {MOST_ANSWERS} answers")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """One or several texts, or lists of token ids."""
        return as_list(self.prompt)

    @property
    def candidates(self) -> int:
        """Answers that are generated for each prompt; the n best are given."""
        return max(self.n or 1, self.best_of or 1)

    @property
    def num_generations(self) -> int:
        """Answers that are generated."""
        return len(self.prompts) * self.candidates
