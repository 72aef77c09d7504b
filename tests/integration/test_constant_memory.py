"""A conversion needs the memory of its largest tensor, however large the model is.

The short form converts a model of some hundred megabytes; `-m long` a folder of 20 GB, in a process that
may not have more than 4 GB, and writes what it measured into docs/long-checks.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from program import environment
from tercet.bench.machine import this_machine
from tercet.formats.floats import from_float32
from tercet.formats.huggingface import FolderPlan
from tercet.formats.huggingface.folder_writer import WEIGHTS, write_small_files
from tercet.formats.safetensors import SafetensorsWriter
from tercet.models.config import SHAPES, ModelConfig
from tercet.models.tensor_names import is_ternary, tensor_shapes

REPORTS = Path(__file__).parents[2] / "docs" / "long-checks"
MB = 10**6
LONG_LIMIT = 4000 * MB
SHORT = dataclasses.replace(
    SHAPES["2b4t"], hidden_size=512, ffn_size=2048, num_layers=24, num_heads=8, num_kv_heads=2, head_dim=64,
    vocab_size=4096, bos_token_id=0, eos_token_ids=(1,),
)  # fmt: skip
LONG = dataclasses.replace(
    SHAPES["2b4t"], hidden_size=4096, ffn_size=14336, num_layers=46, num_heads=32, num_kv_heads=8,
)  # fmt: skip

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


@pytest.fixture(scope="module")
def short_source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    folder = tmp_path_factory.mktemp("masters") / "source"
    yield folder, write_masters(folder, SHORT)
    shutil.rmtree(folder)


@pytest.mark.parametrize("to", ["native", "gguf-tq2_0", "huggingface-packed"])
def test_memory_does_not_grow_with_the_model(short_source: tuple[Path, int], tmp_path: Path, to: str) -> None:
    source, num_bytes = short_source
    assert num_bytes > 180 * MB
    figures = converted(source, tmp_path / "result", to)
    # The embedding has 2 million weights; a matrix of a million is held as float32, codes and bytes at once.
    assert figures["peak"] - figures["before"] < 60 * MB < num_bytes / 3, figures


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("to", ["native", "gguf-tq2_0"])
def test_twenty_gigabytes_in_four(tmp_path: Path, to: str) -> None:
    if shutil.disk_usage(tmp_path).free < 40_000 * MB:
        pytest.skip("40 GB of free disk space are not there")
    source = tmp_path / "source"
    num_bytes = write_masters(source, LONG)
    assert num_bytes > 20_000 * MB
    figures = converted(source, tmp_path / "result", to, limit=LONG_LIMIT)
    shutil.rmtree(source)
    assert figures["peak"] < LONG_LIMIT
    report = {
        "check": "convert a folder of bfloat16 masters in constant memory",
        "date": time.strftime("%Y-%m-%d"),
        "to": to,
        "source_bytes": num_bytes,
        "limit_bytes": LONG_LIMIT,
        **figures,
        "machine": dataclasses.asdict(this_machine()),
    }
    REPORTS.mkdir(exist_ok=True)
    (REPORTS / f"constant-memory-{to}.json").write_text(json.dumps(report, indent=2) + "\n")
