"""From what a caller asks for to what the engine runs: tokens, sampling, constraint.

Takes from microseconds to seconds (a template renders in another process, a grammar is compiled), so all but
short plain prompts are prepared in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tercet.engine.request import Request
from tercet.engine.text_output import TextOutput, TokenDecoder
from tercet.errors import ContextLengthError, ParameterError
from tercet.llm import LLM
from tercet.sampling.constraints import ConstraintSpec, compile_constraint
from tercet.sampling.params import SamplingParams
from tercet.service.request import GenerationRequest
from tercet.service.tool_calls import ToolUse
from tercet.tokenization import ChatTemplate
from tercet.tokenization.chat_template import Message
from tercet.tokenization.plain_template import PLAIN_STOP, PLAIN_TEMPLATE

__all__ = ["Prepared", "conversation_text", "is_quick", "prepare", "template_of"]

QUICK_CHARACTERS = 2_000
"""A text up to this long is tokenized at once: that takes less than the way to a thread and back."""


@dataclass(frozen=True)
class Prepared:
    """A request before it is given to the engine, and what its answer follows from."""

    engine_request: Request
    params: SamplingParams
    constraint: ConstraintSpec | None
    decoder: Callable[[], TokenDecoder]
    """Makes what turns the tokens of the answer into its text."""


def is_quick(request: GenerationRequest) -> bool:
    """Whether the event loop can prepare it without holding anybody up."""
    is_plain = request.messages is None and request.constraint is None
    return is_plain and len(request.prompt or ()) <= QUICK_CHARACTERS


def template_of(llm: LLM) -> ChatTemplate:
    """What writes conversations: the model's own template, or a plain one where it came without."""
    if llm.chat_template is not None:
        return llm.chat_template
    bos = llm.config.bos_token_id
    text = "" if bos is None else llm.tokenizer.token_bytes(bos).decode()
    return ChatTemplate(PLAIN_TEMPLATE, llm.tokenizer, bos_token=text)


def conversation_text(messages: Sequence[Message], template: ChatTemplate, use: ToolUse | None = None) -> str:
    """The text of a conversation, as `prepare` has it read."""
    told, tools = (use or ToolUse(None)).conversation(messages, template)
    return template.render(told, tools=tools)


def prepare(
    request: GenerationRequest,
    llm: LLM,
    template: ChatTemplate | None,
    max_prompt_tokens: int | None,
    max_output_tokens: int | None = None,
) -> Prepared:
    """Tokenize, check and compile; `template` is needed for a conversation.

    An answer has at most `max_output_tokens` where neither the request nor the model names less.

    Raises:
        ParameterError, ContextLengthError, UnsupportedModelError: see `ServedModel.submit`.
    """
    params = llm.sampling(request.params, {})
    if max_output_tokens is not None and params.max_tokens > max_output_tokens:
        params = replace(params, max_tokens=max_output_tokens)
    spec = request.constraint
    use = ToolUse(None)
    if request.messages is None:
        prompt_ids = llm.prompt_tokens(() if request.prompt is None else request.prompt)
    elif template is None:
        raise ParameterError("a conversation needs a template, and there is none")
    else:
        use = ToolUse(request.tools, request.tool_choice, request.parallel_tool_calls)
        messages, tools = use.conversation(request.messages, template)
        prompt_ids = template.encode(messages, tools=tools)
        spec = use.constraint(template) or spec
        if llm.chat_template is None:
            params = replace(params, stop=(*params.stop, *PLAIN_STOP))
    if max_prompt_tokens is not None and len(prompt_ids) > max_prompt_tokens:
        raise ContextLengthError(
            f"the prompt has {len(prompt_ids)} tokens, and at most {max_prompt_tokens} are taken here; "
            "shorten it",
            len(prompt_ids),
            max_prompt_tokens,
        )
    engine_request = llm.request(prompt_ids, params, request.adapters)
    if use.may_call:
        engine_request.output = TextOutput(use.decoder(llm.tokenizer), params.stop)
    if spec is not None:
        engine_request.constraint = compile_constraint(spec, llm.tokenizer)
    engine_request.id = request.id
    engine_request.priority = request.priority
    engine_request.tenant = request.tenant
    engine_request.cache_salt = request.cache_salt
    return Prepared(engine_request, params, spec, lambda: use.decoder(llm.tokenizer))
