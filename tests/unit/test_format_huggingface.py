"""Hugging Face folders: what is translated, what is refused, and how a folder comes into being."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.errors import FormatError, ModelNotFoundError, ParameterError, StorageError, UnsupportedModelError
from tercet.formats.huggingface import HuggingFaceFolder
from tercet.formats.huggingface.config import config_to_huggingface, to_model_fields
from tercet.formats.huggingface.generation import from_settings, to_settings
from tercet.models.config import ModelConfig
from tercet.models.saving import save_huggingface_folder
from tiny_models import CHAT_TEMPLATE, GENERATION, TINY_CONFIG, random_masters, tiny_tokenizer_json

CONFIG: dict[str, Any] = {
    "architectures": ["BitNetForCausalLM"],
    "model_type": "bitnet",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "hidden_act": "relu2",
    "tie_word_embeddings": True,
    "rope_theta": 10000.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "quantization_config": {
        "quant_method": "bitnet",
        "linear_class": "autobitlinear",
        "quantization_mode": "online",
        "modules_to_not_convert": None,
        "use_rms_norm": False,
    },
}


def fields(**changes: Any) -> dict[str, Any]:
    return to_model_fields({**CONFIG, **changes}, Path("config.json"))


def test_a_config_in_our_names() -> None:
    config = ModelConfig.from_dict(fields())
    assert (config.hidden_size, config.ffn_size, config.num_layers) == (64, 96, 3)
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (4, 2, 16)
    assert (config.vocab_size, config.max_context) == (300, 128)
    assert (config.rope_theta, config.rms_norm_eps, config.activation) == (1e4, 1e-5, "relu2")
    assert config.attention_sub_norm
    assert config.ffn_sub_norm
    assert config.tied_embeddings
    assert config.quantize_activations
    assert (config.bos_token_id, config.eos_token_ids, config.pad_token_id) == (1, (2,), None)


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"num_key_value_heads": None}, "num_kv_heads", 4),
        ({"head_dim": 32}, "head_dim", 32),
        ({"rope_theta": None}, "rope_theta", 500_000.0),
        (
            {"rope_theta": 5, "rope_parameters": {"rope_theta": 7.5, "rope_type": "default"}},
            "rope_theta",
            7.5,
        ),
        ({"rope_scaling": None, "rope_parameters": {}}, "rope_theta", 10_000.0),
        ({"tie_word_embeddings": None}, "tied_embeddings", False),
        ({"eos_token_id": [5, 6]}, "eos_token_ids", (5, 6)),
        ({"eos_token_id": None}, "eos_token_ids", ()),
        ({"quantization_config": None}, "quantize_activations", False),
    ],
)
def test_what_may_be_left_out_or_said_in_two_ways(changes: dict[str, Any], name: str, value: object) -> None:
    assert fields(**changes)[name] == value


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}, "GPT2LMHeadModel / gpt2 is not among"),
        ({"architectures": ["Qwen3_5ForCausalLM"]}, "Gated DeltaNet"),
        ({"architectures": ["Qwen3NextForCausalLM"]}, "Gated DeltaNet"),
        ({"architectures": None, "model_type": "qwen3_5_text"}, "Gated DeltaNet"),
        ({"layer_types": ["linear_attention", "full_attention", "full_attention"]}, "Gated DeltaNet"),
        ({"architectures": ["Qwen3MoeForCausalLM"]}, "mixture of experts"),
        ({"num_local_experts": 8}, "mixture of experts"),
        ({"architectures": ["Gemma3ForConditionalGeneration"]}, "sees pictures"),
        ({"vision_config": {}}, "sees pictures"),
        ({"architectures": ["MambaForCausalLM"]}, "recurrent"),
        ({"architectures": ["BertModel"]}, "encoder"),
        ({"attention_bias": True}, "biases"),
        ({"mlp_bias": True}, "biases"),
        ({"final_logit_softcapping": 30.0}, "cap logits"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic': its frequencies change"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "'longrope'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "truncate": False}}, "truncation"),
        ({"use_sliding_window": True}, "sliding window"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "part of each head"),
        ({"quantization_config": {"quant_method": "gptq"}}, "gptq"),
        ({"quantization_config": None, "quantization": {"bits": 2}}, "MLX"),
        ({"quantization_config": {"quant_method": "bitnet", "linear_class": "other"}}, "'other'"),
        (
            {"quantization_config": {**CONFIG["quantization_config"], "modules_to_not_convert": [".*"]}},
            "the pattern",
        ),
        ({"architectures": ["BitnetForCausalLM"], "input_bits": 4}, "4 bits"),
    ],
)
def test_what_we_do_not_run_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedModelError, match=reason):
        fields(**changes)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hidden_size": "64"}, "config.hidden_size"),
        ({"hidden_size": None}, "config.hidden_size"),
        ({"hidden_size": 63}, "multiple of num_attention_heads"),
        ({"num_hidden_layers": True}, "config.num_hidden_layers"),
        ({"vocab_size": 2.0}, "config.vocab_size"),
        ({"rms_norm_eps": "small"}, "config.rms_norm_eps"),
        ({"rope_parameters": [1]}, "config.rope_parameters"),
        ({"eos_token_id": [-1]}, "config.eos_token_id"),
        ({"tie_word_embeddings": 1}, "config.tie_word_embeddings"),
        ({"quantization_config": "bitnet"}, "config.quantization_config"),
        ({"model_type": 5}, "config.model_type"),
    ],
)
def test_malformed_fields_are_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(FormatError, match=field):
        fields(**changes)


def test_a_config_survives_the_round_trip() -> None:
    for config in (TINY_CONFIG, ModelConfig.from_dict(fields(eos_token_id=[2], tie_word_embeddings=False))):
        files = config_to_huggingface(config, dtype="float32")
        assert ModelConfig.from_dict(to_model_fields(files["config.json"], Path("config.json"))) == config
        assert files["config.json"]["dtype"] == "float32"
        assert to_settings(files["generation_config.json"], Path("g.json")) == ({}, config.eos_token_ids)
    with pytest.raises(ParameterError, match="int8"):
        config_to_huggingface(TINY_CONFIG, dtype="int8")


@pytest.mark.parametrize("changes", [{"attention_sub_norm": False}, {"ffn_sub_norm": False}, {"head_dim": 8}])
def test_what_a_folder_cannot_express_is_not_saved(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = ModelConfig.from_dict({**TINY_CONFIG.to_dict(), **changes})
    with pytest.raises(ParameterError, match="BitNetForCausalLM"):
        save_huggingface_folder(tmp_path / "model", config, random_masters(config))
    assert not list(tmp_path.iterdir())


def test_generation_settings_in_our_names() -> None:
    theirs = {
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 1,
        "top_k": 5,
        "max_new_tokens": 9,
        "eos_token_id": 3,
    }
    ours = {"temperature": 0.6, "top_p": 1.0, "top_k": 5, "max_tokens": 9}
    assert to_settings({**theirs, "unknown": [], "min_p": None}, Path("g")) == (ours, (3,))
    assert to_settings({"do_sample": False, "temperature": 0.6}, Path("g")) == ({"temperature": 0.0}, ())
    for settings in ({}, ours, {"temperature": 0.0}, GENERATION):
        assert to_settings(from_settings(settings, 0, (1, 2), None), Path("g")) == (settings, (1, 2))
    with pytest.raises(FormatError, match=r"generation.temperature is 'hot'"):
        to_settings({"temperature": "hot"}, Path("g"))


def test_a_saved_folder_is_read_back(tiny_model_folder: Path) -> None:
    folder = HuggingFaceFolder(tiny_model_folder)
    assert ModelConfig.from_dict(folder.model_fields) == TINY_CONFIG
    assert folder.quantization.online
    assert folder.generation == GENERATION
    assert folder.chat_template == CHAT_TEMPLATE
    # Other programs know of the first token by the tokenizer alone.
    assert json.loads(folder.tokenizer_json() or b"") == json.loads(tiny_tokenizer_json(begins=True))
    assert "model.embed_tokens.weight" in folder.tensors
    settings = json.loads((tiny_model_folder / "tokenizer_config.json").read_bytes())
    assert (settings["bos_token"], settings["eos_token"]) == ("<|begin_of_text|>", "<|end_of_text|>")


def test_all_ends_of_turn_are_kept(tiny_model_folder: Path, tmp_path: Path) -> None:
    """2B-4T names one in config.json and another in generation_config.json."""
    for file in tiny_model_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**config, "eos_token_id": 7}))
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [9, 7]}')
    assert HuggingFaceFolder(tmp_path).model_fields["eos_token_ids"] == (7, 9)


@pytest.mark.parametrize(
    ("files", "template"),
    [
        ({"tokenizer_config.json": b"{}"}, None),
        ({"tokenizer_config.json": b'{"chat_template": "a"}'}, "a"),
        ({"tokenizer_config.json": b'{"chat_template": "a"}', "chat_template.jinja": "é".encode()}, "é"),
        ({"tokenizer_config.json": b'{"chat_template": [{"name": "x", "template": "b"}]}'}, None),
        ({"tokenizer_config.json": b'{"chat_template": [{"name": "default", "template": "b"}]}'}, "b"),
        ({"tokenizer_config.json": b'{"chat_template": 5}'}, FormatError),
        ({"tokenizer_config.json": b'{"chat_template": [5]}'}, FormatError),
        ({"tokenizer_config.json": b"[]"}, FormatError),
        ({"chat_template.jinja": b"\xff"}, FormatError),
        ({"config.json": b"[]"}, FormatError),
        ({"config.json": b"nonsense"}, FormatError),
        ({"config.json": b""}, FormatError),
    ],
)
def test_where_a_chat_template_may_be(
    tiny_model_folder: Path, tmp_path: Path, files: dict[str, bytes], template: Any
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((tiny_model_folder / name).read_bytes())
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    if template is FormatError:
        with pytest.raises(FormatError, match=str(tmp_path)):
            HuggingFaceFolder(tmp_path)
    else:
        assert HuggingFaceFolder(tmp_path).chat_template == template


def test_a_folder_without_its_parts(tmp_path: Path, tiny_model_folder: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no config\.json"):
        HuggingFaceFolder(tmp_path)
    (tmp_path / "config.json").write_bytes((tiny_model_folder / "config.json").read_bytes())
    with pytest.raises(ModelNotFoundError, match=r"neither model\.safetensors"):
        HuggingFaceFolder(tmp_path)


def save(path: Path, weights: Iterator[tuple[str, np.ndarray]] | None = None, **options: Any) -> None:
    save_huggingface_folder(path, TINY_CONFIG, weights or random_masters(TINY_CONFIG), **options)


def test_an_existing_folder_is_replaced_only_on_demand(tmp_path: Path) -> None:
    target = tmp_path / "model"
    save(target)
    before = (target / "model.safetensors").read_bytes()
    with pytest.raises(StorageError, match="exists already"):
        save(target)
    save(target, random_masters(TINY_CONFIG, seed=1), overwrite=True)
    assert (target / "model.safetensors").read_bytes() != before
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("all my work")
    with pytest.raises(StorageError, match="not a model folder"):
        save(tmp_path / "precious", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "precious"]


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (lambda: iter([("unknown", np.ones(1, np.float32))]), ParameterError),
        (lambda: iter(list(random_masters(TINY_CONFIG))[:-1]), ParameterError),
        (lambda: iter(list(random_masters(TINY_CONFIG))[::-1]), ParameterError),
        (lambda: (1 / 0 for _ in range(1)), ZeroDivisionError),
    ],
)
def test_a_failed_save_leaves_the_old_folder(
    tmp_path: Path, broken: Callable[[], Iterator[Any]], error: type[Exception]
) -> None:
    target = tmp_path / "model"
    save(target)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    with pytest.raises(error):
        save(target, broken(), overwrite=True)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_needs_a_place(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        save(tmp_path / "absent" / "model")
