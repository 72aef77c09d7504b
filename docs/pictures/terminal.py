"""Makes the terminal pictures of the README from real runs: `.venv/bin/python docs/pictures/terminal.py`.

Each picture is what a terminal of WIDTH columns showed, colours included: the command runs in a
pseudo-terminal, rich turns the bytes into an SVG. Run it again when the output or the shipped model
changes; the text is repeatable (seeded), the figures are of the machine that it ran on.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).resolve().parent
WIDTH = 92

PICTURES = {
    "run": 'tercet run "Once upon a time" --max-tokens 150 --seed 11',
}


def run_in_terminal(command: str) -> str:
    """What the command writes to a terminal of WIDTH columns."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": programs,
        "COLUMNS": str(WIDTH),
        "LINES": "40",
        "TERM": "xterm-256color",
    }
    main_side, terminal_side = pty.openpty()
    with subprocess.Popen(
        shlex.split(command), stdin=terminal_side, stdout=terminal_side, stderr=terminal_side, env=environment
    ) as process:
        os.close(terminal_side)
        output = b""
        while True:
            try:
                part = os.read(main_side, 65536)
            except OSError:  # how Linux says that the other side has been closed
                break
            if not part:
                break
            output += part
    os.close(main_side)
    if process.returncode != 0:
        raise SystemExit(f"`{command}` exited with {process.returncode}:\n{output.decode()}")
    return what_remains(output.decode().replace("\r\n", "\n"))


def what_remains(written: str) -> str:
    """The screen in the end: lines that were erased (a progress display) are gone, colours are kept."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\n|\r|[^\x1b\n\r]+", written):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif up := re.fullmatch(r"\x1b\[(\d+)A", part):
            row -= int(up[1])
        elif part[0] not in "\x1b\r" or part.endswith("m"):
            lines[row] += part
    return "\n".join(lines).rstrip()


def draw(name: str, command: str) -> Path:
    """Run the command and write its picture; returns the file."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
    console.print(Text.from_ansi(run_in_terminal(command)))
    drawing = console.export_svg(title="tercet", unique_id=f"tercet-{name}")
    # Rich asks a font server for Fira Code; a picture of ours asks nobody for anything.
    drawing = re.sub(r" *@font-face \{.*?\}\n", "", drawing, flags=re.S)
    path = HERE / f"{name}.svg"
    path.write_text(drawing, encoding="utf-8")
    return path


if __name__ == "__main__":
    for picture, asked in PICTURES.items():
        print(draw(picture, asked))
