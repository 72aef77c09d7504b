"""Converting: the plan, the result, the proof, and what a failure leaves behind."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.conversion import Progress, compare_models, convert, plan_conversion
from tercet.conversion.plan import shown_bytes, shown_count
from tercet.errors import FormatError, ParameterError, StorageError
from tercet.formats.floats import from_float32, to_float32
from tercet.formats.matrices import FloatMatrix, PackedMatrix
from tercet.models.loading import LoadedModel, load_model
from tercet.models.registry import resolve
from tercet.models.saving import save_huggingface_folder
from tercet.quantization.packings import packing
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.quantization.weights import absmean_ternary
from tiny_models import TINY_CONFIG, random_masters, tiny_tokenizer_json

MASTERS = dict(random_masters(TINY_CONFIG))


def test_the_plan_says_what_will_be_done(tiny_model_folder: Path, tmp_path: Path) -> None:
    plan = plan_conversion(tiny_model_folder, tmp_path / "model.tercet")
    text = str(plan)
    assert str(tiny_model_folder) in text
    assert f"model.tercet, native, {shown_bytes(plan.file_bytes)}" in text
    assert "bitnet, 2 layers of width 36, 36.9 k parameters" in text
    assert "1 tensor     f32 -> f16" in text
    assert "9 tensors    f32 -> f32" in text
    assert "14 tensors   f32 masters -> two_bit, one scale per tensor" in text
    assert "with a template" in text
    assert not list(tmp_path.iterdir()), "planning writes nothing"
    convert(plan)
    assert (tmp_path / "model.tercet").stat().st_size == plan.file_bytes


@pytest.mark.parametrize("packing", ["two_bit", "five_per_byte"])
@pytest.mark.parametrize("embedding_type", ["f32", "f16", "bf16"])
def test_a_folder_becomes_a_file(
    tiny_model_folder: Path, tmp_path: Path, packing: str, embedding_type: str
) -> None:
    path = tmp_path / "model.tercet"
    steps: list[Progress] = []
    done = convert(
        tiny_model_folder, path, packing, embedding_type, metadata={"name": "Tiny"}, progress=steps.append
    )
    assert done.verification is not None
    assert done.verification.passed
    assert done.verification.relative_rms_error > 0 or embedding_type == "f32"
    for stage in ("writing", "comparing"):
        assert [step.tensor for step in steps if step.stage == stage] == list(MASTERS)
    assert steps[-1].done_bytes <= steps[-1].total_bytes == path.stat().st_size
    model = load_model(path)
    assert model.metadata == {"name": "Tiny"}
    assert json.loads(model.tokenizer_json or b"") == json.loads(tiny_tokenizer_json(begins=True))
    for name, matrix in model.weights.items():
        if isinstance(matrix, PackedMatrix):
            expected = absmean_ternary(MASTERS[name])
            assert matrix.packing == packing
            assert np.array_equal(matrix.unpack().codes, expected.codes)
            assert matrix.scales[0] == expected.scales
        else:
            float_type = embedding_type if name == "embedding" else "f32"
            rounded = to_float32(from_float32(MASTERS[name].reshape(-1), float_type), float_type)
            assert matrix.type == float_type
            assert np.array_equal(matrix.float32().reshape(-1), rounded)


def test_the_same_source_gives_the_same_bytes(
    tiny_model_folder: Path, tiny_model_file: Path, tmp_path: Path
) -> None:
    convert(tiny_model_folder, tmp_path / "again.tercet", verify=False)
    assert (tmp_path / "again.tercet").read_bytes() == tiny_model_file.read_bytes()


def test_repacking_there_and_back(tiny_model_file: Path, tmp_path: Path) -> None:
    there = convert(tiny_model_file, tmp_path / "five.tercet", "five_per_byte")
    assert there.verification is not None
    assert there.verification.relative_rms_error == 0
    assert "two_bit -> five_per_byte" in str(there.plan)
    assert there.plan.file_bytes < tiny_model_file.stat().st_size
    convert(tmp_path / "five.tercet", tmp_path / "two.tercet", "two_bit")
    assert (tmp_path / "two.tercet").read_bytes() == tiny_model_file.read_bytes()


def test_a_file_may_be_converted_onto_itself(tiny_model_file: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(tiny_model_file, tmp_path / "model.tercet"))
    convert(path, path, "five_per_byte", overwrite=True)
    matrix = load_model(path).weights["layers.0.ffn.down"]
    assert isinstance(matrix, PackedMatrix)
    assert matrix.packing == "five_per_byte"
    assert list(tmp_path.iterdir()) == [path]


def test_full_precision_models_are_converted_too(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY_CONFIG, quantize_activations=False)
    save_huggingface_folder(tmp_path / "twin", config, iter(MASTERS.items()))
    done = convert(tmp_path / "twin", tmp_path / "twin.tercet")
    assert done.verification is not None
    assert done.verification.passed
    matrix = load_model(tmp_path / "twin.tercet").weights["layers.0.ffn.up"]
    assert isinstance(matrix, FloatMatrix)
    assert matrix.type == "f16"


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"packing": "three_bit"}, ParameterError, "three_bit"),
        ({"embedding_type": "f64"}, ParameterError, "f64"),
        ({"destination": None}, ParameterError, "no destination"),
        ({"destination": "."}, StorageError, "is a folder"),
        ({"destination": "here.tercet"}, StorageError, "exists already"),
        ({"destination": "absent/model.tercet"}, StorageError, "Create the folder"),
    ],
)
def test_plans_that_cannot_succeed(
    tiny_model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    error: type[Exception],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here.tercet").write_bytes(b"the old model")
    with pytest.raises(error, match=reason):
        convert(tiny_model_folder, **({"destination": "new.tercet"} | options))
    assert [path.name for path in tmp_path.iterdir()] == ["here.tercet"]
    assert Path("here.tercet").read_bytes() == b"the old model"


def test_a_full_disk_is_seen_before_writing(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000)
    )
    with pytest.raises(StorageError, match=r"takes 6\d\.\d kB and 1\.0 kB are free"):
        plan_conversion(tiny_model_folder, tmp_path / "model.tercet")


def test_values_that_a_type_cannot_hold(tmp_path: Path) -> None:
    large = MASTERS["embedding"].copy()
    large[3, 3] = 1e5
    save_huggingface_folder(tmp_path / "hf", TINY_CONFIG, iter((MASTERS | {"embedding": large}).items()))
    with pytest.raises(FormatError, match="embedding holds values too large for f16"):
        convert(tmp_path / "hf", tmp_path / "model.tercet")
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]
    convert(tmp_path / "hf", tmp_path / "model.tercet", embedding_type="bf16")


def test_an_interrupted_conversion_leaves_the_old_file(tiny_model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tercet"
    path.write_bytes(b"the old model")

    def interrupt(state: Progress) -> None:
        if state.tensor == "layers.1.ffn.up":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(tiny_model_folder, path, overwrite=True, progress=interrupt)
    assert path.read_bytes() == b"the old model"
    assert list(tmp_path.iterdir()) == [path]


def test_a_wrong_result_does_not_get_its_name(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One code of one matrix is wrong: too little for logits to tell for sure, so codes are compared."""

    def broken(path: Path) -> LoadedModel:
        model = load_model(path)
        wrong = model.weights["layers.1.ffn.up"].unpack()
        wrong.codes[7, 7] = 1 if wrong.codes[7, 7] < 1 else 0
        return with_weight(model, "layers.1.ffn.up", packed(wrong))

    monkeypatch.setattr("tercet.conversion.steps.load_model", broken)
    with pytest.raises(FormatError, match=r"1 matrices differ \(layers.1.ffn.up first\)"):
        convert(tiny_model_folder, tmp_path / "model.tercet")
    assert not list(tmp_path.iterdir())
    assert convert(tiny_model_folder, tmp_path / "model.tercet", verify=False).verification is None


def test_comparison_tells_scales_norms_and_embeddings_apart(
    tiny_model_folder: Path, tiny_model_file: Path
) -> None:
    source, result = load_model(tiny_model_folder), load_model(tiny_model_file)
    assert compare_models(source, source).relative_rms_error == 0
    assert compare_models(source, result).passed
    for name, matrices in (("layers.0.attention.v", 1), ("final_norm", 0), ("embedding", 0)):
        matrix: Any = result.weights[name]
        if matrices:
            changed = dataclasses.replace(matrix, scales=matrix.scales * np.float32(1.001))
        else:
            changed = FloatMatrix("f32", matrix.rows, matrix.depth, matrix.float32().reshape(-1) * 1.09)
        found = compare_models(source, with_weight(result, name, changed))
        assert not found.passed
        assert len(found.different_matrices) == matrices


def packed(tensor: TernaryTensor) -> PackedMatrix:
    data = packing("two_bit").pack(tensor.codes)
    return PackedMatrix("two_bit", *tensor.shape, data, tensor.scales.reshape(-1))


def with_weight(model: LoadedModel, name: str, matrix: PackedMatrix | FloatMatrix) -> LoadedModel:
    """The model with one tensor that is not what the file holds."""
    values = matrix.unpack() if isinstance(matrix, PackedMatrix) else matrix.float32()
    if isinstance(values, np.ndarray):
        values = values.reshape(model.tensors[name].shape)
    return dataclasses.replace(
        model,
        weights={**model.weights, name: matrix},
        reference_weights={**model.reference_weights, name: values},
    )


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """A 31 MB embedding goes through in pieces, and matrices one at a time."""
    config = dataclasses.replace(
        TINY_CONFIG, vocab_size=120_000, hidden_size=64, num_heads=4, num_kv_heads=2, head_dim=16
    )
    save_huggingface_folder(tmp_path / "hf", config, random_masters(config))
    tracemalloc.start()
    try:
        convert(tmp_path / "hf", tmp_path / "model.tercet", verify=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16e6, f"{peak / 1e6:.1f} MB at once, for an embedding of {120_000 * 64 * 4 / 1e6:.1f} MB"


def test_numbers_for_people() -> None:
    assert [shown_bytes(n) for n in (0, 999, 1000, 61_952, 657_000_000, 1_180_000_000_000)] == [
        "0 bytes", "999 bytes", "1.0 kB", "62.0 kB", "657.0 MB", "1180.0 GB",
    ]  # fmt: skip
    assert [shown_count(n) for n in (7, 36_900, 2_412_820_480)] == ["7", "36.9 k", "2.4 B"]


@pytest.mark.parametrize(("head", "stored"), [("int8", "int8_planes"), ("6bit", "int6_planes")])
def test_a_head_in_planes(tmp_path: Path, head: str, stored: str) -> None:
    """It is written, read back, kept by a second conversion, and turned into floats for other formats."""
    source = load_model(resolve(None))
    planes = tmp_path / "planes.tercet"
    done = convert(source, planes, head=head)
    assert done.verification is not None
    assert done.verification.passed
    model = load_model(planes)
    assert model.tensors["embedding"].type == stored
    assert model.tensors["embedding"].granularity is None
    convert(planes, tmp_path / "again.tercet", verify=False)
    assert (tmp_path / "again.tercet").read_bytes() == planes.read_bytes()
    convert(planes, tmp_path / "floats.tercet", head="f32", verify=False)
    floats = load_model(tmp_path / "floats.tercet")
    before, after = (m.reference_weights["embedding"] for m in (model, floats))
    assert np.array_equal(np.asarray(before), np.asarray(after))
    convert(planes, tmp_path / "model.gguf")
    with pytest.raises(ParameterError, match="there is no head 'int4'"):
        convert(source, tmp_path / "other.tercet", head="int4")
    with pytest.raises(ParameterError, match="is for native files"):
        convert(source, tmp_path / "other.gguf", head="int8")
