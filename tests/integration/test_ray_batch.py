"""`tercet batch --engine ray`: two workers on this machine, one of which is lost; a program that is killed.

The cluster is started once, as the cluster of a company would be, and found by RAY_ADDRESS.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from descendants import descendants
from known_answers import known_answers
from program import assert_refused, command, environment
from program import tercet as run_tercet
from served import wait_until

COUNT, MAX_TOKENS = 240, 16
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
SECONDS = 300
CLUSTER = """
import sys
from tercet.cluster.connection import connected

with connected(num_cpus=2) as ray:
    print(ray.get_runtime_context().gcs_address, file=sys.__stdout__, flush=True)
    sys.stdin.read()
"""


class Cluster:
    """A process that keeps a cluster of two processors."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.address = process.stdout.readline().strip()

    def kill_a_worker(self) -> None:
        """End one of two that have a model, as a power cut does."""
        wait_until(lambda: len(self._workers()) == 2, SECONDS)
        subprocess.run(["kill", "-9", str(self._workers()[0])], check=True)

    def _workers(self) -> list[int]:
        return descendants(self.process.pid, "ray::MapWorker")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    pipe = subprocess.PIPE
    program = [sys.executable, "-c", CLUSTER]
    with subprocess.Popen(program, stdin=pipe, stdout=pipe, text=True, env=environment(**TOKEN)) as process:
        try:
            yield Cluster(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("requests") / "requests.parquet"
    columns = {
        "id": [f"i{number}" for number in range(COUNT)],
        "prompt": [f"{number} little dogs" for number in range(COUNT)],
        "ignore_eos": [True] * COUNT,
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file


def arguments(requests: Path, output: Path, *more: str) -> tuple[str | Path, ...]:
    sampling = ("--max-tokens", str(MAX_TOKENS), "--temperature", "0", "--threads", "1", "--json")
    return ("batch", requests, "--output", output, *sampling, *more)


RAY = ("--engine", "ray", "--workers", "2", "--concurrency", "16")


def complete(records: list[dict[str, Any]]) -> None:
    """Every request once, with the answer that it gets alone."""
    assert sorted(one["line"] for one in records) == list(range(1, COUNT + 1))
    assert {one["status"] for one in records} == {"succeeded"}
    texts = {one["id"]: one["text"] for one in records}
    some = range(0, COUNT, 40)
    prompts = [f"{number} little dogs" for number in some]
    answers = known_answers(prompts, MAX_TOKENS, threads=1)
    assert [texts[f"i{number}"] for number in some] == [answers[prompt] for prompt in prompts]


def test_a_worker_is_lost_and_no_request_is(cluster: Cluster, requests: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.parquet"
    variables = environment(RAY_ADDRESS=cluster.address, **TOKEN)
    asked = command(*arguments(requests, output, *RAY))
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables) as running:
        cluster.kill_a_worker()
        out, told = running.communicate(timeout=SECONDS)
    assert running.returncode == 0, told.decode()
    counts = json.loads(out)
    assert (counts["total"], counts["succeeded"], counts["failed"]) == (COUNT, COUNT, 0)
    assert counts["generated_tokens"] == COUNT * MAX_TOKENS
    complete(pyarrow.parquet.read_table(output).to_pylist())


def test_what_a_killed_program_has_left_is_done_without_a_cluster(
    cluster: Cluster, requests: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results.jsonl"
    variables = environment(RAY_ADDRESS=cluster.address, **TOKEN)
    asked = command(*arguments(requests, output, *RAY))
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables) as running:
        wait_until(
            lambda: (output.exists() and output.stat().st_size > 0) or running.poll() is not None, SECONDS
        )
        assert running.poll() is None, running.communicate()
        running.kill()
    finished = run_tercet(*arguments(requests, output))
    assert finished.status == 0, finished
    assert 0 < finished.data["resumed"] < COUNT
    complete([json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()])


def test_a_cluster_that_is_too_small_says_so(cluster: Cluster, requests: Path, tmp_path: Path) -> None:
    asked = arguments(requests, tmp_path / "results.jsonl", "--engine", "ray", "--workers", "9")
    refused = run_tercet(*asked, RAY_ADDRESS=cluster.address, **TOKEN)
    assert refused.status == 2, refused
    assert "the Ray cluster has 2; ask for fewer" in refused.err


def test_a_model_that_is_not_there_is_told_before_anything_starts(requests: Path, tmp_path: Path) -> None:
    asked = arguments(requests, tmp_path / "results.jsonl", "--engine", "ray", "--model", "none.tercet")
    assert_refused(run_tercet(*asked), "none.tercet")
