"""Ternary products on a GPU beside bfloat16 in PyTorch, and beside what BitNet's authors published.

Every shape is first multiplied once and compared with an exact product: a kernel that is wrong is not timed.
The published figures are of another program on one GPU (an A100 with 40 GB); they are named, never mixed with
what was measured here.

Source of the published figures: microsoft/BitNet, gpu/README.md, "Kernel Benchmarks" and
"End-to-End Generation Latency" (batch size 1; bfloat16 end to end is Gemma-2-2B in vLLM).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tercet.bench.report import Axes, Column, Report
from tercet.bench.session import Session
from tercet.bench.spread import Spread
from tercet.errors import ParameterError
from tercet.gpu import device as gpu_device

if TYPE_CHECKING:
    from tercet.llm import LLM

__all__ = ["GPU_COLUMNS", "PUBLISHED_PRODUCTS", "SHAPES", "bench_gpu", "generation"]

SHAPES = ((3840, 2560), (2560, 2560), (13824, 2560), (2560, 6912))
"""Rows and depth of the products of a layer of BitNet b1.58 2B-4T: qkv, output, gate and up, down."""
PUBLISHED_PRODUCTS = {
    (2560, 2560): (13.32, 18.32),
    (3840, 2560): (14.90, 18.87),
    (13824, 2560): (18.75, 59.51),
    (2560, 6912): (14.49, 37.78),
    (3200, 3200): (14.61, 19.08),
    (4800, 3200): (13.09, 21.84),
    (3200, 10240): (19.64, 60.79),
    (20480, 3200): (30.99, 112.39),
}
"""Microseconds of one token's product, W2A8 and bfloat16, as published."""
PUBLISHED_GENERATION = {16: (57.40, 187.64), 32: (112.22, 353.50), 64: (221.08, 683.23)}
"""New tokens after a prompt of 64 -> milliseconds of the 2B model, W2A8 and bfloat16, as published."""
PROMPT_TOKENS = 64
PUBLISHED_ON = "NVIDIA A100 40GB"

GPU_COLUMNS = (
    Column("shape", "rows x depth"),
    Column("tokens", "tokens", "d"),
    Column("ternary", "ternary, us, median [spread]", ".1f", 1e6),
    Column("bf16", "bfloat16, us, median [spread]", ".1f", 1e6),
    Column("speedup", "bfloat16 / ternary", ".2f"),
    Column("weights_gb_per_second", "GB/s of weights", ".0f"),
    Column("published_ternary", "published W2A8, us", ".2f"),
    Column("published_bf16", "published bfloat16, us", ".2f"),
)


def bench_gpu(
    session: Session,
    device: str = gpu_device.CUDA,
    tokens: Sequence[int] = (1, 16, 128, 512),
    shapes: Sequence[tuple[int, int]] = SHAPES,
    products: int = 100,
    model: str | None = None,
) -> Report:
    """Time products, and the generation of a model if one is named.

    Raises:
        DeviceError, MissingExtraError: there is no GPU, or PyTorch or Triton is missing.
        ParameterError: a ternary product is wrong on this GPU.
        TercetError: the model cannot be opened.
    """
    found = gpu_device.find_gpu(device)
    from tercet.gpu.timing import time_products

    rows = []
    for num_rows, depth in shapes:
        for count in tokens:
            session.progress(f"{num_rows} x {depth}, {count} tokens")
            times = time_products(num_rows, depth, count, found, session.runs, products)
            ternary, bf16 = Spread.of(times.ternary), Spread.of(times.bf16)
            published = PUBLISHED_PRODUCTS.get((num_rows, depth)) if count == 1 else None
            row: dict[str, Any] = {
                "shape": f"{num_rows} x {depth}",
                "tokens": count,
                "ternary": ternary,
                "bf16": bf16,
                "speedup": bf16.median / ternary.median,
                "weights_gb_per_second": times.ternary_bytes / ternary.median / 1e9,
            }
            if published is not None:
                row |= {"published_ternary": published[0], "published_bf16": published[1]}
            rows.append(row)
    described = gpu_device.describe(found).described() if found.type == gpu_device.CUDA else "interpreted"
    notes = [
        f"GPU: {described}.",
        f"Published figures are of {PUBLISHED_ON}, by microsoft/BitNet (gpu/README.md); not measured here.",
    ]
    figures: dict[str, Any] = {"gpu": described}
    if model is not None:
        from tercet.llm import LLM

        session.progress(f"generating with {model}")
        with LLM(model, device=device, kv_dtype="f16", prefix_cache=False) as llm:
            figures["generation"] = generation(llm, session.runs)
        notes += [_told(one) for one in figures["generation"]]
    axes = Axes("tokens", "speedup", "tokens", "times faster than bfloat16", ("shape",), logarithmic=True)
    title = "Ternary products on a GPU"
    return Report.of(session, "gpu", title, GPU_COLUMNS, rows, axes, notes, figures)


def generation(
    llm: LLM, runs: int, counts: Sequence[int] = tuple(PUBLISHED_GENERATION)
) -> list[dict[str, Any]]:
    """Time whole answers of one sequence: a prompt of 64 tokens, then 16, 32 and 64 new ones.

    Raises:
        ParameterError: the model's context is shorter.
    """
    if llm.max_context < PROMPT_TOKENS + max(counts):
        raise ParameterError(
            f"the context of {llm.name} has {llm.max_context} tokens, and "
            f"{PROMPT_TOKENS + max(counts)} are timed"
        )
    prompt = [index % llm.config.vocab_size for index in range(PROMPT_TOKENS)]
    rows = []
    for count in counts:
        seconds = []
        for run in range(runs + 1):
            begin = time.perf_counter()
            llm.generate(prompt, temperature=0, max_tokens=count, ignore_eos=True)
            if run:
                seconds.append(time.perf_counter() - begin)
        rows.append(
            {"prompt_tokens": PROMPT_TOKENS, "tokens": count, "seconds": Spread.of(seconds).to_dict()}
        )
    return rows


def _told(row: dict[str, Any]) -> str:
    spent = row["seconds"]["median"]
    text = f"{row['prompt_tokens']} tokens read and {row['tokens']} generated: {spent * 1e3:.1f} ms"
    published = PUBLISHED_GENERATION.get(row["tokens"])
    if published is None:
        return text + "."
    return f"{text} (published for the 2B model: W2A8 {published[0]:.1f} ms, bfloat16 {published[1]:.1f} ms)."
