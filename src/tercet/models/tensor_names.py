"""What every tensor of a model is called, and which shape it has.

    embedding                                [vocab_size, hidden_size]   float or ternary
    layers.{i}.attention_norm                [hidden_size]               float
    layers.{i}.attention.{q,k,v,o}           [rows, depth]               ternary; y = x @ W.T
    layers.{i}.ffn_norm                      [hidden_size]               float
    layers.{i}.ffn.{gate,up,down}            [rows, depth]               ternary
    final_norm                               [hidden_size]               float
    output_head                              [vocab_size, hidden_size]   float or ternary, absent when tied

and where the config says so, all float:

    layers.{i}.attention.{q_norm,k_norm}     [head_dim]                  qk_norm
    layers.{i}.attention.sub_norm            [num_heads * head_dim]      attention_sub_norm
    layers.{i}.ffn.sub_norm                  [ffn_size]                  ffn_sub_norm
    layers.{i}.{matrix}.input_norm           [depth]                     projection_norms, one for each matrix
    layers.{i}.{attention,ffn}_post_norm     [hidden_size]               post_norms

These names are ours; readers of foreign formats translate into them (`tercet.formats.huggingface.names`,
`tercet.formats.gguf.tensor_names`).
"""

from __future__ import annotations

import re

from tercet.models.config import ModelConfig

__all__ = ["is_ternary", "layer_name", "tensor_shapes"]

_TERNARY = re.compile(r"layers\.\d+\.(attention\.[qkvo]|ffn\.(gate|up|down))")


def layer_name(layer: int, part: str) -> str:
    """Return the canonical name of one part of one layer: `layer_name(3, "ffn.up")` is `layers.3.ffn.up`."""
    return f"layers.{layer}.{part}"


def is_ternary(name: str) -> bool:
    """Say whether the tensor of this canonical name is one of the seven matrices of a layer.

    They are ternary in a ternary model. Embedding and output head may be, too: see
    `tercet.models.loading.may_be_ternary`.
    """
    return _TERNARY.fullmatch(name) is not None


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the canonical name and shape of every tensor that a model of `config` has, in order of use."""
    hidden = config.hidden_size
    layer = _attention_shapes(config) | _feed_forward_shapes(config)
    shapes: dict[str, tuple[int, ...]] = {"embedding": (config.vocab_size, hidden)}
    for index in range(config.num_layers):
        shapes |= {layer_name(index, part): size for part, size in layer.items()}
    shapes["final_norm"] = (hidden,)
    if not config.tied_embeddings:
        shapes["output_head"] = (config.vocab_size, hidden)
    return shapes


def _attention_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    hidden, query, kv = config.hidden_size, config.query_size, config.kv_size
    shapes: dict[str, tuple[int, ...]] = {"attention_norm": (hidden,)}
    for part, rows in (("q", query), ("k", kv), ("v", kv)):
        shapes |= _matrix_shapes(config, f"attention.{part}", rows, hidden)
    if config.qk_norm:
        shapes |= {"attention.q_norm": (config.head_dim,), "attention.k_norm": (config.head_dim,)}
    if config.attention_sub_norm:
        shapes["attention.sub_norm"] = (query,)
    shapes |= _matrix_shapes(config, "attention.o", hidden, query)
    return shapes | ({"attention_post_norm": (hidden,)} if config.post_norms else {})


def _feed_forward_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    hidden, ffn = config.hidden_size, config.ffn_size
    shapes: dict[str, tuple[int, ...]] = {"ffn_norm": (hidden,)}
    for part in ("gate", "up"):
        shapes |= _matrix_shapes(config, f"ffn.{part}", ffn, hidden)
    if config.ffn_sub_norm:
        shapes["ffn.sub_norm"] = (ffn,)
    shapes |= _matrix_shapes(config, "ffn.down", hidden, ffn)
    return shapes | ({"ffn_post_norm": (hidden,)} if config.post_norms else {})


def _matrix_shapes(config: ModelConfig, part: str, rows: int, depth: int) -> dict[str, tuple[int, ...]]:
    norm: dict[str, tuple[int, ...]] = {f"{part}.input_norm": (depth,)} if config.projection_norms else {}
    return norm | {part: (rows, depth)}
