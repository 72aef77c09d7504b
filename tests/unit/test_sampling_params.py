"""Every parameter is checked, and the model's wishes stand below the caller's."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import numpy as np
import pytest

from tercet.errors import ParameterError
from tercet.sampling.params import SamplingParams


def test_the_documented_defaults() -> None:
    params = SamplingParams()
    assert (params.max_tokens, params.temperature, params.top_p, params.repetition_penalty) == (
        256,
        0.7,
        0.9,
        1.0,
    )
    assert (params.top_k, params.min_p, params.seed, params.stop, params.ignore_eos) == (
        0,
        0.0,
        None,
        (),
        False,
    )
    assert (params.presence_penalty, params.frequency_penalty) == (0.0, 0.0)
    assert (params.min_tokens, params.logit_bias, params.logprobs) == (0, {}, None)
    assert params.explicit == frozenset()


@pytest.mark.parametrize(
    "name",
    ["temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"],
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, True, "1", None, 1j, [1.0]])
def test_numbers_must_be_finite_real_numbers(name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=f"{name} is a finite number"):
        SamplingParams(**{name: value})


@pytest.mark.parametrize("name", ["max_tokens", "top_k", "seed", "min_tokens", "logprobs"])
@pytest.mark.parametrize("value", [1.0, True, "1", math.nan, 2**70, -(2**70), np.float32(1), [1]])
def test_counts_must_be_whole_numbers(name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=f"{name} is a whole number from"):
        SamplingParams(**{name: value})


@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("max_tokens", [1, 2**31 - 1], [0, -1, 2**31]),
        ("temperature", [0, 1e-30, 0.7, 100], [-1e-9, -1]),
        ("top_p", [1e-9, 1], [0, -0.1, 1.0000001]),
        ("top_k", [0, 1, 2**31 - 1], [-1, 2**31]),
        ("min_p", [0, 1], [-0.01, 1.01]),
        ("repetition_penalty", [0.01, 1, 1.3, 100], [0, -1, 101]),
        ("presence_penalty", [-2, 2], [-2.1, 2.1]),
        ("frequency_penalty", [-2, 2], [-2.1, 2.1]),
        ("seed", [0, 2**64 - 1, None], [-1, 2**64]),
        ("min_tokens", [0, 256], [-1, 257]),
        ("logprobs", [0, 20, None], [-1, 21]),
    ],
)
def test_ranges(name: str, allowed: list[Any], refused: list[Any]) -> None:
    for value in allowed:
        assert getattr(SamplingParams(**{name: value}), name) == value
    for value in refused:
        with pytest.raises(ParameterError, match=rf"{name} is a .* not {value}"):
            SamplingParams(**{name: value})


def test_numpy_numbers_become_pythons() -> None:
    params = SamplingParams(max_tokens=np.int64(5), temperature=np.float32(0.5), seed=np.uint64(2**64 - 1))
    assert [type(value) for value in (params.max_tokens, params.temperature, params.seed)] == [
        int,
        float,
        int,
    ]
    assert type(SamplingParams(temperature=1).temperature) is float


@pytest.mark.parametrize(
    ("given", "kept"),
    [("end", ("end",)), (["a", "b"], ("a", "b")), ((), ()), (iter(["x"]), ("x",))],
)
def test_stop_takes_one_string_or_several(given: Any, kept: tuple[str, ...]) -> None:
    assert SamplingParams(stop=given).stop == kept


@pytest.mark.parametrize("stop", ["", ["a", ""], [1], b"end", [b"end"], None, 7])
def test_stop_strings_that_cannot_be(stop: Any) -> None:
    with pytest.raises(ParameterError, match="stop"):
        SamplingParams(stop=stop)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "logit_bias maps token ids"),
        ([(1, 2)], "logit_bias maps token ids"),
        ({"1": 2}, "a token of logit_bias is a whole number"),
        ({-1: 2}, "a token of logit_bias is a whole number"),
        ({True: 2}, "a token of logit_bias is a whole number"),
        ({1: 100.5}, "logit_bias of token 1 is a finite number"),
        ({1: math.nan}, "logit_bias of token 1 is a finite number"),
        ({1: "2"}, "logit_bias of token 1 is a finite number"),
        (dict.fromkeys(range(1025), 1), "names 1,025 tokens, and may name 1,024"),
    ],
)
def test_biases_that_cannot_be(value: Any, reason: str) -> None:
    with pytest.raises(ParameterError, match=reason):
        SamplingParams(logit_bias=value)


def test_biases_are_a_copy_and_checked_against_a_vocabulary() -> None:
    mine = {np.int64(3): 1, 7: -100}
    params = SamplingParams(logit_bias=mine)
    mine[8] = 5
    assert params.logit_bias == {3: 1.0, 7: -100.0}
    assert params == SamplingParams(logit_bias={7: -100, 3: 1})
    assert params != SamplingParams()
    params.check_vocabulary(8)
    SamplingParams().check_vocabulary(1)
    with pytest.raises(ParameterError, match="names the token 7, but the vocabulary has ids 0 to 6"):
        params.check_vocabulary(7)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_ignore_eos_is_yes_or_no(value: Any) -> None:
    with pytest.raises(ParameterError, match="ignore_eos is True or False"):
        SamplingParams(ignore_eos=value)


def test_the_models_wishes_fill_what_the_caller_left_open() -> None:
    wishes = {"temperature": 1.0, "top_p": 0.5}
    params = SamplingParams(temperature=0.7, max_tokens=9).with_defaults(wishes)
    assert (params.temperature, params.top_p, params.max_tokens) == (0.7, 0.5, 9)
    assert params.explicit == {"temperature", "max_tokens"}
    assert params.with_defaults({"top_p": 0.6}).top_p == 0.6
    with pytest.raises(
        ParameterError, match="no sampling parameter is called do_sample; there are max_tokens"
    ):
        params.with_defaults({"do_sample": True})
    with pytest.raises(ParameterError, match="top_p is a finite number"):
        params.with_defaults({"top_p": 2})


def test_a_seed_is_drawn_once_for_a_request_without() -> None:
    assert SamplingParams(seed=5).seeded().seed == 5
    first, second = SamplingParams(stop="x").seeded(), SamplingParams(stop="x").seeded()
    assert first.seed is not None
    assert first.seed != second.seed
    assert first.explicit == {"stop"}
    assert first.stop == ("x",)


def test_parameters_are_values() -> None:
    params = SamplingParams(temperature=0.7, stop="x")
    assert params == SamplingParams(stop=["x"])
    assert hash(params) == hash(SamplingParams(stop=["x"]))
    for twin in (copy.copy(params), copy.deepcopy(params)):
        assert twin == params
        assert twin.explicit == params.explicit
    with pytest.raises(AttributeError):
        params.temperature = 1.0  # type: ignore[misc]


def test_the_signature_shows_every_parameter() -> None:
    parameters = inspect.signature(SamplingParams).parameters
    assert parameters["temperature"].default == 0.7
    assert "explicit" not in parameters
    with pytest.raises(TypeError, match="temprature"):
        SamplingParams(temprature=1)  # type: ignore[call-arg]
