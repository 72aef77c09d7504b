"""A model small enough for every test: random master weights, and a real tokenizer trained on a few lines."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from tercet.models.config import ModelConfig
from tercet.models.tensor_names import is_ternary, tensor_shapes

CONTROL_TOKENS = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|end_of_turn|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
]
CHAT_TEMPLATE = (
    "<|begin_of_text|>{% for message in messages %}<|{{ message['role'] }}|>"
    "{{ message['content'] }}<|end_of_turn|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
GENERATION = {"temperature": 0.8, "top_p": 0.95, "max_tokens": 64}
TEXTS = [
    "Once upon a time there was a little dog. The little dog liked to run and play in the park.",
    "One day a girl named Lily found a big red ball. She was very happy and said: \"Thank you!\"",
    "Write a short story about a cat, a boat and 3 friends. Ünïcödé, naïve café, 東京 and emoji 🙂👍🏽.",
    "The sun was warm; they all went home, and they lived happily ever after. 0123456789 \n\n\t(end)",
]  # fmt: skip

# Dimensions that are no multiples of 16 or 64: the padding of packings and kernels is part of every test.
TINY_CONFIG = ModelConfig(
    hidden_size=36,
    ffn_size=50,
    num_layers=2,
    num_heads=6,
    num_kv_heads=3,
    head_dim=6,
    vocab_size=500,
    max_context=64,
    rope_theta=10_000.0,
    rms_norm_eps=1e-5,
    activation="relu2",
    attention_sub_norm=True,
    ffn_sub_norm=True,
    tied_embeddings=True,
    bos_token_id=0,
    eos_token_ids=(1, 2),
)


@functools.cache
def tiny_tokenizer_json(begins: bool = False) -> bytes:
    """A byte-level BPE tokenizer of `TINY_CONFIG.vocab_size` tokens.

    With `begins` it puts the model's first token before a text by itself, as those of folders do.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    digits, byte_level = pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TINY_CONFIG.vocab_size,
        special_tokens=CONTROL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = [f"{first}{second} " for first in "bdfgklmnprst" for second in ("an", "ell", "ing", "ould", "ay")]
    tokenizer.train_from_iterator([*TEXTS, *(3 * [*words])], trainer)
    if begins:
        bos = CONTROL_TOKENS[TINY_CONFIG.bos_token_id or 0]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos}:1 $B:1",
            special_tokens=[(bos, TINY_CONFIG.bos_token_id)],
        )
    return tokenizer.to_str().encode()


def random_masters(config: ModelConfig, seed: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Float master weights under canonical names, in order, with activations of a sane size."""
    random = np.random.default_rng(seed)
    for name, shape in tensor_shapes(config).items():
        values = random.standard_normal(shape, np.float32)
        if len(shape) == 1:
            values = 1 + np.float32(0.1) * values
        elif is_ternary(name):
            values /= np.float32(np.sqrt(shape[1]))
        yield name, values
