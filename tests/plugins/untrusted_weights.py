"""Untrusted bytes with weights in them: files that hold a model, and the files of a model folder."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import gguf_files as g
from damage import Damage, Random, damaged_bytes, damaged_json
from damaged_gguf import damaged_gguf
from gguf_files import Tensor, container, metadata, random_codes, write_every_type
from small_files import write_small_file
from tercet.conversion import convert
from tercet.errors import (
    FormatError,
    ModelNotFoundError,
    UnsupportedModelError,
)
from tercet.formats.fields import parse_json
from tercet.formats.gguf import GgufFile, parse_kernel_config
from tercet.formats.gguf.i2_s_layout import find_i2_s_layout
from tercet.formats.huggingface.config import quantization_of, to_model_fields
from tercet.formats.huggingface.pooling import pooling_files
from tercet.formats.safetensors import SafetensorsFile, write_safetensors
from tercet.formats.tercet import TercetFile
from tercet.models.config import ModelConfig
from tercet.models.loading import LoadedModel, load_model
from tercet.models.saving import save_huggingface_folder
from tiny_models import (
    CHAT_TEMPLATE,
    CONTROL_TOKENS,
    GENERATION,
    TINY_CONFIG,
    random_masters,
    tiny_tokenizer_json,
)
from untrusted_kind import Kind, Read, constant, from_file

TEXT = "Once upon a time 123 <s> é🙂\r\n <|user|>"

# Weights ------------------------------------------------------------------------------------------


def read_native(path: Path) -> None:
    file = TercetFile(path)
    for name in file.header.tensors:
        file.tensor(name)
    for name in file.header.blobs:
        file.blob(name)


def damaged_behind_checksums(whole: bytes, random: Random) -> bytes:
    """Damage the header of a native file as someone would who mends the checksum and the lengths."""
    length = int.from_bytes(whole[16:24], "little")
    header = damaged_json(whole[64 : 64 + length].rstrip(), random).ljust(length)  # then all offsets hold
    header = header.ljust(-(-len(header) // 64) * 64)
    numbers = ((zlib.crc32(header), 4), (len(header), 8), (len(whole) - length + len(header), 8))
    front = whole[:12] + b"".join(number.to_bytes(size, "little") for number, size in numbers)
    return front + bytes(32) + header + whole[64 + length :]


def read_safetensors(path: Path) -> None:
    for tensor in SafetensorsFile(path).tensors.values():
        if tensor.float_type is not None:
            tensor.float32()


def safetensors(folder: Path) -> Sequence[bytes]:
    values = {"a": np.ones((3, 5), np.float32), "b": np.ones(7, np.float32)}
    shapes = {name: value.shape for name, value in values.items()}
    write_safetensors(folder / "whole", shapes, values.items(), "f16", {"format": "pt"})
    return [(folder / "whole").read_bytes()]


KERNELS_TEXT = "[a]\nm = 32\nk = 288\nbm = 32\nbk = 96\nbmm = 32\n"
KERNELS = parse_kernel_config(KERNELS_TEXT)


def read_gguf_tensors(path: Path) -> GgufFile:
    """A refusal of one tensor must not keep us from the others."""
    file = GgufFile(path, KERNELS)
    for value in file.metadata.values():
        repr(value.value)
    for name in file.tensors:
        for call in (file.float32, file.ternary):
            with contextlib.suppress(FormatError):
                call(name)
    find_i2_s_layout(file)
    return file


def read_gguf_model(path: Path) -> None:
    read_gguf_tensors(path)
    read_model(load_model(path))


def read_model(model: LoadedModel) -> None:
    for name in model.weights:
        _ = model.reference_weights[name], model.weights[name]


def damaged_safetensors(whole: bytes, random: Random) -> bytes:
    """Damage bits, or what the header says of the tensors; its length is then right."""
    if random.random() < 0.4:
        return damaged_bytes(whole, random)
    length = int.from_bytes(whole[:8], "little")
    header = damaged_json(whole[8 : 8 + length], random)
    return len(header).to_bytes(8, "little") + header + whole[8 + length :]


def gguf_model() -> bytes:
    """A model so small that damage often strikes what gives it a meaning."""

    def projection(name: str, shape: tuple[int, int]) -> Tensor:
        return Tensor(name, shape[::-1], 36, g.i2_s(random_codes(*shape), 0.5))

    widths = {"embedding_length": 32, "feed_forward_length": 32, "attention.head_count": 2}
    widths |= {"attention.head_count_kv": 1, "rope.dimension_count": 16}
    changes = {f"llama.{key}": (g.UINT32, g.scalar(g.UINT32, value)) for key, value in widths.items()}
    shapes = {"attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32), "attn_output": (32, 32)}
    shapes |= {"ffn_gate": (32, 32), "ffn_up": (32, 32), "ffn_down": (32, 32)}
    tensors = [g.float_tensor("token_embd.weight", 8, 32), g.float_tensor("output_norm.weight", 32)]
    tensors += [g.float_tensor(f"blk.0.{name}.weight", 32) for name in ("attn_norm", "ffn_norm")]
    tensors += [projection(f"blk.0.{name}.weight", shape) for name, shape in shapes.items()]
    rotated = {
        "version": (g.UINT32, g.scalar(g.UINT32, 1)),
        "block_size": (g.UINT32, g.scalar(g.UINT32, 32)),
        "transform": (g.STRING, g.string("normalized-sylvester-walsh-hadamard")),
        "axis": (g.STRING, g.string("input-last-dimension")),
        "sign_mode": (g.STRING, g.string("explicit")),
        "sign_widths": (g.ARRAY, g.array(g.INT32, [32])),
        "sign_values": (g.ARRAY, g.array(g.INT8, [1, -1] * 16)),
        "weight_names": (g.ARRAY, g.array(g.STRING, ["blk.0.attn_q.weight"])),
    }
    changes |= {f"prism.hadamard.{key}": change for key, change in rotated.items()}
    return container(metadata("llama", changes), tensors)


def gguf_tables() -> bytes:
    """TL1 and TL2, which are read by a plan from outside."""
    codes = random_codes(32, 288).astype(np.int64)
    pairs = (3 * codes[:, 0::2] + codes[:, 1::2] + 4).astype(np.uint8).reshape(-1, 2)
    tl1 = (pairs[:, 0] << 4 | pairs[:, 1]).tobytes()
    tl2 = bytes((288 - 256) * 32 // 3 * 5 // 8 + 256 * 32 // 2 * 4 // 8)
    scales = [Tensor(f"{name}_scale", (), 0, np.float32(0.5).tobytes()) for name in "ab"]
    return container([], [Tensor("a", (288, 32), 38, tl1), Tensor("b", (288, 32), 39, tl2), *scales])


# Folders ------------------------------------------------------------------------------------------

SMALL_CONFIG = dataclasses.replace(
    TINY_CONFIG, hidden_size=8, ffn_size=8, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4
)
CONFIG = {
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
        "quantization_mode": "offline",
        "modules_to_not_convert": ["lm_head", "model.layers.0.mlp.up_proj"],
        "use_rms_norm": True,
        "rms_norm_eps": 1e-6,
    },
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 5e6}
CONFIGS: list[dict[str, Any]] = [
    CONFIG,
    CONFIG
    | {"architectures": ["BitnetForCausalLM"], "hidden_act": "silu", "weight_bits": 1, "input_bits": 8},
    CONFIG | {"architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "rope_scaling": LLAMA3_ROPE},
    CONFIG
    | {"architectures": ["Qwen3ForCausalLM"], "hidden_act": "silu", "head_dim": 16, "rope_parameters": YARN}
    | {"quantization_config": None, "use_sliding_window": False, "layer_types": ["full_attention"] * 3},
    CONFIG
    | {"architectures": ["Gemma3ForCausalLM"], "hidden_activation": "gelu_pytorch_tanh", "head_dim": 16}
    | {
        "sliding_window": 8,
        "query_pre_attn_scalar": 16,
        "quantization_config": None,
        "rope_local_base_freq": 1e4,
    }
    | {
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "sliding_window_pattern": 2,
    },
]


def read_config(data: bytes) -> None:
    file = Path("config.json")
    parsed = parse_json(data, file, "the file")
    if not isinstance(parsed, dict):
        raise FormatError("not an object")
    quantization_of(parsed, file)
    ModelConfig.from_dict(to_model_fields(parsed, file))


def save_small_model(path: Path) -> None:
    tokenizer_json = tiny_tokenizer_json()
    masters = random_masters(SMALL_CONFIG)
    save_huggingface_folder(path, SMALL_CONFIG, masters, tokenizer_json=tokenizer_json, generation=GENERATION)


def make_folder(folder: Path) -> Path:
    """A small model in two shards, with every file that a folder may have."""
    path = folder / "model"
    if path.exists():
        return path
    save_small_model(path)
    tensors = SafetensorsFile(path / "model.safetensors").tensors
    shards: dict[str, dict[str, np.ndarray]] = {"a.safetensors": {}, "b.safetensors": {}}
    for index, (name, tensor) in enumerate(tensors.items()):
        shards["ab"[index % 2] + ".safetensors"][name] = tensor.float32()
    for file, values in shards.items():
        write_safetensors(path / file, {n: v.shape for n, v in values.items()}, values.items(), "f32")
    weight_map = {name: file for file, values in shards.items() for name in values}
    index_file = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index_file))
    (path / "model.safetensors").unlink()
    for name, data in pooling_files(SMALL_CONFIG.hidden_size, True).items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(data)
    settings = {
        "add_bos_token": True,
        "bos_token": {"content": CONTROL_TOKENS[0], "lstrip": False},
        "eos_token": CONTROL_TOKENS[1],
        "chat_template": [
            {"name": "default", "template": CHAT_TEMPLATE},
            {"name": "tool_use", "template": ""},
        ],
        "added_tokens_decoder": {"0": {"content": CONTROL_TOKENS[0], "special": True}},
    }
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


def read_folder(path: Path) -> None:
    model = load_model(path)
    read_model(model)
    model.tokenizer().encode(TEXT)


def make_packed_folder(folder: Path) -> Path:
    """The same with packed codes, a scale beside each matrix, in one file."""
    path = folder / "packed"
    if not path.exists():
        save_small_model(folder / "masters")
        convert(folder / "masters", path, to="huggingface-packed", verify=False)
    return path


def in_folder(name: str, damage: Damage = damaged_json, make: Callable[[Path], Path] = make_folder) -> Kind:
    """One file of a folder whose other files are sound."""

    def wholes(folder: Path) -> Sequence[bytes]:
        return [(make(folder) / name).read_bytes()]

    def open_in(folder: Path) -> Read:
        path = make(folder)
        return from_file(lambda file: read_folder(path), name)(path)

    # A shard or a folder of the pooling that is named and not there is one that was not found.
    return Kind(wholes, open_in, damage, (FormatError, UnsupportedModelError, ModelNotFoundError), share=3)


WEIGHTS: dict[str, Kind] = {
    "native": Kind(
        lambda folder: [write_small_file(folder / "whole").read_bytes()],
        from_file(read_native),
        ends_matter=True,
    ),
    "native, checksums mended": Kind(
        lambda folder: [write_small_file(folder / "whole").read_bytes()],
        from_file(read_native),
        damaged_behind_checksums,
    ),
    "safetensors": Kind(safetensors, from_file(read_safetensors), damaged_safetensors, ends_matter=True),
    "gguf, every type": Kind(
        lambda folder: [write_every_type(folder / "whole").read_bytes()],
        from_file(read_gguf_tensors),
        damaged_gguf,
        share=6,
    ),
    "gguf model": Kind(
        constant(gguf_model), from_file(read_gguf_model), damaged_gguf, share=6, ends_matter=True
    ),
    "gguf tables": Kind(constant(gguf_tables), from_file(read_gguf_tensors), damaged_gguf, ends_matter=True),
    "config.json": Kind(
        lambda folder: [json.dumps(config).encode() for config in CONFIGS],
        lambda folder: read_config,
        damaged_json,
    ),
    "folder: config.json": in_folder("config.json"),
    "folder: generation_config.json": in_folder("generation_config.json"),
    "folder: model.safetensors.index.json": in_folder("model.safetensors.index.json"),
    "folder: tokenizer_config.json": in_folder("tokenizer_config.json"),
    "folder: modules.json": in_folder("modules.json"),
    "folder: tokenizer.json": in_folder("tokenizer.json"),
    "folder: a shard": in_folder("a.safetensors", damaged_safetensors),
    "folder: packed weights": in_folder("model.safetensors", damaged_safetensors, make_packed_folder),
}
