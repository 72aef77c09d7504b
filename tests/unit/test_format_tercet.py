"""The native file: what is written is read back, and everything that is wrong is named."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_files import BLOBS, TENSORS, small_plan, small_values, write_small_file
from tercet.errors import ChecksumError, FormatError, ParameterError, UnsupportedFormatError
from tercet.formats.floats import from_float32
from tercet.formats.matrices import FloatMatrix, PackedMatrix
from tercet.formats.tercet import FilePlan, TensorPlan, TercetFile, create_file, reader, verified
from tercet.formats.tercet.layout import PREAMBLE_BYTES, Preamble


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_file(tmp_path_factory.mktemp("native") / "small.tercet")


def rewritten(path: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change the JSON of a file and make its checksum right again; the data stay where they are."""
    data = path.read_bytes()
    preamble = Preamble.parse(data[:64], path, len(data))
    header = json.loads(data[64 : 64 + preamble.header_bytes])
    change(header)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    assert len(text) <= preamble.header_bytes, "a test's change may only shorten the header"
    text = text.ljust(preamble.header_bytes)
    fixed = Preamble(zlib.crc32(text), len(text), len(data)).pack()
    target.write_bytes(fixed + text + data[64 + len(text) :])
    return target


def test_everything_written_is_read_back(small_file: Path) -> None:
    file = TercetFile(small_file)
    plan = small_plan()
    assert file.verified
    assert (file.header.config, file.header.generation) == (plan.config, plan.generation)
    assert (file.header.chat_template, file.header.metadata) == ("{{ 'é' }}", {"who": "a test"})
    assert {name: file.blob(name) for name in file.header.blobs} == BLOBS
    assert list(file.header.tensors) == [plan.name for plan in TENSORS]
    for name, (values, scales) in small_values().items():
        matrix = file.tensor(name)
        if isinstance(matrix, FloatMatrix):
            assert np.array_equal(matrix.data, from_float32(values, matrix.type).reshape(-1))
        else:
            assert scales is not None
            tensor = matrix.unpack()
            assert np.array_equal(tensor.codes, values)
            assert np.array_equal(tensor.scales.reshape(-1), scales)
    granularities = [file.tensor(name).unpack().granularity for name in ("two", "five", "grouped")]
    assert granularities == ["tensor", "row", "group"]


def test_tensors_are_read_only_views_of_the_mapping(small_file: Path) -> None:
    file = TercetFile(small_file)
    for name in file.header.tensors:
        matrix = file.tensor(name)
        arrays = [matrix.data, matrix.scales] if isinstance(matrix, PackedMatrix) else [matrix.data]
        for array in arrays:
            assert not array.flags.writeable
            assert not array.flags.owndata
            assert array.ctypes.data % 64 == 0
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0


def test_the_same_input_gives_the_same_bytes(small_file: Path, tmp_path: Path) -> None:
    again = write_small_file(tmp_path / "again.tercet")
    assert again.read_bytes() == small_file.read_bytes()
    assert small_plan().file_bytes == small_file.stat().st_size
    assert small_file.stat().st_size % 64 == 0


def test_chunks_make_no_difference(small_file: Path, tmp_path: Path) -> None:
    source = TercetFile(small_file)
    with create_file(tmp_path / "chunks.tercet", small_plan()) as writer:
        for plan in TENSORS:
            matrix = source.tensor(plan.name)
            chunks = [matrix.data[i : i + 1] for i in range(matrix.data.size)]
            scales = matrix.scales if isinstance(matrix, PackedMatrix) else None
            writer.write_tensor(plan.name, chunks, scales)
    assert (tmp_path / "chunks.tercet").read_bytes() == small_file.read_bytes()


def test_the_offsets_fit_whatever_their_number_of_digits(tmp_path: Path) -> None:
    """The header holds offsets that depend on its own length; sizes here make it grow while it is placed."""
    for num_tensors in (0, 1, 6, 7, 8, 40):
        tensors = [TensorPlan(f"t{i}", "f32", 1, 2 ** (i % 9)) for i in range(num_tensors)]
        path = tmp_path / f"{num_tensors}.tercet"
        with create_file(path, FilePlan({}, tensors)) as writer:
            for tensor in tensors:
                writer.write_tensor(tensor.name, [np.full(tensor.depth, 1.5, np.float32)])
        file = TercetFile(path)
        assert all((file.tensor(tensor.name).data == 1.5).all() for tensor in tensors)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda h: h.pop("config"), "header.config"),
        (lambda h: h.update(config=[]), "header.config"),
        (lambda h: h.update(extra=1), "'extra'"),
        (lambda h: h.update(chat_template=3), "header.chat_template"),
        (lambda h: h.update(tensors={}), "the end of the last piece"),
        (lambda h: h["tensors"].pop("embedding"), "the offset of tensor two"),
        (lambda h: h["tensors"].update(two=5), "header.tensors.two"),
        (lambda h: h["tensors"]["two"].pop("scales"), "header.tensors.two.scales"),
        (lambda h: h["tensors"]["two"].update(shape=[20]), "header.tensors.two.shape"),
        (lambda h: h["tensors"]["two"].update(shape=[0, 0]), "header.tensors.two.shape"),
        (lambda h: h["tensors"]["two"].update(shape=[2, -1]), "header.tensors.two.shape"),
        (lambda h: h["tensors"]["two"].update(shape=[2.0, 1]), "header.tensors.two.shape"),
        (lambda h: h["tensors"]["two"].update(shape=[True, 1]), "header.tensors.two.shape"),
        (lambda h: h["tensors"]["two"].update(shape=[17, 2]), "header.tensors.two.bytes"),
        (lambda h: h["tensors"]["two"].update(sha256="z" * 64), "header.tensors.two.sha256"),
        (lambda h: h["tensors"]["two"].update(sha256="0" * 63), "header.tensors.two.sha256"),
        (lambda h: h["tensors"]["two"].update(offset=-64), "header.tensors.two.offset"),
        (lambda h: h["tensors"]["two"].update(offset=64), "the offset of tensor two"),
        (lambda h: h["tensors"]["two"]["scales"].update(bytes=8), "header.tensors.two.scales.bytes"),
        (lambda h: h["tensors"]["two"]["scales"].update(granularity="x"), "two.scales.granularity"),
        (lambda h: h["tensors"]["grouped"]["scales"].update(group_size=3), "group_size"),
        (lambda h: h["tensors"]["grouped"]["scales"].update(group_size=0), "group_size"),
        (lambda h: h["tensors"]["norm"].update(bytes=4), "header.tensors.norm.bytes"),
        (lambda h: h["tensors"]["embedding"].update(shape=[2**33, 1]), "header.tensors.embedding.shape"),
        (lambda h: h["blobs"]["empty"].update(bytes=1), "the offset of tensor embedding|the end"),
        (lambda h: h["blobs"]["empty"].pop("sha256"), "header.blobs.empty.sha256"),
    ],
)
def test_a_malformed_field_is_named(
    small_file: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], field: str
) -> None:
    path = rewritten(small_file, tmp_path / "bad.tercet", change)
    with pytest.raises(FormatError, match=field) as caught:
        TercetFile(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"null", b"[]", b"{", b"[" * 50_000, b"\xff\xfe{}",
        b'{"config": NaN}', b'{"config": {"a": 1e999}}', b'{"config": ' + b"9" * 5000 + b"}",
        b'{"config": {}, "config": {}}', b'{"chat_template": "\\ud800"}',
    ],
)  # fmt: skip
def test_a_header_that_is_not_our_json_is_refused(tmp_path: Path, text: bytes) -> None:
    padded = text.ljust(-(-max(len(text), 1) // 64) * 64)
    path = tmp_path / "bad.tercet"
    path.write_bytes(Preamble(zlib.crc32(padded), len(padded), 64 + len(padded)).pack() + padded)
    with pytest.raises(FormatError, match=re.escape(str(path))):
        TercetFile(path)


def test_unknown_versions_and_types_are_told_from_damage(small_file: Path, tmp_path: Path) -> None:
    newer = bytearray(small_file.read_bytes())
    newer[8] = 2
    (tmp_path / "newer.tercet").write_bytes(newer)
    with pytest.raises(UnsupportedFormatError, match="version 2"):
        TercetFile(tmp_path / "newer.tercet")
    other = rewritten(small_file, tmp_path / "type.tercet", lambda h: h["tensors"]["two"].update(type="q4"))
    with pytest.raises(UnsupportedFormatError, match="q4"):
        TercetFile(other)


def test_data_that_match_their_checksum_are_still_looked_at(tmp_path: Path) -> None:
    """Whoever wrote the file also wrote the checksum: codes and floats are checked for what they mean."""
    two, five = TensorPlan("t", "two_bit", 1, 4, "tensor"), TensorPlan("t", "five_per_byte", 1, 5, "row")
    one, infinity = np.ones(1, np.float32), np.full(1, np.inf, np.float32)
    cases: list[tuple[TensorPlan, np.ndarray, np.ndarray | None, str]] = [
        (two, np.full(64, 0xC0, np.uint8), one, "two_bit"),
        (five, np.full(64, 0x80, np.uint8), one, "five_per_byte"),
        (two, np.zeros(64, np.uint8), infinity, "scales"),
        (TensorPlan("t", "f16", 1, 2), np.array([1, np.nan], np.float16), None, "not a number"),
        (TensorPlan("t", "bf16", 1, 2), np.array([0x7F80, 0], "<u2"), None, "infinite"),
    ]
    for number, (plan, data, scales, reason) in enumerate(cases):
        path = tmp_path / f"{number}.tercet"
        with create_file(path, FilePlan({}, [plan])) as writer:
            writer.write_tensor("t", [data], scales)
        with pytest.raises(FormatError, match=reason):
            TercetFile(path)


def test_damage_is_found_unless_one_asks_not_to_look(small_file: Path, tmp_path: Path) -> None:
    data = bytearray(small_file.read_bytes())
    piece = TercetFile(small_file).header.tensors["embedding"].piece
    data[piece.offset] ^= 1
    path = tmp_path / "flipped.tercet"
    path.write_bytes(data)
    with pytest.raises(ChecksumError, match="tensor embedding"):
        TercetFile(path)
    unverified = TercetFile(path, verify=False)
    assert not unverified.verified
    with pytest.raises(ChecksumError):
        unverified.verify()


def test_what_is_not_there_is_said(small_file: Path) -> None:
    file = TercetFile(small_file)
    with pytest.raises(FormatError, match=r"tokenizer\.json, empty"):
        file.blob("other.json")
    with pytest.raises(FormatError, match="'nothing'"):
        file.tensor("nothing")


def test_a_writer_holds_to_its_plan(tmp_path: Path) -> None:
    path = tmp_path / "model.tercet"
    plan = FilePlan({}, [TensorPlan("a", "f32", 1, 2), TensorPlan("b", "two_bit", 1, 2, "tensor")])
    floats, codes, scale = np.ones(2, np.float32), np.zeros(64, np.uint8), np.ones(1, np.float32)
    with pytest.raises(ParameterError, match="'a' here, not 'b'"), create_file(path, plan) as writer:
        writer.write_tensor("b", [codes], scale)
    with pytest.raises(ParameterError, match="8 bytes and took 12"), create_file(path, plan) as writer:
        writer.write_tensor("a", [np.ones(3, np.float32)])
    with pytest.raises(ParameterError, match="scales of a"), create_file(path, plan) as writer:
        writer.write_tensor("a", [floats], scale)
    only_b = FilePlan({}, plan.tensors[1:])
    with pytest.raises(ParameterError, match="scales of b"), create_file(path, only_b) as writer:
        writer.write_tensor("b", [codes])
    with pytest.raises(ParameterError, match="not written, 'b' first"), create_file(path, plan) as writer:
        writer.write_tensor("a", [floats])
    with pytest.raises(ParameterError, match="have scales"):
        TensorPlan("a", "f32", 1, 2, "tensor")
    assert not list(tmp_path.iterdir()), "a failed write leaves nothing behind"


def test_a_failed_write_leaves_the_old_file(small_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tercet"
    path.write_bytes(small_file.read_bytes())
    with pytest.raises(KeyboardInterrupt), create_file(path, FilePlan({}, [])):
        raise KeyboardInterrupt
    assert path.read_bytes() == small_file.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_recognizes_looks_at_the_first_bytes(small_file: Path, tmp_path: Path) -> None:
    assert TercetFile.recognizes(small_file)
    (tmp_path / "other").write_bytes(b"GGUF....")
    assert not TercetFile.recognizes(tmp_path / "other")
    assert not TercetFile.recognizes(tmp_path)
    assert not TercetFile.recognizes(tmp_path / "absent")
    assert PREAMBLE_BYTES == 64


def test_a_large_file_is_checked_when_it_is_opened_first(
    tiny_model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(reader, "VERIFY_ALWAYS_UP_TO_BYTES", 0)
    path = tmp_path / "model.tercet"
    path.write_bytes(tiny_model_file.read_bytes())
    checks: list[Path] = []
    verify = TercetFile.verify
    monkeypatch.setattr(TercetFile, "verify", lambda file: (checks.append(file.path), verify(file))[1])

    def opened(**options: bool) -> int:
        checks.clear()
        assert TercetFile(path, **options).verified
        return len(checks)

    assert opened() == 1
    assert opened() == 1, "a file that was written just now may be written again in the same tick"
    os.utime(path, ns=(0, 0))  # changes the time of the entry, too
    monkeypatch.setattr(verified, "SETTLED_NANOSECONDS", -1)
    assert [opened(), opened(), opened(verify=True)] == [1, 0, 1]
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(0, 0))  # the time of the content says nothing, but that of the entry does
    with pytest.raises(ChecksumError):
        TercetFile(path)
    path.write_bytes(tiny_model_file.read_bytes())
    assert [opened(), opened()] == [1, 0]
    other = path.rename(tmp_path / "renamed.tercet")
    path = other
    assert [opened(), opened()] == [1, 0]
    for note in (tmp_path / "cache" / "verified").iterdir():
        note.write_bytes(b"\xff")
    assert opened() == 1
    monkeypatch.setenv("TERCET_CACHE", "/dev/null/nowhere")
    assert [opened(), opened()] == [1, 1]
