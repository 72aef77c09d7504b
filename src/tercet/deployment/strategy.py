"""What every way of running a model offers: the Protocol, and what goes in and comes out.

    strategy = create("native", model, DeploymentSettings(threads=2))
    strategy.availability()            # may this machine run it? quick, loads nothing, raises nothing
    strategy.set_up()                  # once: find or install the program, convert the model
    strategy.deploy()                  # load the model, start the process: afterwards it answers
    strategy.generate(GenerationRequest("Once upon a time"))
    strategy.close()                   # and nothing of it is left

`test` does one short generation and reports a failure instead of raising it; `metrics` says what was done so
far. A strategy is used by one thread at a time. Everything here is plain data, which goes between processes
as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from tercet.errors import ParameterError

__all__ = [
    "GENERATION_SECONDS",
    "TEST_SECONDS",
    "Availability",
    "DeploymentSettings",
    "Generation",
    "GenerationRequest",
    "Metrics",
    "Piece",
    "Strategy",
    "Trial",
]

GENERATION_SECONDS = 60.0
"""How long a generation may take, where the request does not say."""
TEST_SECONDS = 30.0
"""How long the generation of a test may take."""
TEST_PROMPT = "Once upon a time"
TEST_TOKENS = 16


@dataclass(frozen=True)
class DeploymentSettings:
    """What a user may say about running a model anywhere; each strategy takes what concerns it."""

    threads: int | None = None
    """Threads of the computation; None is one for each physical core."""
    max_context: int | None = None
    """Most tokens of prompt and answer together; None is what the model was trained for."""
    prefix_cache: bool = True
    """Whether a prompt may use what was computed of an earlier one."""
    folder: str | None = None
    """Where models are kept that had to be converted; None is a folder in the cache."""
    program: str | None = None
    """For bitnet_cpp: llama-server, run_inference.py, or the folder of a build; None looks for one."""
    install: bool = False
    """For bitnet_cpp: whether to make a build where there is none."""
    start_seconds: int = 120
    """How long a program may take to load the model."""
    endpoint: str | None = None
    """For remote: the address that the routes of an OpenAI-compatible API begin with, as https://HOST/v1."""
    endpoint_model: str | None = None
    """For remote: the model to ask for; None where there is only one."""
    endpoint_key_file: str | None = None
    """For remote: a file with the API key."""
    send_prompts: bool = False
    """For remote: whether prompts may leave this machine."""

    def __post_init__(self) -> None:
        for name in ("threads", "max_context", "start_seconds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ParameterError(f"{name} must be at least 1, not {value}")


@dataclass(frozen=True)
class Availability:
    """Whether a strategy can run here."""

    available: bool
    reason: str
    """What was found (program and version), or what is missing."""
    steps: tuple[str, ...] = ()
    """Commands that would make it available, in their order."""


@dataclass(frozen=True)
class GenerationRequest:
    """One text to continue.

    Raises:
        ParameterError: a value is out of its range.
    """

    prompt: str
    max_tokens: int = 64
    temperature: float = 0.0
    """0 takes the most likely token always."""
    seed: int | None = None
    chat: bool = False
    """Whether the prompt is a user's message, to be put through the model's chat template."""
    timeout_seconds: float = GENERATION_SECONDS

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ParameterError(f"max_tokens must be at least 1, not {self.max_tokens}")
        if not 0 <= self.temperature <= 2:
            raise ParameterError(f"temperature must be from 0 to 2, not {self.temperature}")
        if not self.timeout_seconds > 0:
            raise ParameterError(f"timeout_seconds must be positive, not {self.timeout_seconds}")


@dataclass(frozen=True)
class Piece:
    """A part of an answer, as it came.

    Counts and `finish_reason` may stand in any piece, most often the last; they speak of the whole answer.
    """

    text: str
    token_ids: tuple[int, ...] | None = None
    """Tokens told now, perhaps of earlier text: joined, they are the answer's. None where none are told."""
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    """Tokens of the whole answer, as the program counted them."""
    finish_reason: str | None = None
    """"stop" (the model ended the text) or "length"."""


@dataclass(frozen=True)
class Generation:
    """A whole answer, and what it cost; None is what nobody counted, never a guess."""

    strategy: str
    """Who answered."""
    text: str
    seconds: float
    """Wall-clock seconds from the request to the end."""
    time_to_first_token_seconds: float | None
    """Until the first piece came; None where the program gives its answer in one piece."""
    token_ids: tuple[int, ...] | None = None
    """The tokens of the answer, without one that ended it."""
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    finish_reason: str | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens that were counted in a second of the whole generation, the prompt's reading included."""
        return None if self.generated_tokens is None else self.generated_tokens / self.seconds


@dataclass(frozen=True)
class Metrics:
    """What a strategy has done since it was deployed."""

    requests: int
    successful: int
    generated_tokens: int
    """Of the successful requests whose tokens were counted."""
    counted_seconds: float
    """What these requests took."""
    average_seconds: float | None
    """Of the successful requests."""
    median_time_to_first_token_seconds: float | None
    memory_bytes: int | None
    """Resident memory of the processes that compute; None where they are out of sight."""

    @property
    def success_rate(self) -> float | None:
        """Share of the requests that were successful; None before the first."""
        return self.successful / self.requests if self.requests else None

    @property
    def tokens_per_second(self) -> float | None:
        """From tokens that were counted, never from the most that were asked for."""
        return self.generated_tokens / self.counted_seconds if self.counted_seconds else None

    def to_dict(self) -> dict[str, Any]:
        """The fields and what follows from them."""
        return {
            **asdict(self),
            "success_rate": self.success_rate,
            "tokens_per_second": self.tokens_per_second,
        }


@dataclass(frozen=True)
class Trial:
    """What a test found."""

    strategy: str
    success: bool
    reason: str
    """Empty, or why it failed and what to do."""
    generation: Generation | None = None
    memory_bytes: int | None = None


@runtime_checkable
class Strategy(Protocol):
    """A way of running one model. `tercet.deployment.measured` writes half of it for an implementer."""

    @property
    def name(self) -> str:
        """What users call it."""

    @property
    def comparable(self) -> bool:
        """Whether it computes this very model, so that its tokens can be compared with the reference's."""

    def availability(self) -> Availability:
        """Say whether this machine can run it, and why not; quick, loads no model, raises no TercetError."""

    def set_up(self) -> None:
        """Do what is to be done once: find or install the program, convert the model.

        Raises:
            TercetError: it cannot be done; the message says why and what to do.
        """

    def deploy(self) -> None:
        """Load the model or start the process, and return when it can answer; sets up first.

        Raises:
            TercetError: it does not start, or is not ready in time.
        """

    def generate(self, request: GenerationRequest) -> Generation:
        """Return a whole answer.

        Raises:
            UnavailableError: it is not deployed, or no longer there.
            DeadlineError: the answer did not end within the request's time.
            TercetError: any other failure.
        """

    def stream(self, request: GenerationRequest) -> Iterator[str]:
        """Give the answer in pieces as they come; raises as `generate` does."""

    def test(self, request: GenerationRequest | None = None) -> Trial:
        """Deploy if need be and generate a few tokens; what goes wrong is reported, not raised."""

    def metrics(self) -> Metrics:
        """Say what was done since it was deployed."""

    def close(self) -> None:
        """End processes, free memory; may be called twice, and the strategy may be deployed again."""
