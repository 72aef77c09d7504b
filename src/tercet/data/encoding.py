"""What a row says -> token ids with a loss mask.

A conversation goes through the model's own chat template. An answer's tokens are those that the template puts
behind the prompt: the conversation up to an answer is encoded exactly as it is for generation, and what
follows in the whole is learned, up to the control token that ends the turn. So a model is asked in use what
it was asked in training.

Some templates write a turn differently once another follows (they drop earlier thoughts, say). Such a
conversation becomes several examples, one for each answer, each as the model would have met it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tercet.data.example import Example
from tercet.data.rows import RowError, UnusableRowError
from tercet.data.shapes import Content, Conversation, Document, Segments
from tercet.errors import FormatError, ParameterError
from tercet.tokenization import ChatTemplate, Tokenizer

__all__ = ["Encoded", "Encoder"]

MOST_MERGED_TOKENS = 4
"""How many of a prompt's last tokens may be others once the answer follows: merged with it, or dropped."""
SPLIT = "the chat template rewrites earlier turns, so that each answer is an example of its own"
MERGED = "the end of the prompt is encoded otherwise once the answer follows"
TRAILING = "what follows the last answer is left out"
UNMARKED = "the text of control tokens in plain text is read as text (control_tokens reads it as tokens)"


@dataclass(frozen=True)
class Encoded:
    """What became of a row."""

    examples: tuple[Example, ...]
    truncated: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Encoder:
    """Makes examples of at most `max_length` tokens.

    `begin` is put before plain text and `ends[0]` behind it. A conversation that the template ends with none
    of `ends` gets `ends[0]`, too, so that the model learns to stop.
    """

    tokenizer: Tokenizer
    template: ChatTemplate
    max_length: int
    completion_only: bool = True
    control_tokens: bool = False
    begin: int | None = None
    ends: tuple[int, ...] = ()

    def encode(self, content: Content, place: str) -> Encoded:
        """Encode what a row says.

        Raises:
            UnusableRowError: nothing that is learned lies within `max_length`.
            RowError: the chat template refuses the conversation, or does not write its answers.
        """
        if isinstance(content, Document):
            return self._text(content, place)
        if isinstance(content, Segments):
            return self._checked([self._segments(content)], place, [])
        try:
            sequences, remarks = self._conversation(content)
        except (ParameterError, FormatError) as error:
            if isinstance(error, RowError):
                raise
            raise RowError(str(error)) from error
        return self._checked(sequences, place, remarks)

    def _checked(
        self, sequences: Sequence[tuple[list[int], np.ndarray]], place: str, remarks: Sequence[str]
    ) -> Encoded:
        examples = []
        truncated = False
        for ids, learned in sequences:
            truncated |= len(ids) > self.max_length
            if not self.completion_only:
                learned = np.ones(len(ids), bool)
            learned = learned[: self.max_length].copy()
            learned[:1] = False
            if learned.any():
                examples.append(
                    Example(np.asarray(ids[: self.max_length], np.int32), learned, places=(place,))
                )
        if not examples:
            raise UnusableRowError(f"the answer begins beyond max_length ({self.max_length} tokens)")
        return Encoded(tuple(examples), truncated, tuple(remarks))

    # Conversations ---------------------------------------------------------------------------------------

    def _conversation(
        self, conversation: Conversation
    ) -> tuple[list[tuple[list[int], np.ndarray]], list[str]]:
        answers = [i for i, turn in enumerate(conversation.turns) if turn.role == "assistant"]
        messages = [turn.message() for turn in conversation.turns[: answers[-1] + 1]]
        remarks = [TRAILING] if len(messages) < len(conversation.turns) else []
        wanted = [answer for answer in answers if conversation.turns[answer].learned]
        whole = self._ids(messages, False, conversation.tools)
        spans: list[tuple[int, int]] = []
        is_one = True
        for answer in answers:
            prompt = self._ids(messages[:answer], True, conversation.tools) if answer else whole[:0]
            last = answer == answers[-1]
            through = whole if last else self._ids(messages[: answer + 1], False, conversation.tools)
            start = _common_length(prompt, through)
            _check_answer(prompt, through, start)
            if start < len(prompt):
                remarks.append(MERGED)
            if whole[: len(through)] != through:
                is_one = False
                break
            if answer in wanted:
                spans.append((start, len(through)))
        if is_one:
            return [self._ended(whole, spans, answers[-1] in wanted)], _unique(remarks)
        sequences = []
        for answer in wanted:
            prompt = self._ids(messages[:answer], True, conversation.tools) if answer else []
            through = self._ids(messages[: answer + 1], False, conversation.tools)
            start = _common_length(prompt, through)
            _check_answer(prompt, through, start)
            sequences.append(self._ended(through, [(start, len(through))], True))
        return sequences, _unique([*remarks, SPLIT])

    def _ids(
        self,
        messages: Sequence[Mapping[str, Any]],
        prompt: bool,
        tools: Sequence[Mapping[str, Any]] | None,
    ) -> list[int]:
        return self.template.encode(messages, add_generation_prompt=prompt, tools=tools)

    def _ended(
        self, ids: list[int], spans: Sequence[tuple[int, int]], last_is_learned: bool
    ) -> tuple[list[int], np.ndarray]:
        """Mark the answers, each up to its last control token, and see to it that the last one ends."""
        learned = np.zeros(len(ids), bool)
        control = self.template.control_ids
        for start, end in spans:
            ending = max((i for i in range(start, end) if ids[i] in control), default=end - 1)
            learned[start : ending + 1] = True
        tail = spans[-1][0] if spans else 0
        if last_is_learned and self.ends and not set(self.ends) & set(ids[tail:]):
            return [*ids, self.ends[0]], np.append(learned, True)
        return ids, learned

    # Texts ----------------------------------------------------------------------------------------------

    def _segments(self, segments: Segments) -> tuple[list[int], np.ndarray]:
        ids: list[int] = []
        mask: list[bool] = []
        for text, learned in segments.pieces:
            piece = self._text_ids(text, True)
            ids += piece
            mask += [learned] * len(piece)
        return ids, np.asarray(mask, bool)

    def _text(self, document: Document, place: str) -> Encoded:
        ids = self._text_ids(document.text, self.control_tokens)
        framed = [*([] if self.begin is None else [self.begin]), *ids, *self.ends[:1]]
        if len(framed) > 2 and ids[:1] == framed[:1] and self.begin is not None:
            framed = framed[1:]  # the text brings its own
        if self.ends and ids and ids[-1] in self.ends:
            framed = framed[:-1]
        examples = []
        for start in range(0, len(framed), self.max_length):
            piece = np.asarray(framed[start : start + self.max_length], np.int32)
            if len(piece) > 1:
                learned = np.ones(len(piece), bool)
                learned[0] = False
                examples.append(Example(piece, learned, places=(place,)))
        if not examples:
            raise UnusableRowError("the text is one token, which nothing precedes")
        marked = not self.control_tokens and any(
            token in document.text for token in self.tokenizer.control_tokens if not token.isspace()
        )
        return Encoded(tuple(examples), remarks=(UNMARKED,) if marked else ())

    def _text_ids(self, text: str, control_tokens: bool) -> list[int]:
        try:
            return self.tokenizer.encode(text, allow_special=control_tokens)
        except (ParameterError, FormatError) as error:
            raise RowError(str(error)) from error


def _check_answer(prompt: Sequence[int], through: Sequence[int], start: int) -> None:
    if start == len(through):
        raise RowError("the chat template does not write the answer. Give another template")
    if len(prompt) - start > MOST_MERGED_TOKENS:
        raise RowError(
            f"the chat template writes the prompt ({len(prompt)} tokens) otherwise once the answer follows: "
            f"only the first {start} tokens agree, so that the answer cannot be found. Give another template"
        )


def _common_length(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _unique(remarks: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(remarks))
