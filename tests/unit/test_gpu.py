"""`device="cuda"`: what is said where there is no GPU, and the engine over a decoder that is interpreted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from random_adapters import random_adapter, write_adapter
from random_decoders import GROUPED
from tercet import LLM
from tercet.bench.gpu import PUBLISHED_PRODUCTS, SHAPES, bench_gpu, generation
from tercet.bench.session import Session
from tercet.engine import devices
from tercet.errors import DeviceError, MemoryLimitError, ParameterError
from tercet.gpu import device as gpu_device
from tercet.gpu import graphs, timing
from tercet.gpu.batch import StepIndices, step_indices
from tiny_models import TINY_CONFIG

PROMPT = "A little dog"
GREEDY: dict[str, Any] = {"temperature": 0, "ignore_eos": True}


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cuda` is the processor, where Triton's interpreter runs."""
    monkeypatch.setattr(gpu_device, "find_gpu", lambda device: torch.device("cpu"))


def gpu(monkeypatch: pytest.MonkeyPatch, **found: Any) -> None:
    """PyTorch finds this, whatever there is."""
    monkeypatch.setattr(torch.version, "cuda", found.pop("cuda", "13.0"))
    for name, value in ({"is_available": True, "device_count": 1, "current_device": 0} | found).items():
        monkeypatch.setattr(torch.cuda, name, lambda *arguments, value=value: value)


# Finding one ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tpu", "cuda:", "cuda:-1", "cuda:one", "", "gpu"])
def test_a_device_is_cpu_or_cuda(name: str) -> None:
    with pytest.raises(ParameterError, match="device is cpu, cuda or cuda:NUMBER, not"):
        gpu_device.find_gpu(name)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"cuda": None}, r"needs PyTorch with CUDA, and the installed .* was built without it.*'cpu'"),
        ({"is_available": False}, r"needs an NVIDIA GPU and its driver, and PyTorch .* finds none"),
        (
            {"get_device_capability": (9, 0)},
            r"there is no device 'cuda:3'; this machine has cuda:0 to cuda:0",
        ),
        (
            {"device_count": 4, "get_device_capability": (7, 5), "get_device_name": "Old"},
            r"Old has the compute capability 7\.5, and the kernels need 8\.0",
        ),
    ],
)
def test_what_a_machine_lacks_is_said(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], message: str
) -> None:
    gpu(monkeypatch, **found)
    with pytest.raises(DeviceError, match=message):
        gpu_device.find_gpu("cuda:3")


def test_a_gpu_that_is_there_is_found_and_described(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(
        name="NVIDIA Test", major=9, minor=0, total_memory=80 << 30, multi_processor_count=132
    )
    gpu(
        monkeypatch,
        device_count=2,
        get_device_capability=(9, 0),
        get_device_properties=properties,
        mem_get_info=(3 << 30, 80 << 30),
        memory_allocated=123,
    )
    assert gpu_device.find_gpu("cuda") == torch.device("cuda", 0)
    found = gpu_device.find_gpu("cuda:1")
    assert found == torch.device("cuda", 1)
    text = gpu_device.describe(found).described()
    assert text.startswith("NVIDIA Test (compute capability 9.0, 80.0 GiB, 132 multiprocessors), PyTorch ")
    assert gpu_device.free_bytes(found) == 3 << 30
    assert gpu_device.allocated_bytes(found) == 123
    # Keys and values of a context take what is left of its memory, or the context is too long.
    assert devices.affordable_blocks("cuda", 1600, 4, 1 << 20) == 400
    assert devices.affordable_blocks("cuda", 1600, 40, 1 << 20) == int(0.8 * 3 * 1024)
    with pytest.raises(MemoryLimitError, match=r"160000 tokens take 9\.8 GiB.*3\.0 GiB of cuda are free"):
        devices.affordable_blocks("cuda", 160_000, 1, 1 << 20)


def test_without_a_gpu_the_command_line_says_so() -> None:
    command = [sys.executable, "-m", "tercet", "run", "--device", "cuda", "Hello"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "device 'cuda' needs" in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(DeviceError, match="device 'cuda' needs"):
        bench_gpu(Session())


# The engine -----------------------------------------------------------------------------------------


@pytest.fixture
def llm(interpreted: None, tiny_model_file: Path, tmp_path: Path) -> Iterator[LLM]:
    folder = write_adapter(tmp_path / "adapter", random_adapter(TINY_CONFIG, strength=1.0))
    with LLM(tiny_model_file, device="cuda", adapters={"loud": folder}) as model:
        yield model


def test_the_engine_cannot_tell(llm: LLM, tiny_model_file: Path) -> None:
    """Two prompts at once, an adapter: the tokens are those of the processor."""
    assert llm.isa == "triton interpreter"
    assert llm.memory_usage().gpu_bytes == 0
    assert llm.settings.max_step_tokens == devices.GPU_STEP_TOKENS
    with LLM(tiny_model_file, threads=1, adapters={"loud": llm.adapters.get("loud").path}) as plain:
        for adapter in (None, "loud"):
            prompts = [PROMPT, "The"]
            got = llm.generate(prompts, adapter=adapter, max_tokens=2, **GREEDY)
            expected = plain.generate(prompts, adapter=adapter, max_tokens=2, **GREEDY)
            assert [one.token_ids for one in got] == [one.token_ids for one in expected]
        ids = plain.tokenize(PROMPT)
        np.testing.assert_allclose(llm.logits(ids), plain.logits(ids), rtol=1e-3, atol=1e-3)


def test_the_shipped_model_says_the_same(interpreted: None) -> None:
    with LLM(device="cuda") as llm, LLM() as plain:
        got, expected = (one.generate("Once", max_tokens=3, **GREEDY) for one in (llm, plain))
    assert got.token_ids == expected.token_ids


def test_options_of_processors_are_refused(interpreted: None, tiny_model_file: Path) -> None:
    with pytest.raises(ParameterError, match="isa is about processors, and device is 'cuda'"):
        LLM(tiny_model_file, device="cuda", isa="reference")
    with pytest.raises(ParameterError, match="the scenario 'edge' bounds the memory of a process on the CPU"):
        LLM(tiny_model_file, device="cuda", scenario="edge")


# Recorded steps -------------------------------------------------------------------------------------


def step(positions: list[int]) -> StepIndices:
    """A token of each of some sequences, which have had so many."""
    count = len(positions)
    tables = np.arange(40).reshape(4, 10)[:count, : max(positions) // 4 + 1]
    operands = (np.arange(count), np.arange(count + 1), positions, tables, np.arange(count))
    return step_indices("test", (100, 512, 40, 4), 8, *operands)


def test_a_step_is_recorded_once_for_each_size_and_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """With CUDA's part replaced: a replay does what the model did when it was recorded."""
    recorded: list[int] = []

    class Model:
        device, config = torch.device("cpu"), GROUPED

        def logits(self, batch: Any, cache: Any) -> torch.Tensor:
            self.batch = batch
            self.result = torch.zeros(len(batch.rows), 1)
            return self.result

    model = Model()

    class Graph:
        def __init__(self) -> None:
            recorded.append(0)

        def replay(self) -> None:
            self.result[:, 0] = self.batch.positions + 1000 * self.batch.tables[:, 0]

    class Recording:
        def __init__(self, graph: Graph) -> None:
            self.graph = graph

        def __enter__(self) -> None:
            pass

        def __exit__(self, *exception: object) -> None:
            self.graph.batch, self.graph.result = model.batch, model.result  # type: ignore[attr-defined]

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, value in {
        "CUDAGraph": Graph,
        "graph": Recording,
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda one: Recording(SimpleNamespace()),  # type: ignore[arg-type]
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    steps = graphs.StepGraphs(model)  # type: ignore[arg-type]

    class Cache:
        block_tokens = 4

    first, second = Cache(), Cache()

    def look(cache: Any, positions: list[int]) -> list[float]:
        found: list[float] = steps.logits(step(positions), cache)[:, 0].tolist()
        return found

    assert look(first, [3, 0]) == [3, 10_000]
    assert look(first, [30, 1]) == [30, 10_001]  # longer now, and the same recording
    assert len(recorded) == 1
    assert look(first, [5]) == [5]
    assert len(recorded) == 2
    assert look(second, [6]) == [6]
    assert len(recorded) == 3


# Measuring ------------------------------------------------------------------------------------------


def test_products_are_checked_and_timed(interpreted: None) -> None:
    report = bench_gpu(Session(runs=2), tokens=[1, 3], shapes=[(48, 40)], products=2)
    assert [row["tokens"] for row in report.rows] == [1, 3]
    for row in report.rows:
        assert len(row["ternary"].values) == 2
        assert row["speedup"] == row["bf16"].median / row["ternary"].median
    assert "not measured here" in report.text()
    assert json.loads(json.dumps(report.to_dict()))["figures"] == {"gpu": "interpreted"}
    assert set(SHAPES) <= set(PUBLISHED_PRODUCTS)


def test_a_wrong_product_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(weights: Any, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(codes), weights.padded_rows)

    monkeypatch.setattr(timing, "ternary_product", wrong)
    with pytest.raises(ParameterError, match="has 96 wrong ones on cpu; please report this"):
        timing.time_products(48, 40, 2, torch.device("cpu"))


def test_answers_are_timed(tiny_model_file: Path) -> None:
    with LLM(threads=1) as llm:
        (row,) = generation(llm, 1, [2])
    assert row["tokens"] == 2
    assert row["seconds"]["median"] > 0
    with (
        LLM(tiny_model_file, threads=1) as short,
        pytest.raises(ParameterError, match=r"context of .* has 64"),
    ):
        generation(short, 1)
