"""A small native file with every kind of piece in it, for tests that take it apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tercet.formats.floats import from_float32
from tercet.formats.tercet import FilePlan, TensorPlan, create_file
from tercet.quantization import packings

BLOBS = {"tokenizer.json": b'{"a": 1}', "empty": b""}
TENSORS = (
    TensorPlan("embedding", "f16", 5, 3),
    TensorPlan("two", "two_bit", 20, 18, "tensor"),
    TensorPlan("five", "five_per_byte", 3, 7, "row"),
    TensorPlan("grouped", "two_bit", 4, 8, "group", 4),
    TensorPlan("norm", "f32", 1, 3),
    TensorPlan("brain", "bf16", 2, 2),
)


def small_plan() -> FilePlan:
    return FilePlan(
        config={"hidden_size": 3, "rope_theta": 1e4},
        tensors=TENSORS,
        blobs=BLOBS,
        generation={"temperature": 0.5},
        chat_template="{{ 'é' }}",
        metadata={"who": "a test"},
    )


def small_values() -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """For each tensor its values (codes or float32) and its scales."""
    random = np.random.default_rng(7)
    values: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
    for plan in TENSORS:
        if plan.granularity is None:
            values[plan.name] = (random.standard_normal((plan.rows, plan.depth), dtype=np.float32), None)
        else:
            codes = random.integers(-1, 2, (plan.rows, plan.depth)).astype(np.int8)
            values[plan.name] = (codes, random.random(plan.num_scales, dtype=np.float32))
    return values


def write_small_file(path: Path) -> Path:
    values = small_values()
    with create_file(path, small_plan()) as writer:
        for plan in TENSORS:
            data, scales = values[plan.name]
            if scales is None:
                writer.write_tensor(plan.name, [from_float32(data, plan.type)])
            else:
                writer.write_tensor(plan.name, [packings.packing(plan.type).pack(data)], scales)
    return path
