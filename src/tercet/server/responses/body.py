"""The body of `POST /v1/responses`, which keeps nothing: all of a conversation comes with each request."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tercet.server.bodies import StrictModel
from tercet.server.generation.refusals import refused, refused_unless, unsupported
from tercet.server.generation.sampling import Metadata, SamplingFields
from tercet.server.generation.tools import MOST_TOOLS, FunctionEntry, FunctionName
from tercet.server.streaming.options import StreamOptions

__all__ = ["AllowedTools", "FunctionChoice", "FunctionTool", "InputItem", "ResponseBody", "TextFormat"]

MOST_ITEMS = 4096
Label = Annotated[str, Field(max_length=512)]
STATELESS = "this server keeps nothing between requests; send the whole conversation as input"


def _text_only(value: Any) -> Any:
    if isinstance(value, str) and value not in ("input_text", "output_text", "refusal"):
        raise unsupported(f"a part of type {value[:40]!r} cannot be read: the model takes text")
    return value


def _known_item(value: Any) -> Any:
    if isinstance(value, str) and value not in ("message", "function_call", "function_call_output"):
        raise unsupported(
            f"an item of type {value[:40]!r} cannot be read: there are messages and function calls"
        )
    return value


class Part(StrictModel):
    """A piece of text, of the input or of an earlier output."""

    type: Annotated[Literal["input_text", "output_text", "refusal"], BeforeValidator(_text_only)]
    text: str | None = None
    refusal: str | None = None

    @model_validator(mode="after")
    def _has_its_text(self) -> Part:
        if (self.refusal if self.type == "refusal" else self.text) is None:
            raise ValueError(f"a part of type {self.type} has its text")
        return self


class InputItem(StrictModel):
    """A message, a call that the model made, or what the called function returned."""

    type: Annotated[
        Literal["message", "function_call", "function_call_output"], BeforeValidator(_known_item)
    ] = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[Part] | None = None
    call_id: Label | None = None
    name: FunctionName | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> InputItem:
        needed = {
            "message": ("role", "content"),
            "function_call": ("call_id", "name", "arguments"),
            "function_call_output": ("call_id", "output"),
        }
        for name in needed[self.type]:
            if getattr(self, name) is None:
                raise ValueError(f"an item of type {self.type} has {' and '.join(needed[self.type])}")
        return self

    @property
    def text(self) -> str:
        """What is said or returned, one part after the other in a line of its own."""
        given = self.output if self.type == "function_call_output" else self.content
        if given is None or isinstance(given, str):
            return given or ""
        return "\n".join(part.text or part.refusal or "" for part in given)


class TextFormat(StrictModel):
    """What the text of an answer looks like. Every schema is followed strictly, whatever `strict` says."""

    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")] | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _has_a_schema(self) -> TextFormat:
        if self.type == "json_schema" and (self.name is None or self.schema_ is None):
            raise ValueError("a format of type json_schema has name and schema")
        return self


class TextOptions(StrictModel):
    """Format and length of the text."""

    format: TextFormat | None = None
    verbosity: Annotated[
        Literal["medium"] | None, refused_unless("the model has one verbosity; ask for it in words", "medium")
    ] = None


class FunctionTool(FunctionEntry):
    """A function that the model may ask to be called."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionChoice(FunctionEntry):
    """The one function that must be called."""

    name: FunctionName


class AllowedTools(StrictModel):
    """Some of the tools, and whether one of them must be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[FunctionChoice], Field(min_length=1, max_length=MOST_TOOLS)]


class Reasoning(StrictModel):
    """How much to think: not at all."""

    effort: Annotated[
        Literal["none"] | None, refused_unless("the model does not reason before it answers", "none")
    ] = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class ResponseBody(SamplingFields):
    """An input to be answered."""

    input: str | Annotated[list[InputItem], Field(min_length=1, max_length=MOST_ITEMS)]
    model: str | None = Field(None, max_length=512)
    """None is the server's first model."""
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    text: TextOptions | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | AllowedTools | None = None
    parallel_tool_calls: bool | None = None
    include: Annotated[list[str], Field(max_length=32)] | None = None
    """`message.output_text.logprobs` is what there is to include; the others never come up here."""
    top_logprobs: int | None = Field(None, ge=0, le=20)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: Metadata | None = None

    # What changes nothing in an answer of this server.
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_options: dict[str, Any] | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    """It counts calls of OpenAI's own tools."""

    # What is refused, unless it asks for nothing.
    store: Annotated[Literal[False] | None, refused_unless(STATELESS, False)] = None
    previous_response_id: Annotated[None, refused(STATELESS)] = None
    conversation: Annotated[None, refused(STATELESS)] = None
    prompt: Annotated[None, refused("this server keeps no prompts; send instructions and input")] = None
    background: Annotated[Literal[False] | None, refused_unless(STATELESS, False)] = None
    background_options: Annotated[None, refused(STATELESS)] = None
    context_management: Annotated[None, refused("nothing is compacted; send what is to be read")] = None
    truncation: Annotated[
        Literal["disabled"] | None,
        refused_unless("an input that is too long is an error and never cut", "disabled"),
    ] = None
    reasoning: Reasoning | None = None
    image: Annotated[None, refused("the model reads text")] = None
    moderation: Annotated[None, refused("this server does not moderate")] = None
    access_programs: Annotated[None, refused("there are no access programs here")] = None
    prompt_cache_retention: Annotated[
        Literal["in_memory"] | None,
        refused_unless("prefixes are kept in memory, as long as there is room", "in_memory"),
    ] = None
    service_tier: Annotated[
        Literal["auto", "default"] | None,
        refused_unless("there is one tier; use priority for the order of requests", "auto", "default"),
    ] = None

    @property
    def wants_logprobs(self) -> bool:
        """Whether log probabilities are asked for."""
        return bool(self.top_logprobs) or "message.output_text.logprobs" in (self.include or ())
