"""What surrounds the program: files that must not be half written, its folders, optional dependencies.

`atomic_write` is how every file of Tercet reaches the disk. A reader sees the old file or the new one,
never a mixture, whatever happens in between (exception, Ctrl-C, full disk, loss of power):

    write to a temporary name in the same folder -> fsync the file -> rename -> fsync the folder
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

from tercet.errors import MissingExtraError, StorageError

__all__ = [
    "atomic_write",
    "cache_directory",
    "config_directory",
    "optional_import",
    "state_directory",
    "storage_errors",
]

# Errors that only writing can cause. Any other OSError of the block belongs to whatever else the block does,
# for example to reading the file that is being converted, and passes through untouched.
_WRITE_ERRORS = {
    errno.ENOSPC: "no space is left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than the file system or the process limit allows",
    errno.EROFS: "the file system is read-only",
}
_ADVICE = {
    errno.ENOSPC: "Free some space or choose another folder.",
    errno.EDQUOT: "Free some space or choose another folder.",
    errno.EFBIG: "Raise the limit (ulimit -f) or choose another file system.",
    errno.EACCES: "Choose a folder that you may write to.",
    errno.EPERM: "Choose a folder that you may write to.",
    errno.EROFS: "Choose a folder that you may write to.",
    errno.ENOENT: "Create the folder first.",
    errno.ENOTDIR: "Choose a path whose parent is a folder.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file that appears at `path` complete when the block ends, or not at all.

    A file already at `path` is replaced in one step and keeps its permissions; a symbolic link is followed.
    If the block raises, the temporary file is removed and the old file is untouched.

    Raises:
        StorageError: the folder is missing or may not be written, the disk is full, or `path` is not a
            regular file.
    """
    asked = Path(path)
    try:
        target = asked.resolve()
        mode = _mode_of_existing_file(target)
        temporary = target.with_name(f".tercet-{secrets.token_hex(8)}.tmp")
        # os.open rather than tempfile: the kernel applies the umask, so that new files get the usual
        # permissions.
        binary = getattr(os, "O_BINARY", 0)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | binary, 0o666)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links, before Python 3.13
        raise _storage_error(asked, error) from error
    try:
        file = open(descriptor, "wb", closefd=False)  # noqa: SIM115
        try:
            yield file
            if not file.closed:
                file.flush()  # here a failing write is heard of; in a destructor it would not be
        except OSError as error:
            if error.errno in _WRITE_ERRORS:
                raise _storage_error(asked, error) from error
            raise
        finally:
            with contextlib.suppress(OSError):  # a buffer that could not be written cannot be closed either
                file.close()
        try:
            if mode is not None:
                os.chmod(temporary, mode)  # noqa: PTH101
            os.fsync(descriptor)
            os.close(descriptor)
            descriptor = -1
            temporary.replace(target)
            _fsync_directory(target.parent)
        except OSError as error:
            raise _storage_error(asked, error) from error
    except BaseException:  # KeyboardInterrupt too: no interrupted run may leave a temporary file behind
        if descriptor >= 0:
            os.close(descriptor)
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def storage_errors(path: str | os.PathLike[str], *, opening: bool = False) -> Iterator[None]:
    """Turn errors of the operating system that writing to `path` causes into StorageError.

    While a file is being opened all of them are; later only those that nothing but writing can cause.
    """
    try:
        yield
    except OSError as error:
        if opening or error.errno in _WRITE_ERRORS:
            raise _storage_error(Path(path), error) from error
        raise


def _mode_of_existing_file(target: Path) -> int | None:
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if not stat.S_ISREG(mode):
        # Renaming over a device would replace the device: `tercet convert ... /dev/null` must not do that.
        raise OSError(errno.EINVAL, "it is not a regular file")
    return stat.S_IMODE(mode)


def _fsync_directory(directory: Path) -> None:
    if os.name == "nt":  # Windows has no folder handles to synchronize; its rename is journalled
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot; the rename itself has happened
            raise
    finally:
        os.close(descriptor)


def _storage_error(path: Path, error: OSError | RuntimeError) -> StorageError:
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        reason = f"the folder {path.absolute().parent} does not exist"
    elif isinstance(error, RuntimeError) or number == errno.ELOOP:
        reason = "it is a loop of symbolic links"
    elif number in _WRITE_ERRORS:
        reason = _WRITE_ERRORS[number]
    else:
        reason = (error.strerror or str(error)).lower()
    advice = _ADVICE.get(number or 0, "Choose another path.")
    return StorageError(f"cannot write {path}: {reason}. {advice}")


def cache_directory() -> Path:
    """Return the folder for files that can be fetched or made again, creating it if need be.

    `TERCET_CACHE` names it; otherwise it is the platform's usual place (`$XDG_CACHE_HOME/tercet` or
    `~/.cache/tercet`, `~/Library/Caches/tercet`, `%LOCALAPPDATA%\\tercet`).

    Raises:
        StorageError: the folder cannot be created.
    """
    if chosen := os.environ.get("TERCET_CACHE"):
        directory = Path(chosen).expanduser()
    elif sys.platform == "darwin":
        directory = Path.home() / "Library" / "Caches" / "tercet"
    else:
        variable = "LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME"
        directory = Path(os.environ.get(variable) or Path.home() / ".cache") / "tercet"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageError(
            f"cannot create the cache folder {directory}: {reason}. "
            "Set TERCET_CACHE to a folder that you may write to."
        ) from error
    return directory


def config_directory() -> Path:
    """Return the folder for what people have set up, as API keys; it may not be there yet.

    `TERCET_CONFIG` names it; otherwise it is the platform's usual place (`$XDG_CONFIG_HOME/tercet` or
    `~/.config/tercet`, `~/Library/Application Support/tercet`, `%APPDATA%\\tercet`).
    """
    if chosen := os.environ.get("TERCET_CONFIG"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "tercet"
    variable = "APPDATA" if os.name == "nt" else "XDG_CONFIG_HOME"
    return Path(os.environ.get(variable) or Path.home() / ".config") / "tercet"


def state_directory() -> Path:
    """Return the folder for what programs remember from run to run, as a history; it may not be there yet.

    `TERCET_STATE` names it; otherwise it is the platform's usual place (`$XDG_STATE_HOME/tercet` or
    `~/.local/state/tercet`, `~/Library/Application Support/tercet/state`, `%LOCALAPPDATA%\\tercet\\state`).
    """
    if chosen := os.environ.get("TERCET_STATE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "tercet" / "state"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "tercet" / "state"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "tercet"


def optional_import(module: str, extra: str) -> ModuleType:
    """Import `module`, which the optional dependencies `extra` provide.

    Raises:
        MissingExtraError: it is not installed, or it is installed and does not load.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        absent = isinstance(error, ModuleNotFoundError) and error.name == package
        found = "is not installed" if absent else f"is installed but does not load ({error})"
        raise MissingExtraError(
            f"this needs the Python package {package}, which {found}. "
            f"Install it with: pip install 'tercet[{extra}]'"
        ) from error
