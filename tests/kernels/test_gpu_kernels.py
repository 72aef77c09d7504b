"""The GPU kernels, run by Triton's interpreter, against the reference: equal where sums are of integers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tercet.errors import ParameterError, UnsupportedModelError
from tercet.formats.floats import from_float32
from tercet.formats.matrices import FloatMatrix, PackedMatrix, PlaneMatrix
from tercet.gpu.inputs import Preparation, hadamard, rounded
from tercet.gpu.products import float_product, head_product, ternary_product
from tercet.gpu.weights import TernaryWeights, upload_rows, upload_ternary
from tercet.quantization.activations import absmax_int8, absmean_int4, top_half
from tercet.quantization.packings import packing
from tercet.quantization.planes import planes
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.reference.feed_forward import ACTIVATIONS
from tercet.reference.hadamard import hadamard as reference_hadamard
from tercet.reference.linear import bit_linear
from tercet.reference.normalization import rms_norm

Array = npt.NDArray[np.float32]
CPU = torch.device("cpu")  # where the interpreter runs
SHAPES = [(16, 16), (50, 100), (35, 530)]
TOKENS = [1, 3, 20]


def random_tensor(rows: int, depth: int, granularity: str, groups: int = 5) -> TernaryTensor:
    random = np.random.default_rng(rows * depth)
    shape = {"tensor": (), "row": (rows,), "group": (rows, groups)}[granularity]
    codes = random.integers(-1, 2, (rows, depth)).astype(np.int8)
    return TernaryTensor(codes, random.uniform(0.01, 0.1, shape).astype(np.float32))


def packed(tensor: TernaryTensor, name: str = "two_bit") -> PackedMatrix:
    rows, depth = tensor.shape
    return PackedMatrix(name, rows, depth, packing(name).pack(tensor.codes), tensor.scales.reshape(-1))


def uploaded(*tensors: TernaryTensor, name: str = "two_bit") -> TernaryWeights:
    return upload_ternary([f"m{i}" for i in range(len(tensors))], [packed(one, name) for one in tensors], CPU)


def activations(tokens: int, width: int, seed: int = 0) -> Array:
    return (3 * np.random.default_rng(seed).standard_normal((tokens, width))).astype(np.float32)


def product_of(weights: TernaryWeights, x: Array) -> list[Array]:
    prepared = Preparation(weights.depth)(torch.from_numpy(x))
    assert prepared.codes is not None
    assert prepared.scales is not None
    product = ternary_product(weights, prepared.codes, prepared.scales)
    return [part.numpy() for part in weights.split(product)]


# Products -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "depth"), SHAPES)
@pytest.mark.parametrize("tokens", TOKENS)
def test_a_ternary_product_is_the_reference_to_the_last_bit(rows: int, depth: int, tokens: int) -> None:
    x = activations(tokens, depth)
    for granularity, name in (("tensor", "two_bit"), ("row", "five_per_byte")):
        tensor = random_tensor(rows, depth, granularity)
        (got,) = product_of(uploaded(tensor, name=name), x)
        np.testing.assert_array_equal(got, bit_linear(x, tensor, quantize_activations=True))


@pytest.mark.parametrize(("depth", "groups"), [(96, 3), (256, 2), (320, 5)])
def test_scales_for_groups_of_columns(depth: int, groups: int) -> None:
    tensor = random_tensor(37, depth, "group", groups)
    weights = uploaded(tensor)
    x = activations(4, depth)
    expected = bit_linear(x, tensor, quantize_activations=True)
    np.testing.assert_array_equal(product_of(weights, x)[0], expected)
    # One token adds the groups up in another order.
    np.testing.assert_allclose(product_of(weights, x[:1])[0], expected[:1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 5])
def test_stacked_matrices_are_the_single_ones(tokens: int) -> None:
    tensors = [random_tensor(rows, 70, granularity) for rows, granularity in ((20, "tensor"), (33, "row"))]
    x = activations(tokens, 70)
    for got, tensor in zip(product_of(uploaded(*tensors), x), tensors, strict=True):
        np.testing.assert_array_equal(got, bit_linear(x, tensor, quantize_activations=True))


@pytest.mark.parametrize("granularity", ["tensor", "group"])
def test_activations_that_are_not_rounded(granularity: str) -> None:
    tensor = random_tensor(40, 160, granularity)
    x = activations(3, 160)
    got = float_product(uploaded(tensor), torch.from_numpy(x)).numpy()[:, :40]
    np.testing.assert_allclose(got, bit_linear(x, tensor, quantize_activations=False), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "int8_planes", "int6_planes"])
def test_a_head_is_read_as_it_is_stored(kind: str) -> None:
    values, x = activations(70, 130), activations(3, 130, seed=1)
    if kind.endswith("planes"):
        codes, scales = planes(kind).quantize(values)
        matrix: FloatMatrix | PlaneMatrix = PlaneMatrix(kind, 70, 130, planes(kind).pack(codes), scales)
        exact = codes * scales[:, None]
    else:
        matrix = FloatMatrix(kind, 70, 130, from_float32(values, kind).reshape(-1))
        exact = matrix.float32()
    weights = upload_rows(matrix, CPU)
    np.testing.assert_allclose(
        head_product(weights, torch.from_numpy(x)).numpy(), x @ exact.T, rtol=1e-4, atol=1e-3
    )
    rows = torch.tensor([5, 69, 5])
    np.testing.assert_array_equal(weights.floats_of(rows).numpy(), exact[rows.numpy()])


def test_rows_of_a_ternary_table() -> None:
    tensor = random_tensor(40, 96, "group", 3)
    rows = torch.tensor([0, 39, 17])
    np.testing.assert_array_equal(uploaded(tensor).floats_of(rows).numpy(), tensor.dequantize()[rows.numpy()])


def test_groups_that_tensor_cores_cannot_sum_alone_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match=r"m0 has a scale for every 48 columns.*CPU"):
        uploaded(random_tensor(16, 96, "group", 2))
    matrix = packed(random_tensor(16, 32, "tensor"))
    wrong = PackedMatrix("two_bit", 16, 32, matrix.data, np.ones(7, np.float32))
    with pytest.raises(ParameterError, match="a has 7 scales"):
        upload_ternary(["a"], [wrong], CPU)


# Inputs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 100, 2560])
def test_rounding_is_the_reference_to_the_last_bit(width: int) -> None:
    x = activations(3, width)
    x[1] = 0
    x[2, 0] = 127  # then the others are scaled by 1, and halves go to the even neighbour
    x[2, 1:] = (np.arange(width - 1) % 255 - 127.5).clip(-126.5, 126.5)
    codes, scales = absmax_int8(x)
    prepared = Preparation(width)(torch.from_numpy(x))
    assert prepared.codes is not None
    assert prepared.scales is not None
    np.testing.assert_array_equal(prepared.codes[:, :width], codes)
    assert prepared.codes.shape[1] % 16 == 0
    assert not prepared.codes[:, width:].any()
    np.testing.assert_array_equal(prepared.scales, scales)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_spoils_its_own_token_alone(bad: float) -> None:
    tensor = random_tensor(16, 32, "tensor")
    x = activations(2, 32)
    expected = bit_linear(x, tensor, quantize_activations=True)
    x[0, 7] = bad
    with np.errstate(all="ignore"):
        (got,) = product_of(uploaded(tensor), x)
    assert np.isnan(got[0]).all()
    np.testing.assert_array_equal(got[1], expected[1])


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_what_stands_before_a_product_is_done_in_its_order(activation: str | None) -> None:
    x, up, added = (activations(3, 150, seed) for seed in range(3))
    weight = 1 + activations(1, 150, 3)[0] / 10
    expected = x + added if activation is None else ACTIVATIONS[activation](x) * up
    normal = rms_norm(expected, weight, 1e-5)
    stream = torch.from_numpy(x.copy())
    prepare = Preparation(150, torch.from_numpy(weight), 1e-5, activation, keeps=True)
    if activation is None:
        prepared = prepare(stream, torch.from_numpy(added))
        np.testing.assert_array_equal(stream, x + added)  # the residual stream goes on with it
    else:
        prepared = prepare(stream, up=torch.from_numpy(up))
    assert prepared.floats is not None
    assert prepared.codes is not None
    np.testing.assert_allclose(prepared.floats, normal, rtol=2e-5, atol=2e-6)
    own_codes, own_scales = absmax_int8(prepared.floats.numpy())
    np.testing.assert_array_equal(prepared.codes[:, :150], own_codes)
    np.testing.assert_array_equal(prepared.scales, own_scales)


def test_the_other_roundings_are_the_reference_to_the_last_bit() -> None:
    x = activations(4, 90)
    for rounding, (codes, scales) in (
        ("int4", absmean_int4(x)),
        ("int8_top_half", absmax_int8(top_half(x))),
    ):
        got = rounded(torch.from_numpy(x), rounding, 96)
        assert got.codes is not None
        np.testing.assert_array_equal(got.codes[:, :90], codes)
        np.testing.assert_array_equal(got.scales, scales)


def test_a_hadamard_transform_adds_up_as_the_reference_does() -> None:
    x = activations(3, 64)
    for block in (2, 32, 64):
        np.testing.assert_array_equal(hadamard(torch.from_numpy(x), block), reference_hadamard(x, block))


@pytest.mark.parametrize("tokens", [1, 2])
def test_every_bit_of_a_word_belongs_to_its_column(tokens: int) -> None:
    x = torch.arange(-127, -127 + 16 * 16, 16, dtype=torch.int8).repeat(tokens, 1)
    for code in (-1, 0, 1):
        weights = uploaded(TernaryTensor(code * np.eye(16, dtype=np.int8), np.float32(1)))
        got = ternary_product(weights, x, torch.ones(tokens))
        np.testing.assert_array_equal(got, code * x.float())
