"""TL1 and TL2 of bitnet.cpp, for lookup-table kernels: read only, to bring such models elsewhere.

    TL1   pairs of weights a, b as the number 3 a + b + 4 (0..8) in four bits
    TL2   triples as |9 a + 3 b + c| (0..13) in four bits and a sign bit; what is left of a row when
          its depth is no multiple of BK is pairs, as in TL1

Two numbers share a byte, the first in the high bits; sixteen signs share a uint16. Their order is that in
which the generated kernel of one machine walks the matrix: tiles of BM rows by BK columns, cut into `bmm`
rows by 256 / bmm (TL2: 192 / bmm) columns. A file does not hold these numbers. They are in the
`kernel_config.ini` of the build that made it, one section for each shape:

    [Kernels_0]
    m = 3200    k = 8640    bm = 160    bk = 96    bmm = 32

The scale (a multiplier) is a tensor of its own, `NAME_scale`. The id of TL2 is also that of upstream's MXFP4.

Source: `preprocess_weights_tl1` and `preprocess_weights_tl2` in bitnet.cpp's `convert-hf-to-gguf-bitnet.py`,
whose steps are repeated here on the numbers of the weights instead of the weights.
"""

from __future__ import annotations

import configparser
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.errors import FormatError, UnsupportedFormatError
from tercet.formats.gguf.tensor_types.tensor_type import Bytes, Codes, Floats, TensorType

__all__ = [
    "TL1",
    "TL1_WITH_TAIL",
    "TL2",
    "TL2_WITH_TAIL",
    "KernelConfig",
    "KernelShape",
    "LookupTableType",
    "parse_kernel_config",
]

Index = npt.NDArray[np.int64]

_TAIL_BYTES = 32
_PAIR_TILE = 32
"""TL2 lays the pairs at the end of its rows out in tiles of 32 columns, whatever BK is."""


@dataclasses.dataclass(frozen=True)
class KernelShape:
    """How the kernel for one shape of matrix walks through it."""

    tile_rows: int
    tile_columns: int
    inner_rows: int


KernelConfig = Mapping[tuple[int, int], KernelShape]
"""(rows, depth) -> how the kernel for such matrices walks through them."""


def parse_kernel_config(text: str) -> KernelConfig:
    """Read the text of a `kernel_config.ini`.

    Raises:
        FormatError: it is not such a file.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
        shapes = {}
        for name in parser.sections():
            section = parser[name]
            rows, depth, bm, bk, bmm = (int(section[key]) for key in ("m", "k", "bm", "bk", "bmm"))
            if min(rows, depth, bm, bk, bmm) < 1:
                raise FormatError(f"the kernel config has a number below 1 in section {name}")
            shapes[rows, depth] = KernelShape(bm, bk, bmm)
    except (configparser.Error, KeyError, ValueError) as error:
        raise FormatError(
            f"the kernel config is not one of bitnet.cpp (sections with m, k, bm, bk, bmm): {error}"
        ) from error
    return shapes


@dataclasses.dataclass(frozen=True)
class LookupTableType(TensorType):
    """TL1 (`triples` false) or TL2; some writers leave 32 bytes behind the codes."""

    triples: bool
    tail: bool

    def num_bytes(self, rows: int, depth: int) -> int | None:
        """Return how many bytes a [rows, depth] matrix takes, or None if this type cannot hold its shape."""
        if not self.triples:
            return None if rows * depth % 4 else rows * depth // 4 + self.tail * _TAIL_BYTES
        if depth <= 256:
            return None
        num_bytes = (depth - 256) * rows // 3 * 5 // 8 + 256 * rows // 2 * 4 // 8
        return -(-num_bytes // 32) * 32 + _TAIL_BYTES if self.tail else num_bytes

    def codes(self, data: Bytes, rows: int, depth: int, kernels: KernelConfig | None) -> Codes:
        """Return the codes int8[rows, depth].

        Raises:
            UnsupportedFormatError: the kernel config is not given, or says nothing of this shape.
            FormatError: the shape does not fit its kernel, or a number is not one of the type.
        """
        if kernels is None or (rows, depth) not in kernels:
            raise UnsupportedFormatError(
                f"it is of type {self.name}, whose order belongs to one build of bitnet.cpp. "
                f"Give the kernel_config.ini of that build, with a section for m = {rows}, k = {depth}: "
                "tercet convert SOURCE MODEL.tercet --kernel-config FILE"
            )
        kernel = kernels[rows, depth]
        if not self.triples:
            return _read_tl1(data, rows, depth, kernel)
        split = depth - depth % kernel.tile_columns
        if split == 0 or rows * split * 5 // 24 + rows * (depth - split) // 4 > len(data):
            raise _no_fit(rows, depth, kernel)
        codes = np.empty((rows, depth), np.int8)
        codes[:, :split], used = _read_triples(data, rows, split, kernel)
        if split < depth:
            codes[:, split:] = _read_tl2_pairs(data[used:], rows, depth - split, kernel)
        return codes

    def float32(self, data: Bytes, rows: int, depth: int) -> Floats:
        """Refuse: without a kernel config there is no order."""
        return self.codes(data, rows, depth, None).astype(np.float32)


def _read_tl1(data: Bytes, rows: int, depth: int, kernel: KernelShape) -> Codes:
    inner_rows, inner_columns = kernel.inner_rows, 256 // kernel.inner_rows
    _check_divisible(rows, depth, kernel, inner_columns, inner_rows % 16 == 0 and inner_columns % 4 == 0)
    order = _tiled(
        _numbered(rows, depth // 2), 2, kernel.tile_rows, kernel.tile_columns, inner_rows, inner_columns
    )
    order = order.reshape(-1, 16, inner_columns // 2).transpose(0, 2, 1)
    order = order.reshape(-1, 2, 16).transpose(0, 2, 1).reshape(-1, 2)
    return _pairs(_unordered(_nibbles(data[: order.size // 2]), order)).reshape(rows, depth)


def _read_tl2_pairs(data: Bytes, rows: int, depth: int, kernel: KernelShape) -> Codes:
    _check_divisible(
        rows, depth, dataclasses.replace(kernel, tile_columns=_PAIR_TILE, inner_rows=32), 4, True
    )
    order = _tiled(_numbered(rows, depth // 2), 2, kernel.tile_rows, _PAIR_TILE, 32, 4)
    order = _exchanged(order)
    return _pairs(_unordered(_nibbles(data[: order.size // 2]), order)).reshape(rows, depth)


def _read_triples(data: Bytes, rows: int, depth: int, kernel: KernelShape) -> tuple[Codes, int]:
    """Return the codes of the columns in triples and how many bytes they and their signs took."""
    bm, bk = kernel.tile_rows, kernel.tile_columns
    _check_divisible(rows, depth, kernel, 24, kernel.inner_rows == 32)
    numbers = _numbered(rows, depth // 3)
    order = _exchanged(_tiled(numbers, 3, bm, bk, 32, 6))
    magnitudes = _unordered(_nibbles(data[: order.size // 2]), order)
    signs = _tiled(numbers, 3, bm, bk, 32, 24).swapaxes(-1, -2).reshape(-1, 16, 16)
    used = order.size // 2 + signs.size // 8
    words = np.ascontiguousarray(data[order.size // 2 : used]).view("<u2").reshape(-1, 1, 16)
    bits = (words >> np.arange(15, -1, -1, dtype=np.uint16)[:, None]) & 1
    if magnitudes.size and magnitudes.max() > 13:
        raise FormatError("it holds numbers above 13, which no triple of TL2 makes")
    negative = _unordered(bits.astype(np.uint8), signs)
    values = np.where(negative, -magnitudes.view(np.int8), magnitudes.view(np.int8)) + np.int8(13)
    triples = np.stack([values // 9, values // 3 % 3, values % 3], axis=-1) - np.int8(1)
    return triples.reshape(rows, depth), used


def _check_divisible(rows: int, depth: int, kernel: KernelShape, inner_columns: int, known: bool) -> None:
    fits = (
        known
        and inner_columns > 0
        and rows % kernel.tile_rows == 0
        and depth % kernel.tile_columns == 0
        and kernel.tile_rows % kernel.inner_rows == 0
        and kernel.tile_columns % inner_columns == 0
    )
    if not fits:
        raise _no_fit(rows, depth, kernel)


def _no_fit(rows: int, depth: int, kernel: KernelShape) -> FormatError:
    return FormatError(
        f"its shape [{rows}, {depth}] does not fit the kernel config (bm {kernel.tile_rows}, "
        f"bk {kernel.tile_columns}, bmm {kernel.inner_rows}): this is the config of another build"
    )


def _numbered(rows: int, columns: int) -> Index:
    return np.arange(rows * columns, dtype=np.int64).reshape(rows, columns)


def _tiled(index: Index, together: int, bm: int, bk: int, inner_rows: int, inner_columns: int) -> Index:
    """Reorder [rows, depth / together] as the kernel walks.

    The result is [row tile, column tile, rows, columns, inner_rows, inner_columns / together].
    """
    rows, columns = index.shape
    tiles = index.reshape(rows // bm, bm // inner_rows, inner_rows, columns // (bk // together), -1)
    tiles = tiles.transpose(0, 3, 1, 4, 2)  # [row tile, column tile, rows, columns of the tile, inner_rows]
    inner = tiles.reshape(*tiles.shape[:3], bk // inner_columns, inner_columns // together, inner_rows)
    return inner.swapaxes(-1, -2)


def _exchanged(order: Index) -> Index:
    """Exchange the second and third eight of every 32 rows, as an AVX2 shuffle wants them."""
    return order.reshape(-1, 4, 8, 2)[:, [0, 2, 1, 3]].reshape(-1, 2)


def _nibbles(data: Bytes) -> Bytes:
    return np.stack([data >> 4, data & 15], axis=-1)


def _unordered(stored: npt.NDArray[Any], order: Index) -> Bytes:
    """Put each stored number where `order` says it came from."""
    numbers = np.empty(order.size, np.uint8)
    numbers[order.reshape(-1)] = stored.reshape(-1)
    return numbers


def _pairs(numbers: Bytes) -> Codes:
    if numbers.size and numbers.max() > 8:
        raise FormatError("it holds numbers above 8, which no pair of weights makes")
    return np.stack([numbers // 3, numbers % 3], axis=-1).view(np.int8) - np.int8(1)


TL1 = LookupTableType(38, "TL1", 4, 1, triples=False, tail=False)
TL1_WITH_TAIL = LookupTableType(38, "TL1", 4, 1, triples=False, tail=True)
TL2 = LookupTableType(39, "TL2", 3, 1, triples=True, tail=False)
TL2_WITH_TAIL = LookupTableType(39, "TL2", 3, 1, triples=True, tail=True)
