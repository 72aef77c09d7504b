"""The shape of a model: everything the decoder must know besides the weights.

One description serves every architecture. Per layer it says

    x += post_norm?( O sub_norm?( attention( Q h, K h, V h ) ) )               h = norm(x)
    x += post_norm?( Down sub_norm?( activation(Gate h) * (Up h) ) )           h = norm(x)

with ternary matrices, no biases, RMSNorm, rotary positions, and activations rounded per token where
`quantize_activations` says so. What only some architectures have is off unless it is said: norms of queries
and keys, a norm in front of every matrix, scaled embeddings, layers that see no further than a window,
stretched positions, a rotated basis, one vector for a text instead of logits.
`tercet.models.shapes` holds those that have names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tercet.errors import FormatError, ParameterError
from tercet.models.field_checks import (
    MAX_DIMENSION,
    check_choice,
    check_flag,
    check_whole,
    checked_positive,
)
from tercet.models.rope_scaling import RopeScaling
from tercet.models.rotation import Rotation
from tercet.reference.rotary import inverse_frequencies

__all__ = ["ACTIVATION_RULES", "WEIGHT_RULES", "ModelConfig"]

MAX_LAYERS = 1024
ACTIVATIONS = ("relu2", "silu", "gelu_tanh")
ARCHITECTURES = ("bitnet", "llama", "qwen3", "gemma3")
ACTIVATION_RULES = ("int8", "int4", "int4_int8")
WEIGHT_RULES = ("absmean", "sign")
_CHOICES = {
    "architecture": ARCHITECTURES, "activation": ACTIVATIONS, "activation_rule": ACTIVATION_RULES,
    "weight_rule": WEIGHT_RULES,
}  # fmt: skip

_SIZES = ("hidden_size", "ffn_size", "num_heads", "num_kv_heads", "head_dim", "vocab_size", "max_context")
_FLAGS = (
    "attention_sub_norm", "ffn_sub_norm", "tied_embeddings", "quantize_activations", "qk_norm",
    "projection_norms", "post_norms", "normalize_embeddings", "add_bos",
)  # fmt: skip
_POSITIVE = ("rope_theta", "rms_norm_eps", "embedding_scale")
_POSITIVE_OR_NONE = ("projection_norm_eps", "attention_scale", "rope_local_theta")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The dimensions and options of one decoder; immutable, and checked when it is made.

    Raises:
        ParameterError: a value is of the wrong type, out of range, or at odds with another.
    """

    architecture: str = "bitnet"
    """The family, for people and for writers of other formats; the options below decide what is computed."""
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
    """`relu2` (squared ReLU, BitNet b1.58 2B-4T), `silu`, or `gelu_tanh` (Gemma 3)."""
    attention_sub_norm: bool
    """Whether an RMSNorm stands between attention and the output projection."""
    ffn_sub_norm: bool
    """Whether an RMSNorm stands between the gated activation and the down projection."""
    tied_embeddings: bool
    """Whether the output head is the embedding matrix."""
    quantize_activations: bool = True
    """Whether the input of every ternary matrix of a layer is rounded, one scale per token."""
    activation_rule: str = "int8"
    """`int8`, `int4` (BitNet v2) or `int4_int8` (BitNet a4.8; see `tercet.quantization.activations`)."""
    weight_rule: str = "absmean"
    """How masters become codes: `absmean`, -1, 0 and +1 (BitNet b1.58), or `sign`, -1 and +1 (BitNet)."""
    qk_norm: bool = False
    """Whether every head of queries and keys is normalized before it is turned (Qwen 3, Gemma 3)."""
    projection_norms: bool = False
    """Whether an RMSNorm stands in front of every ternary matrix of a layer (BitNet embedding models)."""
    projection_norm_eps: float | None = None
    """What those norms add to the mean square; None is `rms_norm_eps`."""
    post_norms: bool = False
    """Whether what attention and feed-forward add to the residual stream is normalized (Gemma 3)."""
    embedding_scale: float = 1.0
    """What a looked-up embedding is multiplied by."""
    attention_scale: float | None = None
    """What scores are multiplied by; None is 1 / sqrt(head_dim)."""
    rope_scaling: RopeScaling | None = None
    """How positions are stretched; not in layers with a window that have their own base."""
    sliding_window: int | None = None
    """How many tokens, itself included, a token sees in layers with a window; None: no layer has one."""
    sliding_pattern: int | None = None
    """Every so many layers one has no window; None: all have it."""
    rope_local_theta: float | None = None
    """The `rope_theta` of layers with a window; None is the same."""
    pooling: str | None = None
    """`last`: the final state of the last token stands for a text, and logits mean nothing."""
    normalize_embeddings: bool = False
    """Whether that vector is made to have length 1."""
    rotation: Rotation | None = None
    """The rotated basis of the weights, if they are in one."""
    bos_token_id: int | None
    add_bos: bool = True
    """Whether a text that is no conversation begins with `bos_token_id`."""
    eos_token_ids: tuple[int, ...]
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for name in _SIZES:
            check_whole(name, getattr(self, name))
        check_whole("num_layers", self.num_layers, 1, MAX_LAYERS)
        for name in _FLAGS:
            check_flag(name, getattr(self, name))
        for name in _POSITIVE + _POSITIVE_OR_NONE:
            if getattr(self, name) is not None or name in _POSITIVE:
                object.__setattr__(self, name, checked_positive(name, getattr(self, name)))
        self._check_heads()
        self._check_positions()
        self._check_tokens()
        self._check_rotation()
        if self.pooling is not None:
            check_choice("pooling", self.pooling, ("last",))
        elif self.normalize_embeddings:
            raise ParameterError(
                "normalize_embeddings is true, and there is no pooling that makes embeddings"
            )

    def _check_heads(self) -> None:
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

    def _check_positions(self) -> None:
        if self.sliding_window is not None:
            check_whole("sliding_window", self.sliding_window)
        if self.sliding_pattern is not None:
            check_whole("sliding_pattern", self.sliding_pattern)
            if self.sliding_window is None:
                raise ParameterError("sliding_pattern is given, and there is no sliding_window")
        if self.rope_scaling is not None:
            self._check_scaling(self.rope_scaling)
        with np.errstate(all="ignore"):
            frequencies = (self.inverse_frequencies, self.local_inverse_frequencies)
        if not np.isfinite(frequencies).all():
            raise ParameterError("the RoPE frequencies that follow from theta and scaling are not finite")

    def _check_scaling(self, scaling: object) -> None:
        if not isinstance(scaling, RopeScaling):
            raise ParameterError(f"rope_scaling must be a RopeScaling or None, not {scaling!r}")
        if scaling.kind == "yarn" and self.rope_theta <= 1:
            raise ParameterError(f"rope_theta must be larger than 1 with yarn, not {self.rope_theta}")
        factors = scaling.factors
        if factors is not None and len(factors) != self.head_dim // 2:
            raise ParameterError(
                f"rope_scaling.factors must be {self.head_dim // 2} numbers, half of head_dim, "
                f"not {len(factors)}"
            )

    def _check_tokens(self) -> None:
        if not isinstance(self.eos_token_ids, (tuple, list)):
            raise ParameterError(f"eos_token_ids must be a sequence of token ids, not {self.eos_token_ids!r}")
        object.__setattr__(self, "eos_token_ids", tuple(self.eos_token_ids))
        for token_id in self.eos_token_ids:
            check_whole("eos_token_ids", token_id, 0, self.vocab_size - 1)
        for name in ("bos_token_id", "pad_token_id"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), 0, self.vocab_size - 1)

    def _check_rotation(self) -> None:
        if self.rotation is None:
            return
        if not isinstance(self.rotation, Rotation):
            raise ParameterError(f"rotation must be a Rotation or None, not {self.rotation!r}")
        for name in self.rotation.inputs:
            self.rotation.check_width(name, self._input_width(name))
        for name in self.rotation.outputs:
            if name != "embedding":
                raise ParameterError(f"rotation.outputs may name the embedding, not {name!r}")
            self.rotation.check_width(name, self.hidden_size)

    def _input_width(self, name: str) -> int:
        """Return the width of what a matrix is multiplied with."""
        prefix, layer, part = [*name.split(".", 2), "", ""][:3]
        is_layer = prefix == "layers" and layer in map(str, range(self.num_layers))
        if is_layer and part in ("attention.q", "attention.k", "attention.v", "ffn.gate", "ffn.up"):
            return self.hidden_size
        if is_layer and part in ("attention.o", "ffn.down"):
            return self.query_size if part == "attention.o" else self.ffn_size
        if name == ("embedding" if self.tied_embeddings else "output_head"):
            return self.hidden_size
        raise ParameterError(f"rotation.inputs names {name!r}, which is no matrix of the model")

    @property
    def query_size(self) -> int:
        """Width of all query heads together, and of the output projection's input."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key heads together, and of all value heads together."""
        return self.num_kv_heads * self.head_dim

    @property
    def first_token_id(self) -> int | None:
        """What a text that is no conversation begins with, if anything."""
        return self.bos_token_id if self.add_bos else None

    @property
    def layer_windows(self) -> tuple[int | None, ...]:
        """How many tokens, itself included, a token sees in each layer; None is all before it."""
        pattern = self.sliding_pattern or self.num_layers + 1
        return tuple(
            self.sliding_window if (layer + 1) % pattern else None for layer in range(self.num_layers)
        )

    @property
    def inverse_frequencies(self) -> NDArray[np.float32]:
        """Radians per position of each pair of a head, float32 [head_dim / 2], in layers without a window."""
        return inverse_frequencies(self.rope_theta, self.head_dim, self.rope_scaling)

    @property
    def local_inverse_frequencies(self) -> NDArray[np.float32]:
        """The same for layers with a window; with a base of their own, their positions are not stretched."""
        if self.rope_local_theta is None:
            return self.inverse_frequencies
        return inverse_frequencies(self.rope_local_theta, self.head_dim, None)

    @property
    def rope_attention_factor(self) -> float:
        """What cosines and sines are multiplied by wherever positions are stretched: 1, except for yarn."""
        factor = self.rope_scaling.attention_factor if self.rope_scaling is not None else None
        return 1.0 if factor is None else factor

    @property
    def num_ternary_weights(self) -> int:
        """How many weights are in the seven matrices of every layer."""
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
            + self.qk_norm * 2 * self.head_dim
            + self.projection_norms * (5 * self.hidden_size + self.query_size + self.ffn_size)
            + self.post_norms * 2 * self.hidden_size
        )
        return self.num_ternary_weights + embeddings + self.num_layers * norms + self.hidden_size

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-compatible values; `from_dict` is the inverse.

        The two rules are left out where they are the usual ones: earlier releases read such files.
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("activation_rule", "weight_rule"):
            if fields[name] == getattr(type(self), name):
                del fields[name]
        fields["eos_token_ids"] = list(self.eos_token_ids)
        for name in ("rope_scaling", "rotation"):
            fields[name] = fields[name] and fields[name].to_dict()
        return fields

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Make a config from what a file says.

        Raises:
            FormatError: a key is unknown or missing, or a value is out of range.
        """
        if not isinstance(values, Mapping):
            raise FormatError(f"a model config is a mapping of names to values, not {type(values).__name__}")
        fields = {field.name: field for field in dataclasses.fields(cls)}
        if unknown := sorted(map(str, set(values) - set(fields))):
            raise FormatError(
                f"the model config has unknown keys: {', '.join(unknown)}. "
                "The file was written by a newer release, or it is damaged."
            )
        required = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
        if missing := [name for name in required if name not in values]:
            raise FormatError(f"the model config lacks: {', '.join(missing)}")
        given = dict(values)
        try:
            for name, kind in (("rope_scaling", RopeScaling), ("rotation", Rotation)):
                if isinstance(given.get(name), Mapping):
                    given[name] = kind.from_dict(given[name])
            return cls(**given)
        except ParameterError as error:
            raise FormatError(f"the model config is not valid: {error}") from error
