"""Our own engine, in this process."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Generator

from tercet.deployment.converted import check_generates, check_memory
from tercet.deployment.measured import MeasuredStrategy
from tercet.deployment.strategy import Availability, DeploymentSettings, GenerationRequest, Piece
from tercet.errors import TercetError, UnavailableError
from tercet.kernels.isa import choose_isa
from tercet.llm import LLM
from tercet.models.loading import load_model
from tercet.models.registry import resolve
from tercet.sampling.params import SamplingParams

__all__ = ["NativeStrategy"]

BYTES_PER_CODE, BYTES_PER_OTHER = 0.2, 1


class NativeStrategy(MeasuredStrategy):
    """A model in Tercet's engine."""

    name = "native"

    def __init__(self, model: str | None, settings: DeploymentSettings) -> None:
        super().__init__()
        self._model = model
        self._settings = settings
        self._llm: LLM | None = None

    def availability(self) -> Availability:
        """See `Strategy`."""
        try:
            source, (isa, _) = load_model(resolve(self._model), verify=False), choose_isa()
            check_generates(source)
            check_memory(source, BYTES_PER_CODE, BYTES_PER_OTHER)
        except TercetError as error:
            return Availability(False, str(error))
        return Availability(True, f"tercet {importlib.metadata.version('tercet')}, kernels for {isa}")

    def set_up(self) -> None:
        """See `Strategy`: there is nothing to set up."""

    def deploy(self) -> None:
        """See `Strategy`."""
        if self._llm is None:
            self._llm = LLM(
                self._model,
                threads=self._settings.threads,
                max_context=self._settings.max_context,
                prefix_cache=self._settings.prefix_cache,
            )

    def close(self) -> None:
        """See `Strategy`."""
        if self._llm is not None:
            self._llm.close()
            self._llm = None

    def _pieces(self, request: GenerationRequest) -> Generator[Piece, None, None]:
        if self._llm is None:
            raise UnavailableError(f"{self.name} is not deployed: call deploy() first")
        # Nothing but the temperature shapes the choice, so that strategies can be compared.
        params = SamplingParams(
            temperature=request.temperature,
            max_tokens=request.max_tokens,
            seed=request.seed,
            top_p=1,
            top_k=0,
            min_p=0,
            repetition_penalty=1,
        )
        if request.chat:
            stream = self._llm.stream_chat([{"role": "user", "content": request.prompt}], params)
        else:
            stream = self._llm.stream(request.prompt, params)
        with stream:
            for text in stream:
                yield Piece(text)
            done = stream.result
            yield Piece(
                "",
                tuple(done.token_ids),
                prompt_tokens=done.prompt_tokens,
                generated_tokens=done.generated_tokens,
                finish_reason=done.finish_reason,
            )
