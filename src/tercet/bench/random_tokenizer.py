"""A tokenizer for models with random weights, so that they can be served: every id is some text.

256 tokens are the bytes, so that any text can be encoded; the others are made-up words with a blank in front,
" b", " c", ... in letters. As for real vocabularies of that size, decoding a token costs a look-up and a few
letters more.
"""

from __future__ import annotations

import json
import string

from tercet.errors import ParameterError
from tercet.tokenization.byte_level import BYTE_LEVEL_DECODER, byte_alphabet, byte_level_model

__all__ = ["random_tokenizer_json"]

NUM_BYTES = 256


def random_tokenizer_json(vocab_size: int) -> bytes:
    """Return a tokenizer.json with so many tokens.

    Raises:
        ParameterError: there are fewer tokens than bytes.
    """
    if vocab_size < NUM_BYTES:
        raise ParameterError(f"a vocabulary of {vocab_size} tokens has no room for all {NUM_BYTES} bytes")
    alphabet = byte_alphabet()
    blank = alphabet[ord(" ")]
    vocab = {alphabet[byte]: byte for byte in range(NUM_BYTES)}
    for token_id in range(NUM_BYTES, vocab_size):
        vocab[blank + _word(token_id - NUM_BYTES)] = token_id
    return json.dumps(
        {
            "version": "1.0",
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": {**BYTE_LEVEL_DECODER, "add_prefix_space": False},
            "post_processor": None,
            "decoder": BYTE_LEVEL_DECODER,
            "model": byte_level_model(vocab, (), whole_words=True),
        }
    ).encode()


def _word(number: int) -> str:
    letters = ""
    while True:
        number, letter = divmod(number, len(string.ascii_lowercase))
        letters = string.ascii_lowercase[letter] + letters
        if not number:
            return letters
