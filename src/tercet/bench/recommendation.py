"""What a scenario means on this machine, for a model: the content of `tercet optimize`.

Settings come from `tercet.models.profiles`, the batch size from the arithmetic of
`tercet.engine.memory_plan`, advice from what is measured here and now. The limit of tokens a second is
bandwidth over the bytes that a token reads: no program is faster, and what ours reaches `tercet bench` tells.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.engine.control_groups import cpu_limit
from tercet.engine.memory import total_memory_bytes
from tercet.engine.memory_plan import MemoryPlan, ModelMemory, model_memory, plan_memory
from tercet.engine.processors import available_cores
from tercet.errors import MemoryLimitError, TercetError
from tercet.formats.tercet.layout import data_bytes
from tercet.kernels.introspection import read_bandwidth
from tercet.kernels.isa import choose_isa
from tercet.models.config import ModelConfig
from tercet.models.downloads import downloads
from tercet.models.loading import LoadedModel, TensorInfo, load_model
from tercet.models.profiles import SCENARIOS, EngineSettings, engine_settings
from tercet.models.registry import known_models, resolve
from tercet.models.shapes import SHAPES
from tercet.models.tensor_names import is_ternary, tensor_shapes

__all__ = ["Fit", "Recommendation", "recommend"]

PROBE_BYTES = 256 << 20  # well beyond any cache
PROBE_PASSES = 3
SMALLEST_PACKING, SMALLEST_HEAD = "five_per_byte", "int8_planes"
SMALL_GAIN = 1.2
LARGE_HEAD = 0.3
MIB = 1 << 20


@dataclass(frozen=True)
class Fit:
    """Whether a model fits into the memory of a scenario."""

    model: str
    weights_bytes: int
    context: int | None
    """Tokens of context that fit, None where the model does not."""
    precision: str


@dataclass(frozen=True)
class Recommendation:
    """All of it. Bandwidths are bytes a second by number of threads."""

    scenario: str
    summary: str
    priority: str
    priority_summary: str
    model: str
    settings: EngineSettings
    weight_precision: str
    head_precision: str
    plan: MemoryPlan
    isa: str
    isa_reason: str
    cores: int
    cpu_limit: float | None
    memory_bytes: int | None
    huge_pages: str
    bandwidth: dict[int, float]
    bytes_per_token: int
    cache_bytes: int | None
    """The largest cache of a processor; None where the system does not tell."""
    advice: list[str]
    fits_mobile: list[Fit]

    @property
    def tokens_per_second_limit(self) -> float | None:
        """What one sequence cannot exceed here: measured bandwidth / bytes that a token reads. None where the
        processor's caches may hold all of them, so that memory is not the limit."""
        if self.cache_bytes is None or self.bytes_per_token <= self.cache_bytes:
            return None
        return self.bandwidth[self.settings.threads] / self.bytes_per_token

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        values = {name: value for name, value in vars(self).items() if name not in ("settings", "plan")}
        return {
            **values,
            "settings": self.settings.to_dict(),
            "memory_plan": self.plan.to_dict(),
            "batch_size": self.plan.max_sequences,
            "batch_size_arithmetic": self.plan.arithmetic(),
            "kv_precision": self.settings.kv_dtype,
            "bandwidth": {str(threads): rate for threads, rate in self.bandwidth.items()},
            "tokens_per_second_limit": self.tokens_per_second_limit,
            "fits_mobile": [vars(fit) for fit in self.fits_mobile],
        }


def recommend(scenario: str, model: str | os.PathLike[str] | None = None) -> Recommendation:
    """Work out a scenario for a model on this machine, with its bandwidth measured.

    Raises:
        ParameterError: there is no such scenario; the message lists those that exist.
        MemoryLimitError: the model does not fit into its memory; the message has the arithmetic.
        ModelNotFoundError, FormatError, UnsupportedModelError: the model cannot be read.
    """
    cores = available_cores()
    settings = engine_settings(cores, scenario=scenario)
    place = SCENARIOS[scenario]
    path = resolve(model)
    loaded = load_model(path)
    # The tokenizer is part of the program that generates text, so it counts.
    tokenizer = None if loaded.tokenizer_json is None else loaded.tokenizer()
    needs = model_memory(loaded.config, loaded.tensors, settings.threads, settings.kv_dtype, path)
    del tokenizer
    plan = plan_memory(needs, place.memory_bytes, loaded.config.max_context, settings.max_sequences)
    isa, reason = choose_isa(None)
    bandwidth = {
        threads: max(read_bandwidth(PROBE_BYTES, threads, PROBE_PASSES, isa).values())
        for threads in sorted({1, settings.threads})
    }
    projections, head = _precisions(loaded)
    facts = _Facts(
        settings, place.threads, cores, cpu_limit(), total_memory_bytes(), _huge_pages(), bandwidth
    )
    return Recommendation(
        scenario=scenario,
        summary=place.summary,
        priority=place.priority.name,
        priority_summary=place.priority.summary,
        model=str(loaded.metadata.get("name") or path.stem),
        settings=settings,
        weight_precision=projections,
        head_precision=head,
        plan=plan,
        isa=isa,
        isa_reason=reason,
        cores=cores,
        cpu_limit=facts.cpu_limit,
        memory_bytes=facts.memory_bytes,
        huge_pages=facts.huge_pages,
        bandwidth=bandwidth,
        bytes_per_token=_bytes_per_token(loaded) + plan.model.kv_per_token * plan.context,
        cache_bytes=_largest_cache(),
        advice=list(_advice(facts, loaded)),
        fits_mobile=_fits("mobile", needs.program),
    )


@dataclass(frozen=True)
class _Facts:
    """What advice follows from."""

    settings: EngineSettings
    scenario_threads: int
    cores: int
    cpu_limit: float | None
    memory_bytes: int | None
    huge_pages: str
    bandwidth: dict[int, float]


def _advice(facts: _Facts, loaded: LoadedModel) -> Iterator[str]:
    settings, threads = facts.settings, facts.settings.threads
    if facts.scenario_threads > facts.cores:
        limited = (
            "" if facts.cpu_limit is None else f" (its control group allows {facts.cpu_limit:g} of them)"
        )
        yield (
            f"The scenario has {facts.scenario_threads} threads, and this process may use {facts.cores} cores"
            f"{limited}: it computes with {threads}. More threads than cores would wait for each other."
        )
    if (
        facts.memory_bytes is not None
        and settings.memory_bytes
        and facts.memory_bytes < settings.memory_bytes
    ):
        yield (
            f"This process may use {facts.memory_bytes / MIB:.0f} MiB, less than the "
            f"{settings.memory_bytes / MIB:.0f} MiB of the scenario: choose a smaller one."
        )
    gain = facts.bandwidth[threads] / facts.bandwidth[1]
    if threads > 1 and gain < SMALL_GAIN:
        yield (
            f"{threads} threads read {gain:.2f} times as fast as one here, so one sequence decodes "
            "hardly faster with them; prompts and several sequences at once still do. --threads 1 leaves "
            "cores to others."
        )
    if facts.huge_pages == "never":
        yield (
            "Transparent huge pages are switched off here, so weights lie in pages of 4 KiB, which are read "
            "more slowly: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
        )
    yield from _advice_on_precision(loaded)


def _advice_on_precision(loaded: LoadedModel) -> Iterator[str]:
    total = _bytes_per_token(loaded)
    two_bit = sum(info.num_bytes for info in loaded.tensors.values() if info.type == "two_bit")
    if two_bit:
        smaller = total - round(two_bit * (1 - 1.6 / 2))
        yield (
            f"Packed five weights a byte, a token would read {smaller / MIB:.1f} MiB of weights instead of "
            f"{total / MIB:.1f}, and the model would be as much smaller: "
            "tercet convert --packing five_per_byte"
        )
    head = _head(loaded)
    if head.type in ("f32", "f16", "bf16"):
        share = head.num_bytes / total
        smaller_head = data_bytes(SMALLEST_HEAD, head.shape[0], head.shape[1])
        if share >= LARGE_HEAD:
            yield (
                f"The output head in {head.type} is {share:.0%} of what a token reads; in {SMALLEST_HEAD} it "
                f"would be {smaller_head / MIB:.1f} MiB instead of {head.num_bytes / MIB:.1f}: "
                "tercet convert --head int8"
            )


def _precisions(loaded: LoadedModel) -> tuple[str, str]:
    """Types of the projections, with the bits that a weight takes, and of the output head."""
    ternary = {name: info for name, info in loaded.tensors.items() if is_ternary(name)}
    weights = sum(info.shape[0] * info.shape[1] for info in ternary.values())
    bits = 8 * sum(info.num_bytes for info in ternary.values()) / weights
    types = ", ".join(dict.fromkeys(info.type for info in ternary.values()))
    return f"{types}: {bits:.2f} bits a weight", _head(loaded).type


def _head(loaded: LoadedModel) -> TensorInfo:
    return loaded.tensors["output_head" if "output_head" in loaded.tensors else "embedding"]


def _bytes_per_token(loaded: LoadedModel) -> int:
    """Weights that a token reads: all, but of an embedding that is not the head as well a single row."""
    total = sum(info.num_bytes for info in loaded.tensors.values())
    if "output_head" in loaded.tensors:
        embedding = loaded.tensors["embedding"]
        total -= embedding.num_bytes - embedding.num_bytes // embedding.shape[0]
    return total


def _fits(scenario: str, program_bytes: int) -> list[Fit]:
    """Every shape that has a name, in the smallest precision, and every model that is here, as it is."""
    found = []
    for name, path in _models_here():
        try:
            loaded = load_model(path, verify=False)
        except TercetError:
            continue  # whoever names it will hear why
        projections, head = _precisions(loaded)
        found.append(
            _fit(scenario, name, program_bytes, loaded.config, loaded.tensors, f"{projections}; {head}")
        )
    for name, config in SHAPES.items():
        tensors = dict(_smallest(config))
        precision = f"{SMALLEST_PACKING}; {SMALLEST_HEAD}"
        found.append(_fit(scenario, f"shape {name}", program_bytes, config, tensors, precision))
    return found


def _fit(
    scenario: str,
    name: str,
    program_bytes: int,
    config: ModelConfig,
    tensors: Any,
    precision: str,
) -> Fit:
    settings = engine_settings(available_cores(), scenario=scenario)
    measured = model_memory(config, tensors, settings.threads, settings.kv_dtype)
    needs = ModelMemory(**{**vars(measured), "program": program_bytes})
    try:
        plan = plan_memory(needs, settings.memory_bytes or 0, config.max_context, settings.max_sequences)
    except MemoryLimitError:
        return Fit(name, needs.weights, None, precision)
    return Fit(name, needs.weights, plan.context, precision)


def _models_here() -> Iterator[tuple[str, Path]]:
    yield from known_models().items()
    for download in downloads():
        yield download.name, download.path


def _smallest(config: ModelConfig) -> Iterator[tuple[str, TensorInfo]]:
    """The tensors of a shape as small as our files can hold them."""
    for name, shape in tensor_shapes(config).items():
        rows, depth = shape if len(shape) == 2 else (1, shape[0])
        if is_ternary(name):
            size, kind = data_bytes(SMALLEST_PACKING, rows, depth) + 4, SMALLEST_PACKING
            yield name, TensorInfo(kind, shape, size, "tensor")
        elif len(shape) == 2:
            yield (
                name,
                TensorInfo(SMALLEST_HEAD, shape, data_bytes(SMALLEST_HEAD, rows, depth) + 4 * rows, "row"),
            )
        else:
            yield name, TensorInfo("f32", shape, 4 * depth)


def _huge_pages(sys: Path = Path("/sys")) -> str:
    """What the system does with huge pages: always, madvise or never; "unknown" elsewhere."""
    try:
        text = (sys / "kernel" / "mm" / "transparent_hugepage" / "enabled").read_text()
    except OSError:
        return "unknown"
    return next((word.strip("[]") for word in text.split() if word.startswith("[")), "unknown")


def _largest_cache(sys: Path = Path("/sys")) -> int | None:
    """Bytes of the largest cache that the first processor sees."""
    units = {"K": 1 << 10, "M": 1 << 20}
    sizes = []
    for file in (sys / "devices" / "system" / "cpu" / "cpu0" / "cache").glob("index*/size"):
        text = file.read_text().strip()
        if text[:-1].isdigit() and text[-1] in units:
            sizes.append(int(text[:-1]) * units[text[-1]])
    return max(sizes, default=None)
