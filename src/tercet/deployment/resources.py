"""What a server needs of a container platform, computed from the model: memory, processors, settings.

    memory  =  program + uploads + weights + scratch       there whoever asks, or may be
             + the pool of keys and values

The engine gives its pool a quarter of the memory that the process may have (`kv_blocks.pool_size`), at most
the contexts of all sequences that share a step. So the limit is chosen for the pool that it leads to: four
times the contexts that were asked for, or what the rest needs beside such a quarter, whichever is more. Pages
of a mapped file count in a container as well as the process's own, so weights count once, wherever they lie.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tercet.engine.memory_plan import kv_bytes_per_token, scratch_bound, weights_bytes
from tercet.engine.processors import available_cores
from tercet.errors import ParameterError
from tercet.models.loading import load_model
from tercet.models.profiles import engine_settings
from tercet.models.registry import resolve

__all__ = ["Resources", "resources_of"]

PROGRAM_BYTES = 192 << 20
"""Interpreter, libraries, tokenizer, connections and figures of a server. One that has just started with the
shipped model has 109 MiB in RAM (Debian 12, Python 3.11, x86-64), 4 MiB of them weights."""
UPLOAD_BYTES = 64 << 20
"""Bodies of requests that are held at one time: `max_uploading` of the settings."""
QUEUE_FACTOR = 4
"""Requests that may wait, for each that runs."""
STEP = 64 << 20  # to which the memory is rounded up


@dataclass(frozen=True)
class Resources:
    """What one server needs; sizes in bytes."""

    model: str
    threads: int
    level: str
    kv_dtype: str
    context: int
    concurrent: int
    """Requests that run at once, each with a whole context in memory."""
    program: int
    uploads: int
    weights: int
    scratch: int
    context_bytes: int
    """Keys, values and logits of one sequence as long as the context."""
    pool_bytes: int
    """What the engine's pool of keys and values may grow to within `memory`."""
    memory: int
    """Request and limit of the container."""

    def settings(self) -> dict[str, Any]:
        """Settings of `tercet serve` that keep the server within it."""
        return {
            "context": self.context,
            "level": self.level,
            "max_concurrent": self.concurrent,
            "max_queued": QUEUE_FACTOR * self.concurrent,
            "max_uploading": self.uploads,
            "threads": self.threads,
        }

    def container(self) -> dict[str, dict[str, str]]:
        """`resources` of a container in Kubernetes.

        Memory is requested as it is limited, so that nothing else counts on it. Processors have no limit: at
        the end of its share a limited process stands still, in the midst of a step.
        """
        memory = f"{self.memory >> 20}Mi"
        return {"requests": {"cpu": str(self.threads), "memory": memory}, "limits": {"memory": memory}}

    def helm_values(self) -> str:
        """Both as values of the chart in deploy/helm, in YAML."""
        lines = [f"# {self.model}: {self.arithmetic()}"]
        for name, part in {"server": self.settings(), "resources": self.container()}.items():
            lines += [f"{name}:", *_yaml(part, 1)]
        return "\n".join(lines) + "\n"

    def arithmetic(self) -> str:
        """Where the memory goes, in a line."""
        parts = {
            "program": self.program,
            "uploads": self.uploads,
            "weights": self.weights,
            "scratch": self.scratch,
            "keys and values": self.pool_bytes,
        }
        told = " + ".join(f"{size / 2**20:.0f} MiB {name}" for name, size in parts.items())
        return f"{told} within {self.memory >> 20} MiB"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "settings": self.settings(), "container": self.container()}


def resources_of(
    model: str | os.PathLike[str] | None = None,
    *,
    context: int | None = None,
    concurrent: int | None = None,
    threads: int | None = None,
    level: str | None = None,
) -> Resources:
    """Work out what a server of this model needs.

    Args:
        model: name or path; None is the model that ships with the package.
        context: most tokens of prompt and answer together; None is what the model was trained for.
        concurrent: requests that run at once; None is as many as the engine lets share a step.
        threads: threads of the computation; None is what the level says on this machine.
        level: see `tercet.models.profiles`.

    Raises:
        ParameterError: a number is not possible.
        ModelNotFoundError, FormatError, UnsupportedModelError: the model cannot be read.
    """
    chosen = engine_settings(available_cores(), level, None, threads)
    path = resolve(model)
    loaded = load_model(path)
    config = loaded.config
    context = config.max_context if context is None else context
    if not 1 <= context <= config.max_context:
        raise ParameterError(f"context is from 1 to {config.max_context}, the model's own, not {context}")
    concurrent = chosen.max_sequences if concurrent is None else concurrent
    if not 1 <= concurrent <= chosen.max_sequences:
        raise ParameterError(
            f"concurrent is from 1 to {chosen.max_sequences}, which share a step, not {concurrent}"
        )
    weights, scratch = weights_bytes(config, loaded.tensors), scratch_bound(config, chosen.threads)
    keys_and_values = context * kv_bytes_per_token(config, chosen.kv_dtype)
    logits = 2 * 4 * config.vocab_size
    beside = PROGRAM_BYTES + UPLOAD_BYTES + weights + scratch + chosen.max_sequences * logits
    largest = chosen.max_sequences * keys_and_values
    least = min(beside + largest, beside * 4 // 3)  # beside the largest pool, or beside a quarter
    memory = -(-max(4 * concurrent * keys_and_values, least) // STEP) * STEP
    return Resources(
        model=str(loaded.metadata.get("name") or path.stem),
        threads=chosen.threads,
        level=chosen.level,
        kv_dtype=chosen.kv_dtype,
        context=context,
        concurrent=concurrent,
        program=PROGRAM_BYTES,
        uploads=UPLOAD_BYTES,
        weights=weights,
        scratch=scratch + chosen.max_sequences * logits,
        context_bytes=keys_and_values + logits,
        pool_bytes=min(largest, memory // 4),
        memory=memory,
    )


def _yaml(values: Mapping[str, Any], depth: int) -> list[str]:
    """Nested mappings of words and numbers; a word is quoted if it could be a number."""
    lines = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines += [f"{'  ' * depth}{name}:", *_yaml(value, depth + 1)]
        else:
            shown = f'"{value}"' if isinstance(value, str) and value.isdigit() else value
            lines.append(f"{'  ' * depth}{name}: {shown}")
    return lines
