"""What one generation gave and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from tercet.engine.request import Request
from tercet.sampling.logprobs import TokenLogprobs
from tercet.sampling.params import SamplingParams


@dataclass(frozen=True)
class GenerationResult:
    """A finished generation.

    `token_ids` are the tokens that the model generated, without the end-of-text token that ended them;
    `text` ends before a stop string, `token_ids` after the token that completed it. `finish_reason` is
    "stop" (end-of-text token or stop string), "length" (`max_tokens` or the context is used up) or
    "cancelled". Times are wall-clock seconds from the moment the request was submitted; `tokens_per_second`
    is `generated_tokens / generation_time_seconds`. `cached_tokens` of the prompt were not computed, since an
    earlier request had begun with them (`cache_hit`). `logprobs` are there where they were asked for, one for
    each token. `response_cached` says that a service remembered the whole response. `metadata` says more: the
    seed and sampling in force, what stopped the text, the speed of reading the prompt (of what was computed
    of it) and of generating apart, and where tokens were guessed, how many, and how many of the guesses
    were right.
    """

    text: str
    token_ids: list[int]
    finish_reason: str
    prompt_tokens: int
    generated_tokens: int
    generation_time_seconds: float
    time_to_first_token_seconds: float
    tokens_per_second: float
    cache_hit: bool = False
    cached_tokens: int = 0
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    response_cached: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return asdict(self)


def result_of(request: Request, metadata: Mapping[str, Any]) -> GenerationResult:
    """Sum up a finished request; `metadata` is added to what the request itself knows."""
    finished = request.finished_at or request.submitted_at
    first = request.first_token_at or finished
    total, to_first = finished - request.submitted_at, first - request.submitted_at
    generated = len(request.generated_ids)
    stop_string = request.output.stop_string if request.output else None
    return GenerationResult(
        text=request.output.text if request.output else "",
        token_ids=list(request.generated_ids),
        finish_reason=request.finish_reason or "cancelled",
        prompt_tokens=len(request.prompt_ids),
        generated_tokens=generated,
        generation_time_seconds=total,
        time_to_first_token_seconds=to_first,
        tokens_per_second=_rate(generated, total),
        cache_hit=request.num_reused > 0,
        cached_tokens=request.num_reused,
        logprobs=list(request.logprobs),
        metadata={
            "seed": request.params.seed,
            "sampling": _sampling(request.params),
            "stop_token_id": request.stop_id,
            "stop_string": stop_string,
            "prompt_tokens_per_second": _rate(len(request.prompt_ids) - request.num_reused, to_first),
            # The first token comes out of the prompt's own pass: the others are what generating costs.
            "decode_tokens_per_second": _rate(generated - 1, total - to_first),
            "speculation": _speculation(request),
            **metadata,
        },
    )


def _speculation(request: Request) -> dict[str, float] | None:
    """What guessing tokens has given; None where none was guessed."""
    if not request.num_proposed:
        return None
    return {
        "proposed_tokens": request.num_proposed,
        "accepted_tokens": request.num_accepted,
        "acceptance": request.num_accepted / request.num_proposed,
        "steps": request.num_draws,
        "tokens_per_step": (request.num_draws + request.num_accepted) / request.num_draws,
    }


def _sampling(params: SamplingParams) -> dict[str, Any]:
    """What was in force, after the model's own settings and the caller's."""
    values = {field.name: getattr(params, field.name) for field in fields(params) if field.init}
    return {**values, "stop": list(params.stop)}


def _rate(count: int, seconds: float) -> float:
    return count / seconds if count > 0 and seconds > 0 else 0.0
