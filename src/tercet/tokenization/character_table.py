"""The table by which sentencepiece normalizes characters (`precompiled_charsmap`), checked before use.

    u32 size | trie: u32[size / 4], a double array (darts-clone) | texts, each ended by a zero byte

The library that applies the table follows it without looking where it leads. A hostile table would end the
process at the first text, so that every step it can take is checked here: from a unit one goes to
`position XOR offset`, and from there to any of the 256 units around, by the next byte of the text.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tercet.errors import FormatError

__all__ = ["CharacterTable"]

_IS_VALUE = 1 << 31
_HAS_VALUE = 1 << 8


class CharacterTable:
    """A table that is sound all through.

    Args:
        data: the bytes of `precompiled_charsmap`; none make an empty table.
        source: what was read, for messages.

    Raises:
        FormatError: it is damaged.
    """

    def __init__(self, data: bytes, source: str) -> None:
        self.data = data
        self._units: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._texts = b""
        if not data:
            return
        size = int.from_bytes(data[:4], "little")
        if len(data) < 4 or size % 4 or not 1024 <= size <= len(data) - 4:
            raise FormatError(
                f"{source}: the table of characters claims a trie of {size:,} bytes, but it has {len(data):,}"
            )
        self._units = np.frombuffer(data, "<u4", size // 4, 4).astype(np.int64)
        self._texts = data[4 + size :]
        self._check(source)

    def replacement(self, character: bytes) -> str | None:
        """Return what is put in the place of a character (in UTF-8); None if it stays."""
        if not self.data:
            return None
        position = int(_offsets(self._units[:1])[0])
        for byte in character:
            position ^= byte
            unit = self._units[position]
            if unit & (_IS_VALUE | 0xFF) != byte:
                return None
            position ^= int(_offsets(self._units[position : position + 1])[0])
        if not unit & _HAS_VALUE:
            return None
        start = int(self._units[position]) & (_IS_VALUE - 1)
        return self._texts[start:].partition(b"\0")[0].decode("utf-8")

    def _check(self, source: str) -> None:
        try:
            self._texts.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(
                f"{source}: the table of characters holds text that is not UTF-8: {error}"
            ) from error
        is_node = self._units & _IS_VALUE == 0
        is_node[0] = True
        goals = np.arange(self._units.size) ^ _offsets(self._units)
        goals[~is_node] = 0
        if (goals | 0xFF).max() >= self._units.size:
            raise FormatError(f"{source}: the table of characters leads outside itself. The file is damaged.")
        starts = self._units[goals[is_node & (self._units & _HAS_VALUE != 0)]] & (_IS_VALUE - 1)
        texts = np.frombuffer(self._texts, np.uint8)
        if (starts >= texts.size).any() or (texts[starts] & 0xC0 == 0x80).any():
            raise FormatError(
                f"{source}: the table of characters names text that is not there. The file is damaged."
            )


def _offsets(units: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return how far each unit leads: bits 10 to 30, times 256 where bit 9 is set."""
    return ((units & (_IS_VALUE - 1)) >> 10) << ((units & (1 << 9)) >> 6)
