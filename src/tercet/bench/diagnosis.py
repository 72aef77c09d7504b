"""What this machine can do and whether the installation does it right: the content of `tercet doctor`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from tercet.bench.machine import Machine, this_machine
from tercet.engine.processors import available_cores
from tercet.errors import TercetError
from tercet.kernels.introspection import cpu_features, inspect_kernels, int8_peak, read_bandwidth
from tercet.kernels.isa import available_isas, choose_isa, known_isas
from tercet.llm import LLM
from tercet.models.registry import DEFAULT_MODEL

PROBE_BYTES = 256 << 20
PROBE_PASSES = 3
PEAK_SECONDS = 0.2
CHECK_PROMPT = "Once upon a time"
CHECK_TOKENS = 8


@dataclass(frozen=True)
class KernelReport:
    """Which kernel computes an operation, and whether it agrees with the reference on test data."""

    operation: str
    provided_by: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Limits:
    """What the hardware gives with some number of threads; bytes and int8 multiply-adds a second."""

    threads: int
    read_bandwidth: dict[str, float]
    int8_multiply_adds: float


@dataclass(frozen=True)
class ModelReport:
    """Whether the shipped model opens, matches its checksums and generates."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Diagnosis:
    """All of it."""

    machine: Machine
    features: list[str]
    known_isas: list[str]
    available_isas: list[str]
    chosen_isa: str
    reason: str
    kernels: list[KernelReport]
    limits: list[Limits]
    model: ModelReport
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def diagnose(threads: int | None = None, isa: str | None = None) -> Diagnosis:
    """Look at the machine, test the kernels, measure the limits with 1 and `threads` threads, try the model.

    Raises:
        IsaError: `isa`, or the environment variable TERCET_ISA, names what this machine does not have.
    """
    chosen, reason = choose_isa(isa)
    kernels = [KernelReport(*row) for row in inspect_kernels(chosen)]
    most = available_cores() if threads is None else threads
    limits = [
        Limits(
            count,
            read_bandwidth(PROBE_BYTES, count, PROBE_PASSES, chosen),
            int8_peak(count, PEAK_SECONDS, chosen),
        )
        for count in sorted({1, most})
    ]
    model = check_shipped_model(most, chosen)
    problems = [
        f"the kernel {kernel.operation} of {kernel.provided_by} disagrees with the reference: {kernel.detail}"
        for kernel in kernels
        if not kernel.passed
    ]
    if not model.passed:
        problems.append(f"the model {model.name}: {model.detail}")
    return Diagnosis(
        machine=this_machine(),
        features=cpu_features(),
        known_isas=known_isas(),
        available_isas=available_isas(),
        chosen_isa=chosen,
        reason=reason,
        kernels=kernels,
        limits=limits,
        model=model,
        problems=problems,
    )


def check_shipped_model(threads: int, isa: str) -> ModelReport:
    """Open the model that ships with the package, which checks every byte, and generate a few tokens."""
    try:
        with LLM(threads=threads, isa=isa) as llm:
            result = llm.generate(CHECK_PROMPT, max_tokens=CHECK_TOKENS, temperature=0, ignore_eos=True)
            size = llm.path.stat().st_size
            told = f"{size / 1e6:.1f} MB, checksums match, generates {result.tokens_per_second:.0f} tokens/s"
            return ModelReport(llm.name, True, told)
    except TercetError as error:
        return ModelReport(DEFAULT_MODEL, False, str(error))
