"""The GPU kernels become machine code of real GPUs, with the instructions that they are written for.

Compiling needs no GPU, running does: what the code computes is tested by the interpreter
(test_gpu_kernels.py, test_gpu_decoder.py). tests/long has the newer GPUs.
"""

from __future__ import annotations

from pathlib import Path

from gpu_code import check_code


def test_every_launch_of_a_model_compiles_for_the_oldest_gpu(tmp_path: Path) -> None:
    check_code(80, tmp_path)
