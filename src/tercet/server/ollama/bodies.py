"""Requests of Ollama's API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tercet.sampling.params import LARGEST_COUNT, LARGEST_SEED
from tercet.server.bodies import StrictModel
from tercet.server.chat.body import MOST_MESSAGES, Tool
from tercet.server.generation.refusals import refused_unless
from tercet.server.generation.sampling import StopStrings
from tercet.server.generation.tools import MOST_TOOLS

__all__ = [
    "OllamaChatBody",
    "OllamaEmbedBody",
    "OllamaGenerateBody",
    "OllamaMessage",
    "OllamaNameBody",
    "OllamaOldEmbedBody",
    "OllamaOptions",
]

Name = Annotated[str, Field(max_length=512)]
KeepAlive = str | float | int | None
"""A number of seconds, or a duration such as 5m. Accepted: a model stays loaded until it is unloaded."""


def _off(what: str, *values: Any) -> BeforeValidator:
    """Of a field that may only have the values with which it asks for nothing."""
    return refused_unless(f"this server has no {what}; leave it out", *values)


class OllamaOptions(StrictModel):
    """How to choose tokens. Those that say how to use the machine are accepted and change nothing."""

    num_predict: int | None = Field(None, le=LARGEST_COUNT)
    """Most tokens of the answer; 0 and less fill the context."""
    num_ctx: int | None = Field(None, ge=1)
    """Must not be more than the model's context; a prompt must fit into it."""
    temperature: float | None = Field(None, ge=0)
    top_k: int | None = Field(None, ge=-1, le=LARGEST_COUNT)
    top_p: float | None = Field(None, ge=0)
    min_p: float | None = Field(None, ge=0, le=1)
    repeat_penalty: float | None = Field(None, ge=0.01, le=100)
    repeat_last_n: int | None = Field(None, ge=-1)
    """0 turns the three penalties off. Otherwise they see all tokens, whatever the number."""
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=-(2**63), le=LARGEST_SEED)
    """Below 0: one is drawn."""
    stop: StopStrings | None = None
    mirostat: Annotated[Any, _off("mirostat sampling", 0, 0.0)] = None
    typical_p: Annotated[Any, _off("locally typical sampling", 1, 1.0)] = None
    tfs_z: Annotated[Any, _off("tail-free sampling", 1, 1.0)] = None


class OllamaGenerationBody(StrictModel):
    """What both ways to generate have in common."""

    model: Name
    stream: bool | None = None
    """Unlike elsewhere, nothing said means true."""
    format: Literal["", "json"] | dict[str, Any] | None = None
    """`json`, or a JSON schema."""
    options: OllamaOptions | None = None
    keep_alive: KeepAlive = None
    think: Annotated[Any, _off("model that thinks before it answers", False)] = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)


class OllamaGenerateBody(OllamaGenerationBody):
    """What /api/generate reads. Without a prompt it only says that the model is loaded."""

    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None
    """The prompt is taken as it is, without the model's chat template."""
    suffix: Annotated[Any, _off("model that fills in the middle", "")] = None
    images: Annotated[Any, _off("model that sees", [])] = None
    template: Annotated[Any, _off("template but the model's own", "")] = None
    context: Annotated[Any, _off("memory of earlier answers: send the conversation to /api/chat", [])] = None


class OllamaCalledFunction(StrictModel):
    """A function that the model called, with its arguments as an object."""

    name: Annotated[str, Field(max_length=64)]
    arguments: dict[str, Any] = Field(default_factory=dict)


class OllamaToolCall(StrictModel):
    """A call that the model made in an earlier turn."""

    id: str | None = Field(None, max_length=200)
    function: OllamaCalledFunction


class OllamaMessage(StrictModel):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    thinking: str | None = None
    images: Annotated[Any, _off("model that sees", [])] = None
    tool_calls: Annotated[list[OllamaToolCall], Field(max_length=MOST_TOOLS)] | None = None
    tool_name: str | None = Field(None, max_length=64)
    tool_call_id: str | None = Field(None, max_length=200)

    @model_validator(mode="after")
    def _calls_come_from_the_assistant(self) -> OllamaMessage:
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"only the assistant makes tool_calls, not the role {self.role}")
        return self


class OllamaChatBody(OllamaGenerationBody):
    """What /api/chat reads. Without messages it only says that the model is loaded."""

    messages: Annotated[list[OllamaMessage], Field(max_length=MOST_MESSAGES)] = Field(default_factory=list)
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None


class OllamaEmbedBody(StrictModel):
    """What /api/embed reads."""

    model: Name
    input: str | Annotated[list[str], Field(max_length=2048)]
    truncate: bool | None = None
    """Accepted: a text that is too long is an error either way, and never cut."""
    dimensions: int | None = Field(None, ge=1)
    options: OllamaOptions | None = None
    keep_alive: KeepAlive = None


class OllamaOldEmbedBody(StrictModel):
    """What /api/embeddings reads."""

    model: Name
    prompt: str
    options: OllamaOptions | None = None
    keep_alive: KeepAlive = None


class OllamaNameBody(StrictModel):
    """What /api/show reads."""

    model: Name | None = None
    name: Name | None = None
    """What the field was called before."""
    verbose: bool | None = None
