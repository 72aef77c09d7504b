"""Every ternary type of GGUF, against packers that spell out its layout; scales, codes and refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import gguf_files as g
from gguf_files import TYPES, Tensor, container, random_codes
from tercet.errors import FormatError, UnsupportedFormatError
from tercet.formats.gguf.file import GgufFile
from tercet.formats.gguf.tensor_types import CANDIDATES, Levels, parse_kernel_config
from tercet.formats.gguf.ternary import ternary_from_floats, ternary_from_levels
from tercet.quantization.ternary_tensor import TernaryTensor


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., GgufFile]:
    def made(*tensors: Tensor, kernels: str | None = None) -> GgufFile:
        path = tmp_path / "x.gguf"
        path.unlink(missing_ok=True)
        path.write_bytes(container([], tensors))
        return GgufFile(path, kernels and parse_kernel_config(kernels))

    return made


Write = Callable[..., GgufFile]


@pytest.mark.parametrize("name", TYPES)
def test_codes_and_scale_are_read(write: Write, name: str) -> None:
    number, pack = TYPES[name]
    codes = random_codes(8, 512)
    codes[3] = 0  # a row without weights says nothing about the scale
    codes[5, :256] = 0
    file = write(Tensor("w", (512, 8), number, pack(codes, 0.375)))
    found = file.ternary("w")
    assert np.array_equal(found.codes, codes)
    assert found.granularity == "tensor"
    assert float(found.scales) == 0.375
    assert np.array_equal(file.float32("w"), codes * np.float32(0.375))
    assert np.array_equal(file.float32("w", slice(2, 5)), codes[2:5] * np.float32(0.375))


def test_binary_weights_are_read(write: Write) -> None:
    codes = np.where(random_codes(3, 256) > 0, 1, -1).astype(np.int8)
    scales = np.full((3, 2), 0.25, np.float32)
    file = write(Tensor("w", (256, 3), 41, g.blocks(g.q1_0, codes, scales)))
    assert np.array_equal(file.ternary("w").codes, codes)
    assert file.tensor("w").stores_ternary


@pytest.mark.parametrize(
    ("pack", "number", "group"),
    [(g.tq1_0, 34, 256), (g.tq2_0, 35, 256), (g.q2_0, 42, 64), (g.q2_0, 142, 128), (g.ptq1_0, 143, 128)],
)
def test_scales_are_as_coarse_as_is_exact(
    write: Write, pack: Callable[..., bytes], number: int, group: int
) -> None:
    codes = random_codes(4, 512)
    codes[:, 0] = 1
    scales = np.full((4, 512 // group), 0.5, np.float32)
    scales[1] = 0.25
    found = write(Tensor("w", (512, 4), number, g.blocks(pack, codes, scales))).ternary("w")
    assert found.granularity == "row"
    assert np.array_equal(found.scales, scales[:, 0])
    scales[2, 0] = 0.125
    file = write(Tensor("w", (512, 4), number, g.blocks(pack, codes, scales)))
    found = file.ternary("w")
    assert (found.granularity, found.group_size) == ("group", group)
    assert np.array_equal(found.scales, scales)
    assert np.array_equal(found.dequantize(), file.float32("w"))


def test_what_stands_under_a_scale_of_zero_is_zero(write: Write) -> None:
    """IQ1_BN stores +1 in rows without weights."""
    codes = random_codes(4, 128)
    codes[2] = 1
    data = g.iq1_bn(codes, np.array([0.5, 0.5, 0, 0.5]))
    found = write(Tensor("w", (128, 4), 134, data)).ternary("w")
    codes[2] = 0
    assert np.array_equal(found.codes, codes)
    assert float(found.scales) == 0.5


def test_a_matrix_without_weights_is_read(write: Write) -> None:
    zeros = np.zeros((4, 256), np.int8)
    for name, (number, pack) in TYPES.items():
        found = write(Tensor("w", (256, 4), number, pack(zeros, 0.0))).ternary("w")
        assert not found.codes.any(), name
        assert found.granularity == "tensor"


@pytest.mark.parametrize("name", [name for name in TYPES if name not in ("BF16", "F16")])
@pytest.mark.parametrize("scale", [np.inf, -np.inf, np.nan])
def test_a_scale_that_is_no_number_is_refused(write: Write, name: str, scale: float) -> None:
    number, pack = TYPES[name]
    with np.errstate(invalid="ignore"):
        file = write(Tensor("w", (256, 4), number, pack(random_codes(4, 256), scale)))
    with pytest.raises(FormatError, match="tensor w"):
        file.ternary("w")
    with pytest.raises(FormatError, match="infinite or not a number"):
        file.float32("w")


@pytest.mark.parametrize("name", ["TQ2_0", "Q2_0", "PQ2_0", "IQ2_BN", "IQ2_BN_R4"])
def test_a_two_bit_model_is_not_ternary(write: Write, name: str) -> None:
    number, pack = TYPES[name]
    codes = random_codes(4, 256)
    codes[1, 7] = 2
    file = write(Tensor("w", (256, 4), number, pack(codes, 0.5)))
    with pytest.raises(UnsupportedFormatError, match=r"1 weights of \+2 scales: it is of a two-bit model"):
        file.ternary("w")
    assert np.array_equal(file.float32("w"), codes * np.float32(0.5)), "the values are still what they are"


def test_the_field_3_is_no_code_of_i2_s(write: Write) -> None:
    codes = random_codes(4, 256)
    codes[1, 7] = 2
    file = write(Tensor("w", (256, 4), 36, g.i2_s(codes, 0.5)))
    for call in (file.ternary, file.float32):
        with pytest.raises(FormatError, match="the field 3"):
            call("w")


@pytest.mark.parametrize("layout", ["canonical", "arm", "rows"])
def test_the_layouts_of_i2_s(write: Write, layout: str) -> None:
    codes = random_codes(8, 192)
    file = write(Tensor("w", (192, 8), 36, g.i2_s(codes, 0.5, layout)))
    assert np.array_equal(file.ternary("w", layout).codes, codes)
    odd = write(Tensor("w", (36, 3), 36, bytes(27 + 32)))
    with pytest.raises(FormatError, match=r"its shape \[3, 36\] does not fit the I2_S layout"):
        odd.ternary("w", layout)


def test_a_group_of_128_under_the_number_of_q2_0_shows_in_the_offsets(write: Write) -> None:
    codes, scales = random_codes(4, 512), np.full((4, 4), 0.5)
    scales[0, 1] = 0.25
    legacy = Tensor("w", (512, 4), 42, g.blocks(g.q2_0, codes, scales))
    modern = Tensor("w", (512, 4), 42, g.blocks(g.q2_0, codes, np.repeat(scales, 2, axis=1)))
    for tensors, group in [
        ((legacy, Tensor("v", (1,), 0, bytes(4))), 128),
        ((modern, Tensor("v", (1,), 0, bytes(4))), 64),
        ((legacy,), 128),  # the end of the file tells
        ((modern,), 64),
    ]:
        file = write(*tensors)
        found = file.ternary("w")
        assert file.tensor("w").type.block_weights == group
        assert np.array_equal(found.codes, codes)
        assert np.array_equal(found.dequantize(), codes * np.repeat(scales, 128, axis=1).astype(np.float32))


def test_where_padding_hides_the_difference_the_bytes_tell(write: Write) -> None:
    """128 weights take 36 or 34 bytes, and both are padded to 64."""
    codes = random_codes(1, 128)
    for group in (64, 128):
        data = g.blocks(g.q2_0, codes, np.full((1, 128 // group), 0.5))
        file = write(Tensor("w", (128,), 42, data), Tensor("v", (1,), 0, bytes(4)))
        assert file.tensor("w").type.block_weights == group
        assert np.array_equal(file.ternary("w").codes, codes)


def test_mxfp4_is_not_taken_for_tl2(write: Write) -> None:
    file = write(Tensor("w", (512, 4), 39, bytes(4 * 16 * 17)))
    assert file.tensor("w").type.name == "MXFP4"
    with pytest.raises(
        UnsupportedFormatError, match="tensor w: it is of type MXFP4, which this release does not"
    ):
        file.float32("w")
    with pytest.raises(UnsupportedFormatError, match="MXFP4"):
        file.ternary("w")


def test_a_separate_scale_is_multiplied_in(write: Write) -> None:
    codes = random_codes(4, 256)
    scale = Tensor("blk.0.attn_q.scale", (1,), 0, np.float32(0.3).tobytes())
    for number, pack in TYPES.values():
        file = write(Tensor("blk.0.attn_q.weight", (256, 4), number, pack(codes, 1.0)), scale)
        found = file.ternary("blk.0.attn_q.weight")
        assert found.scales == np.float32(0.3)
        assert np.array_equal(file.float32("blk.0.attn_q.weight"), found.dequantize())
    for bad in (np.float32(np.nan).tobytes(), np.array([1, 2], "<f4").tobytes()):
        wrong = Tensor("blk.0.attn_q.scale", (len(bad) // 4,), 0, bad)
        file = write(Tensor("blk.0.attn_q.weight", (256, 4), 35, TYPES["TQ2_0"][1](codes, 1.0)), wrong)
        with pytest.raises(FormatError, match=r"blk\.0\.attn_q\.scale"):
            file.ternary("blk.0.attn_q.weight")


# Real values that are ternary ---------------------------------------------------------------------


def test_floats_are_ternary_where_they_are_exactly_that() -> None:
    codes = random_codes(6, 512)
    codes[:, 0] = 1
    codes[2] = 0
    for scales, granularity in [
        (np.float32(0.1), "tensor"),
        (np.array([0.1, 0.2, 0, 0.4, 0.5, 0.6], np.float32), "row"),
        (np.linspace(0.1, 1, 24, dtype=np.float32).reshape(6, 4), "group"),
    ]:
        tensor = TernaryTensor(codes, np.asarray(scales, np.float32))
        found = ternary_from_floats(tensor.dequantize())
        assert found is not None
        assert found.granularity == granularity
        assert np.array_equal(found.codes, codes)
        assert np.array_equal(found.dequantize(), tensor.dequantize())
    values = (codes * np.float32(0.1)).astype(np.float32)
    for strange in (0.3, np.nan, np.inf, np.nextafter(np.float32(0.1), np.float32(1))):
        changed = values.copy()
        changed[1, 3] = strange
        changed[1, 4] = 0.1
        assert ternary_from_floats(changed) is None
    assert ternary_from_floats(np.random.default_rng(0).standard_normal((4, 64), np.float32)) is None


def test_levels_keep_negative_scales() -> None:
    found = ternary_from_levels(Levels(random_codes(2, 64), np.full((2, 1), -0.5, np.float32)))
    assert float(found.scales) == -0.5


# TL1 and TL2 --------------------------------------------------------------------------------------

KERNELS = """
[Kernels_0]
m = 64
k = 288
bm = 64
bk = 96
bmm = 32

[Kernels_1]
m = 64
k = 320
bm = 32
bk = 96
bmm = 32
"""
TL1_KERNELS = KERNELS.replace("bk = 96", "bk = 32")


def pairs(codes: np.ndarray) -> np.ndarray:
    numbers = codes.astype(np.int64)
    return (3 * numbers[:, 0::2] + numbers[:, 1::2] + 4).astype(np.uint8)


def tl1(codes: np.ndarray, bm: int, bk: int, bmm: int) -> bytes:
    """As bitnet.cpp's kernel walks: tiles of bm rows and bk columns, then bmm rows and 256 / bmm columns."""
    numbers, by = pairs(codes), 256 // bmm
    made = b""
    for row in range(0, codes.shape[0], bm):
        for column in range(0, codes.shape[1], bk):
            for r in range(row, row + bm, bmm):
                for c in range(column, column + bk, by):
                    for sixteen in range(r, r + bmm, 16):
                        for four in range(c // 2, (c + by) // 2, 2):
                            block = numbers[sixteen : sixteen + 16, four : four + 2]
                            made += (block[:, 0] << 4 | block[:, 1]).astype(np.uint8).tobytes()
    return made


def shuffled(block: np.ndarray) -> bytes:
    """32 rows by two numbers -> 32 bytes, the second and third eight exchanged."""
    packed = (block[:, 0] << 4 | block[:, 1]).astype(np.uint8).reshape(4, 8)
    return packed[[0, 2, 1, 3]].tobytes()


def tl2(codes: np.ndarray, bm: int, bk: int) -> bytes:
    rows, depth = codes.shape
    split = depth - depth % bk
    numbers = codes[:, :split].astype(np.int64)
    triples = 9 * numbers[:, 0::3] + 3 * numbers[:, 1::3] + numbers[:, 2::3]
    first = second = third = b""
    for row in range(0, rows, bm):
        for column in range(0, split, bk):
            for r in range(row, row + bm, 32):
                for c in range(column // 3, (column + bk) // 3, 2):
                    first += shuffled(np.abs(triples[r : r + 32, c : c + 2]).astype(np.uint8))
                for c in range(column // 3, (column + bk) // 3, 8):
                    negative = (triples[r : r + 32, c : c + 8] < 0).T.reshape(16, 16).astype(np.uint16)
                    words = sum(negative[i] << (15 - i) for i in range(16))
                    second += np.asarray(words, "<u2").tobytes()
    if split < depth:
        rest = pairs(codes[:, split:])
        for row in range(0, rows, bm):
            for column in range(0, depth - split, 32):
                for r in range(row, row + bm, 32):
                    for c in range(column // 2, column // 2 + 16, 2):
                        third += shuffled(rest[r : r + 32, c : c + 2])
    made = first + second + third
    return made + bytes((depth - 256) * rows // 3 * 5 // 8 + 256 * rows // 2 * 4 // 8 - len(made))


@pytest.mark.parametrize("tail", [0, 32])
@pytest.mark.parametrize(("depth", "bm"), [(288, 64), (320, 32)])
def test_tl1_and_tl2_are_read_with_their_kernel_config(write: Write, depth: int, bm: int, tail: int) -> None:
    codes = random_codes(64, depth)
    scale = Tensor("blk.0.ffn_up.weight_scale", (), 0, np.float32(0.7).tobytes())
    two = tl2(codes, bm, 96)
    padded = two + bytes(-len(two) % 32 + 32) if tail else two
    for number, data, kernels in [
        (38, tl1(codes, bm, 32, 32) + bytes(tail), TL1_KERNELS),
        (39, padded, KERNELS),
    ]:
        tensor = Tensor("blk.0.ffn_up.weight", (depth, 64), number, data)
        found = write(tensor, scale, kernels=kernels).ternary("blk.0.ffn_up.weight")
        assert np.array_equal(found.codes, codes)
        assert found.scales == np.float32(0.7)
        with pytest.raises(UnsupportedFormatError, match=r"kernel_config\.ini of that build"):
            write(tensor, scale).ternary("blk.0.ffn_up.weight")
        with pytest.raises(FormatError, match="weight_scale, is missing"):
            write(tensor, kernels=kernels).ternary("blk.0.ffn_up.weight")


@pytest.mark.parametrize(
    ("bm", "bk", "bmm"),
    [
        (48, 96, 32),
        (64, 96, 16),
        (64, 90, 32),
        (64, 4000, 32),
        (64, 96, 7),
        (1000, 96, 32),
        (64, 96, 1000),
        (3, 3, 3),
    ],
)
def test_another_builds_kernel_config_is_refused(write: Write, bm: int, bk: int, bmm: int) -> None:
    codes = random_codes(64, 288)
    kernels = f"[K]\nm = 64\nk = 288\nbm = {bm}\nbk = {bk}\nbmm = {bmm}\n"
    scale = Tensor("w_scale", (), 0, np.float32(0.7).tobytes())
    file = write(Tensor("w", (288, 64), 39, tl2(codes, 64, 96)), scale, kernels=kernels)
    with pytest.raises(FormatError, match="does not fit the kernel config"):
        file.ternary("w")


def test_numbers_that_no_weights_make_are_refused(write: Write) -> None:
    scale = Tensor("w_scale", (), 0, np.float32(0.7).tobytes())
    for number, size, kernels in (
        (38, 64 * 288 // 4, TL1_KERNELS),
        (39, len(tl2(random_codes(64, 288), 64, 96)), KERNELS),
    ):
        file = write(Tensor("w", (288, 64), number, b"\xff" * size), scale, kernels=kernels)
        with pytest.raises(FormatError, match="holds numbers above"):
            file.ternary("w")


@pytest.mark.parametrize("text", ["x", "[a]\nm = 1\n", "[a]\nm=x\nk=1\nbm=1\nbk=1\nbmm=1", "[a]\n[a]\n",
                                  "[a]\nm=0\nk=1\nbm=1\nbk=1\nbmm=1"])  # fmt: skip
def test_a_kernel_config_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="kernel config"):
        parse_kernel_config(text)


def test_types_have_one_size_for_each_meaning() -> None:
    """Meanings of one number must differ in size, or offsets could not tell them apart."""
    for candidates in CANDIDATES.values():
        sizes = [kind.num_bytes(64, 12288) for kind in candidates]
        assert None not in sizes
        assert len(set(sizes)) == len(sizes)
