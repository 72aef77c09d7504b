"""Which blocks of keys and values stand for which tokens, so that equal beginnings are computed once.

A block's keys and values depend on its own tokens and on all before it, so its name is a chain:

    key(0) = H(H(salt), tokens of block 0)        key(i) = H(key(i - 1), tokens of block i)

Equal keys mean equal beginnings and, since a row's bits do not depend on how a prompt was cut into steps or
on who shared them (docs/concepts/determinism.md), equal contents. H is BLAKE2b with 256 bits: nobody can
make two beginnings meet. Sequences with different salts never meet either; who serves several tenants gives
each its own, since the time to the first token would otherwise tell whether somebody else had sent the same
prompt.

Only full blocks have names. This is a table and nothing else: `KvBlockPool` owns the blocks.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence

__all__ = ["PrefixIndex", "block_key", "root_key"]

_KEY_BYTES = 32


def root_key(salt: bytes = b"") -> bytes:
    """What stands before the first block."""
    return hashlib.blake2b(salt, digest_size=_KEY_BYTES).digest()


def block_key(parent: bytes, token_ids: Sequence[int]) -> bytes:
    """Name the block with these tokens behind the block, or root, of key `parent`."""
    return hashlib.blake2b(parent + array("i", token_ids).tobytes(), digest_size=_KEY_BYTES).digest()


class PrefixIndex:
    """One block for each key, one key for each block."""

    def __init__(self) -> None:
        self._blocks: dict[bytes, int] = {}
        self._keys: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, block: int) -> bool:
        return block in self._keys

    def add(self, key: bytes, block: int) -> None:
        """Name a block, unless another has this name already or the block has one."""
        if key not in self._blocks and block not in self._keys:
            self._blocks[key] = block
            self._keys[block] = key

    def find(self, keys: Iterable[bytes]) -> list[int]:
        """Blocks of the longest known beginning of a chain of keys."""
        found = []
        for key in keys:
            block = self._blocks.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def forget(self, block: int) -> None:
        """Take a block's name away; its contents will change."""
        del self._blocks[self._keys.pop(block)]
