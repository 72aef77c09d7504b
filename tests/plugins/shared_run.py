"""What each process of a shared run does, started by torchrun: runs, one after another.

python -m shared_run TOKENS SETTINGS,RUN,STEPS,HOW ...      HOW is replicated or sharded

Only process 0 is told to stop after STEPS, if that is less than all of them. It also writes the losses of
every run that it saw, with the number of steps done, to RUN/seen.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from tercet.training.loop import Progress, train
from tercet.training.parallel import leave_processes, main_process_first
from tercet.training.settings import TrainingSettings


def main(tokens: str, *runs: str) -> None:
    """Do `runs`."""
    with main_process_first() as main_process:
        if main_process != (os.environ["RANK"] == "0"):
            raise SystemExit("more than one process takes itself for the first")
    for run in runs:
        settings_file, folder, steps, how = run.split(",")
        settings = TrainingSettings.load(Path(settings_file))
        losses: dict[int, float] = {}

        def on_step(progress: Progress, last: int = int(steps), losses: dict[int, float] = losses) -> None:
            losses[progress.step] = progress.loss
            if main_process and progress.step == last < progress.num_steps:
                os.kill(os.getpid(), signal.SIGTERM)

        result = train(
            settings, Path(tokens), Path(folder), resume=True, on_step=on_step, sharded=how == "sharded"
        )
        if main_process:
            seen = {"losses": losses, "steps": result.step, "validation": result.validation_loss}
            Path(folder, "seen.json").write_text(json.dumps(seen))
    leave_processes()


if __name__ == "__main__":
    main(*sys.argv[1:])
