"""The shipped model: prefix cache, batch and speculation change the time, and never a token."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tercet import LLM
from tercet.errors import ParameterError, UnsupportedModelError
from tercet.models.loading import load_model
from tercet.models.registry import resolve
from tercet.models.saving import save_huggingface_folder
from tercet.models.tensor_names import tensor_shapes
from tercet.quantization.ternary_tensor import TernaryTensor

STORY = (
    "Once upon a time there was a little dog named Max. Max liked to play with a red ball in the park. "
    "One day Max lost the red ball. He looked under the tree. He looked behind the big house. "
)
PROMPTS = [STORY, STORY + "Then", "Lily and Tom went to the park.", "Once upon a time", STORY * 2]
WAYS = [
    {"temperature": 0},
    {"temperature": 0, "repetition_penalty": 1.2},
    {"temperature": 0.8, "seed": 5},
    {"temperature": 1.2, "seed": 6, "top_p": 1.0, "top_k": 40, "presence_penalty": 0.5},
]


@pytest.fixture(scope="module")
def plain() -> Iterator[LLM]:
    with LLM(threads=1, prefix_cache=False, speculation="off") as llm:
        yield llm


@pytest.fixture(scope="module")
def two_layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two layers of the shipped model: a draft that is sometimes right."""
    shipped = load_model(resolve(None))
    config = dataclasses.replace(shipped.config, num_layers=2)

    def masters() -> Iterable[tuple[str, npt.NDArray[np.float32]]]:
        for name in tensor_shapes(config):
            weight = shipped.reference_weights[name]
            yield (
                name,
                weight.dequantize() if isinstance(weight, TernaryTensor) else np.asarray(weight, np.float32),
            )

    path = tmp_path_factory.mktemp("draft") / "two-layers"
    save_huggingface_folder(path, config, masters(), tokenizer_json=shipped.tokenizer_json)
    return path


def draft_of(kind: str, two_layers: Path) -> dict[str, Any]:
    return {
        "nobody": {"speculation": "off"},
        "prompt_lookup": {"speculation": "prompt_lookup"},
        "itself": {"draft": resolve(None)},
        "two_layers": {"draft": two_layers},
    }[kind]


@pytest.mark.parametrize("kind", ["nobody", "prompt_lookup", "itself", "two_layers"])
def test_the_same_tokens_alone_in_a_batch_again_and_with_guesses(
    kind: str, plain: LLM, two_layers: Path
) -> None:
    """Greedy or drawn, with penalties and filters: token for token what one plain request gives."""
    with LLM(threads=1, **draft_of(kind, two_layers)) as llm:
        for way in WAYS:
            alone = [plain.generate(prompt, max_tokens=40, **way) for prompt in PROMPTS]
            for _ in range(2):  # the second time from the cache
                batch = llm.generate(PROMPTS, max_tokens=40, **way)
                assert [one.token_ids for one in batch] == [one.token_ids for one in alone]
                assert [one.finish_reason for one in batch] == [one.finish_reason for one in alone]
            assert all(one.cache_hit for one in batch if one.prompt_tokens > 16)
            assert not any(one.cache_hit for one in alone)
        guesses = [one.metadata["speculation"] for one in batch]
        if kind == "nobody":
            assert guesses == [None] * len(batch)
        if kind == "itself":
            assert all(guess["acceptance"] == 1 for guess in guesses)
            assert all(guess["tokens_per_step"] > 3 for guess in guesses)


def test_a_draft_that_is_sometimes_right(two_layers: Path) -> None:
    with LLM(threads=1, draft=two_layers) as llm:
        guess = llm.generate(STORY, max_tokens=100, temperature=0).metadata["speculation"]
    assert 0 < guess["accepted_tokens"] < guess["proposed_tokens"]
    assert guess["tokens_per_step"] == pytest.approx(1 + guess["accepted_tokens"] / guess["steps"])


def test_repeating_text_is_looked_up() -> None:
    with LLM(threads=1, speculation="prompt_lookup") as llm:
        guess = llm.generate(STORY, max_tokens=200, temperature=0, ignore_eos=True).metadata["speculation"]
    assert guess["tokens_per_step"] > 1.3


@pytest.mark.parametrize("kv_dtype", ["f32", "f16", "int8"])
def test_keys_and_values_from_the_cache_are_those_that_would_be_computed(kv_dtype: str) -> None:
    """Other chunks, other company, other blocks: the logits that decide are the same bits."""
    with LLM(threads=1, kv_dtype=kv_dtype, prefix_cache=False) as without:
        expected = [without.generate(prompt, max_tokens=30, seed=1).token_ids for prompt in PROMPTS]
    with LLM(threads=2, kv_dtype=kv_dtype) as llm:
        llm.generate(STORY * 2, max_tokens=1)
        assert [llm.generate(prompt, max_tokens=30, seed=1).token_ids for prompt in PROMPTS] == expected


def test_a_conversation_reads_only_what_is_new(plain: LLM) -> None:
    with LLM(threads=1) as llm:
        first = llm.generate(STORY, max_tokens=40, temperature=0)
        history = [llm.config.first_token_id, *llm.tokenize(STORY), *first.token_ids]
        second = llm.generate([*history, *llm.tokenize(" The end.")], max_tokens=5, temperature=0)
        assert second.cached_tokens == (len(history) - 1) // 16 * 16
        again = plain.generate([*history, *llm.tokenize(" The end.")], max_tokens=5, temperature=0)
        assert second.token_ids == again.token_ids


def test_guesses_leave_the_distribution_as_it_is(two_layers: Path) -> None:
    """Three tokens for each of 1,000 seeds, with and without a draft that is often wrong.

    They are equal seed by seed, so the counts are equal, too: the law that rejection sampling keeps on
    average. That the draws follow the model's probabilities is then a matter of the sampler alone: of the
    six likeliest first tokens and all others, a chi-square of six degrees of freedom above 27.9 has odds of
    1 in 10,000 (the seeds are fixed, so the test does not waver).
    """
    prompt = "Once upon a time there was a"
    seeds = range(1000)
    with LLM(threads=1) as plain, LLM(threads=1, draft=two_layers) as drafted:
        drawn = {
            llm: [
                tuple(
                    llm.generate(
                        prompt, max_tokens=3, seed=seed, temperature=1, top_p=1, ignore_eos=True
                    ).token_ids
                )
                for seed in seeds
            ]
            for llm in (plain, drafted)
        }
        assert drawn[plain] == drawn[drafted]
        logits = plain.logits([plain.config.first_token_id, *plain.tokenize(prompt)])[-1].astype(np.float64)
    chances = np.exp(logits - logits.max())
    chances /= chances.sum()
    counts = Counter(ids[0] for ids in drawn[drafted])
    likeliest = np.argsort(-chances)[:6]
    observed = np.array([counts[int(token)] for token in likeliest])
    observed = np.append(observed, len(seeds) - observed.sum())
    expected = np.append(chances[likeliest], 1 - chances[likeliest].sum()) * len(seeds)
    assert ((observed - expected) ** 2 / expected).sum() < 27.9


def test_a_draft_must_have_the_same_tokens(tiny_model_file: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="needs the same tokenizer"):
        LLM(threads=1, draft=tiny_model_file)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"speculation": "magic"}, "there are off, prompt_lookup, draft"),
        ({"speculation": "draft"}, "needs a draft model"),
        (
            {"speculation": "prompt_lookup", "draft": "llama-tercet-tiny"},
            "belongs to the speculation 'draft'",
        ),
    ],
)
def test_wrong_speculations(named: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        LLM(threads=1, **named)
