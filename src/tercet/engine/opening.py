"""From a loaded model and settings to an engine: decoder, cache and limits, within the settings' memory.

A draft model, if there is one, gets the same threads and types, and a cache of as many blocks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tercet.engine.adapters import AdapterSet
from tercet.engine.devices import CPU, affordable_blocks, make_cache, make_decoder
from tercet.engine.draft import DraftModel
from tercet.engine.engine import Engine
from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.memory_plan import (
    BLOCK_TOKENS,
    KV_TYPES,
    MemoryPlan,
    kv_bytes_per_token,
    model_memory,
    plan_memory,
)
from tercet.engine.plan import StepLimits
from tercet.engine.prompt_lookup import PromptLookup
from tercet.engine.runner import Runner
from tercet.engine.speculation import Proposer, Speculation
from tercet.errors import FormatError, MemoryLimitError, ParameterError, UnsupportedModelError
from tercet.formats.mapped_file import guarded_files
from tercet.models.loading import LoadedModel, load_model
from tercet.models.profiles import EngineSettings
from tercet.tokenization import ChatTemplate, Tokenizer

__all__ = ["OpenModel", "conversation_template", "load_for", "open_engine"]


@dataclass(frozen=True)
class OpenModel:
    """An engine that is ready, and what was found out on the way."""

    engine: Engine
    isa: str
    max_context: int
    memory_plan: MemoryPlan | None
    """How the memory is spent; None where the settings set no limit."""
    kv_cache_bytes: int
    adapters: AdapterSet


def load_for(path: Path, settings: EngineSettings) -> LoadedModel:
    """Load a model with its weights where the settings want them.

    A file that is larger than all the memory of the settings is only mapped: `open_engine` will refuse it,
    and needs no copy for that. Files are guarded: one that becomes shorter later ends what is computed from
    it, and nothing else. Raises what `tercet.models.loading.load_model` does.
    """
    limit = settings.memory_bytes
    is_too_large = limit is not None and path.is_file() and path.stat().st_size > limit
    with memory_needed(path), guarded_files() as files:
        loaded = load_model(path, weights_memory="mapped" if is_too_large else settings.weights_memory)
    return replace(loaded, files=tuple(files))


def conversation_template(loaded: LoadedModel, tokenizer: Tokenizer | None) -> ChatTemplate | None:
    """Make a model's chat template over its tokenizer; None where one of them is missing."""
    if loaded.chat_template is None or tokenizer is None:
        return None
    config = loaded.config
    bos, *eos = (
        "" if token_id is None else tokenizer.token_bytes(token_id).decode()
        for token_id in (config.bos_token_id, *config.eos_token_ids[:1])
    )
    return ChatTemplate(loaded.chat_template, tokenizer, bos_token=bos, eos_token="".join(eos))


def open_engine(
    loaded: LoadedModel,
    settings: EngineSettings,
    isa: str | None = None,
    max_context: int | None = None,
    draft: LoadedModel | None = None,
    device: str = CPU,
) -> OpenModel:
    """Make the decoder and a KV cache that fits.

    Args:
        loaded: the model.
        settings: threads, types and limits.
        isa: the instruction set; None takes `TERCET_ISA` or the best.
        max_context: most tokens of a sequence; None takes what the model was trained for, or what fits.
        draft: the model that guesses tokens, needed where the settings' speculation is `draft`.
        device: what computes: `cpu`, or a GPU that `tercet.engine.devices.settings_for` has found.

    Raises:
        UnsupportedModelError: the draft model has other tokens.
        FormatError: a file has become shorter meanwhile.
        MemoryLimitError: the model does not fit into the memory of the settings (nothing has been read then),
            or into what the process may have.
        ParameterError, IsaError, UnsupportedModelError: see `Decoder` and `KvCache`.
    """
    with memory_needed(loaded.path):
        return _opened(loaded, settings, isa, max_context, draft, device)


@contextlib.contextmanager
def memory_needed(path: Path) -> Iterator[None]:
    """Say in one sentence that a model needs more memory than the process may have."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "new thread" not in str(error):  # their stacks are memory
            raise
        raise MemoryLimitError(
            f"there is not enough memory to open {path}; use a smaller context or model, or let the "
            "process have more"
        ) from error


def _opened(
    loaded: LoadedModel,
    settings: EngineSettings,
    isa: str | None,
    max_context: int | None,
    draft: LoadedModel | None,
    device: str,
) -> OpenModel:
    config = loaded.config
    if settings.kv_dtype not in KV_TYPES:
        raise ParameterError(f"kv_dtype must be one of {', '.join(KV_TYPES)}, not {settings.kv_dtype!r}")
    if (draft is not None) != (settings.speculation == "draft"):
        raise ParameterError(
            f"a draft model belongs to the speculation 'draft', and this is {settings.speculation!r}"
            if draft is not None
            else "the speculation 'draft' needs a draft model; name one with draft="
        )
    context = _checked_context(max_context, config.max_context)
    num_sequences = settings.max_sequences
    plan = None
    if settings.memory_bytes is not None:
        threads, kv_dtype = settings.threads, settings.kv_dtype
        copied = loaded.path.stat().st_size if loaded.weights_memory == "huge" else 0
        needs = model_memory(config, loaded.tensors, threads, kv_dtype, loaded.path, copied)
        if draft is not None:
            needs = needs.beside(model_memory(draft.config, draft.tensors, threads, kv_dtype, draft.path))
        plan = plan_memory(needs, settings.memory_bytes, context, num_sequences, max_context)
        context, num_sequences, num_blocks = plan.context, plan.max_sequences, plan.num_blocks
    decoder = make_decoder(loaded, settings, isa, device)
    model = None if draft is None else make_decoder(draft, settings, isa, device)
    if plan is None:
        models = [config] if draft is None else [config, draft.config]
        block_bytes = sum(kv_bytes_per_token(one, settings.kv_dtype) for one in models) * BLOCK_TOKENS
        num_blocks = affordable_blocks(device, context, num_sequences, block_bytes)
    cache = make_cache(decoder, num_blocks, settings.kv_dtype)
    num_bytes = cache.nbytes
    proposer: Proposer | None = PromptLookup() if settings.speculation == "prompt_lookup" else None
    if draft is not None and model is not None:
        _check_tokens(loaded, draft)
        draft_cache = make_cache(model, num_blocks, settings.kv_dtype)
        num_bytes += draft_cache.nbytes
        pool = KvBlockPool(num_blocks, BLOCK_TOKENS, settings.prefix_cache)
        proposer = DraftModel(Runner(model, draft_cache, draft.files), pool, draft.config.max_context)
    for model_read in (loaded, draft):
        _check_whole(model_read)
    engine = Engine(
        Runner(decoder, cache, loaded.files),
        KvBlockPool(num_blocks, BLOCK_TOKENS, settings.prefix_cache),
        StepLimits(settings.max_step_tokens, num_sequences),
        speculation=None if proposer is None else Speculation(proposer),
    )
    return OpenModel(engine, decoder.isa, context, plan, num_bytes, AdapterSet(decoder, loaded.config))


def _check_whole(loaded: LoadedModel | None) -> None:
    if loaded is not None and any(file.is_damaged for file in loaded.files):
        raise FormatError(f"{loaded.path} has become shorter while it was read; get it again")


def _check_tokens(loaded: LoadedModel, draft: LoadedModel) -> None:
    """A guess is a token id, so both models must mean the same by it."""
    if draft.config.pooling is not None:
        raise UnsupportedModelError(f"{draft.path} makes embeddings and cannot guess tokens")
    size = loaded.config.vocab_size
    if draft.config.vocab_size != size:
        raise UnsupportedModelError(
            f"the draft model {draft.path} has {draft.config.vocab_size} tokens and {loaded.path} has "
            f"{size}; a draft model needs the same tokenizer"
        )
    if loaded.tokenizer_json == draft.tokenizer_json or None in (loaded.tokenizer_json, draft.tokenizer_json):
        return  # without a tokenizer the caller alone knows what the ids mean
    own, other = loaded.tokenizer(), draft.tokenizer()
    for token_id in range(size):
        if own.token_bytes(token_id) != other.token_bytes(token_id):
            raise UnsupportedModelError(
                f"token {token_id} is {own.token_bytes(token_id)!r} in {loaded.path} and "
                f"{other.token_bytes(token_id)!r} in the draft model {draft.path}; a draft model needs the "
                "same tokenizer"
            )


def _checked_context(asked: int | None, trained: int) -> int:
    if asked is None:
        return trained
    if isinstance(asked, bool) or not isinstance(asked, int) or not 2 <= asked <= trained:
        raise ParameterError(
            f"max_context must be a whole number from 2 to the model's {trained}, not {asked!r}"
        )
    return asked
