"""The native routes of llama.cpp's server, so that scripts written for it work against this one.

    bodies       requests, with the fields that llama.cpp has
    prompts      the shapes of a prompt: text, token ids, both mixed, several
    sampling     its sampling fields as `SamplingParams`; what we do not do is refused by its name
    answers      its response objects, with timings
    completion   /completion, /completions
    tokens       /tokenize, /detokenize, /apply-template
    embeddings   /embedding, /embeddings
    state        /props, /slots
    adapters     /lora-adapters
    refusals     /infill and others that we do not have
    errors       its error objects: the code is the status, a number

Its prompts are raw: unlike those of the OpenAI routes they may spell control tokens, because that is what
scripts do with the text that /apply-template gives them. Who puts text of others into such a prompt sends
`"parse_special": false` with it; in the profile `strict` that is the default.
"""

from __future__ import annotations

from fastapi import APIRouter

from tercet.server.llama_cpp.adapters import router as adapters
from tercet.server.llama_cpp.completion import router as completion
from tercet.server.llama_cpp.embeddings import router as embeddings
from tercet.server.llama_cpp.refusals import router as refusals
from tercet.server.llama_cpp.state import router as state
from tercet.server.llama_cpp.tokens import router as tokens

__all__ = ["router"]

router = APIRouter()
for _part in (completion, tokens, embeddings, state, adapters, refusals):
    router.include_router(_part)
