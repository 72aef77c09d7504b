"""Requests as token ids, read as Tercet's engine reads them, for programs that have no tokenizer."""

from __future__ import annotations

from tercet.deployment.strategy import GenerationRequest
from tercet.engine.opening import conversation_template
from tercet.errors import ContextLengthError, ParameterError, UnsupportedModelError
from tercet.models.loading import LoadedModel

__all__ = ["PromptReader"]


class PromptReader:
    """Tokenizer and chat template of a model.

    Args:
        model: the model.
        max_context: most tokens of prompt and answer; None is what the model was trained for.

    Raises:
        FormatError: the model has no tokenizer.
    """

    def __init__(self, model: LoadedModel, max_context: int | None = None) -> None:
        self.tokenizer = model.tokenizer()
        self.stop_ids = frozenset(model.config.eos_token_ids)
        trained = model.config.max_context
        self.max_context = trained if max_context is None else min(max_context, trained)
        self._first = model.config.first_token_id
        self._template = conversation_template(model, self.tokenizer)
        self._path = model.path

    def ids(self, request: GenerationRequest) -> list[int]:
        """Return the token ids of a request's prompt.

        Raises:
            UnsupportedModelError: it is a message, and the model has no chat template.
            ParameterError: there are no tokens.
            ContextLengthError: they leave no room for an answer.
        """
        if not request.chat:
            ids = self.tokenizer.encode(request.prompt)
            ids = ids if self._first is None else [self._first, *ids]
        elif self._template is None:
            raise UnsupportedModelError(f"{self._path} has no chat template, so it answers no messages")
        else:
            messages = [{"role": "user", "content": request.prompt}]
            ids = self._template.encode(messages, add_generation_prompt=True)
        if not ids:
            raise ParameterError("the prompt is empty, and this model has no token to start from")
        if len(ids) >= self.max_context:
            raise ContextLengthError(
                f"the prompt has {len(ids)} tokens, and the context of {self.max_context} tokens must hold "
                "it and at least one more; shorten the prompt",
                len(ids),
                self.max_context,
            )
        return ids

    def room(self, request: GenerationRequest, prompt_tokens: int) -> int:
        """Return how many tokens the answer may have."""
        return min(request.max_tokens, self.max_context - prompt_tokens)
