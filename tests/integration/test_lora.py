"""The three ways of LoRA with a tiny model: what was trained is served, and merges say what they cost."""

from __future__ import annotations

import dataclasses
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch (extra 'finetune') is not installed")
peft = pytest.importorskip("peft", reason="peft (extra 'finetune') is not installed")

from typer.testing import CliRunner  # noqa: E402

from random_decoders import logits_of  # noqa: E402
from tercet import LLM, FineTuner  # noqa: E402
from tercet.cli.lora import app  # noqa: E402
from tercet.errors import FormatError, ParameterError, StorageError, UnsupportedModelError  # noqa: E402
from tercet.finetuning.lora.merge import merge_adapter  # noqa: E402
from tercet.finetuning.lora.merging import base_digest, merge_ternary_adapter  # noqa: E402
from tercet.finetuning.lora.ternary_files import FILE, read_ternary_adapter  # noqa: E402
from tercet.finetuning.report import FineTuneResult  # noqa: E402
from tercet.finetuning.trainable import load_trainable  # noqa: E402
from tercet.kernels.adapter import Adapter, AdapterUse  # noqa: E402
from tercet.kernels.decoder import Decoder, KvCache  # noqa: E402
from tercet.models.adapters import load_adapter  # noqa: E402
from tercet.models.loading import load_model  # noqa: E402
from tercet.quantization.ternary_tensor import TernaryTensor  # noqa: E402

ROWS = [{"prompt": f"Where is dog {n}?", "answer": f"dog {n} is in the park {n % 3}"} for n in range(40)]
SETTINGS: dict[str, Any] = {
    "epochs": 4, "accumulation": 2, "learning_rate": 1e-2, "log_every": 4, "lora_rank": 8, "lora_alpha": 16.0,
}  # fmt: skip
PAIRS = np.random.default_rng(3).integers(0, 400, (60, 2))
TOKENS = np.random.default_rng(2).integers(0, 400, 24)


def tune(model: Path, output: Path, **changes: Any) -> FineTuneResult:
    return FineTuner(model, **(SETTINGS | changes)).train(ROWS, output)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> FineTuneResult:
    """A run that leaves an adapter beside the model."""
    return tune(tiny_model_folder, tmp_path_factory.mktemp("lora") / "run", method="lora")


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> FineTuneResult:
    """A run that leaves an adapter of codes, and the model that it makes."""
    return tune(tiny_model_folder, tmp_path_factory.mktemp("codes") / "run", method="ternary-lora")


def codes_of(path: Path) -> Iterator[tuple[str, TernaryTensor]]:
    for name, weight in load_model(path).reference_weights.items():
        if isinstance(weight, TernaryTensor):
            yield name, weight


def assert_same_codes(one: Path, other: Path) -> None:
    for (name, left), (_, right) in zip(codes_of(one), codes_of(other), strict=True):
        np.testing.assert_array_equal(left.codes, right.codes, err_msg=name)
        np.testing.assert_allclose(left.scales, right.scales, rtol=1e-6)


# Kept.


def test_an_adapter_is_served_as_it_was_trained(kept: FineTuneResult, tiny_model_folder: Path) -> None:
    assert kept.adapter is not None
    assert kept.model is not None
    assert kept.loss_file == pytest.approx(kept.loss_trainer, rel=0.005)
    assert kept.loss_trainer is not None
    assert kept.loss_trainer < (kept.loss_before or 0) - 0.3
    assert (kept.codes_changed, kept.trained_parameters < kept.parameters) == (0, True)
    assert_same_codes(tiny_model_folder, kept.model)
    config = json.loads((kept.adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None, "no path of this machine"
    assert len(config["target_modules"]) == 7
    assert sorted(path.name for path in kept.adapter.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    with LLM(kept.model, adapters={"dogs": kept.adapter}) as llm:
        assert llm.logits([1, 5, 9], adapter="dogs").tolist() != llm.logits([1, 5, 9]).tolist()


@pytest.fixture(scope="module")
def network(kept: FineTuneResult, tiny_model_folder: Path) -> Any:
    """What PEFT makes of model and adapter, in evaluation mode; and what says how activations are rounded."""
    trainable = load_trainable(kept.model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT uses an old name of transformers
        made = peft.PeftModel.from_pretrained(trainable.network, str(kept.adapter)).eval()
    return made, trainable.quantization


def in_torch(network: Any, tokens: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(network(torch.from_numpy(np.atleast_2d(tokens))).logits)


def in_core(kept: FineTuneResult, tokens: np.ndarray, rounded: bool) -> np.ndarray:
    """float32 [sequences, tokens, vocab], all in one batch with their adapter."""
    assert kept.adapter is not None
    assert kept.model is not None
    loaded = load_model(kept.model)
    config = dataclasses.replace(loaded.config, quantize_activations=rounded)
    decoder = Decoder(config, dict(loaded.weights), 2)
    adapter = Adapter(decoder, load_adapter(kept.adapter, config).pairs)
    sequences, length = np.atleast_2d(tokens).shape
    logits = decoder.forward(
        KvCache(decoder, sequences, length),
        tokens.reshape(-1).astype(np.int32),
        np.arange(sequences + 1) * length,
        np.zeros(sequences, np.int32),
        np.arange(sequences, dtype=np.int32)[:, None],
        np.arange(sequences * length),
        adapters=[AdapterUse(sequence, adapter) for sequence in range(sequences)],
    )
    return logits.reshape(sequences, length, -1)


def test_logits_are_those_of_peft(
    network: Any, kept: FineTuneResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same criteria as for models without adapters (tests/plugins/agreement.py)."""
    made, quantization = network
    theirs = in_torch(made, PAIRS)
    ours = in_core(kept, PAIRS, rounded=True)
    rows = np.abs(ours - theirs).max(axis=-1)
    assert np.mean(rows < 2e-3 * max(1.0, theirs.std())) >= 0.95
    assert np.sqrt(np.mean((ours - theirs) ** 2)) < 0.02 * theirs.std()
    monkeypatch.setattr(quantization, "activation_rule", "none")
    theirs, ours = in_torch(made, TOKENS), in_core(kept, TOKENS, rounded=False)
    assert np.linalg.norm(ours - theirs) < 1e-3 * np.linalg.norm(theirs)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * theirs.std())
    loaded = load_model(kept.model or "")
    config = dataclasses.replace(loaded.config, quantize_activations=False)
    alone = logits_of(Decoder(config, dict(loaded.weights), 2), TOKENS)
    assert np.linalg.norm(alone - theirs[0]) > 0.1 * np.linalg.norm(theirs), "the adapter matters"


def test_eight_bits_change_nothing(kept: FineTuneResult, tiny_model_folder: Path, tmp_path: Path) -> None:
    small = tune(tiny_model_folder, tmp_path / "run", method="lora", load_in_8bit=True)
    assert small.loss_trainer == pytest.approx(kept.loss_trainer, rel=0.02)  # rounded to bf16 on the way
    assert small.loss_file == pytest.approx(small.loss_trainer, rel=0.005)
    assert small.model is not None
    assert_same_codes(tiny_model_folder, small.model)
    for method in ("full", "ternary-lora"):
        with pytest.raises(ParameterError, match="goes with the method lora"):
            tune(tiny_model_folder, tmp_path / method, method=method, load_in_8bit=True)


# Merged.


def test_a_merge_says_what_is_left(kept: FineTuneResult, tiny_model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged.tercet"
    arguments = ["merge", str(tiny_model_folder), str(kept.adapter), "-o", str(out), "--json"]
    examples = tmp_path / "examples.jsonl"
    examples.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    done = CliRunner().invoke(app, [*arguments, "--data", str(examples)])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told == json.loads(out.with_suffix(".merge.json").read_text())
    assert told["has_master"] is True
    assert told["loss_adapter"] < told["loss_before"] - 0.3
    assert told["changed"] == sum(one["changed"] for one in told["matrices"]) > 0
    found = sum(
        int(np.count_nonzero(before.codes != after.codes))
        for (_, before), (_, after) in zip(codes_of(tiny_model_folder), codes_of(out), strict=True)
    )
    assert found == told["changed"]
    gain = told["loss_before"] - told["loss_adapter"]
    assert told["survived"] == pytest.approx((told["loss_before"] - told["loss_after"]) / gain)
    page = out.with_suffix(".merge.md").read_text()
    assert "| layers.1.ffn.down |" in page
    assert f"{told['loss_after']:.4f} merged" in page
    with pytest.raises(StorageError, match="exists already"):
        merge_adapter(tiny_model_folder, kept.adapter or "", out)


def test_a_merge_without_masters_warns(kept: FineTuneResult, tiny_model_file: Path, tmp_path: Path) -> None:
    report = merge_adapter(tiny_model_file, kept.adapter or "", tmp_path / "merged.tercet")
    assert not report.has_master
    notes = " ".join(report.notes())
    assert "without masters" in notes
    assert "no loss was measured" in notes


def test_adapters_that_cannot_be_merged(
    kept: FineTuneResult, tiny_model_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match=r"\.tercet file"):
        merge_adapter(tiny_model_folder, kept.adapter or "", tmp_path / "merged.gguf")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FormatError, match="holds no adapter"):
        merge_adapter(tiny_model_folder, empty, tmp_path / "merged.tercet")
    dora = tmp_path / "dora"
    shutil.copytree(kept.adapter or "", dora)
    config = json.loads((dora / "adapter_config.json").read_text()) | {"use_dora": True}
    (dora / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match="DoRA"):
        merge_adapter(tiny_model_folder, dora, tmp_path / "merged.tercet")
    assert not list(tmp_path.glob("merged*"))


# Codes.


def test_adapters_of_codes_merge_exactly(
    coded: FineTuneResult, tiny_model_folder: Path, tmp_path: Path
) -> None:
    assert coded.loss_trainer is not None
    assert coded.loss_trainer < (coded.loss_before or 0) - 0.1
    assert coded.loss_file == pytest.approx(coded.loss_trainer, rel=0.005)
    assert 0 < coded.codes_changed < coded.codes
    assert coded.adapter is None, "it is in the model"
    out = tmp_path / "again.tercet"
    report = merge_adapter(tiny_model_folder, coded.folder / "adapter", out)
    assert (report.kind, report.changed) == ("ternary", coded.codes_changed)
    assert all(one.turned == 0 for one in report.matrices), "a code moves by one step"
    assert_same_codes(coded.model or Path(), out)


def test_codes_that_an_adapter_was_not_trained_beside(coded: FineTuneResult) -> None:
    assert coded.model is not None
    trainable = load_trainable(coded.model)
    shapes = {name: trainable.source.tensors[name].shape for name in trainable.ternary}
    adapter = read_ternary_adapter(coded.folder / "adapter" / FILE, shapes)
    assert adapter.base != base_digest(trainable)
    with pytest.raises(FormatError, match="not trained beside the codes"):
        merge_ternary_adapter(trainable, adapter)


def test_runs_with_adapters_are_resumed(tiny_model_folder: Path, tmp_path: Path) -> None:
    for method in ("lora", "ternary-lora"):
        changes = {
            "method": method,
            "max_steps": 4,
            "accumulation": 1,
            "save_every": 2,
            "evaluate_every": 2,
            "lora_dropout": 0.1,
        }
        whole = tune(tiny_model_folder, tmp_path / f"{method}-whole", **changes)
        seen: list[int] = []
        FineTuner(tiny_model_folder, **(SETTINGS | changes)).train(
            ROWS, tmp_path / method, stop=lambda seen=seen: bool(seen.append(1)) or len(seen) >= 3
        )  # fmt: skip
        resumed = FineTuner(tiny_model_folder, **(SETTINGS | changes)).train(
            ROWS, tmp_path / method, resume=True
        )
        assert resumed.loss_trainer == whole.loss_trainer
        files = [next((run.folder / "adapter").glob("*.safetensors")) for run in (whole, resumed)]
        assert files[0].read_bytes() == files[1].read_bytes()
