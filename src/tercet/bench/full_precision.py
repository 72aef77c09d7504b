"""A model as it is, and the same model with its ternary matrices as floats: time and energy of the same work.

The floats are exactly the values that codes and scales mean, in a float type, through our own float products;
embeddings and head stay as they are. So both say nearly the same, and what differs is what the weights cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tercet.engine.opening import load_for, open_engine
from tercet.engine.processors import available_cores
from tercet.engine.request import Request
from tercet.errors import ParameterError
from tercet.formats.floats import FLOAT_TYPES, from_float32
from tercet.formats.matrices import FloatMatrix
from tercet.models.loading import LoadedModel
from tercet.models.profiles import engine_settings
from tercet.monitoring.energy import EnergyMeter
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.sampling.params import SamplingParams

__all__ = ["in_floats", "measure_precisions"]

PROMPT_TOKENS = 16
WARM_UP_TOKENS = 4


def measure_precisions(
    path: Path,
    tokens: int = 128,
    threads: int | None = None,
    type_name: str = "bf16",
    tell: Callable[[str], None] = lambda state: None,
) -> list[dict[str, Any]]:
    """Generate the same number of tokens with both, one after the other; joules are None where not measured.

    Raises:
        ParameterError: a count below 1, no such float type, or a context that is too short.
        TercetError: the model cannot be opened.
    """
    if tokens < 1:
        raise ParameterError(f"tokens are at least 1, not {tokens}")
    if type_name not in FLOAT_TYPES:
        raise ParameterError(f"a float type is one of {', '.join(FLOAT_TYPES)}, not {type_name!r}")
    settings = engine_settings(available_cores(), threads=threads, speculation="off", prefix_cache=False)
    loaded = load_for(path, settings)
    if loaded.config.max_context <= PROMPT_TOKENS + tokens:
        raise ParameterError(f"{tokens} tokens and a prompt do not fit into {loaded.config.max_context}")
    rows = []
    for name, model in (("ternary", loaded), (type_name, in_floats(loaded, type_name))):
        tell(name)
        opened = open_engine(model, settings, max_context=PROMPT_TOKENS + tokens)
        prompt = np.random.default_rng(0).integers(loaded.config.vocab_size, size=PROMPT_TOKENS).tolist()
        params = SamplingParams(temperature=0, ignore_eos=True)
        opened.engine.complete([Request(prompt, params, max_new_tokens=WARM_UP_TOKENS)])
        request = Request(prompt, params, max_new_tokens=tokens)
        begin = time.perf_counter()
        with EnergyMeter() as meter:
            opened.engine.complete([request])
        seconds = time.perf_counter() - begin
        rows.append(
            {
                "precision": name,
                "tokens": len(request.generated_ids),
                "milliseconds_per_token": 1e3 * seconds / len(request.generated_ids),
                "joules_per_1000_tokens": None
                if meter.joules is None
                else 1e3 * meter.joules / len(request.generated_ids),
                "reason": meter.reason,
            }
        )
        del opened, model
    return rows


def in_floats(loaded: LoadedModel, type_name: str) -> LoadedModel:
    """The same model with its ternary matrices as floats of a type, and activations that are not rounded."""
    return replace(
        loaded,
        config=replace(loaded.config, quantize_activations=False),
        weights=_Floats(loaded, type_name),
    )


class _Floats(Mapping[str, Any]):
    """Matrices, made when they are looked up."""

    def __init__(self, loaded: LoadedModel, type_name: str) -> None:
        self._loaded = loaded
        self._type = type_name

    def __getitem__(self, name: str) -> Any:
        ternary = self._loaded.reference_weights[name]
        if not isinstance(ternary, TernaryTensor):
            return self._loaded.weights[name]
        values = ternary.dequantize()
        rows, depth = values.shape
        return FloatMatrix(self._type, rows, depth, from_float32(values.reshape(-1), self._type))

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded.weights)

    def __len__(self) -> int:
        return len(self._loaded.weights)
