"""Requests of llama.cpp's native routes. Fields that ask for what we do not do are checked in `sampling`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, RootModel

from tercet.sampling.params import LARGEST_COUNT, LARGEST_SEED
from tercet.server.bodies import StrictModel
from tercet.server.chat.body import MOST_MESSAGES, ChatMessage
from tercet.server.generation.refusals import refused_unless
from tercet.server.generation.sampling import StopStrings

__all__ = [
    "LlamaCppAdapterScale",
    "LlamaCppAdapterScales",
    "LlamaCppCompletionBody",
    "LlamaCppDetokenizeBody",
    "LlamaCppEmbeddingBody",
    "LlamaCppPromptObject",
    "LlamaCppTemplateBody",
    "LlamaCppTokenizeBody",
]

TokenId = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
Piece = str | TokenId


class LlamaCppPromptObject(StrictModel):
    """A text, where other models have images beside it."""

    prompt_string: str
    multimodal_data: Annotated[Any, refused_unless("this server reads text only", [])] = None


Sequence = str | list[Piece] | LlamaCppPromptObject
Prompt = str | list[Piece] | LlamaCppPromptObject | Annotated[list[Sequence], Field(max_length=128)]
"""A text, token ids, both mixed, `{"prompt_string": ...}`, or a list of these."""
Bias = Annotated[list[Any], Field(min_length=2, max_length=2)]


class LlamaCppAdapterScale(StrictModel):
    """An adapter of /lora-adapters, and its factor."""

    id: int = Field(ge=0, le=LARGEST_COUNT)
    scale: float


class LlamaCppAdapterScales(RootModel[list[LlamaCppAdapterScale]]):
    """What POST /lora-adapters reads."""

    root: Annotated[list[LlamaCppAdapterScale], Field(max_length=128)]


class LlamaCppCompletionBody(StrictModel):
    """What /completion reads. Sampling that is not named is as the model came with it."""

    prompt: Prompt
    model: str | None = None
    n_predict: int | None = Field(None, ge=-2, le=LARGEST_COUNT)
    """Most tokens of the answer; -1 and -2 fill the context, 0 only reads the prompt."""
    max_tokens: int | None = Field(None, ge=-2, le=LARGEST_COUNT)
    """The same, as newer clients call it."""
    n_cmpl: int | None = Field(None, ge=1, le=128)
    """Answers to each prompt."""
    stream: bool | None = None
    stop: StopStrings | None = None
    temperature: float | None = None
    """0 and less take the likeliest token."""
    top_k: int | None = Field(None, ge=-1, le=LARGEST_COUNT)
    top_p: float | None = Field(None, ge=0)
    """1 and more keep all."""
    min_p: float | None = Field(None, ge=0, le=1)
    repeat_penalty: float | None = Field(None, ge=0.01, le=100)
    repeat_last_n: int | None = Field(None, ge=-1, le=LARGEST_COUNT)
    """0 turns the three penalties off. Otherwise they see all tokens, whatever the number."""
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=-1, le=LARGEST_SEED)
    """-1 draws one."""
    ignore_eos: bool | None = None
    logit_bias: Annotated[list[Bias], Field(max_length=1024)] | dict[str, Any] | None = None
    """`[[token id or text, number or false], ...]`, or an object of those."""
    n_probs: int | None = Field(None, ge=0, le=20)
    """How many of the likeliest tokens to name at each place."""
    grammar: str | None = None
    json_schema: dict[str, Any] | bool | None = None
    samplers: list[str] | str | None = None
    """Those that are not named are not applied; their order is always ours."""
    cache_prompt: bool | None = None
    """False: no keys and values of earlier requests are used."""
    lora: Annotated[list[LlamaCppAdapterScale], Field(max_length=128)] | None = None
    """Factors of adapters for this request; those that are not named have 0. Missing: those of the server."""
    id_slot: int | None = None
    """Accepted: a request runs where there is room."""
    n_keep: int | None = None
    """Accepted: nothing is ever dropped from a prompt."""
    return_tokens: bool | None = None
    timings_per_token: bool | None = None
    response_fields: list[str] | None = Field(None, max_length=100)
    parse_special: bool | None = None
    """Not llama.cpp's: whether the texts of control tokens in a prompt are control tokens. Missing: they are,
    but in the profile `strict`."""
    priority: int | None = Field(None, ge=-1000, le=1000)
    """Not llama.cpp's; lower runs first."""


class LlamaCppTokenizeBody(StrictModel):
    """What /tokenize reads."""

    content: str | list[Piece] = ""
    add_special: bool = False
    parse_special: bool | None = None
    with_pieces: bool = False
    model: str | None = None


class LlamaCppDetokenizeBody(StrictModel):
    """What /detokenize reads."""

    tokens: list[TokenId] = Field(default_factory=list)
    model: str | None = None


class LlamaCppTemplateBody(StrictModel):
    """What /apply-template reads: a conversation as /v1/chat/completions has it."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    model: str | None = None


class LlamaCppEmbeddingBody(StrictModel):
    """What /embedding reads; one of the two is given."""

    content: Prompt | None = None
    input: Prompt | None = None
    embd_normalize: int | None = Field(None, ge=-1, le=100)
    """-1 none, 0 by the largest, 1 taxicab, 2 Euclidean, p the p-norm."""
    model: str | None = None
