"""Adapters by name: read, refused, chosen by a request, exchanged while others generate, never mixed up."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from random_adapters import random_adapter, write_adapter
from tercet import LLM
from tercet.errors import FormatError, ModelNotFoundError, ParameterError, TercetError, UnsupportedModelError
from tercet.formats.peft import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_peft_adapter
from tercet.models.adapters import load_adapter
from tercet.models.loading import load_model
from tercet.reference import ReferenceDecoder
from tiny_models import TINY_CONFIG

PROMPT = "Once upon a time there was a little dog. The little dog liked"
GREEDY: dict[str, Any] = {"temperature": 0, "ignore_eos": True, "max_tokens": 8}
FIRST = random_adapter(TINY_CONFIG, seed=1, strength=1.0)
SECOND = random_adapter(TINY_CONFIG, rank=3, seed=2, strength=1.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return {
        "first": write_adapter(folder / "a", FIRST),
        "second": write_adapter(folder / "b", SECOND),
        "zero": write_adapter(folder / "zero", random_adapter(TINY_CONFIG, strength=0.0)),
    }


@pytest.fixture(scope="module")
def llm(tiny_model_file: Path, folders: dict[str, Path]) -> Iterator[LLM]:
    with LLM(tiny_model_file, threads=1, adapters=folders) as model:
        yield model


# Files ---------------------------------------------------------------------------------------------


def test_a_folder_becomes_pairs_under_our_names(folders: dict[str, Path]) -> None:
    adapter = read_peft_adapter(folders["first"])
    assert adapter.rank == 5
    assert set(adapter.pairs) == set(FIRST)
    pair, (reduce, expand, scale) = adapter.pairs["layers.1.ffn.down"], FIRST["layers.1.ffn.down"]
    np.testing.assert_array_equal(pair.reduce.float32(), reduce)
    np.testing.assert_array_equal(pair.expand.float32(), expand)
    assert pair.scale == scale
    assert adapter.digest == read_peft_adapter(folders["first"]).digest
    assert adapter.digest != read_peft_adapter(folders["second"]).digest


def test_scales_are_as_peft_has_them(tmp_path: Path) -> None:
    adapter = random_adapter(TINY_CONFIG, rank=4, parts=["attention.q", "ffn.up"])
    by_root = read_peft_adapter(write_adapter(tmp_path / "a", adapter, lora_alpha=6, use_rslora=True))
    assert {pair.scale for pair in by_root.pairs.values()} == {3.0}
    patterns = {"q_proj": 8, "layers.1.mlp.up_proj": 20.0}
    by_name = read_peft_adapter(write_adapter(tmp_path / "b", adapter, lora_alpha=4, alpha_pattern=patterns))
    assert {name: pair.scale for name, pair in by_name.pairs.items()} == {
        "layers.0.attention.q": 2.0,
        "layers.1.attention.q": 2.0,
        "layers.0.ffn.up": 1.0,
        "layers.1.ffn.up": 5.0,
    }


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        ({"peft_type": "IA3"}, UnsupportedModelError, "of kind IA3"),
        ({"use_dora": True}, UnsupportedModelError, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, UnsupportedModelError, "modules_to_save"),
        ({"bias": "all"}, UnsupportedModelError, "biases"),
        ({"fan_in_fan_out": True}, UnsupportedModelError, "transposed"),
        ({"lora_alpha": "much"}, FormatError, "lora_alpha"),
        ({"alpha_pattern": {".*q_proj": 3}}, FormatError, "alpha_pattern"),
    ],
)
def test_settings_that_mean_something_else_are_refused(
    tmp_path: Path, config: dict[str, Any], error: type[TercetError], words: str
) -> None:
    with pytest.raises(error, match=words):
        read_peft_adapter(write_adapter(tmp_path, FIRST, **config))


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=ADAPTER_CONFIG):
        read_peft_adapter(tmp_path)
    (tmp_path / ADAPTER_CONFIG).write_text("{}")
    with pytest.raises(ModelNotFoundError, match=ADAPTER_WEIGHTS):
        read_peft_adapter(tmp_path)
    (tmp_path / ADAPTER_WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(UnsupportedModelError, match="unknown"):
        read_peft_adapter(tmp_path)
    (tmp_path / ADAPTER_CONFIG).write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 1}))
    with pytest.raises(FormatError):
        read_peft_adapter(tmp_path)
    broken = {name: (a * np.float32(np.nan), b, scale) for name, (a, b, scale) in FIRST.items()}
    with pytest.raises(FormatError, match="not finite"):
        read_peft_adapter(write_adapter(tmp_path, broken))
    torn = {name: (a[:3], b, scale) for name, (a, b, scale) in FIRST.items()}
    with pytest.raises(FormatError, match="the rank must be the same"):
        read_peft_adapter(write_adapter(tmp_path, torn))


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    wide = dataclasses.replace(TINY_CONFIG, ffn_size=60)
    folder = write_adapter(tmp_path / "wide", random_adapter(wide), base_model_name_or_path="wide-model")
    with pytest.raises(UnsupportedModelError, match=r"\[60, 36\].*\[50, 36\].*wide-model"):
        load_adapter(folder, TINY_CONFIG)
    deep = dataclasses.replace(TINY_CONFIG, num_layers=3)
    with pytest.raises(UnsupportedModelError, match="the model has 2 layers"):
        load_adapter(write_adapter(tmp_path / "deep", random_adapter(deep)), TINY_CONFIG)


# Choosing ------------------------------------------------------------------------------------------


def test_logits_are_those_of_the_reference(llm: LLM, tiny_model_file: Path) -> None:
    ids = llm.prompt_tokens(PROMPT)
    weights = {name: one.unpack() if hasattr(one, "unpack") else one.float32().squeeze()
               for name, one in load_model(tiny_model_file).weights.items()}  # fmt: skip
    expected = ReferenceDecoder(llm.config, weights, adapter=FIRST).logits(ids)
    found = llm.logits(ids, adapter="first")
    assert np.abs(found - expected).mean() < 0.05 * np.abs(expected).mean()
    assert np.abs(found - llm.logits(ids)).mean() > 0.2 * np.abs(expected).mean()


def test_none_and_zero_are_the_model_itself(llm: LLM) -> None:
    ids = llm.prompt_tokens(PROMPT)
    expected = llm.logits(ids)
    for adapter in (None, {}, {"first": 0.0}, "zero"):
        np.testing.assert_array_equal(llm.logits(ids, adapter=adapter), expected)


def test_requests_of_different_adapters_run_together_as_they_run_alone(llm: LLM) -> None:
    choices: list[Any] = [None, "first", "second", {"first": 0.5, "second": 0.5}, "first"]
    alone = [llm.generate(PROMPT, adapter=choice, **GREEDY).token_ids for choice in choices]
    assert len({tuple(ids) for ids in alone}) == 4
    prompt, params = llm.prompt_tokens(PROMPT), llm.sampling(None, GREEDY)
    requests = [llm.request(prompt, params, choice) for choice in choices]
    llm.engine.complete(requests)
    assert [request.generated_ids for request in requests] == alone


def test_prefixes_are_never_shared_between_adapters(llm: LLM) -> None:
    prompt, params = list(range(3, 40)), llm.sampling(None, GREEDY)

    def reused(adapter: Any) -> int:
        request = llm.request(prompt, params, adapter)
        llm.engine.complete([request])
        return request.num_reused

    for adapter in (None, "first", "second", {"first": 0.5}, {"first": 1.0, "second": 1.0}):
        assert reused(adapter) == 0
        assert reused(adapter) > 0


def test_what_cannot_be_chosen_is_refused(llm: LLM) -> None:
    with pytest.raises(ModelNotFoundError, match="no adapter 'poet' here; there are first, second, zero"):
        llm.generate(PROMPT, adapter="poet")
    with pytest.raises(ParameterError, match="finite number"):
        llm.generate(PROMPT, adapter={"first": float("inf")})
    with pytest.raises(ParameterError, match="at most 8"):
        llm.generate(PROMPT, adapter={str(number): 1.0 for number in range(9)})


# Exchanging ----------------------------------------------------------------------------------------


def expected_tokens(llm: LLM, adapter: str) -> list[int]:
    found: list[int] = llm.generate(PROMPT, adapter=adapter, **GREEDY).token_ids
    return found


def test_a_request_keeps_the_adapter_that_it_began_with(
    tiny_model_file: Path, folders: dict[str, Path], llm: LLM
) -> None:
    with LLM(tiny_model_file, threads=1, adapters={"voice": folders["first"]}) as own:
        stream = own.stream(PROMPT, adapter="voice", **GREEDY)
        next(stream)
        own.adapters.load("voice", folders["second"])
        fresh = own.generate(PROMPT, adapter="voice", **GREEDY).token_ids
        for _ in stream:
            pass
        assert stream.result.token_ids == expected_tokens(llm, "first")
        assert fresh == expected_tokens(llm, "second")
        own.adapters.unload("voice")
        with pytest.raises(ModelNotFoundError, match="there are none"):
            own.generate(PROMPT, adapter="voice")
        own.adapters.load("voice", folders["first"])
        assert own.generate(PROMPT, adapter="voice", **GREEDY).token_ids == expected_tokens(llm, "first")


def test_a_bad_adapter_replaces_nothing(
    tiny_model_file: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    with LLM(tiny_model_file, threads=1, adapters={"voice": folders["first"]}) as own:
        before = own.adapters.get("voice")
        for name, folder in (("voice", tmp_path), ("", folders["second"]), (" x", folders["second"])):
            with pytest.raises(TercetError):
                own.adapters.load(name, folder)
        assert own.adapters.get("voice") is before
    with pytest.raises(ParameterError, match="closed"):
        own.adapters.load("voice", folders["first"])


def test_defaults_are_for_requests_that_choose_none(
    tiny_model_file: Path, folders: dict[str, Path], llm: LLM
) -> None:
    with LLM(tiny_model_file, threads=1, adapters=folders) as own:
        own.adapters.set_defaults({"first": 1, "second": 0})
        assert own.adapters.defaults == {"first": 1.0}
        assert own.generate(PROMPT, **GREEDY).token_ids == expected_tokens(llm, "first")
        assert own.generate(PROMPT, adapter="second", **GREEDY).token_ids == expected_tokens(llm, "second")
        plain = own.generate(PROMPT, adapter={}, **GREEDY).token_ids
        assert plain == llm.generate(PROMPT, **GREEDY).token_ids
        own.adapters.unload("first")
        assert own.generate(PROMPT, **GREEDY).token_ids == plain


def test_guesses_of_speculation_change_nothing(
    tiny_model_file: Path, folders: dict[str, Path], llm: LLM
) -> None:
    with LLM(tiny_model_file, threads=1, adapters=folders, speculation="prompt_lookup") as own:
        assert own.generate(PROMPT, adapter="first", **GREEDY).token_ids == expected_tokens(llm, "first")
