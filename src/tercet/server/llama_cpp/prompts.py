"""The shapes that a prompt of llama.cpp may have, as lists of token ids.

"text"                                one prompt: the begin token is put before it
[1, 2, 3]                             one prompt, taken as it is
[1, "text", 2] or ["text", 1]         one prompt; with text first, the begin token is put before it
{"prompt_string": "text"}             one prompt
["text", "text"], [[1, 2], "text"]    several
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from tercet.errors import ParameterError
from tercet.llm import LLM
from tercet.server.errors import ApiError
from tercet.server.llama_cpp.bodies import LlamaCppPromptObject

__all__ = ["is_several", "parses_special", "prompt_ids", "prompts", "token_ids"]


def parses_special(request: Request, asked: bool | None = None) -> bool:
    """Whether the texts of control tokens in a prompt are control tokens.

    llama.cpp's scripts rely on it. Where strangers come (the profile `strict`), a prompt may hold their text,
    so there it must be asked for.
    """
    return request.app.state.security.profile != "strict" if asked is None else asked


def is_several(prompt: Any) -> bool:
    """Whether a prompt is a list of prompts: its answer is then a list, too."""
    if not isinstance(prompt, list):
        return False
    return not any(isinstance(one, int) for one in prompt)


def prompts(prompt: Any) -> list[Any]:
    """The single prompts of one that may be several.

    Raises:
        ApiError: there is none.
    """
    several = prompt if is_several(prompt) else [prompt]
    if not several:
        raise ApiError(400, "prompt is an empty list", param="prompt", code="invalid_value")
    return several


def prompt_ids(llm: LLM, prompt: Any, parse_special: bool) -> list[int]:
    """The token ids of a single prompt.

    Raises:
        ParameterError: it has no tokens, or one that the vocabulary lacks.
    """
    if isinstance(prompt, LlamaCppPromptObject):
        prompt = prompt.prompt_string
    parts = [prompt] if isinstance(prompt, str) else list(prompt)
    ids = token_ids(llm, parts, parse_special)
    bos = llm.config.first_token_id
    begins_with_text = bool(parts) and isinstance(parts[0], str)
    if begins_with_text and bos is not None and ids[:1] != [bos]:  # a template may have written it
        ids = [bos, *ids]
    if not ids:
        raise ParameterError("the prompt has no tokens")
    return ids


def token_ids(llm: LLM, parts: Sequence[str | int], parse_special: bool) -> list[int]:
    """The token ids of texts and token ids in a row; nothing is added."""
    ids: list[int] = []
    for part in parts:
        if isinstance(part, str):
            ids += llm.tokenizer.encode(part, allow_special=parse_special)
        elif part >= llm.config.vocab_size:
            raise ParameterError(
                f"token {part} is not in the vocabulary, which has ids 0 to {llm.config.vocab_size - 1}"
            )
        else:
            ids.append(part)
    return ids
