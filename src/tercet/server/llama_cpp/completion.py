"""`POST /completion` and `/completions`: raw prompts, as llama.cpp's scripts send them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tercet.engine.result import GenerationResult
from tercet.server.bodies import AnyTypeBody
from tercet.server.generation.choices import Choices
from tercet.server.llama_cpp import answers
from tercet.server.llama_cpp.adapters import adapter_weights
from tercet.server.llama_cpp.bodies import LlamaCppCompletionBody
from tercet.server.llama_cpp.errors import LlamaCppRoute, llama_cpp_error, responses
from tercet.server.llama_cpp.prompts import is_several, parses_special, prompt_ids, prompts
from tercet.server.llama_cpp.sampling import constraint, most_tokens, sampling_params
from tercet.server.llama_cpp.shapes import LlamaCppCompletion
from tercet.server.streaming.events import event
from tercet.server.streaming.response import EventStream
from tercet.service.request import GenerationRequest
from tercet.service.served_model import ServedModel

__all__ = ["router"]

router = APIRouter(tags=["llama.cpp"], route_class=LlamaCppRoute)


@router.post("/completion", responses=responses(LlamaCppCompletion | list[LlamaCppCompletion]))
@router.post("/completions", include_in_schema=False)
async def complete(body: AnyTypeBody[LlamaCppCompletionBody], request: Request) -> Response:
    """Continue one prompt or several, whole or piece by piece."""
    service = request.app.state.service
    served = service.pool.get(body.model)
    special = parses_special(request, body.parse_special)
    requests = await asyncio.to_thread(_requests, body, served, request.state.request_id, special)
    choices = await Choices.submit(service, requests)
    answer = _Answer(body, served, requests)
    if body.stream:
        return EventStream(
            answer.stream(choices),
            headers=choices.headers,
            failed=lambda error: event(llama_cpp_error(error)[1]),
        )
    whole = [answer.whole(*one) for one in enumerate(await choices.results())]
    is_list = is_several(body.prompt) or (body.n_cmpl or 1) > 1
    return JSONResponse(whole if is_list else whole[0], headers=choices.headers)


def _requests(
    body: LlamaCppCompletionBody, served: ServedModel, request_id: str, parse_special: bool
) -> list[GenerationRequest]:
    """A request for each prompt and each answer to it."""
    wanted = constraint(body)
    keeps_nothing = body.cache_prompt is False
    return [
        GenerationRequest(
            id=request_id,
            prompt=ids,
            params=sampling_params(body, served.llm, index),
            constraint=wanted,
            adapters=None if body.lora is None else adapter_weights(body.lora, served.llm),
            priority=body.priority or 0,
            cache_salt=secrets.token_bytes(16) if keeps_nothing else b"",
            use_cache=not keeps_nothing,
            stream=bool(body.stream),
            model=body.model,
        )
        for ids in (prompt_ids(served.llm, prompt, parse_special) for prompt in prompts(body.prompt))
        for index in range(body.n_cmpl or 1)
    ]


@dataclass(frozen=True)
class _Answer:
    """From what was generated to what llama.cpp writes."""

    body: LlamaCppCompletionBody
    served: ServedModel
    requests: Sequence[GenerationRequest]

    def whole(self, index: int, result: GenerationResult) -> dict[str, Any]:
        """The answer in one object."""
        tokens = result.token_ids if self.body.return_tokens else []
        answer = self._final(index, result, self._shown(result.text), tokens)
        if self.body.n_probs:
            answer["completion_probabilities"] = answers.probabilities(
                self.served.llm.tokenizer, result.logprobs
            )
        return answers.picked(answer, self.body.response_fields)

    async def stream(self, choices: Choices) -> AsyncGenerator[bytes, None]:
        """The answer in pieces; the last one of each prompt has the figures and no text."""
        num_predicted = [0] * len(choices.generations)
        events = choices.events()
        try:
            async for index, item in events:
                if isinstance(item, GenerationResult):
                    last = self._final(index, item, "", [])
                    yield event(answers.picked(last, self.body.response_fields))
                elif most_tokens(self.body):
                    num_predicted[index] += len(item.token_ids)
                    generation = choices.generations[index]
                    piece: dict[str, Any] = answers.partial(
                        index, item.text, item.token_ids, num_predicted[index], generation.prompt_tokens
                    )
                    if self.body.timings_per_token:
                        piece["timings"] = answers.timings(generation.summary)
                    if self.body.n_probs:
                        piece["completion_probabilities"] = answers.probabilities(
                            self.served.llm.tokenizer, item.logprobs
                        )
                    yield event(piece)
        finally:
            await events.aclose()

    def _final(self, index: int, result: GenerationResult, content: str, tokens: list[int]) -> dict[str, Any]:
        prompt = self.served.llm.detokenize(cast(list[int], self.requests[index].prompt))
        answer = answers.final(
            index, result, prompt=prompt, settings=self._settings(result), content=content, tokens=tokens
        )
        if not most_tokens(self.body):  # only the prompt was to be read
            answer |= {"tokens_predicted": 0, "has_new_line": False, "tokens": []}
        return answer

    def _shown(self, text: str) -> str:
        return text if most_tokens(self.body) else ""

    def _settings(self, result: GenerationResult) -> Mapping[str, Any]:
        settings = answers.generation_settings(result.metadata["sampling"], self.served.llm.max_context)
        asked = self.body
        return {
            **settings,
            "n_predict": -1 if asked.n_predict is None else asked.n_predict,
            "stream": bool(asked.stream),
            "grammar": asked.grammar or "",
            "n_probs": asked.n_probs or 0,
        }
