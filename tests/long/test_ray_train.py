"""A run on a Ray cluster of this machine, two workers: the weights of two processes started by torchrun.

./dev test-long tests/long/test_ray_train.py            starting Ray takes most of its minute
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from long_results import RecordLongResult
from small_runs import SETTINGS, VOCABULARY, weights_of, write_corpus
from tercet.errors import TrainingError
from tercet.training.preparation import prepare_tokens
from tercet.training.ray_train import train_on_ray

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def test_two_workers_of_ray_are_two_processes(
    tmp_path: Path, record_long_result: RecordLongResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    write_corpus(tmp_path / "corpus.jsonl")
    tokens = tmp_path / "tokens"
    prepare_tokens([tmp_path / "corpus.jsonl"], tokens, VOCABULARY, 32)
    result = train_on_ray(SETTINGS, tokens, tmp_path / "ray", workers=2)
    assert result.step == 8
    assert not result.interrupted

    SETTINGS.save(tmp_path / "settings.json")
    plugins = Path(__file__).parents[1] / "plugins"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*launch, "-m", "shared_run", str(tokens), "settings.json,torchrun,8,replicated"],
        check=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(plugins)},
    )  # fmt: skip
    assert weights_of(result.checkpoint) == weights_of(tmp_path / "torchrun" / "step-00000008")

    with pytest.raises(TrainingError, match="already holds a run"):
        train_on_ray(SETTINGS, tokens, tmp_path / "ray", workers=2)
    other = dataclasses.replace(SETTINGS, seed=1)
    with pytest.raises(TrainingError, match="seed: 0 there, 1 here"):
        train_on_ray(other, tokens, tmp_path / "ray", workers=2, resume=True)
    record_long_result("ray-two-workers", {"validation_loss": result.validation_loss})
