"""Fake quantization and the network: equal to the NumPy specification, with a straight-through gradient."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch (extra 'train') is not installed")

from tercet.errors import ParameterError  # noqa: E402
from tercet.formats.huggingface.names import TensorNames  # noqa: E402
from tercet.models.shapes import shape  # noqa: E402
from tercet.models.tensor_names import is_ternary  # noqa: E402
from tercet.quantization.activations import absmax_int8  # noqa: E402
from tercet.quantization.weights import absmean_ternary  # noqa: E402
from tercet.reference import ReferenceDecoder  # noqa: E402
from tercet.training import straight_through as fake  # noqa: E402
from tercet.training.attention import causal_attention  # noqa: E402
from tercet.training.model import TernaryDecoder  # noqa: E402

CONFIG = dataclasses.replace(
    shape("tiny"), hidden_size=64, ffn_size=96, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16,
    vocab_size=128, max_context=300,
)  # fmt: skip


def test_fake_quantizers_equal_the_real_ones() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(7, 33)).astype(np.float32)
    ternary = absmean_ternary(values)
    np.testing.assert_allclose(
        fake.absmean_ternary(torch.from_numpy(values)), ternary.dequantize(), rtol=1e-6
    )
    codes, scales = absmax_int8(values)
    np.testing.assert_allclose(
        fake.absmax_int8(torch.from_numpy(values)), codes * scales[:, None], rtol=1e-6, atol=1e-7
    )


def test_the_gradient_passes_straight_through() -> None:
    x = torch.randn(3, 5, requires_grad=True)
    fake.straight_through(x, fake.absmax_int8(x), 1.0).sum().backward()
    assert torch.equal(x.grad, torch.ones(3, 5))


@pytest.mark.parametrize("length", [1, 127, 128, 129, 300])
def test_blockwise_attention_equals_the_fused_one(length: int) -> None:
    torch.manual_seed(length)
    query, key, value = (torch.randn(2, heads, length, 16) for heads in (4, 2, 2))
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, enable_gqa=True
    )
    torch.testing.assert_close(causal_attention(query, key, value), expected, rtol=1e-4, atol=1e-5)


def test_the_network_equals_the_reference() -> None:
    """The training network and the NumPy decoder give the same logits, but for int8 roundings at ties."""
    model = TernaryDecoder(CONFIG)
    model.initialize(3)
    weights = {}
    for name, value in model.state_dict().items():
        canonical = TensorNames("bitnet").canonical(name)
        if canonical is None or name == "lm_head.weight":
            continue
        array = value.numpy()
        weights[canonical] = absmean_ternary(array) if is_ternary(canonical) else array
    ids = np.random.default_rng(1).integers(0, CONFIG.vocab_size, 140)
    with torch.no_grad():
        ours = model.logits(torch.from_numpy(ids)[None])[0].numpy()
    reference = ReferenceDecoder(CONFIG, weights).logits(ids)
    spread = reference.std()
    rows_within = (np.abs(ours - reference).max(axis=1) < 2e-3 * spread).mean()
    assert rows_within >= 0.5  # one flipped rounding shows in its row and in later rows that attend to it
    assert np.sqrt(((ours - reference) ** 2).mean()) / spread < 0.02


def test_a_small_network_learns() -> None:
    """Thirty steps on one batch bring the loss far below that of guessing."""
    torch.manual_seed(0)
    model = TernaryDecoder(CONFIG)
    model.initialize(0)
    batch = torch.randint(0, CONFIG.vocab_size, (2, 33))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = model(batch).item()
    for _ in range(30):
        optimizer.zero_grad()
        loss = model(batch)
        loss.backward()
        optimizer.step()
    assert first > 4.5
    assert loss.item() < 0.5 * first


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"qk_norm": True}, "models with qk_norm are run, not trained; leave it at False"),
        ({"embedding_scale": 2.0}, "models with embedding_scale are run, not trained; leave it at 1.0"),
        ({"sliding_window": 8}, "models with sliding_window are run, not trained; leave it at None"),
        ({"activation": "gelu_tanh"}, "trained with relu2 or silu, not gelu_tanh"),
    ],
)
def test_what_only_others_train_is_not_passed_over(option: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        TernaryDecoder(dataclasses.replace(shape("tiny"), num_layers=1, **option))
