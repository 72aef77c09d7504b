"""The command line: `tercet COMMAND`, thin Typer commands, one file each.

`app` lists the commands and loads only the one that is called; `border` turns exceptions into one line and
an exit code. Text and data that were asked for go to stdout, everything else (progress, figures, errors) to
stderr. A command module imports at its top only what its option definitions need; what does the work is
imported inside the command, so that `tercet --help` stays quick and never loads torch.
"""

from __future__ import annotations


def main() -> None:
    """Entry point of the `tercet` program."""
    import sys

    try:
        from tercet.cli.app import app

        app(prog_name="tercet")
    except KeyboardInterrupt:  # so early that no border stands yet
        sys.exit(130)
