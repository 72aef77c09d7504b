"""Small random models of transformers, saved in every form that ternary models come in.

`Original.save` writes a folder in the form that it is asked for; `foreign_logits` runs transformers on it.

    floats     plain weights                       online    masters, which transformers makes ternary itself
    packed     uint8 codes and a multiplier        divided   the same with a divisor
    codes      codes as floats, and a multiplier   binary    packed, -1 and +1 only
    rows       code * scale as floats, one scale for a quarter of the rows (TriLM)
    groups     code * scale as floats, one scale for 128 columns of a row, embedding and head too (Bonsai);
               "binary groups" are the same with codes -1 and +1 only

Where transformers cannot read what others write (1bitLLM's class, Microsoft's embedding models), `renamed`
makes it of a folder that says the same.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.integrations import bitnet

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
NORM_EPS = 1e-4
"""Of the norms inside linear layers; not that of the model, so that mixing them up shows."""
GROUP = 128
REAL_VALUES = ("rows", "groups", "binary groups")
"""Forms in which nothing but the values shows that the weights are ternary."""

SIZES: dict[str, Any] = {
    "vocab_size": 200,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
    "attn_implementation": "eager",
}
CLASSES: dict[str, tuple[type[Any], type[Any]]] = {
    "bitnet": (transformers.BitNetForCausalLM, transformers.BitNetConfig),
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig),
    "qwen3": (transformers.Qwen3ForCausalLM, transformers.Qwen3Config),
    "gemma3": (transformers.Gemma3ForCausalLM, transformers.Gemma3TextConfig),
}


def is_linear(name: str) -> bool:
    return name.endswith(tuple(f"{part}.weight" for part in LINEAR))


@dataclasses.dataclass
class Original:
    """A model with random weights, as float32 under the names of transformers, and its config."""

    family: str
    config: dict[str, Any]
    weights: dict[str, torch.Tensor]

    @classmethod
    def random(cls, family: str, seed: int = 0, **changes: Any) -> Original:
        """Spread weights: transformers' own initialization leaves logits near zero."""
        model_class, config_class = CLASSES[family]
        config = config_class(**(SIZES | changes))
        torch.manual_seed(seed)
        with torch.device("meta"):
            shapes = {name: tuple(tensor.shape) for name, tensor in model_class(config).state_dict().items()}
        weights = {}
        for name, shape in shapes.items():
            spread = torch.randn(shape)
            is_norm_of_gemma = family == "gemma3" and len(shape) == 1
            base = 0.0 if is_norm_of_gemma else 1.0
            weights[name] = base + 0.2 * spread if len(shape) == 1 else spread * 2 / shape[1] ** 0.5
        if family == "gemma3":
            weights["model.embed_tokens.weight"] /= config.hidden_size**0.5 / 4
        if config.tie_word_embeddings:
            del weights["lm_head.weight"]
        return cls(family, config.to_dict(), weights)

    def with_projection_norms(self) -> Original:
        """The same with an RMSNorm in every linear layer."""
        norms = {
            name.replace(".weight", ".rms_norm.weight"): 1 + 0.2 * torch.randn(tensor.shape[1])
            for name, tensor in self.weights.items()
            if is_linear(name)
        }
        return dataclasses.replace(self, weights=self.weights | norms)

    def has_norms(self) -> bool:
        return any(".rms_norm." in name for name in self.weights)

    def save(
        self,
        folder: Path,
        form: str,
        *,
        dtype: torch.dtype = torch.float32,
        kept: list[str] | None = None,
        shards: int = 1,
    ) -> Path:
        """Write the folder; `kept` names modules that stay floats."""
        weights: dict[str, torch.Tensor] = {}
        for name, tensor in self.weights.items():
            weights |= self._stored(name, tensor, form, dtype, kept or [])
        config = {key: value for key, value in self.config.items() if key != "attn_implementation"}
        config["dtype"] = str(dtype).removeprefix("torch.")
        if quantization := self._quantization(form, kept):
            config["quantization_config"] = quantization
        write(folder, config, weights, shards)
        return folder

    def _quantization(self, form: str, kept: list[str] | None) -> dict[str, Any] | None:
        if form in ("floats", *REAL_VALUES):
            return None
        made: dict[str, Any] = {"quant_method": "bitnet", "modules_to_not_convert": kept}
        if form != "divided":
            made["linear_class"] = "autobitlinear"
            made["quantization_mode"] = "online" if form == "online" else "offline"
        if self.has_norms():
            made |= {"use_rms_norm": True, "rms_norm_eps": NORM_EPS}
        return made

    def _stored(
        self, name: str, tensor: torch.Tensor, form: str, dtype: torch.dtype, kept: list[str]
    ) -> dict[str, torch.Tensor]:
        ternary_head = "groups" in form and tensor.ndim == 2
        module = name.removesuffix(".weight")
        is_kept = any(module.endswith(part) for part in kept)
        if form in ("floats", "online") or is_kept or not (is_linear(name) or ternary_head):
            return {name: tensor.to(dtype)}
        codes, scales = split(tensor, form)
        if form in REAL_VALUES:
            return {name: (codes * scales).to(dtype)}
        scale = (1 / scales[0, :1] if form == "divided" else scales[0, :1]).contiguous()
        stored = codes if form == "codes" else bitnet.pack_weights(codes.clone())
        return {name: stored.to(dtype) if form == "codes" else stored, f"{name}_scale": scale}


def split(tensor: torch.Tensor, form: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes, and scales that float16 and bfloat16 hold, both in the shape of the tensor."""
    rows, depth = tensor.shape
    parts = tensor.reshape(4 if form == "rows" else rows * depth // GROUP if "groups" in form else 1, -1)
    scales = parts.abs().mean(dim=1, keepdim=True)
    if len(parts) > 1:
        scales = scales * torch.linspace(0.8, 1.2, len(parts))[:, None]
    scales = scales.bfloat16().float()
    codes = torch.sign(parts) if "binary" in form else (parts / scales).round().clamp(-1, 1)
    return codes.reshape(rows, depth), scales.expand_as(parts).reshape(rows, depth)


def write(folder: Path, config: Mapping[str, Any], weights: Mapping[str, torch.Tensor], shards: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    weights = {name: tensor.contiguous() for name, tensor in weights.items()}
    if shards == 1:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = list(weights)
    index = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: weights[name] for name in names[shard::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    content = {"metadata": {"total_size": 0}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


def renamed(folder: Path, target: Path, names: Mapping[str, str], config: Mapping[str, Any]) -> Path:
    """A copy of a folder whose tensors and config are those of another program: parts of names replaced, and
    config entries added, or taken away where they are None."""
    weights = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        weights[name] = tensor
    merged = json.loads((folder / "config.json").read_text()) | config
    write(target, {key: value for key, value in merged.items() if value is not None}, weights, 1)
    return target
