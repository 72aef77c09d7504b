"""The shipped model with fewer and fewer neurons, before and after recovery, as a table and as JSON.

    python recipes/pruned_tiny/quality_against_size.py TOKENS OUTPUT [--steps 100]

TOKENS is the folder of stage 1 that `recipes/llama_tercet_tiny/mix.py` made; OUTPUT a folder, in which what
is done stays done. The text that says what neurons do is the beginning of those tokens; the loss is that of
the exported files on held-out TinyStories excerpts, which neither pruning nor recovery sees.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np

from tercet.distillation import DistillationSettings, distill
from tercet.models.loading import LoadedModel, load_model
from tercet.models.registry import resolve
from tercet.pruning import prune
from tercet.pruning.prune import file_loss, windows_of
from tercet.training.corpus import read_description
from tercet.training.optimizers import OptimizerSettings
from tercet.training.schedule import Schedule

SHARES = (None, 0.3, 0.5, 0.7)
HELD_OUT = Path(__file__).parents[1] / "llama_tercet_tiny" / "tinystories_valid.jsonl"
TEXT_TOKENS = 8192


def main() -> None:
    """Measure, prune, recover, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokens", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    path = resolve(None)
    model = load_model(path)
    windows = windows_of(model, HELD_OUT, 16_384)
    tokens = _tokens(arguments.tokens, model, output)
    results = output / "results.json"
    done = json.loads(results.read_text()) if results.exists() else {}
    if "whole" not in done:
        done["whole"] = {"bytes": path.stat().st_size, "ffn_size": model.config.ffn_size,
                         "loss": file_loss(path, windows, arguments.threads)}  # fmt: skip
    for share in SHARES:
        if str(share) in done:
            continue
        pruned = prune(
            path, output / f"{share}.tercet", share, text=output / "text.txt", text_tokens=TEXT_TOKENS,
            overwrite=True,
        )  # fmt: skip
        facts = {"bytes": pruned.path.stat().st_size, "ffn_size": pruned.ffn_size,
                 "loss": file_loss(pruned.path, windows, arguments.threads)}  # fmt: skip
        if share is not None:
            settings = _settings(arguments.steps)
            run = output / f"run-{share}"
            result = distill(
                path, tokens, run, settings, student=pruned.path, resume=run.exists(),
                threads=arguments.threads,
            )  # fmt: skip
            facts |= {
                "recovered": file_loss(result.file, windows, arguments.threads),
                "tokens": result.tokens,
            }
        done[str(share)] = facts
        results.write_text(json.dumps(done, indent=2))
    print("| neurons a layer | file, bytes | loss, nats a token | after recovery |")
    print("| ---: | ---: | ---: | ---: |")
    for one in done.values():
        recovered = f"{one['recovered']:.4f}" if "recovered" in one else ""
        print(f"| {one['ffn_size']} | {one['bytes']:,} | {one['loss']:.4f} | {recovered} |")


def _settings(steps: int) -> DistillationSettings:
    return DistillationSettings(
        schedule=Schedule(num_steps=steps, warmup_steps=5, stage_two_start=1.0, stage_one_floor=0.05,
                          weight_decay=0.0),
        optimizer=OptimizerSettings(kind="muon", matrix_rate=2e-3, rate=5e-4),
        context=256, batch_size=8, micro_batch=8, attention_weight=0.0, checkpoint_every=25, evaluate_at=(),
    )  # fmt: skip


def _tokens(source: Path, model: LoadedModel, output: Path) -> Path:
    """The token folder with the very tokenizer of the shipped file, and its beginning as a text."""
    folder = output / "tokens"
    if not folder.exists():
        shutil.copytree(source, folder)
        (folder / "tokenizer.json").write_bytes(model.tokenizer_json or b"")
    part = read_description(folder)["train"]
    ids = np.memmap(folder / "train.tokens", part.dtype, mode="r")[: TEXT_TOKENS * 3 // 2]
    (output / "text.txt").write_text(model.tokenizer().decode(ids.tolist()))
    return folder


if __name__ == "__main__":
    main()
