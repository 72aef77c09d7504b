"""The Python front door, on a tiny random model: what goes in, what comes out, what is refused."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tercet import LLM, SamplingParams
from tercet.errors import (
    ContextLengthError,
    IsaError,
    ModelNotFoundError,
    ParameterError,
    UnsupportedModelError,
)
from tercet.models.saving import save_huggingface_folder
from tiny_models import GENERATION, TINY_CONFIG, random_masters, tiny_tokenizer_json

PROMPT = "Once upon a time"
# The embeddings are the output head: a random model repeats the last token unless it is made to wander.
WARM = {"temperature": 20.0, "top_p": 1.0, "max_tokens": 20}
GREEDY = {"temperature": 0, "ignore_eos": True, "max_tokens": 12}


@pytest.fixture(scope="module")
def llm(tiny_model_file: Path) -> Iterator[LLM]:
    with LLM(tiny_model_file, threads=1) as model:
        yield model


# Generating ----------------------------------------------------------------------------------------


def test_greedy_is_the_argmax_of_the_logits(llm: LLM) -> None:
    """The engine, with its cache and its steps, against one whole forward pass for each token."""
    ids = [TINY_CONFIG.bos_token_id, *llm.tokenize(PROMPT)]
    prompt_tokens = len(ids)
    for _ in range(12):
        ids.append(int(llm.logits(ids)[-1].argmax()))  # type: ignore[arg-type]
    result = llm.generate(PROMPT, **GREEDY)
    assert result.token_ids == ids[prompt_tokens:]
    assert result.prompt_tokens == prompt_tokens
    assert result.generated_tokens == 12
    assert result.finish_reason == "length"
    assert result.text == llm.tokenizer.decode(result.token_ids)
    assert result.metadata["model"] == llm.name
    assert 0 < result.time_to_first_token_seconds <= result.generation_time_seconds
    assert result.tokens_per_second == pytest.approx(12 / result.generation_time_seconds)


def test_the_same_seed_gives_the_same_text(llm: LLM) -> None:
    params = SamplingParams(seed=7, **WARM)
    first = llm.generate(PROMPT, params)
    assert llm.generate(PROMPT, params).token_ids == first.token_ids
    assert llm.generate(PROMPT, seed=8, **WARM).token_ids != first.token_ids


def test_a_drawn_seed_is_told_and_repeats_the_text(llm: LLM) -> None:
    first = llm.generate(PROMPT, **WARM)
    again = llm.generate(PROMPT, seed=first.metadata["seed"], **WARM)
    assert again.token_ids == first.token_ids


def test_the_pieces_of_a_stream_are_the_text(llm: LLM) -> None:
    for seed in range(5):
        stream = llm.stream(PROMPT, seed=seed, **WARM)
        pieces = list(stream)
        expected = llm.generate(PROMPT, seed=seed, **WARM)
        assert "".join(pieces) == stream.result.text == expected.text
        assert all(pieces)


def test_a_batch_is_each_prompt_alone(llm: LLM) -> None:
    prompts = [PROMPT, "The little dog", "", "One day a girl named Lily found a big red ball."]
    together = llm.generate(prompts, seed=3, **WARM)
    alone = [llm.generate(prompt, seed=3, **WARM) for prompt in prompts]
    assert [result.token_ids for result in together] == [result.token_ids for result in alone]


def test_more_prompts_than_run_at_once(llm: LLM) -> None:
    results = llm.generate([PROMPT] * 40, **GREEDY)
    assert len(results) == 40
    assert len({tuple(result.token_ids) for result in results}) == 1


def test_no_prompts_no_results(llm: LLM) -> None:
    assert llm.generate([]) == []


def test_token_ids_are_taken_as_they_are(llm: LLM) -> None:
    ids = llm.tokenize(PROMPT)
    assert llm.generate(ids, **GREEDY).prompt_tokens == len(ids)
    with_bos = [TINY_CONFIG.bos_token_id or 0, *ids]
    assert llm.generate(with_bos, **GREEDY).token_ids == llm.generate(PROMPT, **GREEDY).token_ids
    assert len(llm.generate([ids, with_bos], **GREEDY)) == 2


def test_an_empty_prompt_starts_from_the_begin_token(llm: LLM) -> None:
    result = llm.generate("", **GREEDY)
    assert result.prompt_tokens == 1
    assert result.generated_tokens == 12


def test_text_ends_before_a_stop_string(llm: LLM) -> None:
    whole = llm.generate(PROMPT, **GREEDY).text
    stop = whole[len(whole) // 2 :][:3]
    for stream in (False, True):
        if stream:
            pieces = llm.stream(PROMPT, stop=stop, **GREEDY)
            text = "".join(pieces)
            result = pieces.result
        else:
            result = llm.generate(PROMPT, stop=stop, **GREEDY)
            text = result.text
        assert text == whole[: whole.index(stop)]
        assert (result.finish_reason, result.metadata["stop_string"]) == ("stop", stop)


def test_generation_ends_with_the_context(llm: LLM) -> None:
    result = llm.generate(PROMPT, temperature=0, ignore_eos=True, max_tokens=1000)
    assert result.prompt_tokens + result.generated_tokens == llm.max_context
    assert result.finish_reason == "length"


def test_an_end_token_ends(llm: LLM) -> None:
    """A random model says it sooner or later; then it is neither text nor token of the answer."""
    ends = llm.generate([PROMPT] * 100, **WARM)
    stopped = [result for result in ends if result.finish_reason == "stop"]
    assert stopped
    for result in stopped:
        assert result.metadata["stop_token_id"] in TINY_CONFIG.eos_token_ids
        assert not set(result.token_ids) & set(TINY_CONFIG.eos_token_ids)


# Settings ------------------------------------------------------------------------------------------


def test_the_models_own_settings_win_over_defaults_and_the_caller_over_both(llm: LLM) -> None:
    assert llm.generate(PROMPT).metadata["sampling"].items() >= GENERATION.items()
    named = llm.generate(PROMPT, temperature=0.7, max_tokens=3).metadata["sampling"]
    assert (named["temperature"], named["max_tokens"], named["top_p"]) == (0.7, 3, GENERATION["top_p"])
    # 0.7 is also the default of SamplingParams: that it was named is what counts.
    params = llm.generate(PROMPT, SamplingParams(temperature=0.7)).metadata["sampling"]
    assert (params["temperature"], params["top_p"]) == (0.7, GENERATION["top_p"])


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"temprature": 1}, "no sampling parameter is called temprature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"stop": [""]}, "stop"),
    ],
)
def test_wrong_settings(llm: LLM, named: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        llm.generate(PROMPT, **named)


def test_settings_come_one_way_or_the_other(llm: LLM) -> None:
    with pytest.raises(ParameterError, match="SamplingParams or seed by name, not both"):
        llm.generate(PROMPT, SamplingParams(), seed=1)


# Wrong input ---------------------------------------------------------------------------------------


def test_a_long_prompt_is_refused_with_the_counts(llm: LLM) -> None:
    prompt = "dog " * 100
    count = 1 + len(llm.tokenize(prompt))
    with pytest.raises(ContextLengthError, match=rf"the prompt has {count} tokens, and the context of 64"):
        llm.generate(prompt)
    with pytest.raises(ContextLengthError, match="prompt 1: the prompt has"):
        llm.generate([PROMPT, prompt])
    with pytest.raises(ContextLengthError, match="65 tokens do not fit into the context of 64"):
        llm.logits([3] * 65)


@pytest.mark.parametrize("prompt", [b"bytes", 3, None, {"a": 1}, [3, "mixed"], [[]], [1, 2.5], [-1], [500]])
def test_what_is_no_prompt(llm: LLM, prompt: object) -> None:
    with pytest.raises(ParameterError):
        llm.generate(prompt)  # type: ignore[call-overload]


def test_lone_surrogates_are_refused(llm: LLM) -> None:
    for call in (llm.generate, llm.tokenize, llm.stream):
        with pytest.raises(ParameterError, match="surrogate"):
            call("caf\udce9")  # type: ignore[operator]


@pytest.mark.parametrize("max_context", [0, 1, -5, 65, 2.5, True])
def test_wrong_max_context(tiny_model_file: Path, max_context: object) -> None:
    with pytest.raises(ParameterError, match="max_context must be a whole number from 2 to the model's 64"):
        LLM(tiny_model_file, max_context=max_context)  # type: ignore[arg-type]


def test_wrong_machine_settings(tiny_model_file: Path) -> None:
    with pytest.raises(IsaError, match="abacus"):
        LLM(tiny_model_file, isa="abacus")
    for threads in (0, -1, 100_000):
        with pytest.raises(ParameterError, match="threads"):
            LLM(tiny_model_file, threads=threads)
    with pytest.raises(ParameterError, match="kv_dtype must be one of f32, f16, int8"):
        LLM(tiny_model_file, kv_dtype="int4")
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        LLM("no-such-model")


# Looking inside ------------------------------------------------------------------------------------


def test_logits_are_float32_of_every_position(llm: LLM) -> None:
    ids = llm.tokenize(PROMPT)
    logits = llm.logits(ids)
    assert logits.shape == (len(ids), TINY_CONFIG.vocab_size)
    assert logits.dtype == np.float32
    assert np.array_equal(llm.logits(ids[:3]), logits[:3])  # a token does not see those after it
    with pytest.raises(ParameterError, match="at least one token"):
        llm.logits([])


@pytest.mark.parametrize("text", ["", "Ünïcödé 東京 🙂👍🏽", "  two  spaces\n\t", "<|end_of_text|><|user|>"])
def test_text_comes_back_and_never_becomes_control(llm: LLM, text: str) -> None:
    ids = llm.tokenize(text)
    assert not set(ids) & llm.tokenizer.special_ids
    assert llm.detokenize(ids) == text


def test_control_tokens_are_shown_by_name(llm: LLM) -> None:
    assert llm.detokenize([0, *llm.tokenize("dog"), 1]) == "<|begin_of_text|>dog<|end_of_text|>"


def test_memory_is_measured(llm: LLM) -> None:
    usage = llm.memory_usage()
    assert usage.mapped_bytes is not None
    assert usage.mapped_bytes >= llm.path.stat().st_size
    assert usage.resident_bytes is not None
    assert usage.peak_resident_bytes is not None
    assert 0 < usage.resident_bytes <= usage.peak_resident_bytes
    assert usage.kv_cache_bytes > 0
    assert usage.gpu_bytes == 0


# Chat ----------------------------------------------------------------------------------------------


def test_chat_answers_by_the_template(llm: LLM) -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello <|end_of_turn|>"},
    ]
    ids = llm.chat_tokens(messages)
    text = llm.detokenize(ids)
    assert text.startswith("<|begin_of_text|><|system|>Be kind.<|end_of_turn|><|user|>Hello ")
    assert text.endswith("<|end_of_turn|><|assistant|>")
    assert ids.count(2) == 2  # what the user typed is not the control token
    answer = llm.chat(messages, **GREEDY)
    assert answer.token_ids == llm.generate(ids, **GREEDY).token_ids
    assert "".join(llm.stream_chat(messages, **GREEDY)) == answer.text


@pytest.mark.parametrize(
    "messages", [[], "hello", [{"role": "user"}], [{"role": "cat", "content": "x"}], [3]]
)
def test_what_is_no_conversation(llm: LLM, messages: object) -> None:
    with pytest.raises(ParameterError, match="message"):
        llm.chat(messages)  # type: ignore[arg-type]


# Models that lack something ------------------------------------------------------------------------


def test_a_model_without_begin_token_and_template(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY_CONFIG, bos_token_id=None)
    folder = tmp_path / "plain"
    save_huggingface_folder(folder, config, random_masters(config), tokenizer_json=tiny_tokenizer_json())
    with LLM(folder, threads=1) as llm:
        assert not llm.has_chat_template
        with pytest.raises(UnsupportedModelError, match="no chat template"):
            llm.chat([{"role": "user", "content": "hello"}])
        with pytest.raises(ParameterError, match="empty, and this model has no begin-of-text token"):
            llm.generate("")
        assert llm.generate(PROMPT, **GREEDY).prompt_tokens == len(llm.tokenize(PROMPT))


def test_a_model_without_tokenizer(tmp_path: Path) -> None:
    folder = tmp_path / "mute"
    save_huggingface_folder(folder, TINY_CONFIG, random_masters(TINY_CONFIG))
    with LLM(folder, threads=1) as llm:
        assert llm.logits([1, 2, 3]).shape == (3, TINY_CONFIG.vocab_size)
        with pytest.raises(UnsupportedModelError, match="holds no tokenizer"):
            llm.generate(PROMPT)


# Life ----------------------------------------------------------------------------------------------


def test_half_precision_cache_and_a_smaller_context(tiny_model_file: Path, llm: LLM) -> None:
    with LLM(tiny_model_file, threads=2, kv_dtype="f16", max_context=32) as small:
        assert small.memory_usage().kv_cache_bytes < llm.memory_usage().kv_cache_bytes
        result = small.generate(PROMPT, temperature=0, ignore_eos=True)
        assert result.prompt_tokens + result.generated_tokens == 32


def test_a_closed_llm_says_so(tiny_model_file: Path) -> None:
    with LLM(tiny_model_file, threads=1) as llm:
        pass
    for call in (llm.generate, llm.stream):
        with pytest.raises(ParameterError, match="has been closed"):
            call(PROMPT)  # type: ignore[operator]
    llm.close()


def test_a_forgotten_stream_holds_nobody_up(llm: LLM) -> None:
    stream = llm.stream(PROMPT, temperature=0, ignore_eos=True, max_tokens=40)
    next(stream)
    expected = llm.generate(PROMPT, **GREEDY)
    del stream
    assert llm.generate(PROMPT, **GREEDY).token_ids == expected.token_ids


def test_streams_may_interleave(llm: LLM) -> None:
    prompts = [PROMPT, "The little dog"]
    streams = [llm.stream(prompt, seed=1, **WARM) for prompt in prompts]
    texts = ["", ""]
    while any(pieces := [next(stream, "") for stream in streams]):
        texts = [text + piece for text, piece in zip(texts, pieces, strict=True)]
    assert texts == [llm.generate(prompt, seed=1, **WARM).text for prompt in prompts]


@pytest.mark.parametrize("streaming", [False, True])
def test_threads_share_one_llm(llm: LLM, streaming: bool) -> None:
    prompts = [PROMPT, "The little dog", "One day", "The sun"]
    expected = [llm.generate(prompt, seed=5, **WARM).text for prompt in prompts]
    found: dict[str, set[str]] = {prompt: set() for prompt in prompts}

    def work(prompt: str) -> None:
        for _ in range(10):
            if streaming:
                text = "".join(llm.stream(prompt, seed=5, **WARM))
            else:
                text = llm.generate(prompt, seed=5, **WARM).text
            found[prompt].add(text)

    threads = [threading.Thread(target=work, args=(prompt,)) for prompt in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [{text} for text in expected]
