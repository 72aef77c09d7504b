"""Runs a program, and ends it with all that it has started when whoever asked for it is gone.

    python -I -S guard.py LIFELINE PROGRAM ARGUMENT...

LIFELINE is the number of a pipe's reading end. Only the asker holds the writing end, so it closes when the
asker ends in whatever way, SIGKILL included, and then this process kills its group, of which it is the
leader. It needs nothing but the standard library and does not import the package. See `guarded_process`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

CANNOT_RUN = 126
"""The exit status where the program cannot be started, as a shell has it."""


def main() -> int:
    """Run the program and return its exit status, or end by the signal that it ended by."""
    lifeline, *command = sys.argv[1:]
    try:
        program = subprocess.Popen(command)
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be run: {error.strerror}\n")
        return CANNOT_RUN
    threading.Thread(target=_end_with_asker, args=(int(lifeline),), daemon=True).start()
    status = program.wait()
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _end_with_asker(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    # Signals to the group are for the program, after which this process ends. Not SIG_IGN: that is inherited.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    sys.exit(main())
