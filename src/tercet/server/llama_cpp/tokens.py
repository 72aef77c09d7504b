"""`POST /tokenize`, `/detokenize` and `/apply-template`: text and token ids, both ways."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from tercet.llm import LLM
from tercet.server.bodies import AnyTypeBody
from tercet.server.chat.requests import message_of
from tercet.server.llama_cpp.bodies import LlamaCppDetokenizeBody, LlamaCppTemplateBody, LlamaCppTokenizeBody
from tercet.server.llama_cpp.errors import LlamaCppRoute, responses
from tercet.server.llama_cpp.prompts import parses_special, token_ids
from tercet.server.llama_cpp.shapes import LlamaCppRenderedPrompt, LlamaCppText, LlamaCppTokenList

__all__ = ["router"]

router = APIRouter(tags=["llama.cpp"], route_class=LlamaCppRoute)


@router.post("/tokenize", response_model=None, responses=responses(LlamaCppTokenList))
async def tokenize(body: AnyTypeBody[LlamaCppTokenizeBody], request: Request) -> dict[str, Any]:
    """The token ids of a text, or of texts and token ids in a row."""
    served = request.app.state.service.pool.get(body.model)
    served.check_length("content", body.content)
    parse_special = parses_special(request, body.parse_special)
    return {"tokens": await asyncio.to_thread(_tokens, served.llm, body, parse_special)}


@router.post("/detokenize", response_model=None, responses=responses(LlamaCppText))
async def detokenize(body: AnyTypeBody[LlamaCppDetokenizeBody], request: Request) -> dict[str, Any]:
    """The text of token ids, control tokens shown by their names."""
    served = request.app.state.service.pool.get(body.model)
    served.check_length("tokens", body.tokens)
    return {"content": await asyncio.to_thread(served.llm.detokenize, body.tokens)}


@router.post("/apply-template", response_model=None, responses=responses(LlamaCppRenderedPrompt))
async def apply_template(body: AnyTypeBody[LlamaCppTemplateBody], request: Request) -> dict[str, Any]:
    """The text that a conversation becomes, with the beginning of the answer."""
    served = request.app.state.service.pool.get(body.model)
    messages = [message_of(message) for message in body.messages]
    served.check_length("messages", [message["content"] for message in messages])
    return {"prompt": await served.chat_text(messages)}


def _tokens(llm: LLM, body: LlamaCppTokenizeBody, parse_special: bool) -> list[Any]:
    parts = [body.content] if isinstance(body.content, str) else body.content
    ids = token_ids(llm, parts, parse_special)
    bos = llm.config.first_token_id
    if body.add_special and bos is not None:
        ids = [bos, *ids]
    if not body.with_pieces:
        return ids
    return [{"id": token_id, "piece": _piece(llm.tokenizer.token_bytes(token_id))} for token_id in ids]


def _piece(data: bytes) -> str | list[int]:
    """Text where the token is some; a token in the middle of a character is its bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)
