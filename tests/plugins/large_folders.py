"""Folders of masters as large as one likes, and conversions that say how much memory they took."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from program import environment
from tercet.formats.floats import from_float32
from tercet.formats.huggingface import FolderPlan
from tercet.formats.huggingface.folder_writer import WEIGHTS, write_small_files
from tercet.formats.safetensors import SafetensorsWriter
from tercet.models.config import ModelConfig
from tercet.models.tensor_names import is_ternary, tensor_shapes

CHILD = """
import json, resource, sys
from tercet.conversion import convert
from tercet.engine.memory import peak_resident_bytes
source, destination, to, limit = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit), int(limit)))
before = peak_resident_bytes()
done = convert(source, destination, to=to)
figures = {"before": before, "peak": peak_resident_bytes(), "seconds": done.seconds}
print(json.dumps(figures | {"verification": str(done.verification), "bytes": done.plan.file_bytes}))
"""


def write_masters(path: Path, config: ModelConfig) -> int:
    """Write a folder of masters in little memory, one block of random numbers over and over; its bytes."""
    shapes = tensor_shapes(config)
    ternary = {name: "tensor" for name in shapes if is_ternary(name)}
    plan = FolderPlan(config.to_dict(), shapes, ternary, "online", "bf16")
    normal = np.random.default_rng(0).standard_normal(1 << 22, np.float32)
    block = from_float32(normal / np.float32(np.sqrt(config.hidden_size)), "bf16")
    norm = from_float32(np.ones(config.ffn_size, np.float32), "bf16")

    def pieces(count: int, source: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
        for start in range(0, count, source.size):
            yield source[: min(source.size, count - start)]

    path.mkdir()
    write_small_files(path, plan)
    with (path / WEIGHTS).open("wb") as file:
        writer = SafetensorsWriter(file, plan.safetensors())
        for name, shape in shapes.items():
            count = int(np.prod(shape, dtype=np.int64))
            writer.write_tensor(plan.specs(name)[0].name, pieces(count, norm if len(shape) == 1 else block))
        writer.finish()
    return (path / WEIGHTS).stat().st_size


def converted(source: Path, destination: Path, to: str, limit: int = 0) -> dict[str, Any]:
    """Convert in a process of its own; what it measured."""
    arguments = [sys.executable, "-c", CHILD, str(source), str(destination), to, str(limit)]
    finished = subprocess.run(arguments, capture_output=True, text=True, env=environment(), check=False)
    assert finished.returncode == 0, finished.stderr
    return dict(json.loads(finished.stdout))
