"""Text <-> token ids, and conversations -> token ids.

    tokenizer            a `tokenizer.json` at work; text from users never becomes a control token
    token_bytes          the bytes that each token stands for
    incremental_decoder  ids one at a time -> text, never half a character
    chat_template        messages -> ids by the template that a model came with
    plain_template       the same for models that came without one
    template_sandbox     where templates run: bounded steps, time and memory

Text from users goes in as text and comes out as the same text.
"""

from __future__ import annotations

from tercet.tokenization.chat_template import ChatTemplate
from tercet.tokenization.incremental_decoder import IncrementalDecoder
from tercet.tokenization.tokenizer import Tokenizer

__all__ = ["ChatTemplate", "IncrementalDecoder", "Tokenizer"]
