"""A small model that makes embeddings, with random weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tercet.models.config import ModelConfig
from tercet.models.saving import save_huggingface_folder
from tiny_models import TINY_CONFIG, random_masters, tiny_tokenizer_json

EMBEDDING_CONFIG: ModelConfig = dataclasses.replace(
    TINY_CONFIG, architecture="qwen3", activation="silu", attention_sub_norm=False, ffn_sub_norm=False,
    qk_norm=True, projection_norms=True, pooling="last", normalize_embeddings=True, bos_token_id=None,
)  # fmt: skip


def embedding_model(folder: Path) -> Path:
    """Write the model as a folder, and return that."""
    masters = random_masters(EMBEDDING_CONFIG)
    save_huggingface_folder(folder, EMBEDDING_CONFIG, masters, tokenizer_json=tiny_tokenizer_json())
    return folder
