"""Files that become shorter while they are mapped: without a guard the end, with one a mark."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from random_adapters import random_adapter, write_adapter
from tercet import LLM, _core
from tercet.engine.opening import load_for, open_engine
from tercet.errors import FormatError, ParameterError, TercetError, UnavailableError
from tercet.formats.mapped_file import MappedFile, guarded_files
from tercet.formats.safetensors import SafetensorsFile
from tercet.models.registry import resolve
from tiny_models import TINY_CONFIG

PAGE = os.sysconf("SC_PAGESIZE")
NUM_BYTES = 8 * PAGE + 100


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"\1" * NUM_BYTES)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the shipped model, for damage."""
    path = tmp_path / "model.tercet"
    path.write_bytes(resolve(None).read_bytes())
    return path


def truncate(path: Path, num_bytes: int) -> None:
    os.truncate(path, num_bytes)


def test_what_is_gone_reads_as_zeros_and_is_known(file: Path) -> None:
    with guarded_files() as files:
        mapped = MappedFile(file)
    assert files == [mapped]
    view = mapped.view(0, NUM_BYTES, "all")
    assert view.all()
    truncate(file, 2 * PAGE)
    assert view[: 2 * PAGE].all()
    assert not mapped.is_damaged
    assert not view[2 * PAGE :].any()
    assert mapped.is_damaged
    assert view[: 2 * PAGE].all()
    truncate(file, PAGE)  # and again, further in front
    assert (view[PAGE - 1], view[PAGE]) == (1, 0)


def test_a_file_that_is_whole_stays_unmarked_beside_one_that_is_not(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(file.read_bytes())
    with guarded_files():
        mapped, beside = MappedFile(file), MappedFile(other)
    truncate(file, 1)
    assert not mapped.view(PAGE, PAGE, "a page").any()
    assert beside.view(0, NUM_BYTES, "all").all()
    assert (mapped.is_damaged, beside.is_damaged) == (True, False)


def test_a_name_is_used_again_without_the_mark_of_the_one_before(file: Path) -> None:
    with guarded_files():
        mapped = MappedFile(file)
    truncate(file, 1)
    assert not mapped.view(PAGE, 1, "a byte").any()
    assert mapped.is_damaged
    del mapped
    file.write_bytes(b"\1" * NUM_BYTES)
    for _ in range(5000):  # more than there is room for at a time
        with guarded_files():
            mapped = MappedFile(file)
        assert not mapped.is_damaged
    truncate(file, PAGE)
    assert not mapped.view(PAGE, 1, "a byte").any()
    assert mapped.is_damaged


DEATH = """
import os, signal, sys
from pathlib import Path
from tercet.formats.mapped_file import MappedFile, guarded_files
from tercet.formats.safetensors import SafetensorsFile
path, other = Path(sys.argv[1]), Path(sys.argv[1] + "2")
other.write_bytes(b"1" * 100000)
{before}
mapped = MappedFile(path)
with guarded_files():
    beside = MappedFile(other)
os.truncate(path, 1)
{after}
"""


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        ("", "mapped.view(5000, 1, 'a byte').any()", -signal.SIGBUS),
        ("import faulthandler; faulthandler.enable()", "mapped.view(5000, 1, '').any()", -signal.SIGBUS),
        ("", "os.kill(os.getpid(), signal.SIGBUS)", -signal.SIGBUS),
        (
            "signal.signal(signal.SIGBUS, lambda *_: sys.exit(7))",
            "os.kill(os.getpid(), signal.SIGBUS); signal.pause()",
            7,
        ),
    ],
)
def test_a_fault_elsewhere_goes_to_who_handled_it_before(
    file: Path, before: str, after: str, status: int
) -> None:
    """A program that converts must not go on with zeros: where nobody looks at marks, death it is."""
    finished = subprocess.run(
        [sys.executable, "-c", DEATH.format(before=before, after=after), file],
        capture_output=True,
        timeout=60,
    )
    assert finished.returncode == status, finished.stderr.decode()
    assert ("faulthandler" in before) == (b"Bus error" in finished.stderr)


def test_addresses_are_checked() -> None:
    memory = np.zeros(2 * PAGE, np.uint8)
    inside = -(-memory.ctypes.data // PAGE) * PAGE
    for address, num_bytes in ((0, PAGE), (inside + 1, PAGE), (inside, 0), (inside, 2**64 - 1)):
        with pytest.raises(ParameterError, match="guard_mapped"):
            _core.guard_mapped(address, num_bytes)
    assert not _core.is_mapped_damaged(-1)
    assert not _core.is_mapped_damaged(10**9)
    _core.release_mapped(10**9)


def test_a_model_cut_off_in_use_fails_its_requests_and_nothing_else(model: Path) -> None:
    with LLM(model) as llm, LLM() as other:
        expected = other.generate("Once upon a time", max_tokens=5, temperature=0).text
        assert llm.generate("Once upon a time", max_tokens=5, temperature=0).text == expected
        assert not llm.is_damaged
        truncate(model, model.stat().st_size // 2)
        for _ in range(2):
            with pytest.raises(UnavailableError, match="become shorter"):
                llm.generate("Once upon a time", max_tokens=5)
            assert llm.is_damaged
        assert llm.engine.pool.num_owned == 0
        assert other.generate("Once upon a time", max_tokens=5, temperature=0).text == expected


def test_an_adapter_cut_off_is_refused_while_it_is_read_and_not_needed_afterwards(
    tiny_model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_adapter(tmp_path / "adapter", random_adapter(TINY_CONFIG, rank=64))
    weights = folder / "adapter_model.safetensors"
    with LLM(tiny_model_file, adapters={"voice": folder}) as llm:
        expected = llm.generate([1, 2, 3], adapter="voice", max_tokens=5, temperature=0).token_ids
        opened = SafetensorsFile.__init__

        def cut_off_when_opened(self: SafetensorsFile, path: Path) -> None:
            opened(self, path)
            truncate(Path(path), 4096)

        monkeypatch.setattr(SafetensorsFile, "__init__", cut_off_when_opened)
        with pytest.raises(FormatError, match="become shorter"):
            llm.adapters.load("voice", folder)
        assert weights.stat().st_size == 4096
        assert llm.generate([1, 2, 3], adapter="voice", max_tokens=5, temperature=0).token_ids == expected


def test_a_model_cut_off_while_it_is_opened_is_refused(model: Path) -> None:
    with LLM() as llm:
        settings = llm.settings
    loaded = load_for(model, settings)
    truncate(model, 4096)
    with pytest.raises(FormatError, match="become shorter"):
        open_engine(loaded, settings)


def test_a_model_that_is_too_short_is_refused_at_any_length(model: Path) -> None:
    for num_bytes in (0, 1, 100, 5000, model.stat().st_size // 2, model.stat().st_size - 1):
        path = model.with_name(f"{num_bytes}.tercet")
        path.write_bytes(model.read_bytes()[:num_bytes])
        with pytest.raises(TercetError):
            LLM(path)
