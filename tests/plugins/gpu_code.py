"""Runs gpu_compiled.py for a GPU, and looks at the machine code of its kernels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve().parent / "gpu_compiled.py"
KERNELS = {
    "attend", "combine", "prepare_input", "product", "rotate_and_store", "row_product", "vector_product",
}  # fmt: skip
# Bytes of shared memory that a block may have: the CUDA C++ Programming Guide, "Compute Capabilities".
SHARED = {80: 163 << 10, 86: 99 << 10, 89: 99 << 10, 90: 227 << 10, 100: 227 << 10, 120: 99 << 10}
# How each generation multiplies int8: Ampere and Ada, Hopper, Blackwell.
INT8 = {80: "s8.s8", 86: "s8.s8", 89: "s8.s8", 90: "s8.s8", 100: "kind::i8", 120: "s8.s8"}


def compiled(capability: int, folder: Path, head_dim: int = 128) -> list[dict[str, Any]]:
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "0",
        "TRITON_CACHE_DIR": str(folder),
        "PYTHONPATH": str(SCRIPT.parent),
    }
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(capability), str(head_dim)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_code(capability: int, folder: Path, head_dim: int = 128) -> list[dict[str, Any]]:
    """Compile all kernels, and check that each fits and has the instructions that it is written for."""
    kernels = compiled(capability, folder, head_dim)
    assert {one["kernel"] for one in kernels} == KERNELS
    for one in kernels:
        assert one["shared"] <= SHARED[capability], one
        found = " ".join(one["found"])
        if one["kernel"] == "product":
            assert INT8[capability] in found, one
        elif one["kernel"] == "vector_product":
            assert found == "dp4a"
        elif one["kernel"] in ("attend", "row_product"):
            assert "mma" in found, one
    return kernels
