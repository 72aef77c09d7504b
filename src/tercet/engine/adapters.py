"""The adapters of a model: loaded by name, chosen by request, exchanged while others generate.

    adapters = AdapterSet(decoder, config)
    adapters.load("pirate", "runs/pirate/adapter")
    request.adapters = adapters.chosen("pirate")

A request keeps what it was given: an adapter that is unloaded or replaced meanwhile serves it to its end and
is gone with the last of them. Keys and values depend on the adapter, so requests share prefixes only where
adapters (their contents, not their names) and weights are the same.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tercet.engine.devices import StepDecoder, make_adapter
from tercet.errors import FormatError, ModelNotFoundError, ParameterError
from tercet.formats.mapped_file import guarded_files
from tercet.kernels.adapter import Adapter
from tercet.models.adapters import load_adapter
from tercet.models.config import ModelConfig

__all__ = ["AdapterChoice", "AdapterSet", "ChosenAdapter", "LoadedAdapter", "adapter_salt"]

AdapterChoice: TypeAlias = "str | Mapping[str, float] | None"
"""One by its name, or several with the factor of each; None is what `AdapterSet.defaults` says."""
MOST_CHOSEN = 8
"""Adapters of one request."""


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """An adapter that requests may name."""

    name: str
    path: Path
    number: int
    """How many were loaded before it. A request's adapters are added in this order, so it is in the salt."""
    adapter: Adapter
    digest: bytes
    rank: int
    num_bytes: int


@dataclass(frozen=True, eq=False)
class ChosenAdapter:
    """An adapter of a request."""

    loaded: LoadedAdapter
    weight: float = 1.0


def adapter_salt(adapters: Sequence[ChosenAdapter], salt: bytes) -> bytes:
    """What keeps apart the prefixes of requests with this salt and these adapters; `salt` without any."""
    if not adapters:
        return salt
    digest = hashlib.blake2b(b"adapters", digest_size=32)
    for chosen in sorted(adapters, key=lambda one: one.loaded.number):
        digest.update(chosen.loaded.digest + struct.pack("<d", chosen.weight))
    return b"adapters\0" + digest.digest() + salt


class AdapterSet:
    """Adapters by name. Thread-safe.

    Args:
        decoder: what will apply them.
        config: its model's.
    """

    def __init__(self, decoder: StepDecoder, config: ModelConfig) -> None:
        self._decoder: StepDecoder | None = decoder
        self._config = config
        self._loaded: dict[str, LoadedAdapter] = {}
        self._defaults: Mapping[str, float] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def __contains__(self, name: object) -> bool:
        return name in self._loaded

    def __len__(self) -> int:
        return len(self._loaded)

    @property
    def names(self) -> tuple[str, ...]:
        """Those that requests may name, in the order in which they were loaded."""
        return tuple(self._loaded)

    def get(self, name: str) -> LoadedAdapter:
        """Return the adapter of a name; ModelNotFoundError where there is none."""
        try:
            return self._loaded[name]
        except KeyError as error:
            known = ", ".join(self._loaded) or "none"
            raise ModelNotFoundError(f"there is no adapter {name!r} here; there are {known}") from error

    def load(self, name: str, path: str | os.PathLike[str]) -> LoadedAdapter:
        """Read an adapter and offer it under a name, whose former adapter it replaces.

        Raises:
            ParameterError: the name is empty, or the model has been closed.
            ModelNotFoundError, FormatError, UnsupportedModelError: see `load_adapter`. What was loaded stays.
        """
        if not name or name != name.strip() or not name.isprintable():
            raise ParameterError(f"the name of an adapter is a word, not {name!r}")
        decoder = self._decoder
        if decoder is None:
            raise ParameterError("the model has been closed; open it again")
        with guarded_files() as files:
            read = load_adapter(path, self._config)  # its matrices are copies: the files are needed only here
        if any(file.is_damaged for file in files):
            raise FormatError(f"{read.path} has become shorter while it was read; get it again")
        with self._lock:
            adapter = make_adapter(
                decoder, read.pairs
            )  # here, so that the core numbers them in the same order
            loaded = LoadedAdapter(
                name, read.path, next(self._numbers), adapter, read.digest, read.rank, read.num_bytes
            )
            self._loaded = {**self._loaded, name: loaded}
        return loaded

    def unload(self, name: str) -> None:
        """Take an adapter's name away; requests that have it keep it. ModelNotFoundError if there is none."""
        with self._lock:
            self.get(name)
            self._loaded = {other: one for other, one in self._loaded.items() if other != name}
            self._defaults = {other: one for other, one in self._defaults.items() if other != name}

    @property
    def defaults(self) -> Mapping[str, float]:
        """The factors of adapters for requests that choose none: nothing, unless somebody has set them."""
        return self._defaults

    def set_defaults(self, weights: Mapping[str, float]) -> None:
        """Have requests that choose no adapter use these; raises what `chosen` does."""
        with self._lock:
            self.chosen(weights)
            self._defaults = {name: float(weight) for name, weight in weights.items() if weight != 0}

    def chosen(self, choice: AdapterChoice) -> tuple[ChosenAdapter, ...]:
        """Return the adapters for a request; None chooses the defaults, an empty mapping none.

        Raises:
            ModelNotFoundError: there is no adapter of a name.
            ParameterError: a factor is not a finite number, or there are too many adapters.
        """
        if choice is None:
            choice = self._defaults
        weights = {choice: 1.0} if isinstance(choice, str) else choice
        if len(weights) > MOST_CHOSEN:
            raise ParameterError(f"a request has at most {MOST_CHOSEN} adapters, not {len(weights)}")
        for name, weight in weights.items():
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight):
                raise ParameterError(f"the factor of adapter {name} is a finite number, not {weight!r}")
        return tuple(
            ChosenAdapter(self.get(name), float(weight)) for name, weight in weights.items() if weight != 0
        )

    def close(self) -> None:
        """Let go of all, and of the decoder."""
        with self._lock:
            self._decoder = None
            self._loaded = {}
            self._defaults = {}
