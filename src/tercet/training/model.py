"""The BitNet b1.58-2B-4T network in PyTorch, for training.

Module names are those of `BitNetForCausalLM` in transformers, so that `state_dict()` is already the
content of its `model.safetensors`. The specification of the forward pass is `tercet.reference`; this is
the same arithmetic with gradients. Shapes below: B sequences, T positions, H heads, D head size.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional

from tercet.errors import ParameterError
from tercet.models.config import ModelConfig
from tercet.models.tensor_names import layer_name
from tercet.training.attention import causal_attention
from tercet.training.bitlinear import BitLinear, Quantization

_NOT_TRAINED = (
    "projection_norms", "post_norms", "embedding_scale", "attention_scale", "sliding_window", "pooling",
)  # fmt: skip
"""Options of a config that this network has not; at their defaults they change nothing."""


class RmsNorm(nn.Module):
    """x / sqrt(mean(x²) + ε) · weight over the last axis, in float32."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `x` [..., size]."""
        return functional.rms_norm(x.float(), self.weight.shape, self.weight, self.epsilon)


def rope_table(config: ModelConfig, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [length, head_dim] of the rotary embedding, halves repeated (RoFormer, eq. 34)."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    frequencies = config.rope_theta**-exponents
    if config.rope_scaling is not None:
        frequencies = torch.from_numpy(config.inverse_frequencies)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
    angles = torch.cat([angles, angles], dim=-1)
    factor = config.rope_attention_factor
    return angles.cos() * factor, angles.sin() * factor


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate `x` [B, H, T, D] by position: pairs are (i, i + D/2)."""
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat([-second, first], dim=-1) * sines


class Attention(nn.Module):
    """Grouped-query causal attention with a norm before the output projection (SubLN)."""

    def __init__(self, config: ModelConfig, quantization: Quantization, layer: int) -> None:
        super().__init__()
        self.config = config
        query, key = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.q_proj = BitLinear(config.hidden_size, query, quantization, layer_name(layer, "attention.q"))
        self.k_proj = BitLinear(config.hidden_size, key, quantization, layer_name(layer, "attention.k"))
        self.v_proj = BitLinear(config.hidden_size, key, quantization, layer_name(layer, "attention.v"))
        self.o_proj = BitLinear(query, config.hidden_size, quantization, layer_name(layer, "attention.o"))
        self.attn_sub_norm = (
            RmsNorm(query, config.rms_norm_eps) if config.attention_sub_norm else nn.Identity()
        )
        if config.qk_norm:
            self.q_norm = RmsNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm = RmsNorm(config.head_dim, config.rms_norm_eps)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """Attend over `x` [B, T, hidden]."""
        batch, length, _ = x.shape

        def heads(projected: Tensor) -> Tensor:
            return projected.view(batch, length, -1, self.config.head_dim).transpose(1, 2)

        query, key = heads(self.q_proj(x)), heads(self.k_proj(x))
        if self.config.qk_norm:
            query, key = self.q_norm(query), self.k_norm(key)
        query = rotate(query.float(), cosines, sines)
        key = rotate(key.float(), cosines, sines)
        value = heads(self.v_proj(x))
        mixed = causal_attention(query.to(value.dtype), key.to(value.dtype), value)
        mixed = mixed.transpose(1, 2).reshape(batch, length, -1)
        projected: Tensor = self.o_proj(self.attn_sub_norm(mixed))
        return projected


class FeedForward(nn.Module):
    """Gated squared ReLU (or SiLU): down(norm(act(gate x) · up x))."""

    def __init__(self, config: ModelConfig, quantization: Quantization, layer: int) -> None:
        super().__init__()
        self.squared_relu = config.activation == "relu2"
        self.gate_proj = BitLinear(
            config.hidden_size, config.ffn_size, quantization, layer_name(layer, "ffn.gate")
        )
        self.up_proj = BitLinear(
            config.hidden_size, config.ffn_size, quantization, layer_name(layer, "ffn.up")
        )
        self.down_proj = BitLinear(
            config.ffn_size, config.hidden_size, quantization, layer_name(layer, "ffn.down")
        )
        self.ffn_sub_norm = (
            RmsNorm(config.ffn_size, config.rms_norm_eps) if config.ffn_sub_norm else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply to `x` [B, T, hidden]."""
        gate = self.gate_proj(x).float()
        gate = functional.relu(gate).square() if self.squared_relu else functional.silu(gate)
        projected: Tensor = self.down_proj(self.ffn_sub_norm(gate * self.up_proj(x)))
        return projected


class Layer(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, config: ModelConfig, quantization: Quantization, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, quantization, layer)
        self.post_attention_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = FeedForward(config, quantization, layer)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """Residual attention, then residual feed-forward, on `x` [B, T, hidden]."""
        x = x + self.self_attn(self.input_layernorm(x), cosines, sines)
        x = x + self.mlp(self.post_attention_layernorm(x))
        return x


class Body(nn.Module):
    """Embedding, layers and the final norm: everything but the output head."""

    def __init__(self, config: ModelConfig, quantization: Quantization) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, quantization, layer) for layer in range(config.num_layers))
        self.norm = RmsNorm(config.hidden_size, config.rms_norm_eps)


class TernaryDecoder(nn.Module):
    """The whole network; `logits` is the model, `forward` its training loss.

    Raises:
        ParameterError: the config has an option that models trained here have not.
    """

    def __init__(self, config: ModelConfig, ternary: bool = True) -> None:
        super().__init__()
        _check_trainable(config)
        self.config = config
        self.quantization = Quantization.of_model(config, ternary)
        self.model = Body(config, self.quantization)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tied_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.cosines: Tensor
        self.sines: Tensor
        cosines, sines = rope_table(config, config.max_context)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)

    def initialize(self, seed: int) -> None:
        """Draw all matrices from N(0, 0.02²) with a generator of their own; norms stay at one."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.ndim == 2:
                    parameter.normal_(0.0, 0.02, generator=generator)

    def logits(self, token_ids: Tensor) -> Tensor:
        """Logits [B, T, vocab] for `token_ids` [B, T]."""
        return self.lm_head(self.states(token_ids))  # type: ignore[no-any-return]

    def states(self, token_ids: Tensor) -> Tensor:
        """What the output head is given, [B, T, hidden], for `token_ids` [B, T]."""
        length = token_ids.shape[1]
        x = self.model.embed_tokens(token_ids)
        for layer in self.model.layers:
            x = layer(x, self.cosines[:length], self.sines[:length])
        return self.model.norm(x)  # type: ignore[no-any-return]

    def forward(self, windows: Tensor) -> Tensor:
        """Mean cross-entropy in nats a token of predicting `windows[:, 1:]`; windows: int64 [B, T + 1]."""
        logits = self.logits(windows[:, :-1])
        return functional.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())


def _check_trainable(config: ModelConfig) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    for name in _NOT_TRAINED:
        if getattr(config, name) != defaults[name]:
            raise ParameterError(f"models with {name} are run, not trained; leave it at {defaults[name]}")
    if config.rotation is not None and config.rotation.outputs:
        raise ParameterError("models whose embedding is in a rotated basis are run, not trained")
    if config.activation not in ("relu2", "silu"):
        raise ParameterError(f"models are trained with relu2 or silu, not {config.activation}")
