"""Whether a text begins with the begin-of-text token: `config.json` names its id, and does not say.

The Llama tokenizers put it there, those of Qwen have it and do not. What decides is, in this order,

    tokenizer_config.json   add_bos_token
    tokenizer.json          post_processor, if there is one: whether it adds the token
    tokenizer_config.json   bos_token: whether the tokenizer knows one
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tercet.formats.fields import Fields

__all__ = ["begins_with_bos"]


def begins_with_bos(
    tokenizer_config: Mapping[str, Any] | None, read_tokenizer: Callable[[], Mapping[str, Any]], file: Path
) -> bool:
    """Say whether a text that is no conversation begins with the begin-of-text token.

    Args:
        tokenizer_config: the parsed tokenizer_config.json, if there is one.
        read_tokenizer: parses tokenizer.json, which is large; gives an empty mapping if there is none.
        file: what the first was parsed from, for messages.

    Raises:
        FormatError: a field is of the wrong type.
    """
    if tokenizer_config is None:
        return True
    fields = Fields(dict(tokenizer_config), file, "tokenizer_config")
    if "add_bos_token" in fields:
        return fields.flag("add_bos_token")
    bos = _text(tokenizer_config.get("bos_token"))
    if bos is None:
        return False
    processor = read_tokenizer().get("post_processor")
    if isinstance(processor, dict) and processor.get("type") != "ByteLevel":
        # A processor is a tree of templates; one that adds the token holds its text somewhere, as a string.
        return json.dumps(bos) in json.dumps(processor)
    return True


def _text(token: object) -> str | None:
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None
