"""The shipped model says the same tokens, greedily, on every machine: `transcript.json` holds twenty answers.

A difference is no matter of taste: either the model was replaced (then run this file as a program, which
writes the transcript anew, and look at what changed) or the arithmetic did.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tercet import LLM, SamplingParams
from tercet.kernels.isa import available_isas
from tercet.models.loading import load_model
from tercet.models.registry import resolve
from tercet.reference import ReferenceDecoder

TRANSCRIPT = Path(__file__).with_name("transcript.json")
GREEDY = SamplingParams(temperature=0.0, max_tokens=24)
CLEAR_MARGIN = 1.0
PROMPTS = [
    "Once upon a time", "One day, a little girl", "The dog ran to", "Tom and Mia were", "In a small village",
    "The king said", "It was a dark night", "A bird sat on", "Mother smiled and", "The sea was",
    "Every morning, the farmer", "There was a big", "The cat did not", "Lily wanted to", "Far away in the",
    "The old man had", "He opened the door and", "She looked at the moon", "The boat", "At last,",
]  # fmt: skip


@pytest.mark.parametrize("isa", available_isas())
def test_the_transcript(isa: str) -> None:
    expected = json.loads(TRANSCRIPT.read_text(encoding="utf-8"))
    assert [entry["prompt"] for entry in expected] == PROMPTS
    with LLM(isa=isa, threads=2) as llm:
        results = llm.generate(PROMPTS, GREEDY)
    assert [list(result.token_ids) for result in results] == [entry["token_ids"] for entry in expected]


def test_the_reference_prefers_the_same_tokens() -> None:
    """Wherever NumPy's margin between its two best tokens is clear, the engine chose the same one."""
    model = load_model(resolve(None))
    reference = ReferenceDecoder(model.config, model.reference_weights)
    num_clear = 0
    with LLM(threads=1) as llm:
        for entry in json.loads(TRANSCRIPT.read_text(encoding="utf-8")):
            assert model.config.bos_token_id is not None
            prompt = [model.config.bos_token_id, *llm.tokenize(entry["prompt"])]
            ids = [*prompt, *entry["token_ids"]]
            logits = reference.logits(np.asarray(ids[:-1]))[len(prompt) - 1 :]
            best = np.sort(logits, axis=-1)
            clear = best[:, -1] - best[:, -2] > CLEAR_MARGIN
            np.testing.assert_array_equal(logits.argmax(-1)[clear], np.asarray(entry["token_ids"])[clear])
            num_clear += int(clear.sum())
    assert num_clear >= len(PROMPTS)


def write_transcript() -> None:
    """Replace the transcript by what the shipped model says now."""
    with LLM(threads=1) as llm:
        results = llm.generate(PROMPTS, GREEDY)
    entries = [
        {"prompt": prompt, "text": result.text, "token_ids": list(result.token_ids)}
        for prompt, result in zip(PROMPTS, results, strict=True)
    ]
    text = "[\n" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n]\n"
    TRANSCRIPT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_transcript()
