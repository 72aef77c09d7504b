"""What lm-eval sees of a model: token ids, log probabilities, generated text; our engine in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from tercet.errors import ParameterError, UnsupportedModelError
from tercet.evaluation.scoring import score_continuations
from tercet.evaluation.tasks.prompting import fit_pair, fit_prompt, prefix_token
from tercet.llm import LLM

__all__ = ["HarnessModel"]

PROMPTS_AT_A_TIME = 32

_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "seed": "seed",
}


class HarnessModel(TemplateLM):  # type: ignore[misc]
    """An `lm_eval` model over a loaded `LLM`.

    What does not fit into the context loses its beginning, as with lm-eval's own models; `num_cut` counts it.
    """

    def __init__(self, llm: LLM) -> None:
        super().__init__()
        self.llm = llm
        self.num_cut = 0
        self._chats: dict[str, list[int]] = {}

    @property
    def eot_token_id(self) -> int:
        """The token that ends texts."""
        ends = self.llm.config.eos_token_ids
        return ends[0] if ends else prefix_token(self.llm)

    @property
    def prefix_token_id(self) -> int:
        """The token that stands before a text which has nothing before it."""
        return prefix_token(self.llm)

    @property
    def max_length(self) -> int:
        """Tokens of the context."""
        return self.llm.max_context

    @property
    def max_gen_toks(self) -> int:
        """Tokens of an answer whose task does not say how long it may be."""
        return 256

    @property
    def tokenizer_name(self) -> str:
        """What the harness keys its caches by."""
        return f"tercet-{self.llm.name}"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids, behind the token that begins texts unless `add_special_tokens` is False."""
        ids = self.llm.tokenize(string)
        first = self.llm.config.first_token_id
        return ids if first is None or add_special_tokens is False else [first, *ids]

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """A name for the template, which goes into the harness's records."""
        return self.tokenizer_name if self.llm.has_chat_template else None

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return a conversation as text. Its token ids are kept: the text itself is never read as control."""
        if self.llm.chat_template is None:
            raise UnsupportedModelError(f"{self.llm.path} has no chat template; leave out the chat option")
        ids = self.llm.chat_template.encode(chat_history, add_generation_prompt=add_generation_prompt)
        text = self.llm.detokenize(ids)
        self._chats[text] = ids
        return text

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if context in self._chats:
            return self._chats[context], self.llm.tokenize(continuation)
        before, behind = super()._encode_pair(context, continuation)
        return before, behind

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        scores = score_continuations(self.llm, self._fitting(requests))
        return [(one.total, bool(one.is_greedy.all())) for one in scores]

    def _fitting(
        self, requests: Sequence[tuple[Any, list[int], list[int]]]
    ) -> Iterator[tuple[list[int], list[int]]]:
        for _, context, continuation in requests:
            before, behind, is_cut = fit_pair(self.llm, context, continuation)
            self.num_cut += is_cut
            yield before, behind

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log probability of whole texts, each from its prefix token on, in windows that do not overlap."""
        totals = []
        for request in requests:
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0], add_special_tokens=False),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            pairs = [make_disjoint_window(window) for window in windows]
            totals.append(sum((one.total for one in score_continuations(self.llm, pairs)), 0.0))
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Text behind each context, up to the first of its stops; equal settings run together."""
        answers: dict[int, str] = {}
        for begin in range(0, len(requests), PROMPTS_AT_A_TIME):
            part = range(begin, min(begin + PROMPTS_AT_A_TIME, len(requests)))
            kinds: dict[str, list[int]] = {}
            for index in part:
                kinds.setdefault(repr(requests[index].args[1]), []).append(index)
            for indices in kinds.values():
                contexts = [requests[index].args[0] for index in indices]
                texts = self._generate(contexts, requests[indices[0]].args[1])
                answers.update(zip(indices, texts, strict=True))
        return [answers[index] for index in range(len(requests))]

    def _generate(self, contexts: Sequence[str], settings: dict[str, Any]) -> list[str]:
        asked = normalize_gen_kwargs(settings, self.max_gen_toks)
        until, max_tokens = asked.pop("until") or [], int(asked.pop("max_gen_toks"))
        if not asked.pop("do_sample", False):
            asked["temperature"] = 0.0  # the likeliest token, also where the model comes with another wish
        if unknown := sorted(set(asked) - set(_SAMPLING)):
            raise ParameterError(f"a task asks for {', '.join(unknown)}; we know {', '.join(_SAMPLING)}")
        sampling = {_SAMPLING[name]: value for name, value in asked.items()}
        stops = [until] if isinstance(until, str) else list(until)
        prompts, room = [], max_tokens
        for context in contexts:
            ids = self._chats.get(context) or self.tok_encode(context)
            kept, room, is_cut = fit_prompt(self.llm, ids, max_tokens)
            prompts.append(kept)
            self.num_cut += is_cut
        results = self.llm.generate(
            prompts,
            max_tokens=room,
            stop=tuple(filter(None, stops)),
            **{"repetition_penalty": 1.0, **sampling},
        )
        return [postprocess_generated_text(result.text, stops, None) for result in results]
