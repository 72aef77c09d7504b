"""A training run that ends in a second: its corpus and its settings."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from tercet.models.shapes import shape
from tercet.training.schedule import Schedule
from tercet.training.settings import TrainingSettings

VOCABULARY = 300
SETTINGS = TrainingSettings(
    model=dataclasses.replace(
        shape("tiny"), hidden_size=64, ffn_size=64, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=32,
        vocab_size=VOCABULARY, max_context=32, bos_token_id=0, eos_token_ids=(1, 2),
    ),
    schedule=Schedule(num_steps=8, warmup_steps=2, quantization_warmup_steps=3),
    context=32, batch_size=4, accumulation=2, precision="fp32", compile=False,
    evaluate_every=4, evaluation_windows=2, checkpoint_every=3, keep_checkpoints=9,
)  # fmt: skip


def write_corpus(path: Path) -> None:
    """400 short documents, texts and turns of chat."""
    lines = [
        json.dumps({"text": f"The cat number {n} sat on mat {n * 7 % 13} and saw {n % 5} dogs."})
        for n in range(300)
    ]
    lines += [json.dumps({"prompt": f"Count {n}.", "answer": f"{n}, {n + 1}, {n + 2}"}) for n in range(100)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def weights_of(folder: Path) -> dict[str, bytes]:
    """The bytes of every tensor of a checkpoint."""
    from safetensors.numpy import load_file

    return {name: value.tobytes() for name, value in load_file(folder / "model.safetensors").items()}
