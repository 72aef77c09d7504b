"""A model as GGUF in another program of this machine: llama-server, or bitnet.cpp's script.

Prompts go to the server as token ids, so that model and prompt are the same as ours; the tokens come back
where the release tells them. What rounds activations in another way than the model says (every type of
llama.cpp but I2_S does) may choose other tokens: `tercet deploy test` shows the first, with its margin.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.conversion import convert
from tercet.conversion.outputs.gguf import fitting_types, usual_type
from tercet.deployment.benchmark import Benchmark, benchmark
from tercet.deployment.bitnet_cpp.installation import install, installation_folder, shown_steps
from tercet.deployment.bitnet_cpp.program import Program, find, version
from tercet.deployment.bitnet_cpp.script import run_script
from tercet.deployment.bitnet_cpp.server import LlamaServer
from tercet.deployment.converted import check_generates, check_memory, converted
from tercet.deployment.measured import MeasuredStrategy
from tercet.deployment.prompts import PromptReader
from tercet.deployment.strategy import Availability, DeploymentSettings, GenerationRequest, Piece
from tercet.engine.processors import available_cores
from tercet.errors import FormatError, TercetError, UnavailableError
from tercet.models.loading import LoadedModel, load_model
from tercet.models.registry import resolve

__all__ = ["BitnetCppStrategy"]

BYTES_PER_CODE, BYTES_PER_OTHER = 0.25, 2
DYING_SECONDS = 1.0


@dataclass(frozen=True)
class _Deployed:
    program: Program
    model: Path
    prompts: PromptReader
    server: LlamaServer | None
    """None: each answer is a process of its own."""


class BitnetCppStrategy(MeasuredStrategy):
    """A model in bitnet.cpp or llama.cpp."""

    name = "bitnet_cpp"

    def __init__(self, model: str | None, settings: DeploymentSettings) -> None:
        super().__init__()
        self._model = model
        self._settings = settings
        self._deployed: _Deployed | None = None

    def availability(self) -> Availability:
        """See `Strategy`."""
        folder = installation_folder()
        try:
            program = find(self._settings.program, folder)
        except UnavailableError as error:
            if self._settings.program is not None:
                return Availability(False, str(error))
            steps = shown_steps(folder)
            if self._settings.install:
                return Availability(True, f"to be built in {folder}", steps)
            return Availability(False, str(error), steps)
        try:
            number = version(program)
            source = load_model(resolve(self._model), verify=False)
            check_generates(source)
            check_memory(source, BYTES_PER_CODE, BYTES_PER_OTHER)
        except TercetError as error:
            return Availability(False, str(error))
        return Availability(True, f"{program.family} {number}: {program.path}")

    def set_up(self) -> None:
        """See `Strategy`: a build is found or, where the user said so, made; the model is written as GGUF."""
        source = load_model(resolve(self._model))
        check_generates(source)
        self._gguf(self._program(), source)

    def deploy(self) -> None:
        """See `Strategy`."""
        if self._deployed is not None:
            if self._deployed.server is None or self._deployed.server.runs:
                return
            self.close()  # it has ended by itself, and is started again
        source = load_model(resolve(self._model))
        check_generates(source)
        program = self._program()
        version(program)
        model = self._gguf(program, source)
        prompts = PromptReader(source, self._settings.max_context)
        server = None
        if program.kind == "server":
            server = LlamaServer(
                program.path, model, prompts.max_context, self._threads(), self._settings.start_seconds
            )
        self._deployed = _Deployed(program, model, prompts, server)

    def close(self) -> None:
        """See `Strategy`."""
        if self._deployed is not None and self._deployed.server is not None:
            self._deployed.server.close()
        self._deployed = None

    def benchmark(self, prompts: Sequence[str], num_runs: int = 3) -> Benchmark:
        """Answer every prompt so many times. See `tercet.deployment.benchmark`."""
        return benchmark(self, prompts, num_runs)

    def _program(self) -> Program:
        folder = installation_folder()
        try:
            return find(self._settings.program, folder)
        except UnavailableError:
            if self._settings.program is not None or not self._settings.install:
                raise
        install(folder)
        return find(None, folder)

    def _gguf(self, program: Program, source: LoadedModel) -> Path:
        if _is_gguf(source.path):
            return source.path
        # Squared ReLU between sub-norms is run by bitnet.cpp and its relatives alone, and they read I2_S.
        bitnet = program.family == "bitnet.cpp" or source.config.activation == "relu2"
        kind = "i2_s" if bitnet and "I2_S" in fitting_types(source) else usual_type(source).lower()
        return converted(
            source.path,
            f"{kind}.gguf",
            self._settings,
            lambda target: convert(source, target, to=f"gguf-{kind}"),
        )

    def _threads(self) -> int:
        return self._settings.threads or available_cores()

    def _memory_bytes(self) -> int | None:
        server = None if self._deployed is None else self._deployed.server
        return None if server is None else server.memory_bytes()

    def _pieces(self, request: GenerationRequest) -> Generator[Piece, None, None]:
        if self._deployed is None:
            raise UnavailableError(f"{self.name} is not deployed: call deploy() first")
        prompts = self._deployed.prompts
        ids = prompts.ids(request)
        room = prompts.room(request, len(ids))
        if self._deployed.server is None:
            yield self._said(self._deployed, request, room)
            return
        server = self._deployed.server
        events = server.endpoint.stream(
            "/completion", self._body(request, ids, room), request.timeout_seconds
        )
        try:
            yield from _streamed(events, server.endpoint.label, prompts.stop_ids)
        except UnavailableError as error:
            if not server.ends_within(DYING_SECONDS):
                raise
            raise UnavailableError(server.how_it_ended()) from error

    def _said(self, deployed: _Deployed, request: GenerationRequest, room: int) -> Piece:
        program, prompts = deployed.program, deployed.prompts
        text, reason = run_script(
            program.path, deployed.model, request, room, prompts.max_context, self._threads()
        )
        # The script counts nothing; these are the tokens of the text that it gave.
        return Piece(text, generated_tokens=len(prompts.tokenizer.encode(text)), finish_reason=reason)

    def _body(self, request: GenerationRequest, ids: list[int], room: int) -> dict[str, Any]:
        """Nothing but the temperature shapes the choice, so that strategies can be compared."""
        return {
            "prompt": ids,
            "n_predict": room,
            "temperature": request.temperature,
            "seed": -1 if request.seed is None else request.seed,
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.0,
            "repeat_penalty": 1.0,
            "cache_prompt": self._settings.prefix_cache,
            "return_tokens": True,
            "stream": True,
        }


def _is_gguf(path: Path) -> bool:
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def _streamed(
    events: Iterator[dict[str, Any]], label: str, stop_ids: frozenset[int]
) -> Generator[Piece, None, None]:
    """The pieces of llama.cpp's own stream; the last event says `stop`, why, and the counts.

    Tokens whose text ends within a character are told by no event. Then those of the answer are not known.
    """
    told: list[int] = []
    try:
        for event in events:
            if "error" in event:
                raise UnavailableError(f"{label} ended its answer with an error: {event['error']}")
            text = event["content"]
            if not isinstance(text, str):
                raise TypeError
            told += [int(token) for token in event.get("tokens") or ()]
            if not event.get("stop"):
                yield Piece(text)
                continue
            count = int(event["tokens_predicted"])
            by_token = event.get("stop_type") in ("eos", "word") or bool(event.get("stopped_eos"))
            yield Piece(
                text,
                # The token that ends an answer is told too, with no text, and is no part of it.
                tuple(token for token in told if token not in stop_ids) if len(told) == count else None,
                int(event["tokens_evaluated"]),
                count,
                "stop" if by_token else "length",
            )
            return
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{label} sent an event that is none of llama.cpp's") from error
    raise UnavailableError(f"{label} ended its answer before it was whole")
