"""Files that other programs wrote, opened as models, against the logits that those programs computed of them.

The folder and what can be expected are described in its README. Codes and scales, exactly equal, are what
proves a reader (test_gguf_fixtures.py); logits are a second look, at everything around them. A program that
rounds activations as we do gives nearly all rows within 2e-3; one that rounds in another way differs by up to
0.08 of the spread of the logits. A wrong name, row order, field or pairing of RoPE would cost 0.2 and more.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agreement import Ours
from tercet.formats.huggingface.names import TensorNames
from tercet.reference import ReferenceDecoder

FOLDER = Path(os.environ.get("TERCET_FIXTURES") or Path(__file__).parents[1] / "fixtures" / "foreign")
if not (FOLDER / "manifest.json").exists():
    pytest.skip(
        f"the files of other programs are missing: {FOLDER} holds no manifest.json (set TERCET_FIXTURES)",
        allow_module_level=True,
    )

ENTRIES = {entry["file"]: entry for entry in json.loads((FOLDER / "manifest.json").read_text())["files"]}
TRUTH = json.loads((FOLDER / "truth.json").read_text())
ROUNDED_ALIKE = {
    "gguf/bn.bitnetcpp.I2_S.emb-f16.gguf": 2e-3,
    "gguf/b158hf.bitnetcpp-python.I2_S.emb-f16.gguf": 2e-3,  # expected are the logits of transformers
    "hf/bitnet-bf16-online/": 2e-3,
    "hf/bitnet-packed-offline/": 2e-3,
    "hf/llama-packed-bitlinear/": 2e-3,
    # Its blocks of 256 are whole rows of this model; before the head llama.cpp rounds to float16.
    "gguf/bn.llamacpp.TQ2_0.emb-f16.gguf": 5e-3,
}
"""Files whose writer rounds activations as we do, and how far logits may be off for the other reasons."""
ROWS = {
    "bitnet": "bitnet",
    "bitnet-b1.58": "bitnet",
    "BitNetForCausalLM": "bitnet",
    "LlamaForCausalLM": "llama",
}
FORMS = {
    "hf/bitnet-bf16-online/": "huggingface masters",
    "hf/bitnet-packed-offline/": "huggingface packed, multiplied",
    "hf/llama-packed-bitlinear/": "huggingface packed, divided",
}
Verified = Callable[[str, str, str, str], None]


@pytest.fixture(scope="module")
def path_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where a file lies, unpacked."""
    folder = tmp_path_factory.mktemp("unpacked")

    def path(name: str) -> Path:
        stored = FOLDER / name
        if stored.suffix != ".gz":
            return stored
        unpacked = folder / stored.stem
        if not unpacked.exists():
            unpacked.write_bytes(gzip.decompress(stored.read_bytes()))
        return unpacked

    return path


class HalfValues(ReferenceDecoder):
    """With values in float16, as bitnet.cpp and ik_llama.cpp keep them."""

    def _attend(self, query: Any, key: Any, value: Any, window: int | None) -> Any:
        return super()._attend(query, key, value.astype(np.float16).astype(np.float32), window)


def expected_logits(entry: dict[str, Any]) -> np.ndarray:
    with np.load(FOLDER / entry.get("expected_logits", entry["logits"]).split()[0]) as arrays:
        return np.asarray(arrays["f32_p0" if "f32_p0" in arrays else "p0"])


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(np.square(found - expected).mean()) / expected.std())


def writer_of(entry: dict[str, Any]) -> str:
    if "expected_logits" in entry:
        return "transformers for bitnet.cpp's files"
    names = ("ik_llama.cpp", "llama.cpp", "bitnet.cpp", "transformers")
    writer = min((name for name in names if name in entry["writer"]), key=entry["writer"].index)
    return writer if writer == "transformers" else f"{writer}'s files"


@pytest.mark.parametrize("name", ENTRIES)
def test_logits_are_those_of_the_writer(
    path_of: Callable[[str], Path], name: str, verified: Verified
) -> None:
    entry = ENTRIES[name]
    prompt, expected = np.array(entry["prompts"][0]), expected_logits(entry)
    ours = Ours(path_of(name))
    as_floats = entry["type"] in ("F32", "F16")
    found, core = (make(prompt, rounded=not as_floats) for make in (ours.reference, ours.core))
    limit = 2e-3 if as_floats else 0.08
    assert relative(found, expected) < limit
    assert relative(core, expected) < limit
    if name in ROUNDED_ALIKE:
        tolerance = ROUNDED_ALIKE[name]
        if "f16" in entry.get("kv_cache", ""):
            found = ours.reference(prompt, decoder=HalfValues)
        else:
            assert np.mean(np.abs(core - expected).max(axis=1) < tolerance) >= 0.9
        assert np.mean(np.abs(found - expected).max(axis=1) < tolerance) >= 0.9
    form = FORMS.get(name, f"gguf {entry['type']}")
    row = ROWS.get(entry["architecture"], entry["architecture"])
    against = "logits" if "truth" not in entry else "codes, scales, logits"
    verified(row, form, "read", f"{against} of {writer_of(entry)}")


@pytest.mark.parametrize("name", ["hf/bitnet-packed-offline/", "hf/llama-packed-bitlinear/"])
def test_folders_hold_the_true_codes_and_scales(name: str) -> None:
    ours = Ours(FOLDER / name)
    names = TensorNames("llama" if "llama" in name else "bitnet")
    for theirs, matrix in TRUTH[name.rstrip("/")].items():
        found = ours.model.reference_weights[str(names.canonical(theirs))]
        assert list(found.shape) == matrix["shape"]
        assert hashlib.sha256(found.codes.tobytes()).hexdigest() == matrix["codes_int8_rowmajor_sha256"]
        assert found.scales == np.float32(matrix["scale"])
