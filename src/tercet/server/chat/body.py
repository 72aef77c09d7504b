"""The body of `POST /v1/chat/completions`: all fields of OpenAI's, and some of vLLM's and llama.cpp's.

Every field of OpenAI's is used, or changes nothing here and is accepted (`user`, `prediction`, ...), or is
refused by its name unless its value asks for what happens anyway.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tercet.server.bodies import StrictModel
from tercet.server.generation.constraints import ConstraintFields
from tercet.server.generation.refusals import contradiction, refused, refused_unless, unsupported
from tercet.server.generation.sampling import Metadata, SamplingFields
from tercet.server.generation.tools import MOST_TOOLS, FunctionEntry, FunctionName
from tercet.server.streaming.options import StreamOptions

__all__ = ["ChatBody", "ChatMessage", "ContentPart", "FunctionCall", "Tool", "ToolChoice"]

MOST_MESSAGES = 4096
Label = Annotated[str, Field(max_length=512)]


def _text_only(value: Any) -> Any:
    if isinstance(value, str) and value not in ("text", "refusal"):
        reason = f"a part of type {value[:40]!r} cannot be read: the model takes text, and nothing is fetched"
        raise unsupported(reason)
    return value


class ContentPart(StrictModel):
    """A piece of a message's text."""

    type: Annotated[Literal["text", "refusal"], BeforeValidator(_text_only)]
    text: str | None = None
    refusal: str | None = None

    @model_validator(mode="after")
    def _has_its_text(self) -> ContentPart:
        if getattr(self, self.type) is None:
            raise ValueError(f"a part of type {self.type} has a field {self.type}")
        return self


class FunctionCall(StrictModel):
    """A function, and its arguments as JSON text."""

    name: FunctionName
    arguments: str


class MessageToolCall(StrictModel):
    """A call that the model made in an earlier turn."""

    id: str = Field(max_length=200)
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(StrictModel):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    name: Label | None = None
    tool_calls: Annotated[list[MessageToolCall], Field(max_length=MOST_TOOLS)] | None = None
    tool_call_id: Label | None = None
    refusal: str | None = None
    audio: Annotated[None, refused("the model neither hears nor speaks")] = None
    function_call: Annotated[None, refused("functions were replaced by tools: write tool_calls")] = None

    @model_validator(mode="after")
    def _says_something(self) -> ChatMessage:
        if self.content is None and self.refusal is None and not self.tool_calls:
            raise ValueError(f"a message of the role {self.role} has content")
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"only the assistant makes tool_calls, not the role {self.role}")
        if self.role == "tool" and self.tool_call_id is None:
            raise ValueError("a message of the role tool has tool_call_id, the call that it answers")
        return self

    @property
    def text(self) -> str:
        """Everything that it says, one part after the other in a line of its own."""
        if self.content is None:
            return self.refusal or ""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text or part.refusal or "" for part in self.content)


class FunctionDefinition(StrictModel):
    """What a function does and takes. Its schema is always followed strictly."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(FunctionEntry):
    """A function that the model may ask to be called."""

    function: FunctionDefinition


class FunctionReference(StrictModel):
    """A function by its name."""

    name: FunctionName


class NamedTool(FunctionEntry):
    """One tool by its name."""

    function: FunctionReference


class AllowedTools(StrictModel):
    """Some of the tools, and whether one of them must be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MOST_TOOLS)]


class AllowedToolsChoice(StrictModel):
    """`tool_choice` that leaves some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoice = Literal["none", "auto", "required"] | NamedTool | AllowedToolsChoice


class ChatBody(SamplingFields, ConstraintFields):
    """A conversation to be answered."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MOST_MESSAGES)
    model: str | None = Field(None, max_length=512)
    """None is the server's first model."""
    max_completion_tokens: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    """The older name of max_completion_tokens, which wins."""
    n: int | None = Field(None, ge=1, le=128)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    metadata: Metadata | None = None

    # What changes nothing in an answer of this server.
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None

    # What is refused, unless it asks for nothing.
    audio: Annotated[None, refused("the model does not speak")] = None
    modalities: Annotated[
        list[Literal["text"]] | None, refused_unless("the model writes text only", ["text"])
    ] = None
    functions: Annotated[None, refused("functions were replaced by tools")] = None
    function_call: Annotated[None, refused("function_call was replaced by tool_choice")] = None
    moderation: Annotated[None, refused("this server does not moderate")] = None
    prompt_cache_retention: Annotated[
        Literal["in_memory"] | None,
        refused_unless("prefixes are kept in memory, as long as there is room", "in_memory"),
    ] = None
    reasoning_effort: Annotated[
        Literal["none"] | None, refused_unless("the model does not reason before it answers", "none")
    ] = None
    service_tier: Annotated[
        Literal["auto", "default"] | None,
        refused_unless("there is one tier; use priority for the order of requests", "auto", "default"),
    ] = None
    store: Annotated[Literal[False] | None, refused_unless("this server keeps no conversations", False)] = (
        None
    )
    verbosity: Annotated[
        Literal["medium"] | None, refused_unless("the model has one verbosity; ask for it in words", "medium")
    ] = None
    web_search_options: Annotated[None, refused("this server fetches nothing")] = None

    @model_validator(mode="after")
    def _goes_together(self) -> ChatBody:
        if self.top_logprobs is not None and not self.logprobs:
            raise contradiction("top_logprobs", "is given with logprobs: true, and not alone")
        return self
