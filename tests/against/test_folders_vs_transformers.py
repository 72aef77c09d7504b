"""Model folders between us and transformers: each loads what the other saved, and computes the same.

int8 activations that lie at a tie may round the other way (test_reference_vs_transformers.py explains each),
so logits are compared row by row: nearly all rows agree, and the rest are close.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.models.config import ModelConfig
from tercet.models.loading import load_model
from tercet.models.saving import save_huggingface_folder
from tercet.reference import ReferenceDecoder
from tercet.tokenization import ChatTemplate, Tokenizer
from tiny_models import CHAT_TEMPLATE, TINY_CONFIG, random_masters, tiny_tokenizer_json

torch = pytest.importorskip("torch", reason="the package torch is not installed")
transformers = pytest.importorskip("transformers", reason="the package transformers is not installed")

UNTIED = dataclasses.replace(TINY_CONFIG, tied_embeddings=False, activation="silu", bos_token_id=None)
TOKENS = np.random.default_rng(2).integers(0, TINY_CONFIG.vocab_size, 48)


@pytest.fixture(scope="module", autouse=True)
def _eager() -> Iterator[None]:
    """transformers decorates its quantizers with torch.compile, which takes minutes and changes no result."""
    with torch.compiler.set_stance("force_eager"), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs: torch.jit and friends are deprecated, the CPU is slow
        yield


def transformers_logits(folder: Path) -> np.ndarray:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert type(model).__name__ == "BitNetForCausalLM"
    return np.asarray(model.eval()(torch.from_numpy(TOKENS)[None]).logits[0].float())


def our_logits(folder: Path) -> np.ndarray:
    model = load_model(folder)
    return ReferenceDecoder(model.config, model.reference_weights).logits(TOKENS)


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    spread = theirs.std()
    assert spread > 0.3
    rows = np.abs(ours - theirs).max(axis=1) / spread
    assert np.mean(rows < 2e-3) >= 0.9, rows
    assert np.sqrt(np.mean((ours - theirs) ** 2)) < 0.02 * spread


@pytest.mark.parametrize("float_type", ["f32", "bf16"])
@pytest.mark.parametrize("config", [TINY_CONFIG, UNTIED], ids=["tied, relu2", "untied, silu"])
def test_transformers_loads_what_we_save(tmp_path: Path, config: ModelConfig, float_type: str) -> None:
    folder = tmp_path / "model"
    save_huggingface_folder(folder, config, random_masters(config, seed=4), float_type=float_type)
    loaded = transformers.AutoConfig.from_pretrained(folder)
    assert loaded.rope_parameters["rope_theta"] == config.rope_theta
    assert loaded.eos_token_id == [1, 2]
    assert_close(our_logits(folder), transformers_logits(folder))


def test_transformers_loads_full_precision_models(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY_CONFIG, quantize_activations=False)
    save_huggingface_folder(tmp_path / "twin", config, random_masters(config))
    theirs = transformers_logits(tmp_path / "twin")
    np.testing.assert_allclose(our_logits(tmp_path / "twin"), theirs, atol=1e-4 * theirs.std())
    ternary = tmp_path / "ternary"
    save_huggingface_folder(ternary, TINY_CONFIG, random_masters(TINY_CONFIG))
    assert np.abs(our_logits(ternary) - theirs).max() > 0.1 * theirs.std()


@pytest.mark.parametrize("max_shard_size", ["5GB", "20KB"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_we_load_what_transformers_saves(tmp_path: Path, dtype: str, max_shard_size: str) -> None:
    save_huggingface_folder(tmp_path / "first", UNTIED, random_masters(UNTIED))
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "first", dtype=getattr(torch, dtype))
    model.save_pretrained(tmp_path / "second", max_shard_size=max_shard_size)
    assert (tmp_path / "second" / "model.safetensors.index.json").exists() == (max_shard_size == "20KB")
    assert load_model(tmp_path / "second").config == UNTIED
    assert_close(our_logits(tmp_path / "second"), transformers_logits(tmp_path / "second"))


def test_tokenizer_and_chat_template_give_the_same_ids(tiny_model_folder: Path) -> None:
    theirs: Any = transformers.AutoTokenizer.from_pretrained(tiny_model_folder)
    model = load_model(tiny_model_folder)
    ours = model.tokenizer()
    assert theirs.chat_template == CHAT_TEMPLATE
    for text in ("Once upon a time, there was Ünïcödé 🙂.", "  two  spaces \n", "", "12345"):
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi!"},
        {"role": "assistant", "content": " Hello. "},
        {"role": "user", "content": "Tell a story about a dog\nand a cat."},
    ]
    for prompt in (True, False):
        expected = theirs.apply_chat_template(messages, add_generation_prompt=prompt, return_dict=False)
        assert ChatTemplate(CHAT_TEMPLATE, ours).encode(messages, add_generation_prompt=prompt) == expected


# In the style of templates of well-known models, reduced to what our tokenizer's control tokens can say.
TEMPLATES = {
    "concatenation and trim": (
        "{% set loop_messages = messages %}{% for message in loop_messages %}"
        "{% set content = '<|user|>' + message['role'] + '<|system|>\n\n' + message['content'] | trim %}"
        "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
        "{{ content + '<|end_of_turn|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|user|>assistant<|system|>\n\n' }}{% endif %}"
    ),
    "names of speakers": (
        "{{ bos_token }}{% for message in messages %}{{ message['role'].capitalize() ~ ': ' }}"
        "{{ message['content'] }}{{ eos_token + '\n' }}{% endfor %}"
        "{{ 'Assistant:' if add_generation_prompt }}"
    ),
    "blocks on lines of their own": (
        "{%- if messages[0]['role'] == 'system' -%}\n    {%- set system = messages[0]['content'] -%}\n"
        "{%- else -%}\n    {%- set system = 'You are kind.' -%}\n{%- endif -%}\n"
        "{% if not tools %}\n<|system|>{{ system }}\n{% endif %}\n"
        "{% for message in messages %}\n    {% if message.role != 'system' %}\n"
        "<|{{ message.role }}|>\n{{ message.content.strip() }}<|end_of_turn|>\n"
        "    {% endif %}\n{% endfor %}\n"
    ),
}


@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_templates_are_rendered_as_transformers_renders_them(tmp_path: Path, source: str) -> None:
    settings = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>", "chat_template": source}
    (tmp_path / "tokenizer.json").write_bytes(tiny_tokenizer_json())
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(settings | {"tokenizer_class": "PreTrainedTokenizerFast"})
    )
    theirs: Any = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = ChatTemplate(
        source, Tokenizer(tiny_tokenizer_json()), settings["bos_token"], settings["eos_token"]
    )
    for messages in (
        [{"role": "user", "content": " Hello there \n"}],
        [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "Ü 🙂"},
            {"role": "assistant", "content": ""},
        ],
    ):
        for prompt in (True, False):
            rendered = theirs.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=False)
            assert ours.render(messages, prompt) == rendered
            ids = theirs.apply_chat_template(messages, add_generation_prompt=prompt, return_dict=False)
            assert ours.encode(messages, prompt) == ids
