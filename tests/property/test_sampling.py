"""Laws of the sampler, over any logits and any parameters."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tercet.errors import ParameterError
from tercet.sampling.logprobs import token_logprobs
from tercet.sampling.params import SamplingParams
from tercet.sampling.reference import sample, uniform
from tercet.sampling.token_constraint import adjusted_logits

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


class Mask:
    """A constraint that allows the same tokens always."""

    def __init__(self, allowed: list[bool], is_complete: bool) -> None:
        self.allowed = np.array(allowed)
        self.is_complete = is_complete
        self.is_finished = False

    def mask(self) -> np.ndarray:
        return self.allowed

    def accept(self, token_id: int) -> None: ...


@given(logits, st.data())
def test_adjusted_logits_are_what_the_specification_draws_from(
    logits: np.ndarray, data: st.DataObject
) -> None:
    tokens = st.integers(0, len(logits) - 1)
    params = SamplingParams(
        temperature=data.draw(st.sampled_from([0, 1.5])),
        seed=3,
        min_tokens=data.draw(st.integers(0, 2)),
        logit_bias=data.draw(st.dictionaries(tokens, st.floats(-100, 100, width=32), max_size=4)),
    )
    generated, stop_ids = data.draw(st.lists(tokens, max_size=3)), data.draw(st.sets(tokens, max_size=2))
    lists = st.lists(st.booleans(), min_size=1, max_size=len(logits) + 2)
    constraint = data.draw(st.one_of(st.none(), st.builds(Mask, lists, st.booleans())))
    allowed = None
    if constraint is not None:
        allowed = np.zeros(len(logits), bool)
        allowed[: len(constraint.allowed)] = constraint.allowed[: len(logits)]
        allowed[list(stop_ids)] = constraint.is_complete
        if constraint.is_complete and not constraint.allowed[: len(logits)].any():
            params = dataclasses.replace(params, min_tokens=0)
    before = logits.copy()
    adjusted = adjusted_logits(logits, params, len(generated), stop_ids, constraint)
    assert np.array_equal(logits, before)
    plain = dataclasses.replace(params, min_tokens=0, logit_bias={})
    try:
        expected = sample(logits, params, (), generated, allowed=allowed, stop_ids=stop_ids)
    except ParameterError:
        assert adjusted.max() == -np.inf
    else:
        assert sample(adjusted, plain, (), generated) == expected


@given(logits, st.integers(0, 20), st.data())
def test_log_probabilities(logits: np.ndarray, count: int, data: st.DataObject) -> None:
    token = data.draw(st.integers(0, len(logits) - 1))
    exact = logits.astype(np.float64) - logits.max()
    exact -= np.log(np.exp(exact).sum())
    found = token_logprobs(logits, token, count)
    assert found.token_id == token
    assert abs(found.logprob - exact[token]) < 1e-5
    order = np.argsort(-logits, kind="stable")[:count]
    assert [one for one, _ in found.top] == order.tolist()
    assert all(abs(logprob - exact[one]) < 1e-5 for one, logprob in found.top)
