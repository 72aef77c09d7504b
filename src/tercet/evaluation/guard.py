"""The first thing that a process of `sandbox` runs: it gives up what the program must not have, then runs it.

A script without imports from tercet, since those lie outside of what may be read. Its arguments: an empty
folder but for program.py, seconds, bytes of memory. On standard input comes a token; the program's marks, and
its end, are told on standard output behind it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

NEW_NAMESPACES = 0x10000000 | 0x40000000 | 0x08000000  # user, network, IPC
OUTPUT_BYTES = 1 << 20
OPEN_FILES = 64

FORBIDDEN = (
    "ctypes.", "fcntl.", "ftplib.", "gc.get_", "glob.", "http.", "imaplib.", "mmap.", "nntplib.",
    "os.chdir", "os.chflags", "os.chmod", "os.chown", "os.exec", "os.fork", "os.forkpty", "os.kill",
    "os.killpg", "os.link", "os.lockf", "os.mkdir", "os.posix_spawn", "os.putenv", "os.remove",
    "os.rename", "os.rmdir", "os.setxattr", "os.spawn", "os.startfile", "os.symlink", "os.system",
    "os.truncate", "os.unsetenv", "os.utime", "pty.", "resource.", "shutil.", "signal.", "smtplib.",
    "socket.", "sqlite3.", "subprocess.", "syslog.", "telnetlib.", "tempfile.", "urllib.", "webbrowser.",
    "winreg.",
)  # fmt: skip


def main() -> None:
    """Read the arguments, give up rights, run the program."""
    folder, seconds, memory = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    token = sys.stdin.read()
    with open(os.path.join(folder, "program.py"), encoding="utf-8") as stream:  # noqa: PTH118, PTH123
        source = stream.read()
    with contextlib.suppress(OSError, AttributeError):  # not on macOS, nor where it is forbidden
        ctypes.CDLL(None, use_errno=True).unshare(NEW_NAMESPACES)
    for limit, value in (
        (resource.RLIMIT_CPU, max(1, int(seconds) + 1)),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, OUTPUT_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # never above what there is; macOS has no RLIMIT_AS
            resource.setrlimit(limit, (value, value))
    write = os.write

    def reach(mark: str) -> None:
        write(1, f"\n{token} {mark}\n".encode())

    roots = tuple(os.path.realpath(one) for one in {folder, sys.base_prefix, sys.prefix, *sys.path} if one)
    sys.addaudithook(_hook(roots, os.path.realpath(folder)))
    exec(compile(source, "program", "exec"), {"__name__": "program", "reach": reach})
    reach("END")


def _hook(roots: tuple[str, ...], folder: str) -> Callable[[str, tuple[Any, ...]], None]:
    realpath, sep, names = os.path.realpath, os.sep, FORBIDDEN
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC

    def within(path: Any, parents: tuple[str, ...]) -> bool:
        if isinstance(path, int):
            return True
        real = realpath(os.fsdecode(path if path is not None else "."))
        return any(real == one or real.startswith(one.rstrip(sep) + sep) for one in parents)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not within(path, (folder,) if (flags or 0) & writing else roots):
                raise PermissionError(f"the program may not open {path!r}")
        elif event in ("os.listdir", "os.scandir", "os.walk"):
            if not within(arguments[0], roots):
                raise PermissionError(f"the program may not look into {arguments[0]!r}")
        elif event.startswith(names):
            raise PermissionError(f"the program may not use {event}")

    return hook


if __name__ == "__main__":
    main()
