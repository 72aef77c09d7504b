"""The NumPy reference against an implementation that is not ours: `BitNetForCausalLM` of transformers.

A small random model is built from a config (nothing is downloaded), its linear layers are replaced by
transformers' own online-quantizing ones (`AutoBitLinear`), and the master weights are copied over.

Without int8 activations only the order of float sums differs. With them, an activation that lies at a tie may
round the other way, which changes this token's logits and those of later tokens that attend to it. The test
therefore finds every activation whose code differs, checks that it does lie at a tie, and settles it as
transformers did; then all logits must agree.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tercet.formats.huggingface.config import config_to_huggingface
from tercet.formats.huggingface.names import TensorNames
from tercet.models.config import ModelConfig
from tercet.models.shapes import shape
from tercet.models.tensor_names import is_ternary, tensor_shapes
from tercet.quantization.activations import absmax_int8
from tercet.quantization.weights import absmean_ternary
from tercet.reference import ReferenceDecoder, linear

torch = pytest.importorskip("torch", reason="the package torch is not installed")
transformers = pytest.importorskip("transformers", reason="the package transformers is not installed")
with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore"
    )  # torch.compile, a decorator in there, imports what torch itself has deprecated
    from transformers.integrations import bitnet

GROUPED = dataclasses.replace(
    shape("2b4t"), hidden_size=96, ffn_size=160, num_layers=3, num_heads=6, num_kv_heads=2, head_dim=16,
    vocab_size=256, max_context=128, bos_token_id=0, eos_token_ids=(1,),
)  # fmt: skip
CONFIGS = {
    "relu2, grouped heads, tied": GROUPED,
    "silu, full heads, untied": dataclasses.replace(
        GROUPED,
        activation="silu",
        num_kv_heads=6,
        tied_embeddings=False,
        rope_theta=10_000.0,
        rms_norm_eps=1e-6,
    ),
    "one kv head, wide feed-forward": dataclasses.replace(
        GROUPED, num_kv_heads=1, ffn_size=500, num_layers=2
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _eager() -> Iterator[None]:
    """transformers decorates its quantizers with torch.compile, which takes minutes and changes no result."""
    with torch.compiler.set_stance("force_eager"), torch.no_grad():
        yield


def build(config: ModelConfig) -> Any:
    """A random model of transformers with spread weights: its own initialization leaves logits near zero."""
    torch.manual_seed(0)
    model = transformers.BitNetForCausalLM(
        transformers.BitNetConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.ffn_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            max_position_embeddings=config.max_context,
            hidden_act=config.activation,
            rms_norm_eps=config.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=config.tied_embeddings,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=None,
            attn_implementation="eager",
        )
    )
    weights = {}
    for name, tensor in model.state_dict().items():
        spread = torch.randn_like(tensor)
        weights[name] = 1 + 0.2 * spread if tensor.ndim == 1 else spread * 3 / tensor.shape[1] ** 0.5
    if config.tied_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    online = transformers.BitNetQuantConfig(linear_class="autobitlinear", quantization_mode="online")
    bitnet.replace_with_bitnet_linear(model, modules_to_not_convert=["lm_head"], quantization_config=online)
    model.load_state_dict(weights, assign=True)
    model.tie_weights()
    return model.eval()


def reference(config: ModelConfig, model: Any, *, quantize_activations: bool) -> ReferenceDecoder:
    weights: dict[str, Any] = {}
    for theirs, tensor in model.state_dict().items():
        name = TensorNames("bitnet").canonical(theirs)
        assert name is not None, theirs
        array = tensor.numpy()
        weights[name] = absmean_ternary(array) if is_ternary(name) else array
    if config.tied_embeddings:
        del weights["output_head"]
    assert {name: weight.shape for name, weight in weights.items()} == tensor_shapes(config)
    return ReferenceDecoder(config, weights, quantize_activations=quantize_activations)


def logits(model: Any, tokens: np.ndarray) -> np.ndarray:
    return np.asarray(model(torch.from_numpy(tokens)[None]).logits[0])


def random_tokens(config: ModelConfig, count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, config.vocab_size, count)


class Settlement:
    """Records the codes of transformers, then rounds as they do where the reference is at a tie."""

    def __init__(self) -> None:
        self.recorded: list[np.ndarray] = []
        self.flipped_tokens: list[int] = []
        self.num_codes = 0
        self.original = bitnet.ActQuant

    def apply(self, activation: Any) -> Any:
        """Stand in for `ActQuant`: the inputs arrive in the order in which the layers use them."""
        x = activation[0].float()
        scale = 127 / x.abs().max(dim=-1, keepdim=True).values.clamp(min=1e-5)
        self.recorded.append((x * scale).round().numpy().astype(np.int8))
        return self.original.apply(activation)

    def absmax_int8(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Stand in for ours."""
        ours, scales = absmax_int8(x)
        theirs = self.recorded.pop(0)
        tokens, columns = np.nonzero(ours != theirs)
        exact = x[tokens, columns].astype(np.float64) / scales[tokens]
        assert np.abs(np.abs(exact - np.floor(exact)) - 0.5).max(initial=0) < 1e-3
        self.flipped_tokens += tokens.tolist()
        self.num_codes += ours.size
        return theirs, scales


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_logits_with_int8_activations(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(config)
    tokens = random_tokens(config, 100)
    decoder = reference(config, model, quantize_activations=True)
    plain = decoder.logits(tokens)
    settlement = Settlement()
    monkeypatch.setattr(bitnet, "ActQuant", settlement)
    monkeypatch.setattr(linear, "absmax_int8", settlement.absmax_int8)
    theirs = logits(model, tokens)
    ours = decoder.logits(tokens)
    assert theirs.std() > 1
    assert not settlement.recorded
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * theirs.std())
    assert len(settlement.flipped_tokens) < 1e-4 * settlement.num_codes
    first_flip = min(settlement.flipped_tokens, default=len(tokens))
    np.testing.assert_allclose(plain[:first_flip], theirs[:first_flip], atol=1e-4 * theirs.std())


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_logits_with_float_activations(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoQuantization:
        @staticmethod
        def apply(activation: Any) -> Any:
            return activation

    model = build(config)
    monkeypatch.setattr(bitnet, "ActQuant", NoQuantization)
    tokens = random_tokens(config, 100)
    theirs = logits(model, tokens)
    ours = reference(config, model, quantize_activations=False).logits(tokens)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * theirs.std())


def test_the_quantization_makes_a_difference() -> None:
    """Otherwise the two tests above would be one."""
    model = build(GROUPED)
    tokens = random_tokens(GROUPED, 20)
    plain = reference(GROUPED, model, quantize_activations=False).logits(tokens)
    assert np.abs(logits(model, tokens) - plain).max() > 0.01


@pytest.mark.parametrize(
    "rules", [{"weight_rule": "sign"}, {"activation_rule": "int4"}, {"activation_rule": "int4_int8"}], ids=str
)
def test_rules_that_transformers_does_not_know_are_refused_by_it(rules: dict[str, str]) -> None:
    """It would compute something else without a word."""
    folder = config_to_huggingface(dataclasses.replace(shape("tiny"), **rules))
    with pytest.raises(ValueError, match="linear_class must be either"):
        transformers.BitNetQuantConfig(**folder["config.json"]["quantization_config"])
