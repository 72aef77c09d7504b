"""A model that is ready to compute, the bytes that a token reads of it, and sequences to feed it.

It has random weights in a named shape, unless the choice names a model that there is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.bench.model_store import fast_packing, random_model_file
from tercet.bench.random_tokenizer import random_tokenizer_json
from tercet.bench.session import Session
from tercet.engine.processors import available_cores
from tercet.errors import ParameterError
from tercet.formats.matrices import FloatMatrix, PackedMatrix, PlaneMatrix
from tercet.kernels.decoder import Decoder, KvCache
from tercet.kernels.sampling import sample
from tercet.models.config import ModelConfig
from tercet.models.loading import load_model
from tercet.models.registry import resolve
from tercet.models.shapes import shape
from tercet.quantization.planes import planes
from tercet.sampling.params import SamplingParams

__all__ = ["BLOCK_TOKENS", "ModelChoice", "OpenModel", "Sequence", "model_path", "open_model"]

BLOCK_TOKENS = 16
PREFILL_CHUNK = 256


@dataclass(frozen=True)
class ModelChoice:
    """Which model is measured, and how it runs. None means the usual."""

    shape: str = "2b4t"
    packing: str | None = None
    """A packing of ternary weights, or a float type; None is the fastest of this machine."""
    head: str = "f16"
    threads: int | None = None
    isa: str | None = None
    kv_cache: str = "f16"
    weights_memory: str = "auto"
    """Where the weights lie: mapped, huge, or auto; see `tercet.formats.weights_memory`."""
    head_mode: str = "full"
    """How logits come from a head in planes: full or two_stage."""
    max_context: int | None = None
    """Where a benchmark needs more positions than the shape says."""
    keep: bool = False
    model: str | None = None
    """Name or path of a model to measure instead; then `shape`, `packing` and `head` say nothing."""

    @property
    def name(self) -> str:
        """What a report calls it in its rows."""
        return self.model or self.shape

    @property
    def title(self) -> str:
        """What a report calls it in its title."""
        return self.model or f"{self.shape} with random weights"

    @property
    def config(self) -> ModelConfig:
        """The config of model or shape. Raises ParameterError for a shape, TercetError for a model."""
        if self.model is not None:
            return load_model(resolve(self.model), verify=False, weights_memory="mapped").config
        found = shape(self.shape)
        if self.max_context is None or self.max_context <= found.max_context:
            return found
        return ModelConfig.from_dict({**found.to_dict(), "max_context": self.max_context})

    @property
    def num_threads(self) -> int:
        """How many threads compute."""
        return available_cores() if self.threads is None else self.threads


class OpenModel:
    """A decoder over the file of a model."""

    def __init__(self, choice: ModelChoice, config: ModelConfig, path: Path) -> None:
        self.choice = choice
        self.config = config
        self._loaded = load_model(path, verify=False, weights_memory=choice.weights_memory)
        self._matrices = dict(self._loaded.weights)
        sizes = {name: _num_bytes(matrix) for name, matrix in self._matrices.items()}
        self.model_bytes = sum(sizes.values())
        stored = sum(tensor.num_bytes for tensor in self._loaded.tensors.values())
        self.file_bytes = path.stat().st_size if path.is_file() else stored
        self.packing = _stored_as(self._matrices["layers.0.ffn.down"])
        self._weight_bytes = self.model_bytes
        if "output_head" in sizes:  # then a token reads one row of the embedding, not all of them
            embedding = sizes["embedding"]
            self._weight_bytes -= embedding - embedding // self._matrices["embedding"].rows
        head = self._matrices.get("output_head", self._matrices["embedding"])
        self.head_type = _stored_as(head)
        if isinstance(head, PlaneMatrix) and choice.head_mode == "two_stage":
            # Of the low plane only the few best rows are read; they are not counted.
            self._weight_bytes -= head.data.nbytes - planes(head.type).high_bytes(head.rows, head.depth)
        self.body_bytes = self.model_bytes - sizes["embedding"] - sizes.get("output_head", 0)
        self.use_threads(choice.num_threads)

    def use_threads(self, threads: int) -> None:
        """Compute with so many threads from now on; caches of before are of no use then."""
        self.threads = threads
        self.decoder = Decoder(
            self.config, self._matrices, threads=threads, isa=self.choice.isa, head=self.choice.head_mode
        )
        self.isa = self.decoder.isa

    def cache(self, tokens: int, sequences: int = 1, dtype: str | None = None) -> KvCache:
        """Room for so many positions of each of some sequences."""
        blocks = -(-tokens // BLOCK_TOKENS) * sequences
        return KvCache(self.decoder, blocks, BLOCK_TOKENS, dtype or self.choice.kv_cache)

    def bytes_per_token(self, cache: KvCache, mean_context: float) -> int:
        """What a token must read: weights, head, and keys and values of its context."""
        return self._weight_bytes + round(mean_context * cache.nbytes / (cache.num_blocks * BLOCK_TOKENS))

    def settings(self) -> dict[str, Any]:
        """What every row says of the model."""
        return {
            "shape": self.choice.name,
            "parameters": self.config.num_parameters,
            "packing": self.packing,
            "head_type": self.head_type,
            "head_mode": self.choice.head_mode,
            "kv_cache": self.choice.kv_cache,
            "weights_memory": self._loaded.weights_memory,
            "model_bytes": self.model_bytes,
            "threads": self.threads,
            "isa": self.isa,
        }


@contextlib.contextmanager
def open_model(session: Session, choice: ModelChoice, cached_tokens: int) -> Iterator[OpenModel]:
    """Open a model. One with random weights is written unless it is there, and deleted unless it is kept.

    Args:
        session: is told how far it has come.
        choice: which model.
        cached_tokens: positions that the benchmark will keep in the KV cache.

    Raises:
        ParameterError: no such shape, packing or head, or the machine is too small for it.
        IsaError: this machine lacks the instruction set.
        TercetError: a model that was named cannot be opened.
    """
    config = choice.config
    with model_path(session, choice, cached_tokens) as path:
        session.progress("opening")
        yield OpenModel(choice, config, path)


@contextlib.contextmanager
def model_path(
    session: Session, choice: ModelChoice, cached_tokens: int, with_tokenizer: bool = False
) -> Iterator[Path]:
    """Give the path of a model; see `open_model`. Random weights have a tokenizer only `with_tokenizer`."""
    if choice.model is not None:
        yield resolve(choice.model)
        return
    config = choice.config
    with random_model_file(
        choice.shape,
        config,
        choice.packing or fast_packing(choice.isa),
        choice.head,
        choice.keep,
        cached_tokens * config.num_layers * 2 * config.kv_size * 4,
        session.progress,
        random_tokenizer_json(config.vocab_size) if with_tokenizer else None,
    ) as path:
        yield path


def check_context(config: ModelConfig, shape_name: str, total: int, what: str) -> None:
    """Refuse more tokens than a shape has positions for."""
    if total > config.max_context:
        raise ParameterError(
            f"{what} are {total} together, but the shape {shape_name} has a context of {config.max_context}"
        )


def check_counts(**counts: int) -> None:
    """Refuse counts below 1."""
    for name, value in counts.items():
        if value < 1:
            raise ParameterError(f"{name} must be at least 1, not {value}")


class Sequence:
    """One sequence that feeds itself the token that the sampler draws.

    Args:
        decoder: computes.
        cache: keys and values.
        vocab_size: of the model.
        blocks: those of the cache that it may use; None for all.
        seed: of the random tokens of prompts, and of the sampler.
        temperature: 0 draws the likeliest token; above, the sampler has its default for the rest.
    """

    def __init__(
        self,
        decoder: Decoder,
        cache: KvCache,
        vocab_size: int,
        blocks: list[int] | None = None,
        seed: int = 0,
        temperature: float = 0.0,
    ) -> None:
        self._params = SamplingParams(temperature=temperature, seed=seed)
        self._decoder = decoder
        self._cache = cache
        self._random = np.random.default_rng(seed)
        self._vocab_size = vocab_size
        owned = range(cache.num_blocks) if blocks is None else blocks
        self._table = np.fromiter(owned, np.int32).reshape(1, -1)
        self._num_cached = 0
        self._next = 0

    def prefill(self, count: int, chunk: int = PREFILL_CHUNK) -> None:
        """Read so many random tokens, in chunks."""
        for begin in range(0, count, chunk):
            self._feed(
                self._random.integers(self._vocab_size, size=min(chunk, count - begin), dtype=np.int32)
            )

    def fill(self, count: int) -> None:
        """Make keys and values for so many positions at the cost of short texts: every 16 blocks anew.

        What is in the cache has the right statistics and the wrong meaning, which no clock can tell.
        """
        table, span = self._table, 16 * BLOCK_TOKENS
        for begin in range(0, count, span):
            self._num_cached = 0
            self._table = table[:, begin // BLOCK_TOKENS :]
            self.prefill(min(span, count - begin))
        self._table = table
        self._num_cached = count

    def rewind(self, num_tokens: int) -> None:
        """Forget all but the first tokens; the next ones take their place."""
        self._num_cached = num_tokens

    def decode(self, count: int) -> None:
        """Generate tokens one by one."""
        for _ in range(count):
            self._feed(np.array([self._next], np.int32))

    def _feed(self, token_ids: npt.NDArray[np.int32]) -> None:
        logits = self._decoder.forward(
            self._cache,
            token_ids,
            np.array([0, len(token_ids)], np.int32),
            np.array([self._num_cached], np.int32),
            self._table,
            np.array([len(token_ids) - 1], np.int32),
            greedy_rows=[0],
        )
        self._num_cached += len(token_ids)
        self._next = sample(
            logits[0],
            temperature=self._params.temperature,
            top_p=self._params.top_p,
            seed=self._params.seed or 0,
            step=self._num_cached,
        )


def _stored_as(matrix: PackedMatrix | PlaneMatrix | FloatMatrix) -> str:
    return matrix.packing if isinstance(matrix, PackedMatrix) else matrix.type


def _num_bytes(matrix: PackedMatrix | PlaneMatrix | FloatMatrix) -> int:
    return matrix.data.nbytes + (0 if isinstance(matrix, FloatMatrix) else matrix.scales.nbytes)
