"""int4 and mixed activations in the decoder: the codes of the specification, the same bits everywhere."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from random_decoders import CONFIGS, Feeder, assert_same_bits, logits_of, packed_model, random_tokens
from tercet import _core
from tercet.errors import ParameterError
from tercet.kernels.decoder import Decoder
from tercet.models.config import ModelConfig
from tercet.models.random_weights import random_weights
from tercet.reference import ReferenceDecoder

RULES = ("int4", "int4_int8")
rules = pytest.mark.parametrize("rule", RULES)


def ruled(name: str, rule: str) -> ModelConfig:
    return dataclasses.replace(CONFIGS[name], activation_rule=rule, quantize_activations=True)


@rules
@pytest.mark.parametrize("name", CONFIGS)
def test_hidden_states_are_those_of_the_reference(name: str, rule: str) -> None:
    """Two layers or so: a code that rounds to its neighbour moves a state by little, another rule by much."""
    config = ruled(name, rule)
    tokens = random_tokens(config, 19)
    decoder = Decoder(config, packed_model(config), 1)
    found = logits_of(decoder, tokens, hidden_states=True)

    def expected(rule: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        other = dataclasses.replace(config, activation_rule=rule)
        return ReferenceDecoder(other, random_weights(config)).hidden_states(tokens)

    distances = {rule: float(np.abs(found - expected(rule)).mean()) for rule in ("int8", *RULES)}
    own = distances.pop(rule)
    assert own < 0.25 * min(distances.values()), (own, distances)


@rules
@pytest.mark.parametrize("packing", ["two_bit", "five_per_byte"])
@pytest.mark.parametrize("name", ["grouped", "rotated", "gemma3"])
def test_every_isa_and_thread_count_gives_the_same_bits(name: str, rule: str, packing: str) -> None:
    config = ruled(name, rule)
    model, tokens = packed_model(config, packing), random_tokens(config, 37)
    expected = logits_of(Decoder(config, model, 1, "reference"), tokens)
    for isa in _core.available_isas():
        for threads in (1, 3):
            assert_same_bits(logits_of(Decoder(config, model, threads, isa), tokens), expected)


@rules
def test_chunks_and_company_change_no_bit(rule: str) -> None:
    config = ruled("grouped", rule)
    decoder = Decoder(config, packed_model(config), 2)
    tokens, others = random_tokens(config, 30), random_tokens(config, 9, 1)
    expected = logits_of(decoder, tokens)
    feeder = Feeder(decoder)
    feeder.feed({"it": tokens[:11], "other": others})
    feeder.feed({"it": tokens[11:12]})
    feeder.feed({"other": others, "it": tokens[12:]})
    assert_same_bits(feeder.result("it"), expected)


def test_a_rule_that_does_not_exist_is_refused() -> None:
    config = CONFIGS["grouped"]

    class Asked:
        activation_rule = "int3"

        def __getattr__(self, name: str) -> object:
            return getattr(config, name)

    with pytest.raises(ParameterError, match="int8, int4 or int4_int8"):
        Decoder(Asked(), packed_model(config), 1)  # type: ignore[arg-type]


def test_a_state_that_is_not_finite_reaches_the_logits() -> None:
    for rule in RULES:
        config = ruled("grouped", rule)
        model = packed_model(config)
        embedding = model["embedding"]
        values = np.array(embedding.data)
        values[: embedding.depth] = np.nan
        model["embedding"] = dataclasses.replace(embedding, data=values)
        tokens = np.array([5, 0, 7], np.int32)
        logits = logits_of(Decoder(config, model, 1), tokens)
        assert np.isnan(logits[1:]).any(axis=1).all(), rule
