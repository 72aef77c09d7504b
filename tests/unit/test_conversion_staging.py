"""A conversion that is killed is gone on with, byte for byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tercet.conversion import convert
from tercet.conversion import staging as staging_module
from tercet.conversion.staging import staging
from tercet.errors import StorageError
from tercet.models.loading import load_model

KILLED = """
import os, signal, sys
from tercet.conversion import convert, staging
staging.SYNC_BYTES = 1
def progress(state):
    if state.tensor == "layers.1.attention.q":
        os.kill(os.getpid(), signal.SIGKILL)
convert(sys.argv[1], sys.argv[2], to=sys.argv[3], progress=progress)
"""


@pytest.mark.parametrize("to", ["native", "huggingface"])
def test_a_killed_conversion_is_gone_on_with(tiny_model_folder: Path, tmp_path: Path, to: str) -> None:
    target = tmp_path / "result"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tiny_model_folder), str(target), to], check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    assert len(list(tmp_path.iterdir())) == 2
    again = convert(tiny_model_folder, target, to=to)
    assert again.resumed_tensors > 5
    assert again.verification is not None
    assert list(tmp_path.iterdir()) == [target]
    fresh = convert(tiny_model_folder, tmp_path / "fresh", to=to)
    assert fresh.resumed_tensors == 0
    file = "model.safetensors" if target.is_dir() else ""
    assert (target / file).read_bytes() == (tmp_path / "fresh" / file).read_bytes()
    assert load_model(target).config == load_model(tiny_model_folder).config


def test_what_another_plan_left_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging_module, "SYNC_BYTES", 1)
    target = tmp_path / "result"
    journal = tmp_path / ".result.partial.journal"
    for fingerprint, expected in (("one", {"a": "1"}), ("two", {})):
        with staging(target, "one") as place:
            place.file.write(b"0123456789")
            place.note("a", "1")
            kept = journal.read_bytes(), place.path.read_bytes()
        journal.write_bytes(kept[0] + b'{"tensor": "b", "dig')
        (tmp_path / ".result.partial").write_bytes(kept[1])
        with staging(target, fingerprint) as place:
            assert place.done == expected
        assert not list(tmp_path.iterdir())


def test_two_conversions_into_one_name(tmp_path: Path) -> None:
    with staging(tmp_path / "result", "one"):
        if os.name != "nt":
            with (
                pytest.raises(StorageError, match="another conversion"),
                staging(tmp_path / "result", "one"),
            ):
                pass
    with pytest.raises(StorageError, match="does not exist"), staging(tmp_path / "no" / "result", "one"):
        pass
