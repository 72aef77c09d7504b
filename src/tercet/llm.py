"""The Python front door: load a model, generate, stream, chat, embed, and look inside.

    from tercet import LLM, SamplingParams

    with LLM() as llm:                                   # the model that ships with the package
        print(llm.generate("Once upon a time").text)
        for piece in llm.stream("The little dog", temperature=0):
            print(piece, end="", flush=True)

An `LLM` may be used from several threads; calls that overlap share forward passes (`tercet.engine`).
Sampling: the defaults of `SamplingParams`, then the model's own, then what the caller named.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast, overload

import numpy as np
import numpy.typing as npt

from tercet.engine.adapters import AdapterChoice, AdapterSet
from tercet.engine.devices import gpu_bytes, settings_for
from tercet.engine.engine import Engine
from tercet.engine.memory import MemoryUsage, measure_memory
from tercet.engine.memory_plan import MemoryPlan
from tercet.engine.opening import conversation_template, load_for, open_engine
from tercet.engine.processors import available_cores
from tercet.engine.prompts import Prompt, batch_of, checked_ids, fitting
from tercet.engine.request import Request
from tercet.engine.result import GenerationResult, result_of
from tercet.engine.stream import TextStream
from tercet.engine.text_output import TextOutput
from tercet.errors import ContextLengthError, ParameterError, TercetError, UnsupportedModelError
from tercet.models.config import ModelConfig
from tercet.models.profiles import EngineSettings, engine_settings
from tercet.models.registry import resolve
from tercet.reference.normalization import l2_normalized
from tercet.sampling.params import SamplingParams
from tercet.tokenization import ChatTemplate, IncrementalDecoder, Tokenizer
from tercet.tokenization.chat_template import Message

__all__ = ["LLM", "GenerationResult", "MemoryUsage", "TextStream"]

Sampling: TypeAlias = "SamplingParams | None"

_SAMPLING_NAMES = {field.name for field in dataclasses.fields(SamplingParams) if field.init}


class LLM:
    """A loaded model that generates text, or turns text into vectors.

    Args:
        model: name of a model, or path of a file or folder that we read; None is the one that we ship.
        threads: of the forward pass: a number, "all" for every physical core, None: as the level says.
        isa: the kernels' instruction set (`tercet doctor` lists them); None: `TERCET_ISA` or the best.
        kv_dtype: "f32" (exact), "f16" (half the memory) or "int8" (little more than a quarter) for keys and
            values; None for what level and scenario say.
        max_context: most tokens of prompt and answer together, at most what the model was trained for.
        level: "baseline", "optimized" (the default) or "aggressive": see `tercet.models.profiles`.
        scenario: "mobile", "edge", "server" or "cloud": threads and memory (of the whole process) of such a
            place. What the model leaves of it decides the longest context, and how many run at once.
        head: "full" or "two_stage", which reads half of a head that is stored in planes; None: the level's.
        prefix_cache: whether a prompt that begins like an earlier one uses the keys and values of that one,
            as far as they are still there. It changes the time to the first token and no token.
        speculation: "prompt_lookup" guesses tokens from the text so far, "draft" with a second model, and
            one step checks them all; "off"; None: the level's. It changes no token either.
        draft: name or path of the second model, which must have the same tokenizer.
        adapters: name -> folder of adapters (LoRA, as PEFT writes them) that calls may then name.
        weights_memory: "mapped", "huge" or "auto" (`tercet.formats.weights_memory`); None: the level's.
        device: "cpu", or "cuda" ("cuda:1") for an NVIDIA GPU; scenario, isa and threads are then not its.

    Raises:
        ModelNotFoundError, FormatError, UnsupportedModelError, IsaError, ParameterError: see `tercet.errors`.
        MemoryLimitError: the model does not fit into the memory of the scenario, or of the GPU.
        DeviceError, MissingExtraError: there is no GPU, or PyTorch or Triton is missing.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        threads: int | str | None = None,
        isa: str | None = None,
        kv_dtype: str | None = None,
        max_context: int | None = None,
        *,
        level: str | None = None,
        scenario: str | None = None,
        head: str | None = None,
        prefix_cache: bool = True,
        speculation: str | None = None,
        draft: str | os.PathLike[str] | None = None,
        weights_memory: str | None = None,
        adapters: Mapping[str, str | os.PathLike[str]] | None = None,
        device: str = "cpu",
    ) -> None:
        speculation = speculation or (None if draft is None else "draft")
        chosen = (threads, kv_dtype, head, speculation, prefix_cache, weights_memory)
        settings = engine_settings(available_cores(), level, scenario, *chosen)
        self.settings: EngineSettings = settings_for(device, settings)
        self.threads, self.device = self.settings.threads, device
        self.path: Path = resolve(model)
        loaded = load_for(self.path, self.settings)
        self.config: ModelConfig = loaded.config
        self.name: str = str(loaded.metadata.get("name") or self.path.stem)
        self.weight_types: tuple[str, ...] = tuple(sorted({one.type for one in loaded.tensors.values()}))
        self._generation_config = loaded.generation_config
        self._tokenizer = loaded.tokenizer() if loaded.tokenizer_json is not None else None
        self.chat_template: ChatTemplate | None = conversation_template(loaded, self._tokenizer)
        drafting = None if draft is None else load_for(resolve(draft), self.settings)
        opened = open_engine(loaded, self.settings, isa, max_context, drafting, device)
        self._files = loaded.files if drafting is None else (*loaded.files, *drafting.files)
        self.isa, self.max_context = opened.isa, opened.max_context
        self.memory_plan: MemoryPlan | None = opened.memory_plan
        self._kv_cache_bytes: int = opened.kv_cache_bytes
        self._open_engine: Engine | None = opened.engine
        self.adapters: AdapterSet = opened.adapters
        for adapter, folder in (adapters or {}).items():
            self.adapters.load(adapter, folder)

    @property
    def is_damaged(self) -> bool:
        """Whether its file has become shorter while it was in use: then nothing can be computed any more."""
        return any(file.is_damaged for file in self._files)

    # Text ---------------------------------------------------------------------------------------

    @overload
    def generate(
        self, prompt: Prompt, params: Sampling = None, *, adapter: AdapterChoice = None, **sampling: Any
    ) -> GenerationResult: ...

    @overload
    def generate(
        self,
        prompt: Sequence[Prompt],
        params: Sampling = None,
        *,
        adapter: AdapterChoice = None,
        **sampling: Any,
    ) -> list[GenerationResult]: ...

    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        params: Sampling = None,
        *,
        adapter: AdapterChoice = None,
        **sampling: Any,
    ) -> GenerationResult | list[GenerationResult]:
        """Continue a prompt, or several in one batch; several give a list in their order.

        A prompt is raw text (the model's begin-of-text token is put before it, no chat template; an empty one
        starts from that token alone) or a list of token ids (taken as it is). Sampling is given as
        `SamplingParams` or as its fields by name. `adapter` names one of `adapters`, or several with factors:
        `{"pirate": 0.5, "poet": 0.5}`.

        Raises:
            ContextLengthError: a prompt leaves no room for an answer. Nothing has been generated then.
            ParameterError: a prompt or a sampling value is not valid.
            ModelNotFoundError: no adapter has the name.
        """
        settings = self.sampling(params, sampling)
        batch = batch_of(prompt)
        if batch is None:
            return self._run([self.request(self.prompt_tokens(cast(Prompt, prompt)), settings, adapter)])[0]
        requests = []
        for index, one in enumerate(batch):
            try:
                requests.append(self.request(self.prompt_tokens(one), settings, adapter))
            except TercetError as error:
                raise type(error)(f"prompt {index}: {error}") from error
        return self._run(requests)

    def stream(
        self, prompt: Prompt, params: Sampling = None, *, adapter: AdapterChoice = None, **sampling: Any
    ) -> TextStream:
        """Continue a prompt piece by piece; the pieces together are the text that `generate` gives."""
        return self._stream(self.prompt_tokens(prompt), self.sampling(params, sampling), adapter)

    def chat(
        self,
        messages: Sequence[Message],
        params: Sampling = None,
        *,
        adapter: AdapterChoice = None,
        **sampling: Any,
    ) -> GenerationResult:
        """Answer a conversation `[{"role": "user", "content": "..."}, ...]` by the model's chat template.

        Raises:
            UnsupportedModelError: the model has no chat template.
            ContextLengthError: the conversation leaves no room for an answer.
        """
        settings = self.sampling(params, sampling)
        return self._run([self.request(self.chat_tokens(messages), settings, adapter)])[0]

    def stream_chat(
        self,
        messages: Sequence[Message],
        params: Sampling = None,
        *,
        adapter: AdapterChoice = None,
        **sampling: Any,
    ) -> TextStream:
        """Answer a conversation piece by piece."""
        return self._stream(self.chat_tokens(messages), self.sampling(params, sampling), adapter)

    def chat_tokens(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids that `chat` would read: the conversation, and the beginning of the answer.

        Raises:
            UnsupportedModelError: the model has no chat template.
        """
        if self.chat_template is None:
            raise UnsupportedModelError(
                f"{self.path} has no chat template, so it was not made for conversations; "
                "use generate or `tercet run`"
            )
        return self.chat_template.encode(messages, add_generation_prompt=True)

    # Embeddings -----------------------------------------------------------------------------------

    @property
    def makes_embeddings(self) -> bool:
        """Whether the model turns a text into one vector (`embed`), and predicts no tokens."""
        return self.config.pooling is not None

    def embed(self, texts: Prompt | Sequence[Prompt]) -> npt.NDArray[np.float32]:
        """Return a vector for each text, float32 [texts, hidden_size]; for a single text [hidden_size].

        A text is a string (with the tokens around it that the model was trained with) or a list of token ids
        (taken as it is). Vectors have length 1 where the model's config says so, which makes a dot product
        the cosine.

        Raises:
            UnsupportedModelError: the model was not made for embeddings.
            ContextLengthError: a text is longer than the context. Nothing has been computed then.
            ParameterError: a text has no tokens, or a token is not in the vocabulary.
        """
        if not self.makes_embeddings:
            raise UnsupportedModelError(
                f"{self.path} predicts tokens and was not made for embeddings; use generate or chat"
            )
        batch = batch_of(texts)
        sequences = list(map(self.embedding_tokens, [cast(Prompt, texts)] if batch is None else batch))
        if not sequences:
            return np.empty((0, self.config.hidden_size), np.float32)
        states = self.engine.embed(sequences)
        if self.config.normalize_embeddings:
            states = np.stack([l2_normalized(state) for state in states])
        return states[0] if batch is None else states

    # Looking inside -----------------------------------------------------------------------------

    def logits(self, token_ids: Sequence[int], *, adapter: AdapterChoice = None) -> npt.NDArray[np.float32]:
        """Return the logits [tokens, vocab] after each token of a sequence; no token is added.

        Raises:
            ContextLengthError: there are more tokens than the context holds.
            ParameterError: there are none, or one is not in the vocabulary.
        """
        ids = checked_ids(token_ids, self.config.vocab_size)
        if not ids:
            raise ParameterError("logits needs at least one token id, got an empty sequence")
        return self.engine.score(fitting(ids, self.max_context), self.adapters.chosen(adapter))

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text; no special token is added, and none is read out of the text."""
        return self.tokenizer.encode(text)

    def detokenize(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens shown by their names."""
        return self.tokenizer.decode(checked_ids(token_ids, self.config.vocab_size), skip_special=False)

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer; UnsupportedModelError where the file has none."""
        if self._tokenizer is None:
            raise UnsupportedModelError(
                f"{self.path} holds no tokenizer, so it can neither read nor write text; "
                "give prompts as token ids to logits()"
            )
        return self._tokenizer

    @property
    def has_chat_template(self) -> bool:
        """Whether `chat` works with this model."""
        return self.chat_template is not None

    def memory_usage(self) -> MemoryUsage:
        """Measure now what the process and this model occupy."""
        return measure_memory(self.path, self._kv_cache_bytes, gpu_bytes=gpu_bytes(self.device))

    # Life ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the weights and the cache. Every later call but this one raises ParameterError."""
        self._open_engine, self._kv_cache_bytes, self._files = None, 0, ()
        self.adapters.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # From prompt to request ---------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """What runs the requests; ParameterError once the model has been closed."""
        if self._open_engine is None:
            raise ParameterError("this LLM has been closed; make a new one")
        return self._open_engine

    def sampling(self, params: Sampling, named: Mapping[str, Any]) -> SamplingParams:
        """Return the sampling in force: given whole or by name, the rest as the model came with it."""
        if params is not None and named:
            raise ParameterError(f"give SamplingParams or {', '.join(named)} by name, not both")
        if unknown := sorted(set(named) - _SAMPLING_NAMES):
            raise ParameterError(
                f"no sampling parameter is called {', '.join(unknown)}; "
                f"there are {', '.join(sorted(_SAMPLING_NAMES))}"
            )
        return (params or SamplingParams(**named)).with_defaults(self._generation_config)

    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """Return the token ids that `generate` would read; ParameterError where there are none."""
        if not isinstance(prompt, str):
            return checked_ids(prompt, self.config.vocab_size)
        bos = self.config.first_token_id
        ids = self.tokenize(prompt)
        if bos is None and not ids:
            raise ParameterError(
                "the prompt is empty, and this model has no begin-of-text token to start from"
            )
        return ids if bos is None else [bos, *ids]

    def embedding_tokens(self, text: Prompt) -> list[int]:
        """Return the token ids that `embed` would read; raises what it raises."""
        if isinstance(text, str):
            before, behind = self.tokenizer.frame
            if not before and self.config.first_token_id is not None:
                before = [self.config.first_token_id]
            ids = [*before, *self.tokenize(text), *behind]
        else:
            ids = checked_ids(text, self.config.vocab_size)
        if not ids:
            raise ParameterError("a text has no tokens, so there is nothing to make a vector of")
        return fitting(ids, self.max_context)

    def request(
        self, prompt_ids: list[int], settings: SamplingParams, adapter: AdapterChoice = None
    ) -> Request:
        """Return a request for the engine, not yet submitted.

        Raises:
            ContextLengthError: the prompt leaves no room for an answer.
            UnsupportedModelError: the model makes embeddings.
            ModelNotFoundError: no adapter has the name.
        """
        if self.makes_embeddings:
            raise UnsupportedModelError(f"{self.path} makes embeddings and predicts no tokens; use embed")
        if not prompt_ids:
            raise ParameterError("the prompt has no tokens")
        settings.check_vocabulary(self.config.vocab_size)
        room = self.max_context - len(prompt_ids)
        if room < 1:
            raise ContextLengthError(
                f"the prompt has {len(prompt_ids)} tokens, and the context of {self.max_context} tokens "
                "must hold it and at least one more; shorten the prompt",
                len(prompt_ids),
                self.max_context,
            )
        return Request(
            prompt_ids,
            settings.seeded(),
            max_new_tokens=min(settings.max_tokens, room),
            stop_ids=frozenset() if settings.ignore_eos else frozenset(self.config.eos_token_ids),
            output=TextOutput(IncrementalDecoder(self.tokenizer), settings.stop),
            adapters=self.adapters.chosen(adapter),
        )

    def _stream(self, prompt_ids: list[int], settings: SamplingParams, adapter: AdapterChoice) -> TextStream:
        request = self.request(prompt_ids, settings, adapter)
        self.engine.submit(request)
        return TextStream(self.engine, request, self.name)

    def _run(self, requests: list[Request]) -> list[GenerationResult]:
        engine = self.engine
        try:
            engine.complete(requests)
        finally:
            for request in requests:  # after an error or Ctrl-C nothing of this call goes on
                engine.cancel(request)
        return [result_of(request, {"model": self.name}) for request in requests]
