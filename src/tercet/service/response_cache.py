"""Whole responses, remembered: who asks the same again gets the same, and the model does nothing.

Only what would come out the same is remembered: greedy requests and those with a seed. The key is a hash
of everything that the answer follows from: the model's file and how it is computed, the tokens of the prompt,
the sampling in force, the constraint, and whose request it is, so that nobody is answered from what another
asked.

Entries are JSON and outlive neither their time nor the bounds of their store. A store that fails costs hits,
not answers: its errors are counted and go to the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from tercet.engine.result import GenerationResult
from tercet.llm import LLM
from tercet.sampling.logprobs import TokenLogprobs
from tercet.sampling.params import SamplingParams
from tercet.service.preparation import Prepared
from tercet.service.request import GenerationRequest

__all__ = ["CacheStore", "ResponseCache", "model_identity", "request_key"]

MAX_ENTRY_BYTES = 2**20
"""A longer response is not remembered."""
_LOG = logging.getLogger("tercet.cache")
_PARAMS = tuple(field.name for field in dataclasses.fields(SamplingParams) if field.init)


class CacheStore(Protocol):
    """Bytes under keys, for a while. Any error that it raises counts as "not there"."""

    async def get(self, key: str) -> bytes | None:
        """What is stored under a key and has not expired."""

    async def put(self, key: str, value: bytes) -> None:
        """Store, and forget others where there are too many."""

    async def count(self) -> int | None:
        """How many entries there are; None if that is not known."""

    async def clear(self) -> None:
        """Forget everything."""

    async def close(self) -> None:
        """Let go of files and connections."""


def model_identity(llm: LLM) -> str:
    """Everything about a model that its answers depend on, the content of its file by size and time."""
    parts = sorted(llm.path.rglob("*")) if llm.path.is_dir() else [llm.path]
    settings = llm.settings
    told = [version("tercet"), llm.isa, settings.kv_dtype, settings.head, llm.max_context]
    return json.dumps([*told, *(_stamp(path) for path in parts if path.is_file())])


def _stamp(path: Path) -> list[str | int]:
    status = os.stat(path)  # noqa: PTH116
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def request_key(identity: str, request: GenerationRequest, prepared: Prepared) -> str | None:
    """The key of a request to the model of this identity; None if the answer would not come out the same."""
    params = prepared.params
    if not request.use_cache or not (params.temperature == 0 or params.seed is not None):
        return None
    sampling = {name: getattr(params, name) for name in _PARAMS}
    if params.temperature == 0:
        sampling["seed"] = None
    sampling["logit_bias"] = sorted(params.logit_bias.items())
    constraint = None if prepared.constraint is None else dataclasses.asdict(prepared.constraint)
    owner = [request.tenant, request.cache_salt.hex()]
    adapters = [(one.loaded.digest.hex(), one.weight) for one in prepared.engine_request.adapters]
    told = [identity, owner, prepared.engine_request.prompt_ids, sampling, constraint, adapters]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


class ResponseCache:
    """Responses in a store. Used from one event loop.

    Attributes:
        num_errors: how often the store has failed.
        num_entries: how many responses the store holds, as far as is known.
    """

    def __init__(self, store: CacheStore) -> None:
        self._store = store
        self._writing: set[asyncio.Task[None]] = set()
        self._unwritten: dict[str, bytes] = {}  # on their way to the store, and to be found already
        self._is_failing = False
        self.num_errors = 0
        self.num_entries: int | None = 0

    async def open(self) -> None:
        """Find out how much a lasting store holds already."""
        with self._counted_errors():
            self.num_entries = await self._store.count()

    async def find(self, key: str) -> GenerationResult | None:
        """The remembered response, None if there is none."""
        with self._counted_errors():
            value = self._unwritten.get(key) or await self._store.get(key)
            return None if value is None else _decode(value)
        return None

    def remember(self, key: str, result: GenerationResult) -> None:
        """Store a response, behind the caller's back."""
        value = _encode(result)
        if len(value) <= MAX_ENTRY_BYTES:
            self._unwritten[key] = value
            task = asyncio.ensure_future(self._put(key, value))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def clear(self) -> None:
        """Forget everything."""
        await self.settle()
        with self._counted_errors():
            await self._store.clear()
            self.num_entries = await self._store.count()

    async def settle(self) -> None:
        """Wait until everything is stored that was to be."""
        await asyncio.gather(*self._writing)

    async def close(self) -> None:
        """Store what is on its way, and let go of the store."""
        await self.settle()
        with contextlib.suppress(Exception):  # it has failed before, or what it had is stored
            await self._store.close()

    async def _put(self, key: str, value: bytes) -> None:
        try:
            with self._counted_errors():
                await self._store.put(key, value)
                self.num_entries = await self._store.count()
        finally:
            self._unwritten.pop(key, None)

    @contextlib.contextmanager
    def _counted_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.num_errors += 1
            if not self._is_failing:  # told once, not with every request
                told = {"error": f"{type(error).__name__}: {error}"}
                _LOG.warning("the response cache fails; the model answers instead", extra=told)
            self._is_failing = True
        else:
            if self._is_failing:
                _LOG.warning("the response cache works again")
            self._is_failing = False


def _encode(result: GenerationResult) -> bytes:
    kept = ("text", "token_ids", "finish_reason", "prompt_tokens", "generated_tokens")
    metadata = {name: result.metadata[name] for name in _METADATA if name in result.metadata}
    logprobs = [[one.token_id, one.logprob, one.top] for one in result.logprobs]
    value = {**{name: getattr(result, name) for name in kept}, "metadata": metadata, "logprobs": logprobs}
    return json.dumps(value, separators=(",", ":")).encode()


_METADATA = ("seed", "sampling", "stop_token_id", "stop_string")


def _decode(value: bytes) -> GenerationResult:
    told = json.loads(value)
    logprobs = [
        TokenLogprobs(token_id, logprob, tuple((other, number) for other, number in top))
        for token_id, logprob, top in told.pop("logprobs")
    ]
    return GenerationResult(
        **told,
        logprobs=logprobs,
        generation_time_seconds=0.0,
        time_to_first_token_seconds=0.0,
        tokens_per_second=0.0,
    )
