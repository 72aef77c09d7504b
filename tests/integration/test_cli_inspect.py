"""`tercet inspect` of everything that we open, and of what we do not run."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gguf_files as g
from gguf_files import Tensor, container, metadata, model_tensors, q2_0_projection, random_codes
from program import assert_refused, tercet
from tercet.conversion import convert
from tercet.formats.gguf import open_gguf
from tercet.models.saving import save_huggingface_folder
from tiny_models import TINY_CONFIG, random_masters
from vocabularies import fixtures

BINARY = np.where(random_codes(g.HIDDEN, g.HIDDEN) > 0, 1, -1).astype(np.int8)


def digests(path: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    """What `--digest` says of every ternary matrix, by its name in the file."""
    finished = tercet("inspect", path, "--json", "--digest", *arguments)
    assert finished.status == 0, finished
    return {one["stored_name"]: one["digest"] for one in finished.data["tensors"] if "digest" in one}


def test_a_digest_is_the_same_whatever_the_storage(tiny_model_folder: Path, tmp_path: Path) -> None:
    expected = tercet("inspect", tiny_model_folder, "--json", "--digest").data["tensors"]
    of_name = {one["name"]: one.get("digest") for one in expected}
    assert sum(one is not None for one in of_name.values()) == 14
    for to, name in (("native", "x.tercet"), ("huggingface", "x"), ("gguf-f32", "x.gguf")):
        convert(tiny_model_folder, tmp_path / name, to=to, embedding_type="f32")
        found = tercet("inspect", tmp_path / name, "--json", "--digest").data
        assert {one["name"]: one.get("digest") for one in found["tensors"]} == of_name
        assert found["config"] == TINY_CONFIG.to_dict()


def test_a_gguf_file_is_explained(tmp_path: Path) -> None:
    path = g.write_small_model(tmp_path / "small.gguf")
    data = tercet("inspect", path, "--json").data
    assert data["kind"] == "GGUF file of bitnet"
    assert data["tokens"] == len(g.VOCABULARY)
    up = next(one for one in data["tensors"] if one["name"] == "layers.0.ffn.up")
    codes = open_gguf(path).ternary("layers.0.ffn.up").codes
    assert up["stored_name"] == "blk.0.ffn_up.weight"
    assert (up["type"], up["granularity"], up["group_size"]) == ("Q2_0", "tensor", None)
    assert up["zeros"] == np.count_nonzero(codes == 0)
    assert up["bits_per_weight"] == pytest.approx(2.25)
    text = tercet("inspect", path, "--digest").out
    assert hashlib.sha256(codes.tobytes()).hexdigest()[:16] in text
    assert "0.25" in text


def test_quick_reads_no_weights(tmp_path: Path) -> None:
    path = g.write_small_model(tmp_path / "small.gguf")
    data = tercet("inspect", path, "--json", "--quick").data
    assert not data["checked"]
    assert data["share_of_zeros"] is None
    assert all(one["zeros"] is None for one in data["tensors"])
    assert "not checked" in tercet("inspect", path, "--quick").out


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        ("binary", "no weight is zero: it is a binary model"),
        ("zeros", "layers.0.attention.q holds nothing but zeros"),
        ("I2_S", "taken to be in the canonical layout"),
    ],
)
def test_what_is_odd_is_noted(tmp_path: Path, change: str, remark: str) -> None:
    def projection(name: str, shape: tuple[int, int]) -> Tensor:
        codes = random_codes(*shape)
        if change == "binary":
            codes = np.where(codes > 0, 1, -1).astype(np.int8)
        if change == "zeros" and name == "blk.0.attn_q.weight":
            codes = np.zeros(shape, np.int8)
        number, pack = g.TYPES["I2_S" if change == "I2_S" else "TQ2_0"]
        return Tensor(name, shape[::-1], number, pack(codes, 0.5))

    path = tmp_path / "odd.gguf"
    path.write_bytes(container(metadata(), model_tensors(projection)))
    finished = tercet("inspect", path)
    assert finished.status == 0, finished
    assert f"note: {remark}" in finished.out or remark in finished.out.replace("\n", " ")


def test_the_layout_can_be_given(tmp_path: Path) -> None:
    def projection(name: str, shape: tuple[int, int]) -> Tensor:
        return Tensor(name, shape[::-1], 36, g.i2_s(random_codes(*shape), 0.5, "arm"))

    path = tmp_path / "arm.gguf"
    path.write_bytes(container(metadata(), model_tensors(projection)))
    codes = random_codes(*g.SHAPES["ffn_up"])
    expected = hashlib.sha256(codes.tobytes()).hexdigest()
    assert digests(path, "--layout", "arm")["blk.0.ffn_up.weight"]["codes_sha256"] == expected
    assert digests(path)["blk.0.ffn_up.weight"]["codes_sha256"] != expected
    assert_refused(tercet("inspect", path, "--layout", "x86"), "I2_S has canonical")


def test_what_does_not_run_is_described_with_the_reason(tmp_path: Path) -> None:
    hybrid = tmp_path / "hybrid.gguf"
    hybrid.write_bytes(container(metadata("qwen35"), model_tensors(q2_0_projection)))
    data = tercet("inspect", hybrid, "--json", "--digest").data
    assert data["config"] is None
    assert "qwen35" in data["remarks"][0]
    assert "Gated-DeltaNet" in data["remarks"][0]
    up = next(one for one in data["tensors"] if one["name"] == "blk.0.ffn_up.weight")
    codes = random_codes(*g.SHAPES["ffn_up"], seed=len(up["name"]))
    assert up["digest"]["codes_sha256"] == hashlib.sha256(codes.tobytes()).hexdigest()
    assert "note: it cannot be run" in tercet("inspect", hybrid).out.replace("\n", " ")

    other = tmp_path / "folder"
    save_huggingface_folder(other, TINY_CONFIG, random_masters(TINY_CONFIG))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(
        json.dumps(config | {"architectures": ["Mamba2"], "model_type": "mamba2"})
    )
    described = tercet("inspect", other, "--json").data
    assert "mamba2" in described["remarks"][0].lower()
    assert {one["type"] for one in described["tensors"]} == {"F32"}
    (tmp_path / "alone.txt").write_bytes(b"no model")
    assert_refused(tercet("inspect", tmp_path / "alone.txt"), "not a model file")


def test_digests_of_files_that_other_programs_wrote(tmp_path: Path) -> None:
    """Every file of the fixtures whose weights are known: shapes, scales and codes, through the command."""
    folder = fixtures()
    truth = json.loads((folder / "truth.json").read_text())
    compared = 0
    for entry in json.loads((folder / "manifest.json").read_text())["files"]:
        path = folder / entry["file"]
        key = entry["truth"].split("key ")[1].split()[0] if "truth" in entry else entry["file"].rstrip("/")
        if key not in truth:
            continue
        if path.suffix == ".gz":
            path = tmp_path / path.stem
            path.write_bytes(gzip.decompress((folder / entry["file"]).read_bytes()))
        found = digests(path)
        assert set(found) == set(truth[key]), path.name
        for name, expected in truth[key].items():
            assert found[name]["shape"] == expected["shape"]
            assert found[name]["scale"] == np.float32(expected["scale"]), (path.name, name)
            assert found[name]["codes_sha256"] == expected["codes_int8_rowmajor_sha256"], (path.name, name)
            assert (found[name]["plus"], found[name]["minus"]) == (expected["plus"], expected["minus"])
        compared += 1
    assert compared >= 24
