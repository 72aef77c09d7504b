"""Settings that belong together: levels say how hard to try, scenarios where the model lives.

    LLM(level="aggressive")         more threads, smaller keys and values, shortcuts
    LLM(scenario="edge")            4 threads, 1 GiB for the whole process, sparing

A **level** chooses how the engine computes; `baseline` is there to compare with. What it switches off is what
its fields say: threads beyond the first, the copy of the weights on huge pages, guessed tokens. It computes
with the same kernels and the same operations (norm and rounding in one pass, one product for query, key and
value and for gate and up): these are the only path that there is, so no level is slower for want of fusion,
and a speed-up over `baseline` owes nothing to it. A **scenario** is a place:
its threads, its memory, which is enforced (`tercet.engine.memory_plan`), and what matters there, its
*priority*. Both may be given: the scenario then decides threads, memory, keys and values, the level the
rest. What a caller names himself wins over both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from tercet.errors import ParameterError

__all__ = [
    "ALL_THREADS",
    "DEFAULT_LEVEL",
    "LEVELS",
    "SCENARIOS",
    "SPECULATIONS",
    "EngineSettings",
    "Level",
    "Priority",
    "Scenario",
    "engine_settings",
]

ALL_THREADS = "all"
DEFAULT_LEVEL = "optimized"
SPECULATIONS = ("off", "prompt_lookup", "draft")
"""Who guesses tokens for a step to check: nobody, the text so far, or a second model."""
GIB = 1 << 30
T = TypeVar("T")


@dataclass(frozen=True)
class Level:
    """How hard the engine tries."""

    name: str
    summary: str
    max_threads: int
    """Threads, where the machine has as many cores."""
    kv_dtype: str
    """How keys and values are kept."""
    head: str
    """How logits are computed: `full`, or in `two_stage` where the head is stored in planes."""
    speculation: str
    """Who guesses tokens, one of SPECULATIONS."""
    weights_memory: str
    """Where a native file's weights lie: `mapped`, `huge`, or `auto`; see `tercet.formats.weights_memory`."""


@dataclass(frozen=True)
class Priority:
    """What matters, as limits of a step: how many sequences share it, and how much of a prompt it takes."""

    name: str
    summary: str
    max_sequences: int
    max_step_tokens: int


@dataclass(frozen=True)
class Scenario:
    """A place where a model lives."""

    name: str
    summary: str
    threads: int
    memory_bytes: int
    """For the whole process: interpreter, weights (mapped ones too), scratch memory, keys and values."""
    priority: Priority
    kv_dtype: str


@dataclass(frozen=True)
class EngineSettings:
    """What the engine is made with."""

    level: str
    scenario: str | None
    threads: int
    kv_dtype: str
    head: str
    weights_memory: str
    speculation: str
    prefix_cache: bool
    """Whether a prompt uses what earlier ones with the same beginning left in the KV cache."""
    max_sequences: int
    max_step_tokens: int
    memory_bytes: int | None
    """Most memory of the process, None for no limit of ours."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return asdict(self)


LEVELS: Mapping[str, Level] = {
    level.name: level
    for level in (
        Level("baseline", "one thread: what the others are compared with", 1, "f32", "full", "off", "mapped"),
        Level("optimized", "up to 4 threads, the same answers", 4, "f32", "full", "off", "auto"),
        Level(
            "aggressive",
            "up to 8 threads, keys and values in little more than a quarter, the head in two stages, "
            "guessed tokens",
            8,
            "int8",
            "two_stage",
            "prompt_lookup",
            "auto",
        ),
    )
}

LATENCY = Priority("latency", "few share a step, and a prompt is read in small pieces", 4, 64)
EFFICIENCY = Priority("efficiency", "weights that were read once serve several sequences", 8, 128)
THROUGHPUT = Priority("throughput", "many share a step, and prompts are read in large pieces", 16, 256)
SCALABILITY = Priority("scalability", "as many callers as the memory holds, up to 64 in a step", 64, 256)

SCENARIOS: Mapping[str, Scenario] = {
    place.name: place
    for place in (
        Scenario("mobile", "a telephone, one person who waits", 2, GIB // 2, LATENCY, "int8"),
        Scenario("edge", "a small computer beside other work", 4, GIB, EFFICIENCY, "int8"),
        Scenario("server", "a machine for a team", 8, 2 * GIB, THROUGHPUT, "f16"),
        Scenario("cloud", "one instance of many", 16, 4 * GIB, SCALABILITY, "f16"),
    )
}


def engine_settings(
    cores: int,
    level: str | None = None,
    scenario: str | None = None,
    threads: int | str | None = None,
    kv_dtype: str | None = None,
    head: str | None = None,
    speculation: str | None = None,
    prefix_cache: bool = True,
    weights_memory: str | None = None,
) -> EngineSettings:
    """Put a level, a scenario and what the caller named together.

    Args:
        cores: cores that the process may use; no profile takes more threads.
        level: one of LEVELS, None for the default.
        scenario: one of SCENARIOS, or none.
        threads: a number, which is taken as it is, `all` for `cores`, or None for what the profiles say.
        kv_dtype: how keys and values are kept, None for what the profiles say.
        head: how logits are computed, None for what the level says.
        speculation: one of SPECULATIONS, None for what the level says.
        prefix_cache: whether prompts share what is in the KV cache.
        weights_memory: where weights lie, None for what the level says.

    Raises:
        ParameterError: a name is unknown; the message lists those that exist.
    """
    if speculation is not None and speculation not in SPECULATIONS:
        raise ParameterError(f"there is no speculation {speculation!r}; there are {', '.join(SPECULATIONS)}")
    chosen = _named("level", LEVELS, DEFAULT_LEVEL if level is None else level)
    place = None if scenario is None else _named("scenario", SCENARIOS, scenario)
    priority = THROUGHPUT if place is None else place.priority
    if threads is None:
        threads = min(cores, chosen.max_threads if place is None else place.threads)
    elif threads == ALL_THREADS:
        threads = cores
    elif isinstance(threads, (str, bool)) or threads < 1:
        raise ParameterError(f"threads must be a whole number from 1, or {ALL_THREADS!r}, not {threads!r}")
    return EngineSettings(
        level=chosen.name,
        scenario=scenario,
        threads=threads,
        kv_dtype=kv_dtype or (chosen.kv_dtype if place is None else place.kv_dtype),
        head=head or chosen.head,
        weights_memory=weights_memory or chosen.weights_memory,
        speculation=speculation or chosen.speculation,
        prefix_cache=prefix_cache,
        max_sequences=priority.max_sequences,
        max_step_tokens=priority.max_step_tokens,
        memory_bytes=None if place is None else place.memory_bytes,
    )


def _named(kind: str, known: Mapping[str, T], name: str) -> T:
    if name not in known:
        raise ParameterError(f"there is no {kind} {name!r}; there are {', '.join(known)}")
    return known[name]
