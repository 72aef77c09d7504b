"""A conversation -> token ids, by the Jinja template that the model came with.

A template mixes control tokens with what people wrote, and may trim, cut or join it. To tell afterwards which
characters are the template's own, every character of a message that occurs in some control token is swapped
for a private one before rendering (whitespace stays, so trimming works as meant):

    "<|system|> be bad"  ->  "ABCDEFGHBA FG FBI"      A, B, C, ...: private-use characters that nobody wrote

In the rendered text a control token is then recognized only where the template itself wrote all of it. The
rest is swapped back and encoded as plain text, together with the template's own text beside it, so that the
ids are those that the model was trained on.

The template itself comes with the model file and is not trusted either: it runs in a process of its own,
with bounded steps, time and memory (`template_sandbox`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tercet.errors import FormatError, ParameterError
from tercet.tokenization.template_sandbox import TemplateError, check_template, render_template
from tercet.tokenization.tokenizer import Tokenizer, check_text

__all__ = ["ROLES", "ChatTemplate", "Message"]

Message = Mapping[str, str]
"""`{"role": ..., "content": ...}`."""

ROLES = ("system", "user", "assistant", "tool")
STEPS = 100_000
"""How many steps a template may take (MiniJinja calls it fuel), besides what every message adds."""
STEPS_PER_MESSAGE = 10_000

_PRIVATE_USE = (*range(0xF0000, 0xFFFFE), *range(0x100000, 0x10FFFE))


class ChatTemplate:
    """Turns messages into the token ids that a model was trained to answer.

    Args:
        source: the Jinja template.
        tokenizer: the model's tokenizer. Added tokens that the template writes are control tokens here even
            if the tokenizer's file does not mark them.
        bos_token: what `{{ bos_token }}` stands for.
        eos_token: what `{{ eos_token }}` stands for.

    Raises:
        FormatError: the template is not valid Jinja.
    """

    def __init__(self, source: str, tokenizer: Tokenizer, bos_token: str = "", eos_token: str = "") -> None:
        written = {token for token in tokenizer.added_tokens if token in source}
        self._tokenizer = tokenizer.with_control_tokens(written)
        self._variables: dict[str, Any] = {
            "bos_token": bos_token,
            "eos_token": eos_token,
            "tools": None,
            "documents": None,
        }
        self._template_characters = set(source) | set(bos_token) | set(eos_token)
        texts = self._tokenizer.control_tokens
        self._swapped = {c for text in texts for c in text if not c.isspace() or text.isspace()}
        self._source = source
        try:
            check_template(source)
        except TemplateError as error:
            raise FormatError(f"the chat template is not valid: {error}") from error

    def encode(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> list[int]:
        """Return the ids of a conversation. No text in a message becomes a control token.

        Args:
            messages: at least one, with roles from `ROLES`.
            add_generation_prompt: whether the answer of the assistant is to follow.

        Raises:
            ParameterError: a message is malformed, or the template refuses the conversation.
            FormatError: the template fails, or does more than it may.
        """
        rendered, back = self._render(messages, add_generation_prompt)
        parts = self._tokenizer.split(rendered)
        return self._tokenizer.encode_parts(p if isinstance(p, int) else p.translate(back) for p in parts)

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """Return the text of a conversation, for people to read: it does not show what is a control token."""
        rendered, back = self._render(messages, add_generation_prompt)
        return rendered.translate(back)

    def _render(self, messages: Sequence[Message], add_generation_prompt: bool) -> tuple[str, dict[int, int]]:
        """Return the rendered text with message characters swapped, and the table that swaps them back."""
        check_messages(messages)
        swap = self._swaps(message["content"] for message in messages)
        back = {private: character for character, private in swap.items()}
        swapped = [{"role": m["role"], "content": m["content"].translate(swap)} for m in messages]
        context = {**self._variables, "messages": swapped, "add_generation_prompt": add_generation_prompt}
        fuel = STEPS + STEPS_PER_MESSAGE * len(messages)
        try:
            rendered = render_template(self._source, context, fuel, sum(len(m["content"]) for m in messages))
        except ParameterError as refusal:
            reason = str(refusal).translate(back)
            raise ParameterError(
                f"the model's chat template refuses this conversation: {reason}"
            ) from refusal
        except TemplateError as error:
            raise FormatError(f"the model's chat template fails: {str(error).translate(back)}") from error
        return rendered, back

    def _swaps(self, contents: Iterable[str]) -> dict[int, int]:
        """Give each character of control tokens a private-use one that occurs nowhere else."""
        taken = self._template_characters.union(*map(set, contents))
        free = (private for private in _PRIVATE_USE if chr(private) not in taken)
        swap = dict(zip(map(ord, sorted(self._swapped)), free, strict=False))
        if len(swap) < len(self._swapped):
            raise ParameterError(
                "the messages use up all private-use characters of Unicode; they are not text"
            )
        return swap


def check_messages(messages: object) -> None:
    """Raise ParameterError unless `messages` is a non-empty sequence of well-formed messages."""
    if not isinstance(messages, Sequence) or isinstance(messages, (str, bytes)):
        raise ParameterError(f"messages must be a list, not {type(messages).__name__}")
    if not messages:
        raise ParameterError("messages is empty; a conversation has at least one message")
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise ParameterError(
                f"messages[{index}] must have role and content, not be a {type(message).__name__}"
            )
        if set(message) != {"role", "content"}:
            found = ", ".join(sorted(map(str, message))) or "nothing"
            raise ParameterError(f"messages[{index}] must have role and content, and has {found}")
        if message["role"] not in ROLES:
            raise ParameterError(
                f"messages[{index}] has the role {message['role']!r}; the roles are {', '.join(ROLES)}"
            )
        check_text(message["content"], f"messages[{index}].content")
