"""Random weights have the shapes, the shares and the padding of real ones."""

from __future__ import annotations

import numpy as np
import pytest

from tercet.bench.random_model import RandomModel
from tercet.formats.matrices import FloatMatrix, PackedMatrix
from tercet.models.config import ModelConfig
from tercet.models.shapes import SHAPES
from tercet.models.tensor_names import is_ternary, tensor_shapes
from tercet.quantization.packings import PACKINGS
from tercet.quantization.packings.statistics import count_zeros

ODD = ModelConfig(
    hidden_size=70, ffn_size=93, num_layers=1, num_heads=5, num_kv_heads=1, head_dim=14, vocab_size=33,
    max_context=64, rope_theta=1e4, rms_norm_eps=1e-5, activation="relu2", attention_sub_norm=True,
    ffn_sub_norm=True,
    tied_embeddings=False, bos_token_id=1, eos_token_ids=(2,),
)  # fmt: skip


@pytest.mark.parametrize("packing", PACKINGS)
def test_any_shape_gives_valid_matrices(packing: str) -> None:
    """`unpack` refuses bytes that the packing does not have, and padding that is not zero."""
    model = RandomModel(ODD, packing)
    for name, shape in tensor_shapes(ODD).items():
        matrix = model[name]
        assert (matrix.rows, matrix.depth) == (shape if len(shape) == 2 else (1, *shape))
        if isinstance(matrix, PackedMatrix):
            assert is_ternary(name)
            codes = matrix.unpack().codes
            assert codes.shape == shape
            zeros = count_zeros(matrix.data, packing, *shape)
            assert zeros == np.count_nonzero(codes == 0)


@pytest.mark.parametrize("packing", PACKINGS)
def test_the_shares_are_those_that_were_asked_for(packing: str) -> None:
    matrix = RandomModel(SHAPES["tiny"], packing)["layers.0.ffn.gate"]
    assert isinstance(matrix, PackedMatrix)
    codes = matrix.unpack().codes
    shares = [np.mean(codes == code) for code in (-1, 0, 1)]
    # 393,216 draws: four standard deviations are 0.0032.
    assert shares == pytest.approx([0.29, 0.42, 0.29], abs=0.0035)


@pytest.mark.parametrize("head_type", ["f32", "f16", "bf16"])
def test_embeddings_are_normal(head_type: str) -> None:
    matrix = RandomModel(SHAPES["tiny"], head_type=head_type)["embedding"]
    assert isinstance(matrix, FloatMatrix)
    values = matrix.float32() * np.sqrt(384)
    assert (values.mean(), values.std()) == pytest.approx((0, 1), abs=0.01)
    assert np.mean(np.abs(values) < 1) == pytest.approx(0.6827, abs=0.003)


def test_two_draws_differ_and_two_models_do_not() -> None:
    one, other = RandomModel(ODD, seed=3), RandomModel(ODD, seed=3)
    first = one["layers.0.ffn.gate"].data
    assert np.array_equal(first, other["layers.0.ffn.gate"].data)
    assert not np.array_equal(first, one["layers.0.ffn.up"].data)
