"""Adapters of codes: the arithmetic, its gradient, exact merging, and the file they are kept in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch (extra 'train') is not installed")

from tercet.errors import FormatError, UnsupportedModelError  # noqa: E402
from tercet.finetuning.lora.ternary_adapter import STEP, TernaryLora, codes_of, merged_codes, moves  # noqa: E402
from tercet.finetuning.lora.ternary_files import (  # noqa: E402
    FILE,
    TernaryAdapter,
    codes_digest,
    read_ternary_adapter,
    write_ternary_adapter,
)
from tercet.quantization.ternary_tensor import TernaryTensor  # noqa: E402
from tercet.quantization.weights import absmean_ternary  # noqa: E402
from tercet.training.bitlinear import BitLinear, Quantization  # noqa: E402

ROWS, DEPTH, RANK, THRESHOLD = 24, 36, 8, 2


def layer(seed: int = 0, weight_rule: str = "absmean") -> BitLinear:
    made = BitLinear(DEPTH, ROWS, Quantization(weight_rule))
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(np.random.default_rng(seed).normal(size=(ROWS, DEPTH))))
    return made


def trained(seed: int = 0) -> TernaryLora:
    """One whose B is no longer zero."""
    adapted = TernaryLora(layer(seed), RANK, THRESHOLD, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        adapted.lora_B.copy_(
            torch.from_numpy(np.random.default_rng(seed + 1).normal(size=(ROWS, RANK)) * STEP)
        )
    return adapted


def test_the_arithmetic_on_numbers_by_hand() -> None:
    latents = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.4, 0.5, 0.6, 9.0]) * STEP
    assert codes_of(latents).tolist() == [-1, -1, 0, 0, 0, 0, 1, 1]
    assert moves(torch.tensor([-3.0, -2.0, 0.0, 2.0, 3.0]), 2).tolist() == [-1, 0, 0, 0, 1]
    # Three pairs vote on one row: up, up, up, then twice up and once down, then all down.
    a = torch.tensor([[1, 1, -1], [1, 1, -1], [1, -1, -1]], dtype=torch.int8)
    b = torch.ones(2, 3, dtype=torch.int8)
    codes = torch.tensor([[0, 0, 0], [1, -1, -1]], dtype=torch.int8)
    assert merged_codes(codes, a, b, 2).tolist() == [[1, 0, -1], [1, -1, -1]]
    assert merged_codes(codes, a, b, 0).tolist() == [[1, 1, -1], [1, 0, -1]]


def test_an_untrained_adapter_changes_nothing() -> None:
    base = layer()
    x = torch.randn(5, DEPTH, generator=torch.Generator().manual_seed(3))
    adapted = TernaryLora(base, RANK, THRESHOLD)
    np.testing.assert_allclose(adapted(x).detach(), base(x).detach(), rtol=1e-5, atol=1e-5)
    assert set(np.unique(adapted.adapter()[0].numpy())) == {-1, 0, 1}


@pytest.mark.parametrize("seed", range(3))
def test_merging_is_exact(seed: int) -> None:
    adapted = trained(seed)
    merged, before = adapted.merged(), adapted.codes
    assert 0.02 < float((merged != before).float().mean()) < 0.9
    assert int((merged - before).abs().max()) == 1  # one step at most
    x = torch.randn(5, DEPTH, generator=torch.Generator().manual_seed(seed))
    quantization = adapted.base_layer.quantization
    inputs, scale = quantization.scaled_activations(x)
    by_hand = torch.nn.functional.linear(inputs, merged.float()) * (scale * adapted.scale)
    assert torch.equal(adapted(x), by_hand)
    with torch.autocast("cpu", torch.bfloat16):  # the counts do not suffer from a short mantissa
        assert adapted(x).dtype == torch.bfloat16
    with torch.no_grad():
        a, b = adapted.adapter()
    assert torch.equal(merged_codes(before, a, b, THRESHOLD), merged)


def test_the_gradient_reaches_both_factors_and_not_the_base() -> None:
    adapted = trained()
    adapted(torch.randn(5, DEPTH)).square().sum().backward()
    for latents in (adapted.lora_A, adapted.lora_B):
        assert latents.grad is not None
        assert latents.grad.abs().max() > 0
    assert adapted.base_layer.weight.grad is None


def test_it_learns_codes_that_are_wanted() -> None:
    """Some codes of a matrix are moved along two patterns; the adapter finds most of the way there."""
    torch.manual_seed(0)
    base = layer()
    adapted = TernaryLora(base, RANK, THRESHOLD)
    pattern = torch.randint(-1, 2, (ROWS, 2)).float() @ torch.randint(-1, 2, (2, DEPTH)).float()
    wanted = (adapted.codes.float() + pattern).clamp(-1, 1) * adapted.scale
    x = torch.randn(256, DEPTH)
    target = x @ wanted.T
    optimizer = torch.optim.AdamW([adapted.lora_A, adapted.lora_B], lr=2e-3)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = (adapted(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_binary_weights_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="binary"):
        TernaryLora(layer(weight_rule="sign"), RANK, THRESHOLD)


def test_the_file(tmp_path: Path) -> None:
    a, b = (part.numpy() for part in trained().adapter())
    base = codes_digest([absmean_ternary(layer().weight.detach().numpy())])
    adapter = TernaryAdapter(THRESHOLD, base, {"layers.0.ffn.up": (a, b)})
    path = write_ternary_adapter(tmp_path / "adapter", adapter)
    shapes = {"layers.0.ffn.up": (ROWS, DEPTH)}
    for place in (path, path.parent):
        found = read_ternary_adapter(place, shapes)
        assert (found.threshold, found.base) == (THRESHOLD, base)
        np.testing.assert_array_equal(found.matrices["layers.0.ffn.up"][0], a)
        np.testing.assert_array_equal(found.matrices["layers.0.ffn.up"][1], b)
    with pytest.raises(FormatError, match="no ternary matrix of this model"):
        read_ternary_adapter(path, {})
    with pytest.raises(FormatError, match="expected I8"):
        read_ternary_adapter(path, {"layers.0.ffn.up": (ROWS + 1, DEPTH)})
    bad = TernaryAdapter(THRESHOLD, base, {"layers.0.ffn.up": (a * np.int8(2), b)})
    with pytest.raises(FormatError, match="other values than"):
        read_ternary_adapter(write_ternary_adapter(tmp_path / "bad", bad), shapes)
    cut = tmp_path / FILE
    cut.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(FormatError):
        read_ternary_adapter(cut, shapes)


def test_a_digest_tells_models_apart() -> None:
    codes = np.ones((2, 3), np.int8)
    other = codes.copy()
    other[1, 2] = 0
    scale = np.float32(1)
    assert codes_digest([TernaryTensor(codes, scale)]) != codes_digest([TernaryTensor(other, scale)])
