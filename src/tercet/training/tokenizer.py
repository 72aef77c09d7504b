"""A byte-level BPE tokenizer trained on the corpus, saved in the files that the field reads.

Digits stand alone (so numbers of any length look alike to a small model); everything else is GPT-2's
byte-level scheme, so no text is out of vocabulary. Merges come from the `tokenizers` library.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tercet.environment import atomic_write
from tercet.errors import TrainingError

BEGIN = "<|begin_of_text|>"
END = "<|end_of_text|>"
TURN_END = "<|end_of_turn|>"
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SPECIAL_TOKENS = [BEGIN, END, TURN_END, *ROLES.values()]

CHAT_TEMPLATE = (
    BEGIN
    + "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    + TURN_END
    + "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer(texts: Iterator[str], vocab_size: int) -> Tokenizer:
    """Learn `vocab_size` tokens (specials and the 256 bytes included) from an iterator of texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def special_token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a special token; TrainingError if the tokenizer was made for something else and lacks it."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise TrainingError(f"the tokenizer has no {token}; it was made for another kind of model")
    return int(found)


def save_tokenizer(tokenizer: Tokenizer, folder: Path, max_context: int) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` (special tokens, chat template) into `folder`."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "model_max_length": max_context,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    with atomic_write(folder / "tokenizer.json") as file:
        file.write(tokenizer.to_str(pretty=False).encode())
    with atomic_write(folder / "tokenizer_config.json") as file:
        file.write(json.dumps(settings, indent=2).encode())
