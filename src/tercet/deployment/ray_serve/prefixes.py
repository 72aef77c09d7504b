"""What a prompt begins with, as hashes, and which replica has read it.

A replica keeps what it has computed for prompts, so a conversation is answered fastest where its beginning
was read. The text that a request asks about is cut into blocks, and every block's hash contains the one
before it: two requests with n equal hashes begin with the same n blocks. Whoever asks is part of the first
hash, because replicas share nothing of prompts between callers.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any

__all__ = ["PrefixMemory", "prefix_hashes"]

BLOCK_CHARACTERS = 256
MAX_BLOCKS = 256
"""What is looked at of a prompt: two pages of a book are nearly always two different ones."""
# Of OpenAI's, llama.cpp's and Ollama's requests, in the order in which templates put them.
_FIELDS = ("model", "system", "instructions", "tools", "messages", "input", "prompt")


def prefix_hashes(body: bytes, caller: bytes = b"") -> tuple[int, ...]:
    """Return the hashes of the blocks of a request's prompt; none where its body holds no prompt.

    The last block counts only if it is full, but the first one always.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(request, dict) or not any(name in request for name in _FIELDS[-3:]):
        return ()
    text = _text([request[name] for name in _FIELDS if name in request])
    count = min(max(len(text) // BLOCK_CHARACTERS, 1), MAX_BLOCKS)
    hashes: list[int] = []
    last = hashlib.blake2b(caller, digest_size=8).digest()
    for start in range(0, count * BLOCK_CHARACTERS, BLOCK_CHARACTERS):
        block = text[start : start + BLOCK_CHARACTERS].encode("utf-8", "surrogatepass")
        last = hashlib.blake2b(last + block, digest_size=8).digest()
        hashes.append(int.from_bytes(last, "big"))
    return tuple(hashes)


class PrefixMemory:
    """Which replica has read which blocks; forgets those that have not been asked for longest.

    Args:
        max_blocks: how many it remembers.
    """

    def __init__(self, max_blocks: int = 100_000) -> None:
        self._max_blocks = max_blocks
        self._readers: OrderedDict[int, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._readers)

    def reader(self, hashes: Sequence[int], replicas: Collection[str]) -> str | None:
        """Return which of these replicas has read the longest beginning; None where none has read any."""
        for block in reversed(hashes):
            if (found := self._readers.get(block)) in replicas:
                return found
        return None

    def note(self, hashes: Sequence[int], replica: str) -> None:
        """Remember who reads these blocks now."""
        for block in hashes:
            self._readers[block] = replica
            self._readers.move_to_end(block)
        while len(self._readers) > self._max_blocks:
            self._readers.popitem(last=False)


def _text(value: Any) -> str:
    """All text in a value, in order, so that messages that begin alike give text that begins alike."""
    if isinstance(value, dict):
        return "".join(_text(one) for one in value.values())
    if isinstance(value, list):
        return "".join(_text(one) for one in value)
    return f"{value}\n"
