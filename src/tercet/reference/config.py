"""What the arithmetic of a decoder depends on; `tercet.models.config.ModelConfig` is one such description."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["BasisRotation", "DecoderConfig"]


class BasisRotation(Protocol):
    """Which inputs are turned, and how; `tercet.models.rotation.Rotation` is one."""

    @property
    def block_size(self) -> int:
        """Elements that are turned together."""

    @property
    def inputs(self) -> Sequence[str]:
        """Matrices whose input is turned."""

    @property
    def outputs(self) -> Sequence[str]:
        """Tables whose rows are turned back."""

    def signs_of(self, width: int) -> NDArray[np.float32]:
        """Return the signs for inputs of this width."""


class DecoderConfig(Protocol):
    """The dimensions and options that `ReferenceDecoder` reads, and nothing else."""

    @property
    def num_layers(self) -> int:
        """How many layers there are."""

    @property
    def num_heads(self) -> int:
        """How many query heads."""

    @property
    def num_kv_heads(self) -> int:
        """How many key and value heads; each serves num_heads / num_kv_heads query heads."""

    @property
    def head_dim(self) -> int:
        """Width of a head."""

    @property
    def vocab_size(self) -> int:
        """How many tokens there are."""

    @property
    def max_context(self) -> int:
        """Most tokens in a sequence."""

    @property
    def layer_windows(self) -> Sequence[int | None]:
        """How many tokens a token sees in each layer; None is all before it."""

    @property
    def inverse_frequencies(self) -> NDArray[np.float32]:
        """Radians per position of each pair of a head, in layers without a window."""

    @property
    def local_inverse_frequencies(self) -> NDArray[np.float32]:
        """The same in layers with a window."""

    @property
    def rope_local_theta(self) -> float | None:
        """Base of the rotary frequencies in layers with a window; None: they are like the others."""

    @property
    def rope_attention_factor(self) -> float:
        """What cosines and sines are multiplied by in layers that are not local in that sense."""

    @property
    def attention_scale(self) -> float | None:
        """What scores are multiplied by; None is 1 / sqrt(head_dim)."""

    @property
    def embedding_scale(self) -> float:
        """What embeddings are multiplied by."""

    @property
    def rms_norm_eps(self) -> float:
        """What RMSNorm adds to the mean square."""

    @property
    def activation(self) -> str:
        """`relu2`, `silu` or `gelu_tanh`."""

    @property
    def attention_sub_norm(self) -> bool:
        """Whether attention is normalized before the output projection."""

    @property
    def ffn_sub_norm(self) -> bool:
        """Whether the gated activation is normalized before the down projection."""

    @property
    def qk_norm(self) -> bool:
        """Whether heads of queries and keys are normalized."""

    @property
    def projection_norms(self) -> bool:
        """Whether the input of every ternary matrix is normalized."""

    @property
    def projection_norm_eps(self) -> float | None:
        """What those norms add to the mean square; None is rms_norm_eps."""

    @property
    def post_norms(self) -> bool:
        """Whether outputs of attention and feed-forward are normalized."""

    @property
    def tied_embeddings(self) -> bool:
        """Whether the output head is the embedding."""

    @property
    def quantize_activations(self) -> bool:
        """Whether inputs of ternary matrices are rounded."""

    @property
    def activation_rule(self) -> str:
        """How they are: `int8`, `int4` or `int4_int8`."""

    @property
    def rotation(self) -> BasisRotation | None:
        """The rotated basis of the weights, if they are in one."""

    @property
    def pooling(self) -> str | None:
        """`last` in models that make one vector of a text."""

    @property
    def normalize_embeddings(self) -> bool:
        """Whether that vector is made to have length 1."""
