"""Ternary against full precision at our scale: equal parameters, equal memory, two seeds, intervals.

    python recipes/ternary_versus_float/experiment.py data --data DIR --output runs/tvf
    python recipes/ternary_versus_float/experiment.py run --output runs/tvf [--threads 1]
    python recipes/ternary_versus_float/experiment.py report --output runs/tvf

`DIR` holds `stories.jsonl.xz` (recipes/llama_tercet_tiny/mix.py names its sources and licences). `run` works
through a list of trainings, each resumable (Ctrl-C and kill are safe; call it again); `report` may be
called at any time and uses what is finished.

The question, from "The Era of 1-bit LLMs": how much worse is a ternary model than its full-precision twin
with as many parameters, how does the difference change with size, and which of the two is better when both
have the same bytes? Everything but the question is held equal: tokens, their order, steps, batch, network,
schedule. Learning rates are not: each kind gets the best of `RATES` for one size after a short trial,
since a rate that suits one kind would handicap the other.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import lzma
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from tercet.models.config import ModelConfig
from tercet.training.loop import Progress, train
from tercet.training.optimizers import OptimizerSettings
from tercet.training.preparation import prepare_tokens
from tercet.training.schedule import Schedule
from tercet.training.settings import TrainingSettings

VOCABULARY = 1024
CONTEXT = 256
BATCH = 16
STEPS = 1250  # times BATCH times CONTEXT: 5.1 M tokens
TRIAL_STEPS = 250
TRIAL_SIZE = "large"
SEEDS = (0, 1)
RATES = {"ternary": (0.01, 0.02, 0.04, 0.08), "float": (0.01, 0.02, 0.04)}


def shape(hidden: int, ffn: int, layers: int, heads: int) -> ModelConfig:
    """A network in the style of 2B-4T with one key head."""
    return ModelConfig(
        hidden_size=hidden, ffn_size=ffn, num_layers=layers, num_heads=heads, num_kv_heads=1, head_dim=32,
        vocab_size=VOCABULARY, max_context=CONTEXT, bos_token_id=0, eos_token_ids=(1, 2),
        activation="relu2", rope_theta=10_000.0, rms_norm_eps=1e-5,
        attention_sub_norm=True, ffn_sub_norm=True, tied_embeddings=True,
    )  # fmt: skip


# The sizes for both kinds; and for each the full-precision network with as many bytes as the ternary one
# (embeddings in 16 bits; ternary weights in 2 bits, as the fastest packing stores them, others in 16).
SIZES = {
    "small": shape(96, 256, 3, 3),
    "middle": shape(128, 352, 4, 4),
    "large": shape(160, 448, 4, 5),
    "largest": shape(192, 512, 6, 6),
}
EQUAL_BYTES = {
    "small": shape(64, 120, 2, 2),
    "middle": shape(64, 202, 3, 2),
    "large": shape(96, 264, 2, 3),
    "largest": shape(96, 360, 3, 3),
}


def num_bytes(model: ModelConfig, kind: str) -> int:
    """Bytes of the weights as they are stored to be run: embedding at 16 bits, layers at 2 or 16 bits."""
    bits = 2 if kind == "ternary" else 16
    return model.vocab_size * model.hidden_size * 2 + model.num_ternary_weights * bits // 8


def settings(
    model: ModelConfig, kind: str, rate: float, steps: int, seed: int, stages: int = 2
) -> TrainingSettings:
    """One training; with one stage the rate falls in a single cosine and the weight decay stays on."""
    two = {"stage_two_start": 0.5, "stage_one_floor": 0.5, "stage_two_peak": 0.5}
    one = {"stage_two_start": 1.0, "stage_one_floor": 0.0}
    return TrainingSettings(
        model=model,
        schedule=Schedule(
            num_steps=steps, warmup_steps=40, final=0.0, weight_decay=0.1, **(two if stages == 2 else one)
        ),
        optimizer=OptimizerSettings(kind="muon", matrix_rate=rate, rate=0.4 * rate),
        context=CONTEXT,
        batch_size=BATCH,
        ternary=kind == "ternary",
        seed=seed,
        evaluate_every=125,
        evaluation_windows=512,
        checkpoint_every=125,
        keep_checkpoints=1,
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("data", "run", "report"))
    parser.add_argument("--data", type=Path, help="folder with stories.jsonl.xz")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.step == "data":
        prepare(arguments.data, arguments.output)
    elif arguments.step == "run":
        run_all(arguments.output)
    else:
        from report import write_report

        write_report(arguments.output)


def prepare(data: Path, output: Path) -> None:
    """Write the token folder: every answer once, sources mixed by their hash."""
    output.mkdir(parents=True, exist_ok=True)
    texts: dict[str, str] = {}
    with lzma.open(data / "stories.jsonl.xz", "rt", encoding="utf-8") as lines:
        for line in lines:
            answer = json.loads(line)["answer"]
            texts.setdefault(hashlib.sha256(" ".join(answer.lower().split()).encode()).hexdigest(), answer)
    corpus = output / "stories.jsonl"
    corpus.write_text(
        "".join(json.dumps({"text": texts[key]}) + "\n" for key in sorted(texts)), encoding="utf-8"
    )
    prepare_tokens([corpus], output / "tokens", VOCABULARY, CONTEXT, print)


def run_all(output: Path) -> None:
    """Work through the list; what is finished is not done again."""
    rates = {}
    for kind, candidates in RATES.items():
        losses = {
            rate: run(output, f"rate-{kind}-{rate}", settings(SIZES[TRIAL_SIZE], kind, rate, TRIAL_STEPS, 0))
            for rate in candidates
        }
        rates[kind] = min(losses, key=losses.__getitem__)
    for name, planned in plan(rates):
        run(output, name, planned)


def plan(rates: dict[str, float]) -> Iterator[tuple[str, TrainingSettings]]:
    """The trainings, the cheap ones first: `<question>-<kind>-<size>-<seed>`."""
    for size in SIZES:
        for seed in SEEDS:
            for kind in ("ternary", "float"):
                yield f"equal-{kind}-{size}-{seed}", settings(SIZES[size], kind, rates[kind], STEPS, seed)
            yield (
                f"bytes-float-{size}-{seed}",
                settings(EQUAL_BYTES[size], "float", rates["float"], STEPS, seed),
            )
        if size == "middle":
            for seed in SEEDS:
                yield (
                    f"onestage-ternary-{size}-{seed}",
                    settings(SIZES[size], "ternary", rates["ternary"], STEPS, seed, stages=1),
                )


def run(output: Path, name: str, planned: TrainingSettings) -> float:
    """Train (or go on, or read what is there); the validation loss in nats a token."""
    folder = output / name
    result = folder / "result.json"
    if not result.exists():
        folder.mkdir(parents=True, exist_ok=True)
        planned.save(folder / "settings.json")

        def show(progress: Progress) -> None:
            if progress.step % 25 == 0:
                print(
                    f"{name} {progress.step}/{progress.num_steps} loss {progress.loss:.3f} "
                    f"{progress.tokens_per_second:,.0f} tokens/s",
                    flush=True,
                )

        done = train(planned, output / "tokens", folder, resume=True, on_step=show)
        if done.interrupted:
            sys.exit(f"{name} stopped after step {done.step}; call again to go on")
        values = dataclasses.asdict(done) | {"checkpoint": done.checkpoint.name}
        result.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return float(json.loads(result.read_text(encoding="utf-8"))["validation_loss"])


if __name__ == "__main__":
    main()
