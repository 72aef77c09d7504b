"""The same run on a Ray cluster: Ray Train starts the processes, and again when a machine is lost.

    train_on_ray(settings, data, run, workers=4)

Each worker calls `loop.train`; Ray only places the workers, connects them and watches over them. Our
checkpoints in `run` are what a restart goes on from, so `data` and `run` must be folders that every machine
sees under the same path.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tercet.cluster.connection import connected, ray_module
from tercet.environment import atomic_write
from tercet.errors import ParameterError, StorageError, TercetError, TrainingError
from tercet.training.checkpoint import checkpoints
from tercet.training.loop import TrainingResult, train
from tercet.training.settings import TrainingSettings

__all__ = ["train_on_ray"]

_REFUSAL = "refused.txt"
"""In the run folder: the error that a restart would meet again."""
_RESULT = "result.json"
"""In the run folder: how the run ended."""


def train_on_ray(
    settings: TrainingSettings,
    data: Path,
    run: Path,
    workers: int,
    resume: bool = False,
    second_stage_data: Path | None = None,
    sharded: bool = False,
    restarts: int = 3,
) -> TrainingResult:
    """Train on `workers` processes of the Ray cluster that this program is connected to, or of a local one.

    A worker has a GPU if the cluster has one for each, else a CPU. After a failure of Ray or of a machine the
    run goes on from its newest checkpoint, at most `restarts` times; an error that a restart cannot cure (a
    diverged run, data that do not fit) comes out at once, as from `train`.

    Raises:
        MissingExtraError: Ray is not installed.
        ParameterError: the cluster has too few processors for the workers.
        TrainingError: as `train`, or the workers failed too often.
        UnavailableError: the cluster does not answer, or none can be started.
    """
    ray_train = ray_module("ray.train")
    ray_torch = ray_module("ray.train.torch")
    if workers < 1:
        raise ParameterError(f"a run needs at least one worker, not {workers}")
    if checkpoints(run) and not resume:
        raise TrainingError(f"{run} already holds a run; resume it, or choose another folder")
    run.mkdir(parents=True, exist_ok=True)
    refusal = run / _REFUSAL
    for left in (refusal, run / _RESULT):
        left.unlink(missing_ok=True)
    with connected() as ray:
        resources = ray.cluster_resources()
        use_gpu = resources.get("GPU", 0) >= workers
        if not use_gpu and resources.get("CPU", 0) < workers:
            raise ParameterError(
                f"{workers} workers were asked for, and the Ray cluster has "
                f"{resources.get('CPU', 0):.0f} CPUs; ask for fewer, or add machines"
            )
        trainer = ray_torch.TorchTrainer(
            _work,
            train_loop_config={
                "settings": settings.to_dict(),
                "data": str(data.resolve()),
                "run": str(run.resolve()),
                "second_stage_data": second_stage_data and str(second_stage_data.resolve()),
                "sharded": sharded,
            },
            scaling_config=ray_train.ScalingConfig(num_workers=workers, use_gpu=use_gpu),
            run_config=ray_train.RunConfig(
                name="ray",
                storage_path=str(run.resolve()),
                failure_config=ray_train.FailureConfig(max_failures=restarts),
            ),
        )
        try:
            trainer.fit()
        except Exception as error:
            if refusal.exists():
                raise TrainingError(refusal.read_text(encoding="utf-8")) from error
            raise TrainingError(f"the workers of Ray failed: {error}. Resume the run") from error
    try:
        ended = json.loads((run / _RESULT).read_bytes())
    except FileNotFoundError as error:
        raise TrainingError("the workers of Ray ended without a result; resume the run") from error
    return TrainingResult(**{**ended, "checkpoint": Path(ended["checkpoint"])})


def _work(task: dict[str, Any]) -> None:
    """What each worker does; the first of them leaves the result in the run folder."""
    ray_train = ray_module("ray.train")
    refusal = Path(task["run"]) / _REFUSAL
    if refusal.exists():  # this is a restart, and it would end in the same way
        raise TrainingError(refusal.read_text(encoding="utf-8"))
    try:
        result = train(
            TrainingSettings.from_dict(task["settings"]),
            Path(task["data"]),
            Path(task["run"]),
            resume=True,
            second_stage_data=task["second_stage_data"] and Path(task["second_stage_data"]),
            sharded=task["sharded"],
        )
    except StorageError:
        raise  # somebody may have made room by the time of the restart
    except TercetError as error:
        refusal.write_text(str(error), encoding="utf-8")
        raise
    if ray_train.get_context().get_world_rank() == 0:
        with atomic_write(Path(task["run"]) / _RESULT) as file:
            file.write(json.dumps({**asdict(result), "checkpoint": str(result.checkpoint)}).encode())
