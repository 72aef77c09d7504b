"""A stored model becomes a network, and the network a file: where nothing was learned, nothing is lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch (extra 'train') is not installed")
pytest.importorskip("transformers", reason="transformers (extra 'finetune') is not installed")

from tercet import LLM  # noqa: E402
from tercet.conversion import convert  # noqa: E402
from tercet.errors import ParameterError, StorageError, UnsupportedModelError  # noqa: E402
from tercet.finetuning.export import export, save_masters, values_as_stored  # noqa: E402
from tercet.finetuning.trainable import Trainable, load_trainable  # noqa: E402
from tercet.models.config import ModelConfig  # noqa: E402
from tercet.models.loading import LoadedModel, load_model  # noqa: E402
from tercet.models.saving import save_huggingface_folder  # noqa: E402
from tercet.training.bitlinear import BitLinear  # noqa: E402
from tiny_models import TINY_CONFIG, random_masters, tiny_tokenizer_json  # noqa: E402

IDS = [0, 17, 301, 45, 45, 499, 8, 263, 100, 31]


def masters(folder: Path, config: ModelConfig = TINY_CONFIG) -> Path:
    save_huggingface_folder(folder, config, random_masters(config), tokenizer_json=tiny_tokenizer_json())
    return folder


def same_ternary(first: LoadedModel, second: LoadedModel) -> None:
    for name, info in first.tensors.items():
        if info.granularity is None:
            continue
        one, other = first.reference_weights[name], second.reference_weights[name]
        np.testing.assert_array_equal(one.codes, other.codes, err_msg=name)
        assert one.scales.tobytes() == other.scales.tobytes(), name


def logits_of(path: Path) -> np.ndarray:
    with LLM(path, threads=1, level="baseline") as llm:
        return llm.logits(IDS)


def logits_of_network(trainable: Trainable) -> np.ndarray:
    trainable.network.eval()
    with torch.no_grad(), values_as_stored(trainable):
        return trainable.network(torch.tensor([IDS])).logits[0].numpy()


def assert_close(first: np.ndarray, second: np.ndarray) -> None:
    """Equal but for sums in another order, and for the odd int8 that therefore falls to the other side."""
    assert np.sqrt(np.mean((first - second) ** 2) / np.mean(second**2)) < 0.02


@pytest.mark.parametrize(
    ("head", "packing"),
    [(None, "two_bit"), ("int8", "five_per_byte"), ("bf16", "two_bit"), ("f32", "two_bit")],
)
def test_an_untouched_packed_file_comes_back_byte_for_byte(
    tmp_path: Path, tiny_model_folder: Path, head: str | None, packing: str
) -> None:
    source = tmp_path / "source.tercet"
    convert(tiny_model_folder, source, packing, head=head)
    trainable = load_trainable(source)
    assert not trainable.has_master
    result = export(trainable, tmp_path / "result.tercet")
    before, after = load_model(source), load_model(result)
    for name in before.tensors:
        one, other = before.weights[name], after.weights[name]
        assert type(one) is type(other), name
        assert one.data.tobytes() == other.data.tobytes(), name
        np.testing.assert_array_equal(getattr(one, "scales", 0), getattr(other, "scales", 0), err_msg=name)
    np.testing.assert_array_equal(logits_of(source), logits_of(result))
    assert_close(logits_of_network(trainable), logits_of(result))


def test_an_untouched_folder_of_masters_is_exported_as_it_is_converted(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    trainable = load_trainable(tiny_model_folder)
    assert trainable.has_master
    result = export(trainable, tmp_path / "result.tercet")
    convert(tiny_model_folder, tmp_path / "converted.tercet")
    same_ternary(load_model(tiny_model_folder), load_model(result))
    np.testing.assert_array_equal(logits_of(result), logits_of(tmp_path / "converted.tercet"))
    assert_close(logits_of_network(trainable), logits_of(result))
    folder = save_masters(trainable, tmp_path / "masters")
    before, after = load_model(tiny_model_folder), load_model(folder)
    for name in before.masters:
        np.testing.assert_array_equal(before.masters[name].float32(), after.masters[name].float32())
    assert after.chat_template == before.chat_template
    assert after.config == before.config


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "llama", "attention_sub_norm": False, "ffn_sub_norm": False, "activation": "silu",
         "tied_embeddings": False},
        {"architecture": "qwen3", "attention_sub_norm": False, "ffn_sub_norm": False, "activation": "silu",
         "qk_norm": True},
        {"architecture": "gemma3", "attention_sub_norm": False, "ffn_sub_norm": False, "qk_norm": True,
         "activation": "gelu_tanh", "post_norms": True, "embedding_scale": 6.0},
    ],
    ids=["llama", "qwen3", "gemma3"],
)  # fmt: skip
def test_every_class_computes_what_the_engine_does(tmp_path: Path, changes: dict[str, object]) -> None:
    folder = masters(tmp_path / "source", dataclasses.replace(TINY_CONFIG, **changes))
    trainable = load_trainable(folder)
    result = export(trainable, tmp_path / "result.tercet")
    same_ternary(load_model(folder), load_model(result))
    assert_close(logits_of_network(trainable), logits_of(result))


def test_what_was_learned_is_in_the_file(tmp_path: Path, tiny_model_file: Path) -> None:
    trainable = load_trainable(tiny_model_file)
    layers = [module for module in trainable.network.modules() if isinstance(module, BitLinear)]
    assert len(layers) == 7 * TINY_CONFIG.num_layers
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trainable.network.parameters():
            parameter += 0.3 * parameter.abs().mean() * torch.randn(parameter.shape, generator=generator)
    wanted = logits_of_network(trainable)
    result = export(trainable, tmp_path / "result.tercet")
    assert np.abs(logits_of(tiny_model_file) - wanted).max() > 0.1
    assert_close(logits_of(result), wanted)
    assert load_model(result).metadata["trained_from"] == tiny_model_file.name
    with pytest.raises(StorageError, match="exists already"):
        export(trainable, result)
    with torch.no_grad():
        layers[0].weight[0, 0] = float("nan")
    with pytest.raises(ParameterError, match="finite"):
        export(trainable, tmp_path / "bad.tercet")
    assert not (tmp_path / "bad.tercet").exists()


def _without_tokenizer(folder: Path) -> Path:
    save_huggingface_folder(folder, TINY_CONFIG, random_masters(TINY_CONFIG))
    return folder


def _full_precision(folder: Path) -> Path:
    changes = {"attention_sub_norm": False, "ffn_sub_norm": False, "quantize_activations": False}
    return masters(
        folder, dataclasses.replace(TINY_CONFIG, architecture="llama", activation="silu", **changes)
    )


@pytest.mark.parametrize(
    ("make", "message"), [(_without_tokenizer, "no tokenizer"), (_full_precision, "no ternary matrices")]
)
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        load_trainable(make(tmp_path / "model"))
