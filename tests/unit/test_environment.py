"""Files appear whole or not at all; what is missing says how to get it."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tercet import environment
from tercet.environment import atomic_write, cache_directory, optional_import
from tercet.errors import MissingExtraError, StorageError

# One byte more than the process may write to a file: the write fails as it does on a full disk, inside the
# block for an unbuffered amount, at the flush for a small one.
WRITE_TOO_MUCH = """
import resource, signal, sys
from tercet.environment import atomic_write
from tercet.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with atomic_write(sys.argv[1]) as file:
        file.write(bytes(int(sys.argv[2])))
except StorageError as error:
    print(error)
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "model.tercet"
    path.write_bytes(b"old")
    return path


def test_the_new_content_appears_when_the_block_ends(target: Path) -> None:
    with atomic_write(target) as file:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def test_the_file_may_be_seeked_and_closed_in_the_block(target: Path) -> None:
    with atomic_write(str(target)) as file:
        file.write(b"__body")
        file.seek(0)
        file.write(b"HD")
        file.close()
    assert target.read_bytes() == b"HDbody"


@pytest.mark.parametrize("interruption", [RuntimeError("bug"), KeyboardInterrupt(), SystemExit(1)])
def test_an_interrupted_block_leaves_the_old_file(target: Path, interruption: BaseException) -> None:
    def write() -> None:
        with atomic_write(target) as file:
            file.write(b"half")
            raise interruption

    with pytest.raises(type(interruption)):
        write()
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


def test_new_files_get_the_usual_permissions_and_old_ones_keep_theirs(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    with atomic_write(tmp_path / "new") as file:
        file.write(b"x")
    assert (tmp_path / "new").stat().st_mode == plain.stat().st_mode
    plain.chmod(0o600)
    with atomic_write(plain) as file:
        file.write(b"x")
    assert stat.S_IMODE(plain.stat().st_mode) == 0o600


def test_a_symbolic_link_is_followed(tmp_path: Path, target: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link"
    link.symlink_to(target)
    with atomic_write(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("size", [1001, 10_000_000])
def test_a_full_disk_is_one_clear_error_and_nothing_is_lost(target: Path, size: int) -> None:
    arguments = [sys.executable, "-W", "error", "-c", WRITE_TOO_MUCH, str(target), str(size)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert re.fullmatch(rf"cannot write {target}: the file is larger than .* allows\. .*\n", done.stdout)
    assert done.stderr == ""
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("failing_call", ["fsync", "open"])
@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no space is left on the device. Free some space"),
        (errno.EACCES, "permission denied. Choose a folder that you may write to"),
        (errno.EROFS, "the file system is read-only. Choose a folder that you may write to"),
        (errno.EIO, "input/output error. Choose another path"),
    ],
)
def test_errors_of_the_system_become_storage_errors(
    target: Path, monkeypatch: pytest.MonkeyPatch, failing_call: str, number: int, message: str
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    def write() -> None:
        with atomic_write(target) as file:
            file.write(b"new")

    with monkeypatch.context() as patched:
        patched.setattr(environment.os, failing_call, fail)
        with pytest.raises(StorageError, match=re.escape(f"cannot write {target}: {message}")):
            write()
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


def test_reading_errors_in_the_block_are_not_taken_for_writing_errors(target: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(target) as file:
        file.write((target.parent / "absent").read_bytes())
    assert target.read_bytes() == b"old"


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (folder, "it is a folder. Choose another path."),
        (pipe, "it is not a regular file. Choose another path."),
        (loop, "it is a loop of symbolic links. Choose another path."),
        (lambda path: path / "file", r"the folder \S+ does not exist. Create the folder first."),
        (lambda path: path.with_name("x" * 300), "name too long. Choose a shorter name."),
    ],
)
def test_what_cannot_be_a_file_is_refused(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    path = make(tmp_path / "odd")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StorageError, match=message), atomic_write(path):
        pytest.fail("the block must not run")
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("TERCET_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    return tmp_path


def test_the_cache_is_where_the_platform_keeps_caches(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_directory() == home / ".cache" / "tercet"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_directory() == home / "Library" / "Caches" / "tercet"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    assert cache_directory() == home / "xdg" / "tercet"
    monkeypatch.setenv("TERCET_CACHE", "~/mine")
    assert cache_directory() == home / "mine"
    assert (home / "mine").is_dir()


def test_a_cache_that_cannot_be_made_names_the_variable(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").touch()
    monkeypatch.setenv("TERCET_CACHE", str(home / "file" / "cache"))
    with pytest.raises(StorageError, match=r"cannot create the cache folder .*Set TERCET_CACHE"):
        cache_directory()


def test_an_optional_package_that_is_there_is_imported() -> None:
    assert optional_import("json.decoder", "server").__name__ == "json.decoder"


def test_an_absent_package_names_the_extra() -> None:
    with pytest.raises(
        MissingExtraError, match=r"package absent_package, which is not installed.*tercet\[train\]"
    ):
        optional_import("absent_package.part", "train")


def test_a_broken_package_is_not_called_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package.py").write_text("import another_absent_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match=r"installed but does not load \(No module named 'another"):
        optional_import("broken_package", "train")
