"""Where exceptions end: one line on stderr and an exit code.

2    the user can put it right (a `TercetError`, or a wrong option): one line, no traceback
130  Ctrl-C
141  whoever read our output has gone (`tercet run ... | head`): not a word
1    a bug of ours: what happened, how to report it, and with --debug or TERCET_DEBUG=1 the traceback
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator

import typer

from tercet.errors import StorageError, TercetError

INTERRUPTED = 128 + 2
BROKEN_PIPE = 128 + 13

# Typer brings its own copy of click in newer releases; this is the base of its usage errors in all of them.
_UsageErrors: type[BaseException] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


@contextlib.contextmanager
def error_border(debug: bool) -> Iterator[None]:
    """Exit as the table above says when the block raises."""
    try:
        yield
        with writing_stdout():
            sys.stdout.flush()  # a full disk or a closed pipe is heard of here, not when the interpreter ends
    except (typer.Exit, typer.Abort, _UsageErrors):
        raise  # Typer's own; it knows how to show them
    except KeyboardInterrupt:
        _exit(INTERRUPTED)
    except BrokenPipeError:
        _exit(BROKEN_PIPE)
    except TercetError as error:
        if debug:
            traceback.print_exc()
        _complain(str(error))
        _exit(error.exit_code)
    except MemoryError:
        if debug:
            traceback.print_exc()
        _complain("there is not enough memory for this; ask for less, or let the process have more")
        _exit(2)
    except Exception as error:
        if debug:
            traceback.print_exc()
            _exit(1)
        _complain(f"{type(error).__name__}: {error}")
        _say(
            "This is a bug in Tercet, not a mistake of yours. Please report it, with what the same command "
            "prints as `tercet --debug ...` and with the output of `tercet doctor`."
        )
        _exit(1)


@contextlib.contextmanager
def writing_stdout() -> Iterator[None]:
    """Say what went wrong if the block cannot write to standard output.

    Raises:
        BrokenPipeError: nobody reads the pipe any more.
        StorageError: it is a file on a full disk, or the like.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageError(f"cannot write to standard output: {reason}") from error


def _exit(code: int) -> None:
    try:
        sys.stdout.flush()
    except OSError:
        # Python would try again at its end and complain: give it somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(code)


def _complain(message: str) -> None:
    _say("tercet: error: " + " ".join(message.split()))


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(line, file=sys.stderr)
