"""From the text of a task to the token ids that the model reads.

As lm-eval does it for a causal model: context and continuation are tokenized together and cut apart at the
length of the context alone; spaces at the end of a context belong to the continuation; the model's
begin-of-text token comes first; what is longer than the context loses its beginning.
"""

from __future__ import annotations

from tercet.errors import UnsupportedModelError
from tercet.llm import LLM

__all__ = ["encode", "encode_pair", "fit_pair", "fit_prompt", "prefix_token"]


def prefix_token(llm: LLM) -> int:
    """What stands before a text that has nothing before it: the token that begins texts, or ends them."""
    if llm.config.first_token_id is not None:
        return llm.config.first_token_id
    if llm.config.eos_token_ids:
        return llm.config.eos_token_ids[0]
    raise UnsupportedModelError(f"{llm.path} names no token that begins or ends texts, which this task needs")


def encode(llm: LLM, text: str) -> list[int]:
    """Token ids of a text, behind the token that begins texts where the model has one."""
    ids = llm.tokenize(text)
    return ids if llm.config.first_token_id is None else [llm.config.first_token_id, *ids]


def encode_pair(llm: LLM, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Token ids of a context, and of what follows it."""
    if not context:
        return [prefix_token(llm)], llm.tokenize(continuation)
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    before = encode(llm, stripped)
    return before, encode(llm, stripped + continuation)[len(before) :]


def fit_pair(llm: LLM, context: list[int], continuation: list[int]) -> tuple[list[int], list[int], bool]:
    """Cut a pair to the context; says whether anything had to go."""
    surplus = len(context) + len(continuation) - 1 - llm.max_context
    if surplus <= 0:
        return context, continuation, False
    kept = context[surplus:] or context[-1:]
    return kept, continuation[: llm.max_context + 1 - len(kept)], True


def fit_prompt(llm: LLM, ids: list[int], max_tokens: int) -> tuple[list[int], int, bool]:
    """Cut a prompt so that an answer of `max_tokens` fits behind it, in half of the context at the most.

    Returns:
        the prompt, how long the answer may be, and whether anything had to be cut.
    """
    room = min(max_tokens, llm.max_context // 2)
    kept = ids[-(llm.max_context - room) :]
    return kept, room, len(kept) < len(ids)
