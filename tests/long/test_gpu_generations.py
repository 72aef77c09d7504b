"""The GPU kernels compile for every GPU that we name; tests/kernels/test_gpu_compiled.py has one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_code import SHARED, check_code
from long_results import RecordLongResult

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


def test_every_launch_of_a_model_compiles_for_every_gpu(
    tmp_path: Path, record_long_result: RecordLongResult
) -> None:
    found = {
        capability: [
            *check_code(capability, tmp_path / str(capability)),
            *check_code(capability, tmp_path / str(capability), head_dim=256),
        ]
        for capability in sorted(SHARED)
    }
    record_long_result(
        "gpu-generations",
        {
            f"sm_{capability}": {
                "kernels": len(kernels),
                "largest_shared_bytes": max(one["shared"] for one in kernels),
                "instructions": sorted({name for one in kernels for name in one["found"]}),
            }
            for capability, kernels in found.items()
        },
    )
