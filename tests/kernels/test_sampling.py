"""The sampler in C++ draws the tokens of the NumPy specification, and draws them as often as it should."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tercet.errors import ParameterError
from tercet.kernels import sampling
from tercet.sampling import reference
from tercet.sampling.params import SamplingParams

LOGIT = st.one_of(
    st.floats(-30, 30, width=32),
    st.sampled_from([0.0, -0.0, 1.0, -np.inf, 1e30, -1e30]),  # ties, forbidden tokens, extremes
)
UNIT = st.floats(0, 1, exclude_min=True)


def sample(
    logits: np.ndarray, params: SamplingParams, prompt: Any = (), answer: Any = (), step: int = 0
) -> int:
    return sampling.sample(
        logits,
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        repetition_penalty=params.repetition_penalty,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        seed=params.seed or 0,
        prompt_ids=prompt,
        generated_ids=answer,
        step=step,
    )


@st.composite
def parameters(draw: st.DrawFn) -> SamplingParams:
    return SamplingParams(
        temperature=draw(st.one_of(st.just(0.0), st.floats(1e-3, 5.0), st.sampled_from([1e-300, 1e300]))),
        top_k=draw(st.one_of(st.just(0), st.integers(1, 100))),
        top_p=draw(st.one_of(st.just(1.0), UNIT)),
        min_p=draw(st.one_of(st.just(0.0), UNIT)),
        repetition_penalty=draw(st.one_of(st.just(1.0), st.floats(0.5, 2))),
        presence_penalty=draw(st.one_of(st.just(0.0), st.floats(-2, 2))),
        frequency_penalty=draw(st.one_of(st.just(0.0), st.floats(-2, 2))),
        seed=draw(st.integers(0, 2**64 - 1)),
    )


@settings(max_examples=300)
@given(params=parameters(), logits=st.lists(LOGIT, min_size=1, max_size=80), data=st.data())
@example(params=SamplingParams(temperature=1.0, top_p=0.5, seed=1), logits=[1.0, 1.0], data=None)
def test_any_logits_and_parameters(params: SamplingParams, logits: list[float], data: Any) -> None:
    array = np.array(logits, np.float32)
    token = st.lists(st.integers(0, len(logits) - 1), max_size=6)
    prompt, answer = ([0], [0]) if data is None else (data.draw(token), data.draw(token))
    for step in (0, 1, 7):
        try:
            expected = reference.sample(array, params, prompt, answer, step)
        except ParameterError:
            with pytest.raises(ParameterError, match="there is no probability to draw from"):
                sample(array, params, prompt, answer, step)
        else:
            assert sample(array, params, prompt, answer, step) == expected


@pytest.mark.parametrize("vocab_size", [65, 1000, 20_000])
@pytest.mark.parametrize("width", [0.0, 1e-3, 1.0, 4.0])
@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"top_k": 50},
        {"top_k": 5000},
        {"top_p": 0.3},
        {"top_p": 0.95},
        {"top_p": 1 - 1e-12},
        {"min_p": 1e-4},
        {"min_p": 0.9, "top_p": 0.99},
        {"top_k": 300, "top_p": 0.9, "min_p": 0.01},
    ],
    ids=str,
)
def test_vocabularies_larger_than_what_is_sorted_first(
    vocab_size: int, width: float, filters: dict[str, Any]
) -> None:
    """From equal logits, where the whole vocabulary has to be sorted, to a few that stand out."""
    random = np.random.default_rng(vocab_size)
    logits = (width * random.standard_normal(vocab_size)).astype(np.float32)
    for seed in range(6):
        for temperature in (0.3, 1.0, 3.0):
            params = SamplingParams(**{"temperature": temperature, "top_p": 1.0, "seed": seed} | filters)
            assert sample(logits, params, step=seed) == reference.sample(logits, params, step=seed)


def test_sums_that_fall_on_the_threshold_are_settled_as_the_specification_does() -> None:
    """With 2**k equal logits every running sum is exact, and u times the whole sum is one of them."""
    for count in (128, 1024):
        logits = np.zeros(count, np.float32)
        for step in range(300):
            params = SamplingParams(temperature=1.0, top_p=1.0, seed=3)
            expected = math.floor(reference.uniform(3, step) * count)
            assert (
                sample(logits, params, step=step) == reference.sample(logits, params, step=step) == expected
            )
        half = SamplingParams(temperature=1.0, top_p=0.5, seed=3)
        assert max(sample(logits, half, step=step) for step in range(300)) < count // 2


def test_tokens_come_as_often_as_their_probability_says() -> None:
    """Chi-squared of 40,000 draws of 20 tokens: a right sampler exceeds 63 with odds of about 1e-6.

    The seed is fixed, so the test never changes its mind.
    """
    logits = np.linspace(-2, 2, 20, dtype=np.float32)
    draws = 40_000
    params = SamplingParams(temperature=0.8, top_p=1.0, seed=2024)
    counts = np.bincount([sample(logits, params, step=step) for step in range(draws)], minlength=20)
    weights = np.exp(logits.astype(np.float64) / 0.8)
    expected = draws * weights / weights.sum()
    assert ((counts - expected) ** 2 / expected).sum() < 63


def test_random_numbers_are_the_specification_s() -> None:
    for seed in (0, 1, 2**63, 2**64 - 1):
        for step in (0, 1, 2**31):
            assert sampling.uniform(seed, step) == reference.uniform(seed, step)


def test_logits_of_the_caller_stay_as_they_are() -> None:
    logits = np.array([3, 2, 1], np.float32)
    params = SamplingParams(temperature=0, repetition_penalty=2, presence_penalty=1)
    assert sample(logits, params, [0], [0]) == 1
    assert logits.tolist() == [3, 2, 1]


def test_penalties_leave_nothing_behind() -> None:
    """The counters of one call must not show in the next."""
    logits = np.array([3, 2.9, 1], np.float32)
    params = SamplingParams(temperature=0, repetition_penalty=1.1, frequency_penalty=0.1)
    assert sample(logits, params, [0, 0, 2], [0, 1, 0, 0]) == 1
    for _ in range(3):
        assert sample(logits, params) == 0


@pytest.mark.parametrize(
    ("logits", "changes", "message"),
    [
        ([1, np.nan, 2], {}, "the largest logit of the model is NaN"),
        ([1, np.inf, 2], {}, "the largest logit of the model is infinite"),
        ([-np.inf, -np.inf], {}, "the largest logit of the model is minus infinity"),
        ([3e38, 1], {"presence_penalty": -1e38, "generated_ids": [0]}, "after the penalties is infinite"),
        ([], {}, "logits should be at least one number, got none"),
        ([1, 2], {"prompt_ids": [2]}, "prompt token should be 0 to 1, got 2"),
        ([1, 2], {"generated_ids": [-1]}, "generated token should be 0 to 1, got -1"),
        ([1, 2], {"temperature": -1.0}, "temperature should be at least 0"),
        ([1, 2], {"temperature": math.nan}, "temperature should be at least 0"),
        ([1, 2], {"top_p": 0.0}, "top_p should be above 0 and at most 1"),
        ([1, 2], {"min_p": 1.5}, "min_p should be 0 to 1"),
        ([1, 2], {"repetition_penalty": 0.0}, "repetition_penalty should be above 0"),
        ([1, 2], {"frequency_penalty": math.inf}, "frequency_penalty should be finite"),
    ],
)
def test_what_cannot_be_drawn_from(logits: list[float], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        sampling.sample(np.array(logits, np.float32), **{"temperature": 1.0} | changes)
