"""Fake quantization and the network: equal to the NumPy specification, with a straight-through gradient."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch (extra 'train') is not installed")

from torch import nn  # noqa: E402

from tercet.errors import ParameterError  # noqa: E402
from tercet.formats.huggingface.names import TensorNames  # noqa: E402
from tercet.models.rotation import Rotation  # noqa: E402
from tercet.models.shapes import shape  # noqa: E402
from tercet.models.tensor_names import is_ternary  # noqa: E402
from tercet.quantization import activations  # noqa: E402
from tercet.quantization.weights import absmean_ternary, sign_binary  # noqa: E402
from tercet.reference import ReferenceDecoder  # noqa: E402
from tercet.reference.hadamard import hadamard  # noqa: E402
from tercet.training import straight_through as fake  # noqa: E402
from tercet.training.attention import causal_attention  # noqa: E402
from tercet.training.bitlinear import BitLinear, Quantization, replace_linears  # noqa: E402
from tercet.training.model import TernaryDecoder  # noqa: E402

CONFIG = dataclasses.replace(
    shape("tiny"), hidden_size=64, ffn_size=96, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16,
    vocab_size=128, max_context=300,
)  # fmt: skip


def test_fake_quantizers_equal_the_real_ones() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(7, 33)).astype(np.float32)
    for name, real in (("absmean_ternary", absmean_ternary), ("sign_binary", sign_binary)):
        codes, scale = getattr(fake, name)(torch.from_numpy(values))
        np.testing.assert_array_equal(codes, real(values).codes)
        np.testing.assert_allclose(scale, real(values).scales, rtol=1e-6)
    for name in ("absmax_int8", "absmean_int4"):
        for ours, theirs in zip(
            getattr(fake, name)(torch.from_numpy(values)), getattr(activations, name)(values), strict=True
        ):
            np.testing.assert_allclose(ours.squeeze(-1), theirs, rtol=1e-6)


def test_at_full_strength_nothing_of_the_latent_value_is_left() -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(7, 33)).astype(np.float32)) * 9
    codes, _ = fake.absmean_ternary(values)
    assert torch.equal(fake.straight_through(values, codes, torch.ones(())), codes)
    assert torch.equal(fake.straight_through(values, codes, torch.zeros(())), values)


@pytest.mark.parametrize("depth", [1, 2, 7, 64])
def test_half_of_the_activations_is_kept(depth: int) -> None:
    """And more where magnitudes are equal; torch and NumPy choose alike."""
    values = np.random.default_rng(depth).normal(size=(50, depth)).astype(np.float32)
    kept = activations.top_half(values)
    assert ((kept != 0).sum(axis=1) == (depth + 1) // 2).all()
    coarse = np.round(values)
    half = activations.top_half(coarse)
    dropped = np.where(half == coarse, 0, np.abs(coarse))
    assert (dropped.max(axis=1) <= np.where(half, np.abs(half), np.inf).min(axis=1)).all()
    assert ((half == coarse).sum(axis=1) >= (depth + 1) // 2).all()
    for one, other in ((values, kept), (coarse, half)):
        np.testing.assert_array_equal(fake.top_half(torch.from_numpy(one)), other)


def test_the_transform_is_the_reference_s() -> None:
    values = np.random.default_rng(0).normal(size=(5, 48)).astype(np.float32)
    np.testing.assert_array_equal(fake.hadamard(torch.from_numpy(values)[None], 16)[0], hadamard(values, 16))


@pytest.mark.parametrize("weight_rule", ["absmean", "sign"])
@pytest.mark.parametrize("activation_rule", ["int8", "int4", "int4_int8"])
def test_the_gradient_passes_straight_through(weight_rule: str, activation_rule: str) -> None:
    """To the input it is that of the rounded matrix, to the matrix that of the rounded input."""
    for name in ("layers.0.attention.q", "layers.0.attention.o", "layers.0.ffn.down"):
        quantization = Quantization(weight_rule, activation_rule)
        layer = BitLinear(6, 4, quantization, name)
        x = torch.randn(3, 6, requires_grad=True)
        layer(x).sum().backward()
        with torch.no_grad():
            matrix, inputs = quantization.of_weights(layer.weight), quantization.of_activations(x, name)
        torch.testing.assert_close(x.grad, matrix.sum(0).expand(3, 6))
        torch.testing.assert_close(layer.weight.grad, inputs.sum(0).expand(4, 6))


def test_linear_layers_are_replaced_where_they_are() -> None:
    layer = nn.ModuleDict({"self_attn": nn.ModuleDict({"o_proj": nn.Linear(8, 8, bias=False)})})
    layer["down_proj"] = nn.Linear(8, 8, bias=False)
    layer["head"] = nn.Linear(8, 8, bias=False)
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict(), layer])})
    weight = layer["down_proj"].weight
    quantization = Quantization("absmean", "int4_int8")
    assert replace_linears(model, quantization) == 2
    assert replace_linears(model, quantization) == 0
    assert layer["down_proj"].weight is weight
    assert layer["down_proj"].name == "layers.1.ffn.down"
    assert layer["self_attn"]["o_proj"].name == "layers.1.attention.o"
    assert type(layer["head"]) is nn.Linear
    with pytest.raises(ParameterError, match="head: with int4_int8 or a rotation matrices differ"):
        replace_linears(model, quantization, ["head"])
    layer["up_proj"] = nn.Linear(8, 8)
    with pytest.raises(ParameterError, match=r"layers\.1\.up_proj: the linear layer has a bias"):
        replace_linears(model, quantization)
    with pytest.raises(ParameterError, match="activation_rule"):
        Quantization("absmean", "int2")


def test_the_float_twin_differs_in_nothing_else() -> None:
    """With `ternary=False`, or λ = 0, the layers are ordinary ones."""
    twin, model = TernaryDecoder(CONFIG, ternary=False), TernaryDecoder(CONFIG)
    twin.initialize(0)
    model.load_state_dict(twin.state_dict())
    model.quantization.strength.zero_()
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(twin.logits(ids), model.logits(ids))


@pytest.mark.parametrize("length", [1, 127, 128, 129, 300])
def test_blockwise_attention_equals_the_fused_one(length: int) -> None:
    torch.manual_seed(length)
    query, key, value = (torch.randn(2, heads, length, 16) for heads in (4, 2, 2))
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, enable_gqa=True
    )
    torch.testing.assert_close(causal_attention(query, key, value), expected, rtol=1e-4, atol=1e-5)


V2 = Rotation(
    block_size=32, inputs=tuple(f"layers.{i}.{part}" for i in (0, 1) for part in ("attention.o", "ffn.down"))
)
SIGNED = Rotation.of_signs(
    16, ["layers.1.attention.q", "layers.1.ffn.down"],
    signs={width: np.where(np.arange(width) % 3, 1, -1).astype(np.int8) for width in (64, 96)},
)  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_rule": "sign"},
        {"activation_rule": "int4"},
        {"activation_rule": "int4", "rotation": V2},
        {"rotation": SIGNED},
        {"activation_rule": "int4_int8"},
        {"weight_rule": "sign", "activation_rule": "int4_int8", "rotation": V2, "activation": "silu"},
        {"quantize_activations": False},
    ],
    ids=lambda options: "-".join(map(str, options)) or "b1.58",
)
def test_the_network_equals_the_reference(options: dict[str, Any]) -> None:
    """The training network and the NumPy decoder give the same logits, but for roundings at ties."""
    config = dataclasses.replace(CONFIG, **options)
    model = TernaryDecoder(config)
    model.initialize(3)
    rounding = sign_binary if config.weight_rule == "sign" else absmean_ternary
    weights = {}
    for name, value in model.state_dict().items():
        canonical = TensorNames("bitnet").canonical(name)
        if canonical is None or name == "lm_head.weight":
            continue
        array = value.numpy()
        weights[canonical] = rounding(array) if is_ternary(canonical) else array
    ids = np.random.default_rng(1).integers(0, CONFIG.vocab_size, 70)
    with torch.no_grad():
        ours = model.logits(torch.from_numpy(ids)[None])[0].numpy()
    reference = ReferenceDecoder(config, weights).logits(ids)
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
        ({"post_norms": True}, "models with post_norms are run, not trained; leave it at False"),
        ({"embedding_scale": 2.0}, "models with embedding_scale are run, not trained; leave it at 1.0"),
        ({"sliding_window": 8}, "models with sliding_window are run, not trained; leave it at None"),
        ({"activation": "gelu_tanh"}, "trained with relu2 or silu, not gelu_tanh"),
    ],
)
def test_what_only_others_train_is_not_passed_over(option: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        TernaryDecoder(dataclasses.replace(shape("tiny"), num_layers=1, **option))
