"""Whole numbers in two planes: rounding, bytes, and what is refused."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from tercet.errors import FormatError, ParameterError
from tercet.quantization.planes import PLANES, Planes, planes, product

EACH = pytest.mark.parametrize("kind", [*PLANES])


def random_codes(kind: str, rows: int, depth: int) -> np.ndarray:
    largest = planes(kind).largest_code
    return np.random.default_rng(7).integers(-largest, largest + 1, (rows, depth), dtype=np.int8)


@EACH
@pytest.mark.parametrize(("rows", "depth"), [(1, 1), (3, 127), (2, 128), (5, 129), (7, 300)])
def test_what_is_packed_comes_back(kind: str, rows: int, depth: int) -> None:
    codes = random_codes(kind, rows, depth)
    packed = planes(kind).pack(codes)
    assert packed.size == planes(kind).packed_bytes(rows, depth)
    assert np.array_equal(planes(kind).unpack(packed, rows, depth), codes)
    assert planes(kind).is_valid(packed, rows, depth)


def test_the_bytes_are_those_of_the_file_format() -> None:
    """Column 0 and column 64 share a byte of the high plane; the rest of the row is code zero."""
    codes = np.zeros((1, 128), np.int8)
    codes[0, 0], codes[0, 64] = 127, -127
    packed = PLANES["int8_planes"].pack(codes)
    assert packed[[0, 1, 64, 65]].tolist() == [0x0F, 0x88, 0x1F, 0x00]
    codes[0, 0], codes[0, 64] = 31, -31
    packed = PLANES["int6_planes"].pack(codes)
    assert packed[[0, 1, 64, 65]].tolist() == [0x0F, 0x88, 0b00_01_00_11, 0x00]


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        ("int8_planes", "900e6b52582a5017f82f8aad8ec30e82f575eee60abe76cb5aec48d72b331ae4"),
        ("int6_planes", "52b930faec2c6bd946314f1bb32e27927a36eb1562d7a9b27a66b4ddd9149274"),
    ],
)
def test_golden_bytes(kind: str, digest: str) -> None:
    steps = np.arange(5 * 300).reshape(5, 300) * 37 % (2 * planes(kind).largest_code + 1)
    packed = planes(kind).pack((steps - planes(kind).largest_code).astype(np.int8))
    assert hashlib.sha256(packed.tobytes()).hexdigest() == digest


@EACH
def test_rounding_is_to_the_nearest_step_of_the_row(kind: str) -> None:
    random = np.random.default_rng(1)
    weights = (random.standard_normal((40, 200)) * np.exp(random.standard_normal((40, 1)))).astype(np.float32)
    weights[3] = 0
    codes, scales = planes(kind).quantize(weights)
    assert scales[3] == 0
    assert not codes[3].any()
    assert (np.abs(codes).max(axis=1)[scales > 0] == planes(kind).largest_code).all()
    assert (np.abs(codes * scales[:, None] - weights) <= 0.5001 * scales[:, None]).all()


@EACH
def test_a_product_is_close_to_that_of_floats(kind: str) -> None:
    """Inputs are rounded so finely that only the rounding of the weights shows."""
    random = np.random.default_rng(2)
    codes, scales = planes(kind).quantize(random.standard_normal((50, 256), np.float32))
    inputs = random.standard_normal((3, 256), np.float32)
    exact = inputs.astype(np.float64) @ (codes * scales[:, None].astype(np.float64)).T
    assert np.abs(product(codes, scales, inputs) - exact).max() < 1e-4 * exact.std() * 16


def test_parts_of_the_rows_pack_into_parts_of_the_planes() -> None:
    codes = random_codes("int6_planes", 9, 200)
    form = PLANES["int6_planes"]
    parts = [form.pack_planes(codes[start : start + 4]) for start in (0, 4, 8)]
    joined = np.concatenate([part[low] for low in (0, 1) for part in parts])
    assert np.array_equal(joined, form.pack(codes))


@EACH
def test_bytes_that_no_packing_has(kind: str) -> None:
    form: Planes = planes(kind)
    packed = form.pack(random_codes(kind, 2, 100))
    with pytest.raises(FormatError, match=r"has .* bytes in"):
        form.unpack(packed[:-1], 2, 100)
    padding = packed.copy()
    padding[99] ^= 0x80  # column 64 + 35 is there, so is 99 ...
    assert form.is_valid(packed, 2, 100)
    padding[63] ^= 0x10  # ... and column 127 is not
    assert not form.is_valid(padding, 2, 100)
    with pytest.raises(FormatError, match="a code that they do not have"):
        form.unpack(padding, 2, 100)


def test_what_cannot_be_rounded_or_packed() -> None:
    form = PLANES["int8_planes"]
    with pytest.raises(ParameterError, match="are finite"):
        form.quantize(np.array([[1, np.nan]], np.float32))
    with pytest.raises(ParameterError, match="float32"):
        form.quantize(np.ones((1, 2)))
    with pytest.raises(ParameterError, match="lie in"):
        form.pack(np.array([[-128]], np.int8))
    with pytest.raises(ParameterError, match="there are no planes 'int4'"):
        planes("int4")
