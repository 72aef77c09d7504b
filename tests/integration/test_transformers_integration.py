"""Tercet's kernels inside a model of transformers: the same answers, sooner, and back without a trace."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.errors import MissingExtraError, ParameterError, UnsupportedModelError
from tercet.integrations.transformers import restore, use_tercet_kernels

torch = pytest.importorskip("torch", reason="the package torch is not installed")
transformers = pytest.importorskip("transformers", reason="the package transformers is not installed")
bitnet = pytest.importorskip("transformers.integrations.bitnet", reason="transformers has no bitnet layers")

SIZES = {
    "vocab_size": 320,
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
STORAGES = ["bitlinear", "autobitlinear", "online"]
PROMPT = torch.arange(24).reshape(2, 12) * 13 % 320


@pytest.fixture(scope="module", autouse=True)
def _eager() -> Iterator[None]:
    """transformers decorates its quantizers with torch.compile, which takes minutes and changes no result."""
    with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs: torch.jit and friends are deprecated, the CPU is slow
        yield


def small_model(storage: str, dtype: Any = None, *, rms_norm: bool = False) -> Any:
    """A random BitNetForCausalLM whose layers are stored in one of the ways that transformers knows."""
    torch.manual_seed(7)
    config = transformers.BitNetConfig(**SIZES, bos_token_id=0, eos_token_id=1, pad_token_id=2)
    model = transformers.BitNetForCausalLM(config).to(dtype or torch.float32)
    options = {"linear_class": "bitlinear", "quantization_mode": "offline", "use_rms_norm": rms_norm}
    if storage != "bitlinear":
        options["linear_class"] = "autobitlinear"
    if storage == "online":
        options["quantization_mode"] = "online"
    quantization = transformers.BitNetQuantConfig(**options)
    masters = {name: each.weight for name, each in model.named_modules() if isinstance(each, torch.nn.Linear)}
    bitnet.replace_with_bitnet_linear(model, ["lm_head"], quantization)
    for name, module in model.named_modules():
        if isinstance(module, (bitnet.BitLinear, bitnet.AutoBitLinear)):
            fill(module.to_empty(device="cpu"), masters[name], storage)
            if module.rms_norm is not None:
                torch.nn.init.uniform_(module.rms_norm.weight, 0.5, 1.5)
    return model.eval()


def fill(module: Any, masters: Any, storage: str) -> None:
    scale = masters.detach().abs().mean()
    codes = (masters.detach() / scale).round().clamp(-1, 1)
    if storage == "online":
        module.weight = torch.nn.Parameter(masters.detach().clone())
    elif storage == "autobitlinear":
        module.weight = torch.nn.Parameter(codes, requires_grad=False)
        module.weight_scale = torch.nn.Buffer(scale.reshape(1))
    else:
        module.weight = torch.nn.Buffer(bitnet.pack_weights(codes.clone()))
        module.weight_scale = torch.nn.Buffer(1 / scale.reshape(1))


def logits(model: Any) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(model(PROMPT).logits.float())


def greedy(model: Any) -> list[list[int]]:
    tokens: list[list[int]] = model.generate(PROMPT, max_new_tokens=12, do_sample=False).tolist()
    return tokens


@pytest.mark.parametrize("rms_norm", [False, True], ids=["", "rms_norm"])
@pytest.mark.parametrize("storage", STORAGES)
def test_logits_and_generated_tokens_stay(storage: str, rms_norm: bool) -> None:
    model = small_model(storage, rms_norm=rms_norm)
    before, tokens = logits(model), greedy(model)
    assert use_tercet_kernels(model, threads=2) is model
    after = logits(model)
    assert not np.array_equal(before, after)  # the kernels did run
    rows = np.abs(after - before).max(axis=-1) / before.std()
    assert np.median(rows) < 1e-5  # the rest follow an activation at a tie, which rounded the other way
    assert np.sqrt(np.mean((after - before) ** 2)) < 0.01 * before.std()
    assert greedy(model) == tokens
    assert restore(model) is model
    assert np.array_equal(logits(model), before)


@pytest.mark.parametrize("storage", STORAGES)
def test_bfloat16_models_stay_bfloat16(storage: str) -> None:
    exact = logits(small_model(storage))
    model = small_model(storage, torch.bfloat16)
    before = logits(model)
    use_tercet_kernels(model)
    assert model(PROMPT).logits.dtype == torch.bfloat16
    error = [np.sqrt(np.mean((each - exact) ** 2)) / exact.std() for each in (before, logits(model))]
    assert error[1] < 0.2
    assert error[1] < 1.2 * error[0]  # no farther from the model in float32 than the layers of transformers


@pytest.mark.parametrize("storage", STORAGES)
def test_the_modules_come_back_and_the_state_never_changes(storage: str, tmp_path: Path) -> None:
    model = small_model(storage)
    modules, state = dict(model.named_modules()), copy.deepcopy(model.state_dict())
    use_tercet_kernels(model)
    assert model.lm_head is modules["lm_head"]
    assert "TernaryLinear(96, 96" in str(model)
    swapped = model.state_dict()
    assert list(swapped) == list(state)
    assert all(torch.equal(swapped[name], state[name]) for name in state)
    use_tercet_kernels(model)  # once more changes nothing
    restore(model)
    assert dict(model.named_modules()) == modules
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_threads_and_instruction_sets_give_the_same_bits() -> None:
    model = small_model("bitlinear")
    expected = logits(use_tercet_kernels(model, threads=1, isa="reference"))
    for threads in (None, 2, 3):
        restore(model)
        assert np.array_equal(logits(use_tercet_kernels(model, threads=threads)), expected)


def test_new_weights_are_packed_anew_and_copies_are_models_of_their_own() -> None:
    model, other = small_model("online"), small_model("online")
    with torch.no_grad():
        for parameter in other.model.layers.parameters():
            parameter.mul_(torch.randn_like(parameter))
    use_tercet_kernels(model)
    twin = copy.deepcopy(model)
    assert np.array_equal(logits(twin), logits(model))
    model.load_state_dict(other.state_dict())
    assert np.abs(logits(model) - logits(other)).max() < 0.05 * logits(other).std()
    assert not np.array_equal(logits(twin), logits(model))
    wide = logits(model)
    model.to(torch.bfloat16)
    assert model(PROMPT).logits.dtype == torch.bfloat16
    assert np.sqrt(np.mean((logits(model) - wide) ** 2)) < 0.15 * wide.std()


def test_training_is_refused_in_words() -> None:
    model = small_model("online").train()
    with pytest.raises(ParameterError, match=r"training mode.*model\.eval\(\)"):
        use_tercet_kernels(model)
    use_tercet_kernels(model.eval())
    loss = model(PROMPT, labels=PROMPT).loss  # evaluation needs no torch.no_grad
    with pytest.raises(ParameterError, match="no gradients"):
        loss.backward()
    model.train()
    with pytest.raises(ParameterError, match=r"restore\(model\) to train"):
        model(PROMPT)
    restore(model)
    model(PROMPT, labels=PROMPT).loss.backward()
    assert model.model.layers[0].self_attn.q_proj.weight.grad is not None


def test_models_that_cannot_be_swapped_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = transformers.BitNetForCausalLM(transformers.BitNetConfig(**SIZES, bos_token_id=0, eos_token_id=1))
    with pytest.raises(UnsupportedModelError, match="without a quantization_config"):
        use_tercet_kernels(plain.eval())
    floats = small_model("autobitlinear")
    floats.model.layers[1].mlp.down_proj.weight[3, 5] = 0.25
    with pytest.raises(UnsupportedModelError, match=r"layers\.1\.mlp\.down_proj .*not all -1, 0 or 1"):
        use_tercet_kernels(floats)
    assert type(floats.model.layers[0].mlp.down_proj) is bitnet.AutoBitLinear
    elsewhere = small_model("bitlinear").to("meta")
    with pytest.raises(ParameterError, match="on the device meta"):
        use_tercet_kernels(elsewhere)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"tercet\[transformers\]"):
        use_tercet_kernels(plain)
