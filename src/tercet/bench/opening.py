"""How long a model takes to open, and what it occupies once it has computed: `tercet bench open`.

Each run is a process of its own, as every start of `tercet run` is. Time counts from the path to a decoder
that is ready; importing the program is not in it. The first run reads and checks the whole file, the others
find it in the page cache and known to be whole (`tercet.formats.tercet.verified`). What is resident is
measured after a prompt and some tokens, when every weight has been read; the interpreter and its libraries,
which are there before, and the KV cache are given apart.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tercet.bench.machine import Machine, this_machine
from tercet.bench.spread import Spread
from tercet.engine.memory import measure_memory
from tercet.engine.processors import available_cores
from tercet.errors import ParameterError, TercetError
from tercet.kernels.decoder import Decoder, KvCache
from tercet.models.loading import load_model

__all__ = ["OpenReport", "bench_open"]

BLOCK_TOKENS = 16
PROMPT_TOKENS = 32
DECODED_TOKENS = 16
_CHILD = "import sys; from tercet.bench.opening import open_here; open_here(*sys.argv[1:])"


@dataclass(frozen=True)
class OpenReport:
    """What was measured. `first_seconds` is the run that checked the file."""

    machine: Machine
    model: str
    file_bytes: int
    first_seconds: float
    seconds: Spread
    before_bytes: int
    """Resident before the model was opened: interpreter and libraries."""
    resident_bytes: int
    """Resident after it has computed, all together."""
    kv_cache_bytes: int

    @property
    def model_bytes(self) -> int:
        """What the model itself occupies, scratch memory included."""
        return self.resident_bytes - self.before_bytes - self.kv_cache_bytes

    @property
    def share_of_file(self) -> float:
        """The same as a multiple of the file."""
        return self.model_bytes / self.file_bytes

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "seconds": self.seconds.median,
            "first_seconds": self.first_seconds,
            "share_of_file": self.share_of_file,
            "file_bytes": self.file_bytes,
            "model_bytes": self.model_bytes,
            "kv_cache_bytes": self.kv_cache_bytes,
            "before_bytes": self.before_bytes,
            "resident_bytes": self.resident_bytes,
            "runs": self.seconds.to_dict(),
            "model": self.model,
            "machine": self.machine.to_dict(),
        }


def bench_open(
    model: Path,
    name: str | None = None,
    threads: int | None = None,
    runs: int = 5,
    progress: Callable[[str], None] = lambda state: None,
) -> OpenReport:
    """Open a model in fresh processes, once to check it and `runs` times more.

    Raises:
        ParameterError: a count is below 1.
        TercetError: the model cannot be opened.
    """
    if runs < 1:
        raise ParameterError(f"runs must be at least 1, not {runs}")
    found = []
    with tempfile.TemporaryDirectory(prefix="tercet-") as cache:
        for run in range(runs + 1):
            progress(f"run {run} of {runs}" if run else "first opening")
            found.append(_opened(model, threads or available_cores(), cache))
    last = found[-1]
    return OpenReport(
        machine=this_machine(),
        model=name or str(model),
        file_bytes=_size(model),
        first_seconds=found[0]["seconds"],
        seconds=Spread.of([one["seconds"] for one in found[1:]]),
        before_bytes=int(last["before_bytes"]),
        resident_bytes=int(last["resident_bytes"]),
        kv_cache_bytes=int(last["kv_cache_bytes"]),
    )


def open_here(path: str, threads: str) -> None:
    """Open a model in this process, compute a little, and print what was measured as JSON."""
    model = Path(path)
    before = measure_memory(model, 0).resident_bytes
    started = time.perf_counter()
    loaded = load_model(model)
    decoder = Decoder(loaded.config, loaded.weights, threads=int(threads))
    seconds = time.perf_counter() - started
    num_blocks = -(-(PROMPT_TOKENS + DECODED_TOKENS) // BLOCK_TOKENS)
    cache = KvCache(decoder, num_blocks, BLOCK_TOKENS)
    table = np.arange(num_blocks, dtype=np.int32).reshape(1, -1)
    done = 0
    for count in (PROMPT_TOKENS, *[1] * DECODED_TOKENS):
        tokens = (np.arange(done, done + count) * 7919 % loaded.config.vocab_size).astype(np.int32)
        spans = np.array([0, count], np.int32), np.array([done], np.int32)
        decoder.forward(cache, tokens, *spans, table, np.array([count - 1], np.int32))
        done += count
    figures = {
        "seconds": seconds,
        "before_bytes": before,
        "resident_bytes": measure_memory(model, 0).resident_bytes,
        "kv_cache_bytes": cache.nbytes,
    }
    print(json.dumps(figures))


def _opened(model: Path, threads: int, cache: str) -> dict[str, float]:
    finished = subprocess.run(
        [sys.executable, "-c", _CHILD, str(model), str(threads)],
        capture_output=True,
        text=True,
        env={**os.environ, "TERCET_CACHE": cache},
        check=False,
    )
    if finished.returncode:
        reason = (finished.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise TercetError(f"{model} cannot be opened and run: {reason}")
    return dict(json.loads(finished.stdout))


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
