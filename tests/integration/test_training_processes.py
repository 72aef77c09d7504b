"""Two processes, one run: the same losses as one process with the whole batch, and resuming among them.

One launch of torchrun does all the runs, because starting processes costs more than training.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch (extra 'train') is not installed")
pytest.importorskip("accelerate", reason="accelerate (extra 'train') is not installed")

from small_runs import SETTINGS, VOCABULARY, weights_of, write_corpus  # noqa: E402
from tercet.training.loop import train  # noqa: E402
from tercet.training.preparation import prepare_tokens  # noqa: E402

# The float twin: no rounding that would make a step out of a difference in the last bit.
SMOOTH = dataclasses.replace(
    SETTINGS, ternary=False, optimizer=dataclasses.replace(SETTINGS.optimizer, kind="adamw")
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: `one` and `one_smooth` by this process, all others by two."""
    folder = tmp_path_factory.mktemp("runs")
    write_corpus(folder / "corpus.jsonl")
    tokens = folder / "tokens"
    prepare_tokens([folder / "corpus.jsonl"], tokens, VOCABULARY, 32)
    for name, settings in (("one", SETTINGS), ("one_smooth", SMOOTH)):
        losses: dict[int, float] = {}
        settings.save(folder / f"{name}.json")

        def note(progress: Any, losses: dict[int, float] = losses) -> None:
            losses[progress.step] = progress.loss

        result = train(settings, tokens, folder / name, on_step=note)
        seen = {"losses": losses, "steps": result.step, "validation": result.validation_loss}
        (folder / name / "seen.json").write_text(json.dumps(seen))
    plan = [
        "one.json,two,8,replicated",
        "one.json,two_parts,4,replicated",
        "one.json,two_parts,8,replicated",
        "one_smooth.json,two_smooth,8,replicated",
        "one_smooth.json,sharded_smooth,4,sharded",
        "one_smooth.json,sharded_smooth,8,sharded",
        "one.json,sharded,4,sharded",
    ]
    plugins = Path(__file__).parents[1] / "plugins"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{plugins}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    if torch.accelerator.is_available():  # two processes with one device between them
        environment["ACCELERATE_USE_CPU"] = "true"
    done = subprocess.run(
        [*launch, "-m", "shared_run", str(tokens), *plan],
        capture_output=True, env=environment, text=True, timeout=400, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def seen(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "seen.json").read_text())
    return content


def test_two_processes_have_the_losses_of_one_with_the_whole_batch(runs: Path) -> None:
    one, two = seen(runs / "one_smooth"), seen(runs / "two_smooth")
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert two["validation"] == pytest.approx(one["validation"], rel=1e-5)


def test_in_a_ternary_run_too(runs: Path) -> None:
    """Before the first rounding in full (λ < 1 for three steps) to the last bits; then a last bit may move an
    activation to the next of its 255 steps, which is seen in the fourth digit of the loss."""
    one, two = seen(runs / "one"), seen(runs / "two")
    for step in ("1", "2", "3"):
        assert two["losses"][step] == pytest.approx(one["losses"][step], rel=1e-6)
    assert two["losses"] == pytest.approx(one["losses"], rel=3e-3)
    assert two["validation"] == pytest.approx(one["validation"], rel=3e-3)


def test_two_processes_stop_together_and_go_on_to_the_same_weights(runs: Path) -> None:
    """Only one of them was told to stop."""
    steps = sorted(path.name for path in (runs / "two_parts").glob("step-*"))
    assert steps == ["step-00000003", "step-00000005", "step-00000006", "step-00000008"]
    assert weights_of(runs / "two_parts" / steps[-1]) == weights_of(runs / "two" / steps[-1])


def test_a_sharded_run_is_the_same_run(runs: Path) -> None:
    """FSDP2, stopped and resumed: what it gathers and saves is whole."""
    one, sharded = seen(runs / "one_smooth"), seen(runs / "sharded_smooth")
    assert sharded["steps"] == 8
    assert set(sharded["losses"]) == {"6", "7", "8"}
    for step, loss in sharded["losses"].items():
        assert loss == pytest.approx(one["losses"][step], rel=1e-5)
    assert sharded["validation"] == pytest.approx(one["validation"], rel=1e-5)
    ternary, alone = seen(runs / "sharded"), seen(runs / "one")
    for step in ("1", "2", "3"):  # Muon works with halves of matrices in bfloat16
        assert ternary["losses"][step] == pytest.approx(alone["losses"][step], rel=1e-3)


def test_a_run_may_change_the_number_of_processes(runs: Path) -> None:
    """What two processes have sharded, one goes on with."""
    result = train(SETTINGS, runs / "tokens", runs / "sharded", resume=True)
    assert result.step == 8
    assert result.validation_loss == pytest.approx(seen(runs / "one")["validation"], rel=1e-2)


def test_a_batch_that_cannot_be_shared_is_refused(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tercet.errors import TrainingError
    from tercet.training import loop

    class ThreeProcesses(loop.Processes):
        def __init__(self, sharded: bool) -> None:
            super().__init__(sharded)
            self.count = 3

    monkeypatch.setattr(loop, "Processes", ThreeProcesses)
    with pytest.raises(TrainingError, match="a batch of 4 cannot be shared by 3 processes"):
        train(SETTINGS, runs / "tokens", runs / "three")
