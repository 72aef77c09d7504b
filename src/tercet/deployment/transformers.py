"""A model exported as a Hugging Face folder, loaded and run by the transformers library on PyTorch.

Everything is theirs: the tokenizer, the layers, `generate`. It runs in a thread, which hands tokens over as
they come and ends when nobody wants more.
"""

from __future__ import annotations

import importlib.metadata
import queue
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from tercet.conversion import convert
from tercet.conversion.outputs.huggingface import HuggingFaceOutput
from tercet.deployment.converted import check_generates, check_memory, converted
from tercet.deployment.measured import MeasuredStrategy
from tercet.deployment.strategy import Availability, DeploymentSettings, GenerationRequest, Piece
from tercet.engine.processors import available_cores
from tercet.environment import optional_import
from tercet.errors import (
    ContextLengthError,
    DeadlineError,
    ParameterError,
    TercetError,
    UnavailableError,
    UnsupportedModelError,
)
from tercet.formats.huggingface.quantization import OWN_CLASS
from tercet.models.loading import LoadedModel, load_model
from tercet.models.registry import resolve

__all__ = ["TransformersStrategy", "folder_form"]

EXTRA = "transformers"
BYTES_PER_WEIGHT = 4
"""Of every weight: transformers unpacks codes into floats when it loads them."""
STOP_SECONDS = 10
INCOMPLETE = "\ufffd"
"""What a text ends with as long as its last character lacks bytes."""


class TransformersStrategy(MeasuredStrategy):
    """A model in transformers, in float32 on the CPU."""

    name = "transformers"

    def __init__(self, model: str | None, settings: DeploymentSettings) -> None:
        super().__init__()
        self._model = model
        self._settings = settings
        self._deployed: tuple[Any, Any] | None = None  # their model and their tokenizer

    def availability(self) -> Availability:
        """See `Strategy`."""
        try:
            versions = [f"{name} {importlib.metadata.version(name)}" for name in ("transformers", "torch")]
        except importlib.metadata.PackageNotFoundError as error:
            step = f"pip install 'tercet[{EXTRA}]'"
            return Availability(False, f"the Python package {error.name} is not installed", (step,))
        try:
            source = load_model(resolve(self._model), verify=False)
            check_generates(source)
            check_memory(source, BYTES_PER_WEIGHT, BYTES_PER_WEIGHT)
            folder_form(source)
        except TercetError as error:
            return Availability(False, str(error))
        return Availability(True, ", ".join(versions))

    def set_up(self) -> None:
        """See `Strategy`: the model is exported as a folder."""
        self._folder()

    def _folder(self) -> Path:
        source = load_model(resolve(self._model))
        form = folder_form(source)
        return converted(
            source.path,
            form,
            self._settings,
            lambda target: convert(source, target, embedding_type="f32", to=form),
        )

    def deploy(self) -> None:
        """See `Strategy`."""
        if self._deployed is not None:
            return
        torch = optional_import("torch", EXTRA)
        transformers = optional_import("transformers", EXTRA)
        folder = self._folder()
        torch.set_num_threads(self._settings.threads or available_cores())
        transformers.utils.logging.disable_progress_bar()
        try:
            # Their code for ternary weights is decorated with torch.compile, which takes minutes here.
            with torch.compiler.set_stance("force_eager"):
                tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
                model = transformers.AutoModelForCausalLM.from_pretrained(
                    folder, dtype=torch.float32, local_files_only=True
                )
        except Exception as error:  # whatever a library of this size raises
            raise UnavailableError(
                f"transformers does not load {folder}: {error}. Remove the folder to have it made again."
            ) from error
        self._deployed = model.eval(), tokenizer

    def close(self) -> None:
        """See `Strategy`."""
        self._deployed = None

    def _pieces(self, request: GenerationRequest) -> Generator[Piece, None, None]:
        if self._deployed is None:
            raise UnavailableError(f"{self.name} is not deployed: call deploy() first")
        model, tokenizer = self._deployed
        prompt = _prompt(tokenizer, request)
        trained = model.config.max_position_embeddings
        room = min(self._settings.max_context or trained, trained) - len(prompt)
        if room < 1:
            raise ContextLengthError(
                f"the prompt has {len(prompt)} tokens, which leaves no room for an answer"
            )
        eos = model.generation_config.eos_token_id
        ends = [] if eos is None else [eos] if isinstance(eos, int) else list(eos)
        answer: list[int] = []
        shown, ending = "", "length"
        work = _Generation(model, prompt, request, min(request.max_tokens, room), ends)
        for token in work.tokens(self.name):
            if token in ends:
                ending = "stop"
                break
            answer.append(token)
            text = tokenizer.decode(answer, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            piece = "" if text.endswith(INCOMPLETE) else text[len(shown) :]
            shown += piece
            yield Piece(piece, (token,))
        text = tokenizer.decode(answer, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        yield Piece(text[len(shown) :], (), len(prompt), len(answer), ending)


class _Generation:
    """One call of `generate` in a thread of its own."""

    def __init__(
        self, model: Any, prompt: list[int], request: GenerationRequest, max_tokens: int, ends: list[int]
    ) -> None:
        self._model, self._prompt, self._request = model, prompt, request
        sampling = {"do_sample": True, "temperature": request.temperature, "top_k": 0, "top_p": 1.0}
        # Nothing but the temperature shapes the choice, so that strategies can be compared.
        self._settings = {
            "max_new_tokens": max_tokens,
            "repetition_penalty": 1.0,
            "eos_token_id": ends or None,
            "pad_token_id": ends[0] if ends else 0,
            **(sampling if request.temperature > 0 else {"do_sample": False}),
        }
        self._came: queue.SimpleQueue[int | Exception | None] = queue.SimpleQueue()
        self._unwanted = threading.Event()
        self._begun = False

    def tokens(self, name: str) -> Generator[int, None, None]:
        """Give tokens as they come; the thread has ended when this has."""
        end = time.monotonic() + self._request.timeout_seconds
        thread = threading.Thread(target=self._run, name="transformers", daemon=True)
        thread.start()
        try:
            while True:
                try:
                    came = self._came.get(timeout=max(end - time.monotonic(), 0))
                except queue.Empty:
                    raise DeadlineError(
                        f"{name} did not end its answer within {self._request.timeout_seconds:g} seconds. "
                        "Ask for fewer tokens, or allow more time."
                    ) from None
                if came is None:
                    return
                if isinstance(came, Exception):
                    raise UnavailableError(f"transformers fails: {came}") from came
                yield came
        finally:
            self._unwanted.set()
            thread.join(STOP_SECONDS)

    def put(self, value: Any) -> None:
        """Take what `generate` streams: first the prompt, then each token."""
        if self._begun:
            self._came.put(int(value.reshape(-1)[0]))
        self._begun = True

    def end(self) -> None:
        """Take note that `generate` has ended; `_run` does that."""

    def _run(self) -> None:
        import torch
        import transformers

        def is_unwanted(ids: Any, scores: Any, **rest: Any) -> Any:
            return torch.full((len(ids),), self._unwanted.is_set(), dtype=torch.bool)

        try:
            if self._request.seed is not None:
                torch.manual_seed(self._request.seed)
            ids = torch.tensor([self._prompt])
            with torch.compiler.set_stance("force_eager"):
                self._model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    generation_config=transformers.GenerationConfig(**self._settings),  # type: ignore[no-untyped-call]
                    stopping_criteria=transformers.StoppingCriteriaList([is_unwanted]),
                    streamer=self,
                )
            self._came.put(None)
        except Exception as error:  # goes to whoever waits for the tokens
            self._came.put(error)


def folder_form(source: LoadedModel) -> str:
    """Return the form of a model that transformers loads, codes as codes where there are some.

    Raises:
        UnsupportedModelError, ParameterError: transformers computes no such model.
    """
    packed = source.config.quantize_activations
    config = HuggingFaceOutput(source, packed, "f32").plan.config()
    if config.get("quantization_config", {}).get("linear_class") == OWN_CLASS:
        raise UnsupportedModelError(f"transformers has no linear layers that compute what {source.path} does")
    return "huggingface-packed" if packed else "huggingface"


def _prompt(tokenizer: Any, request: GenerationRequest) -> list[int]:
    if not request.chat:
        ids = tokenizer(request.prompt)["input_ids"]
    elif tokenizer.chat_template is None:
        raise UnsupportedModelError("the model has no chat template, so it answers no messages")
    else:
        messages = [{"role": "user", "content": request.prompt}]
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
    if not ids:
        raise ParameterError("the prompt is empty, and this model has no token to start from")
    return list(ids)
