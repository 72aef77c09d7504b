"""What the arithmetic of a decoder depends on; `tercet.models.config.ModelConfig` is one such description."""

from __future__ import annotations

from typing import Protocol

__all__ = ["DecoderConfig"]


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
    def rope_theta(self) -> float:
        """Base of the rotary frequencies."""

    @property
    def rms_norm_eps(self) -> float:
        """What RMSNorm adds to the mean square."""

    @property
    def activation(self) -> str:
        """`relu2` or `silu`."""

    @property
    def attention_sub_norm(self) -> bool:
        """Whether attention is normalized before the output projection."""

    @property
    def ffn_sub_norm(self) -> bool:
        """Whether the gated activation is normalized before the down projection."""

    @property
    def tied_embeddings(self) -> bool:
        """Whether the output head is the embedding."""

    @property
    def quantize_activations(self) -> bool:
        """Whether inputs of ternary matrices are rounded to int8."""
