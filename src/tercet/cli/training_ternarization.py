"""`tercet ternarize --train`: the loop of distillation without a teacher, its file under the asked name."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tercet.distillation import DistillationSettings


def ternarize_by_training(
    source: str,
    destination: Path,
    data: list[str],
    settings: DistillationSettings,
    resume: bool,
    overwrite: bool,
    json: bool,
) -> bool:
    """Train in `DESTINATION.run`, put the result at `destination`, say how good it is; True once done."""
    from tercet.cli import console
    from tercet.cli.distill import run_with_bar, token_folder
    from tercet.environment import optional_import, storage_errors
    from tercet.errors import StorageError

    optional_import("torch", "train")
    if destination.exists() and not overwrite:
        raise StorageError(f"{destination} exists already. Choose another name, or ask to overwrite it.")
    run = destination.with_name(destination.name + ".run")
    tokens = token_folder(data, None, source, run, 0, settings.seed)
    result = run_with_bar(source, tokens, run, settings, None, resume, None)
    if result.interrupted:
        print(f"stopped after step {result.step}; go on with the same command and --resume", file=sys.stderr)
        return False
    with storage_errors(destination):
        partial = destination.with_name(f".{destination.name}.part")
        shutil.copyfile(result.file, partial)
        partial.replace(destination)
    facts = {"tokens": result.tokens, "loss": result.file_loss, "source_loss": result.teacher_loss}
    if json:
        console.write_json({"path": str(destination), "run": str(run)} | facts)
    else:
        console.write_text(
            f"{destination}: held-out loss {result.file_loss:.4f} nats a token after {result.tokens:,} "
            f"tokens; source {result.teacher_loss:.4f}\ncurve: {run / 'curve.png'}\n"
        )
    return True
