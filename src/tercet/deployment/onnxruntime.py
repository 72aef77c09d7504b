"""A model as an ONNX graph, computed by onnxruntime in this process.

The graph and its keys and values are onnxruntime's; text, sampling and the end of an answer are ours, because
onnxruntime has none of them.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tercet.deployment.converted import check_generates, check_memory, converted
from tercet.deployment.measured import MeasuredStrategy
from tercet.deployment.prompts import PromptReader
from tercet.deployment.strategy import Availability, DeploymentSettings, GenerationRequest, Piece
from tercet.engine.processors import available_cores
from tercet.environment import optional_import
from tercet.errors import TercetError, UnavailableError
from tercet.models.loading import load_model
from tercet.models.registry import resolve
from tercet.sampling.params import SamplingParams
from tercet.sampling.reference import sample
from tercet.tokenization import IncrementalDecoder

if TYPE_CHECKING:
    from tercet.conversion.onnx.session import OnnxDecoder

__all__ = ["OnnxRuntimeStrategy"]

EXTRA = "onnx"
FORM = "onnx"
BYTES_PER_CODE, BYTES_PER_OTHER = 0.25, 4


@dataclass(frozen=True)
class _Deployed:
    decoder: OnnxDecoder
    prompts: PromptReader


class OnnxRuntimeStrategy(MeasuredStrategy):
    """A model in onnxruntime."""

    name = "onnxruntime"

    def __init__(self, model: str | None, settings: DeploymentSettings) -> None:
        super().__init__()
        self._model = model
        self._settings = settings
        self._deployed: _Deployed | None = None

    def availability(self) -> Availability:
        """See `Strategy`."""
        try:
            versions = [f"{name} {importlib.metadata.version(name)}" for name in ("onnxruntime", "onnx")]
        except importlib.metadata.PackageNotFoundError as error:
            return Availability(
                False,
                f"the Python package {error.name} is not installed",
                (f"pip install 'tercet[{EXTRA}]'",),
            )
        try:
            source = load_model(resolve(self._model), verify=False)
            check_generates(source)
            check_memory(source, BYTES_PER_CODE, BYTES_PER_OTHER)
        except TercetError as error:
            return Availability(False, str(error))
        return Availability(True, ", ".join(versions))

    def set_up(self) -> None:
        """See `Strategy`: the model is exported as a graph."""
        converted(resolve(self._model), FORM, self._settings, self._export)

    def _export(self, target: Path) -> None:
        from tercet.conversion.onnx import export_onnx

        export_onnx(load_model(resolve(self._model)), target)

    def deploy(self) -> None:
        """See `Strategy`."""
        if self._deployed is not None:
            return
        optional_import("onnxruntime", EXTRA)
        from tercet.conversion.onnx.session import OnnxDecoder

        self.set_up()
        path = resolve(self._model)
        folder = converted(path, FORM, self._settings)
        threads = self._settings.threads or available_cores()
        try:
            decoder = OnnxDecoder(folder / "model.onnx", threads)
        except Exception as error:  # onnxruntime's errors have no ancestor of their own
            raise UnavailableError(
                f"onnxruntime does not open {folder}: {error}. Remove the folder to have it made again."
            ) from error
        self._deployed = _Deployed(decoder, PromptReader(load_model(path), self._settings.max_context))

    def close(self) -> None:
        """See `Strategy`."""
        self._deployed = None

    def _pieces(self, request: GenerationRequest) -> Generator[Piece, None, None]:
        if self._deployed is None:
            raise UnavailableError(f"{self.name} is not deployed: call deploy() first")
        decoder, prompts = self._deployed.decoder, self._deployed.prompts
        prompt = prompts.ids(request)
        params = SamplingParams(temperature=request.temperature, top_p=1, seed=request.seed).seeded()
        text, ids, num_tokens, ending = IncrementalDecoder(prompts.tokenizer), prompt, 0, "length"
        decoder.restart()
        for step in range(prompts.room(request, len(prompt))):
            token = sample(self._logits(decoder, ids), params, step=step)
            if token in prompts.stop_ids:
                ending = "stop"
                break
            ids, num_tokens = [token], num_tokens + 1
            yield Piece(text.push(token), (token,))
        yield Piece(text.finish(), (), len(prompt), num_tokens, ending)

    def _logits(self, decoder: OnnxDecoder, ids: list[int]) -> npt.NDArray[np.float32]:
        try:
            last: npt.NDArray[np.float32] = decoder.forward(ids)[-1]
        except Exception as error:  # onnxruntime's errors have no ancestor of their own
            raise UnavailableError(f"onnxruntime fails: {error}") from error
        return last
