"""How fast one sequence decodes, and how close that is to what the memory allows.

A token reads every ternary matrix, the output head and the keys and values of its context once, so

    tokens a second  <=  read bandwidth / bytes a token reads

and `bandwidth_share` is how much of that limit is reached. The bandwidth is the best that any of several
plain readers gets on the same threads, measured before, between and after the runs: on a shared machine it
drifts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tercet.bench.machine import Machine, this_machine
from tercet.bench.random_model import RandomModel
from tercet.bench.spread import Spread
from tercet.engine.processors import available_cores
from tercet.errors import ParameterError
from tercet.formats.matrices import FloatMatrix, PackedMatrix
from tercet.kernels.decoder import Decoder, KvCache
from tercet.kernels.introspection import read_bandwidth
from tercet.models.config import ModelConfig, shape

BLOCK_TOKENS = 16
WARM_UP_TOKENS = 2
PROBE_BYTES = 512 << 20  # well beyond any cache
PROBE_PASSES = 3


@dataclass(frozen=True)
class DecodeReport:
    """The figures of one benchmark. Speeds are tokens a second, `bandwidth` bytes a second."""

    machine: Machine
    shape: str
    config: ModelConfig
    packing: str
    head_type: str
    threads: int
    isa: str
    context_tokens: int
    tokens_per_run: int
    speed: Spread
    bytes_per_token: int
    model_bytes: int
    bandwidth: float
    bandwidth_reader: str

    @property
    def bandwidth_share(self) -> float:
        """Bytes really read a second, over the bandwidth of the same run."""
        return self.speed.median * self.bytes_per_token / self.bandwidth

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; the figures that people compare come first."""
        return {
            "tokens_per_second": self.speed.median,
            "bytes_per_token": self.bytes_per_token,
            "bandwidth_gb_per_second": self.bandwidth / 1e9,
            "bandwidth_share": self.bandwidth_share,
            "milliseconds_per_token": 1e3 / self.speed.median,
            "runs": self.speed.to_dict(),
            "bandwidth_reader": self.bandwidth_reader,
            "shape": self.shape,
            "parameters": self.config.num_parameters,
            "packing": self.packing,
            "head_type": self.head_type,
            "model_bytes": self.model_bytes,
            "threads": self.threads,
            "isa": self.isa,
            "context_tokens": self.context_tokens,
            "tokens_per_run": self.tokens_per_run,
            "machine": self.machine.to_dict(),
        }


def bench_decode(
    shape_name: str,
    threads: int | None = None,
    isa: str | None = None,
    packing: str = "two_bit",
    head_type: str = "f16",
    context: int = 128,
    tokens: int = 32,
    runs: int = 5,
    seed: int = 0,
    progress: Callable[[str], None] = lambda state: None,
) -> DecodeReport:
    """Time the decoding of `tokens` tokens after `context` others, `runs` times, with random weights.

    Raises:
        ParameterError: the shape is unknown, a count is out of range, or the context is longer than the
        model's.
    """
    config = shape(shape_name)
    threads = available_cores() if threads is None else threads
    for name, value in (("context", context), ("tokens", tokens), ("runs", runs)):
        if value < 1:
            raise ParameterError(f"{name} must be at least 1, not {value}")
    total = context + WARM_UP_TOKENS + tokens
    if total > config.max_context:
        raise ParameterError(
            f"context {context} and {tokens + WARM_UP_TOKENS} decoded tokens are {total} together, "
            f"but the shape {shape_name} has a context of {config.max_context}"
        )
    progress("drawing random weights")
    weights = _CountedWeights(RandomModel(config, packing, head_type, seed))
    decoder = Decoder(config, weights.matrices, threads=threads, isa=isa)
    cache = KvCache(decoder, -(-total // BLOCK_TOKENS), BLOCK_TOKENS, "f32")
    sequence = _Sequence(decoder, cache, config.vocab_size, seed)
    progress(f"reading a context of {context} tokens")
    sequence.prefill(context)
    rates: dict[str, float] = {}
    speeds = []
    for run in range(runs):
        progress(f"measuring the bandwidth, then run {run + 1} of {runs}")
        _keep_best(rates, read_bandwidth(PROBE_BYTES, threads, PROBE_PASSES, decoder.isa))
        sequence.rewind(context)
        sequence.decode(WARM_UP_TOKENS)
        started = time.perf_counter()
        sequence.decode(tokens)
        speeds.append(tokens / (time.perf_counter() - started))
    _keep_best(rates, read_bandwidth(PROBE_BYTES, threads, PROBE_PASSES, decoder.isa))
    reader = max(rates, key=lambda name: rates[name])
    mean_context = context + WARM_UP_TOKENS + (tokens - 1) / 2
    return DecodeReport(
        machine=this_machine(),
        shape=shape_name,
        config=config,
        packing=packing,
        head_type=head_type,
        threads=threads,
        isa=decoder.isa,
        context_tokens=context,
        tokens_per_run=tokens,
        speed=Spread.of(speeds),
        bytes_per_token=weights.bytes_per_token + round(mean_context * _kv_bytes_per_token(config)),
        model_bytes=weights.total_bytes,
        bandwidth=rates[reader],
        bandwidth_reader=reader,
    )


class _CountedWeights:
    """Every matrix of a random model, made once, and how many bytes a token reads of them."""

    def __init__(self, model: RandomModel) -> None:
        self.matrices = dict(model)
        sizes = {name: _num_bytes(matrix) for name, matrix in self.matrices.items()}
        self.total_bytes = sum(sizes.values())
        self.bytes_per_token = self.total_bytes
        if "output_head" in self.matrices:  # then a token reads one row of the embedding, not all of them
            self.bytes_per_token -= sizes["embedding"] - sizes["embedding"] // self.matrices["embedding"].rows


class _Sequence:
    """One sequence that feeds itself the likeliest token."""

    def __init__(self, decoder: Decoder, cache: KvCache, vocab_size: int, seed: int) -> None:
        self._decoder = decoder
        self._cache = cache
        self._random = np.random.default_rng(seed)
        self._vocab_size = vocab_size
        self._table = np.arange(cache.num_blocks, dtype=np.int32).reshape(1, -1)
        self._num_cached = 0
        self._next = 0

    def prefill(self, count: int) -> None:
        """Begin with random tokens."""
        self._feed(self._random.integers(self._vocab_size, size=count, dtype=np.int32))

    def rewind(self, num_tokens: int) -> None:
        """Forget all but the first tokens; the next ones take their place."""
        self._num_cached = num_tokens

    def decode(self, count: int) -> None:
        """Generate tokens one by one."""
        for _ in range(count):
            self._feed(np.array([self._next], np.int32))

    def _feed(self, token_ids: np.ndarray[Any, np.dtype[np.int32]]) -> None:
        logits = self._decoder.forward(
            self._cache,
            token_ids,
            np.array([0, len(token_ids)], np.int32),
            np.array([self._num_cached], np.int32),
            self._table,
            np.array([len(token_ids) - 1], np.int32),
        )
        self._next = int(logits[0].argmax())
        self._num_cached += len(token_ids)


def _keep_best(best: dict[str, float], rates: dict[str, float]) -> None:
    for name, rate in rates.items():
        best[name] = max(rate, best.get(name, 0.0))


def _num_bytes(matrix: PackedMatrix | FloatMatrix) -> int:
    return matrix.data.nbytes + (matrix.scales.nbytes if isinstance(matrix, PackedMatrix) else 0)


def _kv_bytes_per_token(config: ModelConfig) -> int:
    return config.num_layers * 2 * config.kv_size * 4
