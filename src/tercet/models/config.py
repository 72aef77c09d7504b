"""The shape of a model: everything the decoder must know besides the weights.

One description serves the whole BitNet family. Per layer it says

    x += O · sub_norm?( attention( Q, K, V of norm(x), with RoPE ) )        num_heads heads, grouped K and V
    x += Down · sub_norm?( activation(Gate · h) * (Up · h) ),  h = norm(x)    width ffn_size

with ternary matrices, no biases, RMSNorm, and int8 activations per token where `quantize_activations` says
so. `SHAPES` holds the shapes that the literature and this project have names for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from tercet.errors import FormatError, ParameterError

__all__ = ["SHAPES", "ModelConfig", "shape"]

# A row of int8 activations times ternary codes is summed in int32: 127 * 2**24 < 2**31. No dimension may
# exceed this, which also keeps a hostile file from asking for absurd amounts of memory by a single number.
MAX_DIMENSION = 2**24
MAX_LAYERS = 1024

ACTIVATIONS = ("relu2", "silu")
ARCHITECTURES = ("bitnet",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The dimensions and options of one decoder; immutable, and checked when it is made.

    Raises:
        ParameterError: a value is of the wrong type, out of range, or at odds with another.
    """

    architecture: str = "bitnet"
    hidden_size: int
    ffn_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_context: int
    """Most tokens (prompt and answer together) that the positions were trained for."""
    rope_theta: float
    rms_norm_eps: float
    activation: str
    """`relu2` (squared ReLU, BitNet b1.58 2B-4T) or `silu`."""
    attention_sub_norm: bool
    """Whether an RMSNorm stands between attention and the output projection."""
    ffn_sub_norm: bool
    """Whether an RMSNorm stands between the gated activation and the down projection."""
    tied_embeddings: bool
    """Whether the output head is the embedding matrix."""
    quantize_activations: bool = True
    """Whether the input of every ternary matrix is rounded to int8, one scale per token."""
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        _check_choice("architecture", self.architecture, ARCHITECTURES)
        _check_choice("activation", self.activation, ACTIVATIONS)
        for name in (
            "hidden_size",
            "ffn_size",
            "num_heads",
            "num_kv_heads",
            "head_dim",
            "vocab_size",
            "max_context",
        ):
            _check_int(name, getattr(self, name), 1, MAX_DIMENSION)
        _check_int("num_layers", self.num_layers, 1, MAX_LAYERS)
        for name in ("rope_theta", "rms_norm_eps"):
            object.__setattr__(self, name, _checked_positive(name, getattr(self, name)))
        for name in ("attention_sub_norm", "ffn_sub_norm", "tied_embeddings", "quantize_activations"):
            if not isinstance(getattr(self, name), bool):
                raise ParameterError(f"{name} must be true or false, not {getattr(self, name)!r}")
        if self.num_heads % self.num_kv_heads:
            raise ParameterError(
                f"num_heads must be a multiple of num_kv_heads, not {self.num_heads} and {self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise ParameterError(f"head_dim must be even, since RoPE turns pairs, not {self.head_dim}")
        if self.query_size > MAX_DIMENSION:
            raise ParameterError(
                f"num_heads * head_dim must be at most {MAX_DIMENSION}, not {self.query_size}"
            )
        if not isinstance(self.eos_token_ids, (tuple, list)):
            raise ParameterError(f"eos_token_ids must be a sequence of token ids, not {self.eos_token_ids!r}")
        object.__setattr__(self, "eos_token_ids", tuple(self.eos_token_ids))
        for token_id in self.eos_token_ids:
            _check_int("eos_token_ids", token_id, 0, self.vocab_size - 1)
        for name in ("bos_token_id", "pad_token_id"):
            if getattr(self, name) is not None:
                _check_int(name, getattr(self, name), 0, self.vocab_size - 1)

    @property
    def query_size(self) -> int:
        """Width of all query heads together, and of the output projection's input."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key heads together, and of all value heads together."""
        return self.num_kv_heads * self.head_dim

    @property
    def num_ternary_weights(self) -> int:
        """How many weights are ternary: the seven matrices of every layer."""
        attention = self.hidden_size * (2 * self.query_size + 2 * self.kv_size)
        return self.num_layers * (attention + 3 * self.hidden_size * self.ffn_size)

    @property
    def num_parameters(self) -> int:
        """How many parameters the model has in all, tied embeddings counted once."""
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)
        norms = (
            2 * self.hidden_size
            + self.attention_sub_norm * self.query_size
            + self.ffn_sub_norm * self.ffn_size
        )
        return self.num_ternary_weights + embeddings + self.num_layers * norms + self.hidden_size

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-compatible values; `from_dict` is the inverse."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {"eos_token_ids": list(self.eos_token_ids)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Make a config from what a file says.

        Raises:
            FormatError: a key is unknown or missing, or a value is out of range.
        """
        if not isinstance(values, Mapping):
            raise FormatError(f"a model config is a mapping of names to values, not {type(values).__name__}")
        fields = {field.name: field for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - set(fields)):
            raise FormatError(
                f"the model config has unknown keys: {', '.join(map(str, unknown))}. "
                "The file was written by a newer release, or it is damaged."
            )
        required = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
        if missing := [name for name in required if name not in values]:
            raise FormatError(f"the model config lacks: {', '.join(missing)}")
        try:
            return cls(**values)
        except ParameterError as error:
            raise FormatError(f"the model config is not valid: {error}") from error


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ParameterError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def _check_int(name: str, value: object, lowest: int, highest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise ParameterError(f"{name} must be a whole number from {lowest} to {highest}, not {value!r}")


def _checked_positive(name: str, value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ParameterError(f"{name} must be a positive number, not {value!r}")
    return float(value)


_BITNET_2B4T: dict[str, Any] = {
    "rope_theta": 500_000.0,
    "rms_norm_eps": 1e-5,
    "activation": "relu2",
    "attention_sub_norm": True,
    "ffn_sub_norm": True,
    "tied_embeddings": True,
}
_BITNET_B158 = _BITNET_2B4T | {"rope_theta": 10_000.0, "activation": "silu"}
_LLAMA_TOKENS: dict[str, Any] = {"bos_token_id": 1, "eos_token_ids": (2,)}

SHAPES: Mapping[str, ModelConfig] = {
    # For models trained at home, in the style of 2B-4T.
    "tiny": ModelConfig(
        hidden_size=384, ffn_size=1024, num_layers=6, num_heads=6, num_kv_heads=2, head_dim=64,
        vocab_size=4096, max_context=1024, **_LLAMA_TOKENS, **_BITNET_2B4T | {"rope_theta": 10_000.0},
    ),
    "125m": ModelConfig(
        hidden_size=768, ffn_size=2560, num_layers=12, num_heads=12, num_kv_heads=12, head_dim=64,
        vocab_size=32_000, max_context=2048, **_LLAMA_TOKENS, **_BITNET_2B4T | {"rope_theta": 10_000.0},
    ),
    # The community's reproduction of BitNet b1.58 (1bitLLM/bitnet_b1_58-large, -xl, -3B on Hugging Face).
    "700m": ModelConfig(
        hidden_size=1536, ffn_size=4096, num_layers=24, num_heads=16, num_kv_heads=16, head_dim=96,
        vocab_size=32_002, max_context=2048, pad_token_id=32_000, **_LLAMA_TOKENS, **_BITNET_B158,
    ),
    "1.3b": ModelConfig(
        hidden_size=2048, ffn_size=5460, num_layers=24, num_heads=32, num_kv_heads=32, head_dim=64,
        vocab_size=32_002, max_context=2048, pad_token_id=32_000, **_LLAMA_TOKENS, **_BITNET_B158,
    ),
    "3b": ModelConfig(
        hidden_size=3200, ffn_size=8640, num_layers=26, num_heads=32, num_kv_heads=32, head_dim=100,
        vocab_size=32_002, max_context=2048, pad_token_id=32_000, **_LLAMA_TOKENS, **_BITNET_B158,
    ),
    # microsoft/bitnet-b1.58-2B-4T.
    "2b4t": ModelConfig(
        hidden_size=2560, ffn_size=6912, num_layers=30, num_heads=20, num_kv_heads=5, head_dim=128,
        vocab_size=128_256, max_context=4096,
        bos_token_id=128_000, eos_token_ids=(128_001, 128_009), **_BITNET_2B4T,
    ),
}  # fmt: skip


def shape(name: str) -> ModelConfig:
    """Return the config of a named shape, for example `2b4t`.

    Raises:
        ParameterError: no shape has this name; the message lists those that exist.
    """
    if name not in SHAPES:
        raise ParameterError(f"there is no shape {name!r}; the shapes are {', '.join(SHAPES)}")
    return SHAPES[name]
