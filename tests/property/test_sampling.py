"""Laws of the sampler, over any logits and any parameters."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tercet.sampling.params import SamplingParams
from tercet.sampling.reference import sample, uniform

logits = arrays.arrays(np.float32, st.integers(1, 30), elements=st.floats(-50, 50, width=32))
parameters = st.builds(
    SamplingParams,
    temperature=st.floats(0.01, 10),
    top_p=st.floats(0.01, 1),
    top_k=st.integers(0, 40),
    min_p=st.floats(0, 1),
    seed=st.integers(0, 2**64 - 1),
)
steps = st.integers(0, 2**31)


@given(logits, parameters, steps)
def test_the_choice_survives_every_filter(logits: np.ndarray, params: SamplingParams, step: int) -> None:
    token = sample(logits, params, step=step)
    probabilities = np.exp((logits.astype(np.float64) - logits.max()) / params.temperature)
    probabilities /= probabilities.sum()
    likelier = probabilities > probabilities[token]
    if params.top_k:
        assert likelier.sum() < params.top_k
    assert probabilities[token] >= params.min_p * probabilities.max() * (1 - 1e-9)
    if not params.top_k:
        assert probabilities[likelier].sum() <= params.top_p * (1 + 1e-9)


@given(logits, parameters, steps)
def test_the_same_seed_and_step_choose_the_same_token(
    logits: np.ndarray, params: SamplingParams, step: int
) -> None:
    assert sample(logits, params, step=step) == sample(logits.copy(), params, step=step)


@given(logits, parameters, steps)
def test_top_k_of_one_is_greedy(logits: np.ndarray, params: SamplingParams, step: int) -> None:
    one = dataclasses.replace(params, top_k=1)
    assert sample(logits, one, step=step) == sample(logits, SamplingParams(temperature=0)) == logits.argmax()


@given(logits, parameters, steps, st.data())
def test_neutral_penalties_change_nothing(
    logits: np.ndarray, params: SamplingParams, step: int, data: st.DataObject
) -> None:
    tokens = data.draw(st.lists(st.integers(0, len(logits) - 1), max_size=5))
    assert sample(logits, params, tokens, tokens, step) == sample(logits, params, step=step)


@given(st.integers(0, 2**64 - 1), steps)
def test_random_numbers_have_24_bits(seed: int, step: int) -> None:
    u = uniform(seed, step)
    assert 0 <= u < 1
    assert (u * 2**24).is_integer()
