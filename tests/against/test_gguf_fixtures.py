"""GGUF files that bitnet.cpp, ik_llama.cpp, llama.cpp and their converters wrote: codes and scales.

They are in the folder of the environment variable TERCET_FIXTURES, or in tests/fixtures/foreign. Its README
describes them; `truth.json` holds what the weights are, whatever the type.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.formats.gguf import GgufFile, open_gguf
from tercet.formats.gguf.encoding import encode_ternary
from tercet.formats.huggingface.names import TensorNames

FOLDER = Path(os.environ.get("TERCET_FIXTURES") or Path(__file__).parents[1] / "fixtures" / "foreign")
if not (FOLDER / "manifest.json").exists():
    pytest.skip(
        f"the files of other programs are missing: {FOLDER} holds no manifest.json (set TERCET_FIXTURES)",
        allow_module_level=True,
    )

MANIFEST = json.loads((FOLDER / "manifest.json").read_text())
TRUTH = json.loads((FOLDER / "truth.json").read_text())
ENTRIES = {
    Path(entry["file"]).name: entry for entry in MANIFEST["files"] if entry["file"].startswith("gguf/")
}
CONVERTED_FROM_PACKED = "llamahf.llamacpp-python.TQ2_0.emb-f16.out-f16.gguf"


@pytest.fixture(scope="module")
def path_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Where a file lies, unpacked."""
    folder = tmp_path_factory.mktemp("unpacked")

    def path(name: str) -> Path:
        stored = FOLDER / "gguf" / name
        if not name.endswith(".gz"):
            return stored
        unpacked = folder / name.removesuffix(".gz")
        if not unpacked.exists():
            unpacked.write_bytes(gzip.decompress(stored.read_bytes()))
        return unpacked

    return path


def truth_of(entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """`truth.json, key bn (...)` -> the matrices of bn."""
    key = entry["truth"].split("key ")[1].split()[0]
    return dict(TRUTH[key])


def digest(codes: np.ndarray) -> str:
    assert codes.dtype == np.int8
    return hashlib.sha256(np.ascontiguousarray(codes).tobytes()).hexdigest()


def test_the_files_are_those_that_were_described(path_of: Any) -> None:
    assert len(ENTRIES) >= 23
    for name, entry in ENTRIES.items():
        assert hashlib.sha256(path_of(name).read_bytes()).hexdigest() == entry["sha256"], name


@pytest.mark.parametrize("name", ENTRIES)
def test_types_are_understood(path_of: Any, name: str) -> None:
    file, entry = GgufFile(path_of(name)), ENTRIES[name]
    for tensor, number in entry.get("ggml_type_ids", {}).items():
        assert file.tensor(tensor).type.id == number
    assert file.tensor("blk.0.attn_q.weight").type.name == entry["type"]
    assert file.metadata.text("general.architecture") == entry["architecture"]
    for tensor in file.tensors:
        assert np.isfinite(file.float32(tensor)).all()


@pytest.mark.parametrize("name", [name for name in ENTRIES if name != CONVERTED_FROM_PACKED])
def test_codes_and_scales_are_the_truth(path_of: Any, name: str) -> None:
    file = GgufFile(path_of(name))
    matrices = truth_of(ENTRIES[name])
    assert matrices
    for tensor, truth in matrices.items():
        found = file.ternary(tensor)
        assert list(found.shape) == truth["shape"]
        assert digest(found.codes) == truth["codes_int8_rowmajor_sha256"], tensor
        assert found.granularity == "tensor"
        assert float(found.scales) == truth["scale"], tensor
        assert int((found.codes > 0).sum()) == truth["plus"]
        assert int((found.codes < 0).sum()) == truth["minus"]


@pytest.mark.parametrize(
    "name",
    [name for name, entry in ENTRIES.items() if entry["type"] in ("TQ1_0", "TQ2_0", "Q2_0", "I2_S", "F16")],
)
def test_what_we_write_is_what_they_wrote(path_of: Any, name: str) -> None:
    """Byte for byte, but for the 28 bytes behind a scale of I2_S, which mean nothing and may be rubbish."""
    file, kind = GgufFile(path_of(name)), ENTRIES[name]["type"]
    for tensor in truth_of(ENTRIES[name]) if "truth" in ENTRIES[name] else ("blk.0.ffn_down.weight",):
        theirs = file.tensor(tensor).data
        ours = np.concatenate([piece.reshape(-1) for piece in encode_ternary(file.ternary(tensor), kind)])
        compared = len(theirs) - 28 if kind == "I2_S" else len(theirs)
        assert len(ours) == len(theirs)
        assert np.array_equal(ours[:compared], theirs[:compared]), tensor


def test_rows_converted_to_llama_cpps_order_come_back(path_of: Any) -> None:
    """Its source is a packed checkpoint: same codes once rows are in our order, scales rounded to float16."""
    model = open_gguf(path_of(CONVERTED_FROM_PACKED))
    for theirs, truth in TRUTH["hf/llama-packed-bitlinear"].items():
        found = model.ternary(str(TensorNames("llama").canonical(theirs)))
        assert digest(found.codes) == truth["codes_int8_rowmajor_sha256"], theirs
        assert float(found.scales) == float(np.float16(truth["scale"]))


@pytest.mark.parametrize("name", ENTRIES)
def test_the_model_is_understood(path_of: Any, name: str) -> None:
    model, entry = open_gguf(path_of(name)), ENTRIES[name]
    assert model.unknown_tensors == ()
    assert model.fields["quantize_activations"] is True, "every matrix has one scale"
    assert model.fields["tied_embeddings"] is (entry["output_type"] == "tied")
    assert model.fields["activation"] == ("relu2" if entry["architecture"] == "bitnet-b1.58" else "silu")
    assert model.fields.get("qk_norm", False) is (entry["architecture"] == "qwen3")
    assert model.vocabulary is not None
    assert model.fields["vocab_size"] == len(model.vocabulary.tokens)
    if tokenizer := entry.get("tokenizer"):
        assert model.vocabulary.model == {"spm": "llama"}.get(tokenizer["kind"], tokenizer["kind"])
        assert model.vocabulary.pre == tokenizer["pre"]
        assert tokenizer["eos"] in model.fields["eos_token_ids"]
        assert len(model.vocabulary.tokens) == tokenizer["vocab"]
        if tokenizer["bos"] is None:  # there may be one, but texts do not begin with it
            assert model.vocabulary.flags["add_bos_token"] is False
        else:
            assert model.vocabulary.special_ids["bos"] == tokenizer["bos"] == model.fields["bos_token_id"]
    if model.i2_s_layout is not None:
        assert model.i2_s_layout.layout == "canonical"
