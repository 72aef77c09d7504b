"""Finds the examples in a Markdown page and runs them (decision 6: unless they say why not).

    ```console        every line after "$ " is a command for bash; a trailing backslash continues it. It must
    $ command         succeed, and the lines below it, up to the next "$ ", are what it prints
    output            (stdout and stderr as a terminal shows them; "..." stands for any text, over lines too)
    ```

    ```python         run in one namespace per page; a ```text block right below is exactly what it prints

A comment in the line before the fence changes that: `<!-- not run: reason -->`, or `<!-- exits 2 -->` for a
console block whose last command fails with that status.

    ```c              (and the other languages of QUOTED) is a piece of a file that something else tests: the
                      line before says which, `<!-- from: examples/c/tell.c -->`, and the file has these lines

    ```text           anything else. Where a line of it, or of an indented block, begins with a program of
                      PROGRAMS, it is a command that nobody runs, and the line before says why
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LANGUAGES = ("console", "python")
QUOTED = ("bicep", "c", "cmake", "cpp", "dockerfile", "haproxy", "ini", "nginx", "swift", "toml", "yaml")
PROGRAMS = frozenset(
    re.findall(
        r"\S+",
        """
        ./dev apt apt-get az bash brew cc clang clang++ cmake ctest curl docker g++ gcc git haproxy helm
        kubectl make nginx ninja npm numactl pip pkg podman prometheus promtool python python3 ray redis-cli
        redis-server sh ssh sudo swift systemctl taskset tercet uv wget xcodebuild
        """,
    )
)
TIMEOUT_SECONDS = 300
FENCE = re.compile(r"^(?P<comment><!--[^\n]*-->\n)?```(?P<language>\w+)\n(?P<body>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Example:
    """One fenced block; `expected` is what a Python block prints, None when the page does not say."""

    place: str
    language: str
    body: str
    expected: str | None
    not_run: str | None
    exit_status: int


def read_examples(page: Path) -> list[Example]:
    """The console and Python blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    examples = []
    fences = list(FENCE.finditer(text))
    for fence, following in zip(fences, [*fences[1:], None], strict=False):
        if fence["language"] not in LANGUAGES:
            continue
        comment = fence["comment"] or ""
        if "from:" in comment:
            continue
        not_run = re.search(r"not run: *(.*?) *-->", comment)
        exits = re.search(r"exits (\d+)", comment)
        expected = None
        if following is not None and following["language"] == "text":
            between = text[fence.end() : following.start()]
            expected = following["body"] if fence["language"] == "python" and not between.strip() else None
        line = text[: fence.start("body")].count("\n") + 1
        examples.append(
            Example(
                place=f"{page.name}:{line}",
                language=fence["language"],
                body=fence["body"],
                expected=expected,
                not_run=not_run[1] if not_run else None,
                exit_status=int(exits[1]) if exits else 0,
            )
        )
    return examples


@dataclass(frozen=True)
class Quotation:
    """A piece of a file: `source` is the file, relative to the top, None when the page names none."""

    place: str
    body: str
    source: str | None
    not_run: str | None


def read_quotations(page: Path) -> list[Quotation]:
    """The blocks of a page in the languages of QUOTED, and those of any that say where they are from."""
    text = page.read_text(encoding="utf-8")
    quotations = []
    for fence in FENCE.finditer(text):
        comment = fence["comment"] or ""
        if fence["language"] in QUOTED or "from:" in comment:
            source = re.search(r"from: *(\S+)", comment)
            not_run = re.search(r"not run: *(.{10,}?) *-->", comment)
            place = f"{page.name}:{text[: fence.start('body')].count(chr(10)) + 1}"
            quotations.append(
                Quotation(
                    place, fence["body"], source[1] if source else None, not_run[1] if not_run else None
                )
            )
    return quotations


def check_quotation(quotation: Quotation, root: Path) -> None:
    """The lines stand in the file in this order, however far indented; `...` stands for some left out."""
    source = (root / str(quotation.source)).read_text(encoding="utf-8")
    lines = "\n".join(line.strip() for line in source.splitlines())
    position = 0
    for piece in re.split(r"^\s*\.\.\.\s*$", quotation.body, flags=re.M):
        wanted = "\n".join(line.strip() for line in piece.strip().splitlines())
        found = lines.find(wanted, position)
        if found < 0:
            raise AssertionError(f"{quotation.place}: {quotation.source} does not say:\n{piece}")
        position = found + len(wanted)


def unmarked_commands(text: str) -> list[str]:
    """The lines of `text` fences and indented blocks that begin with one of PROGRAMS and have no reason."""
    marked = re.compile(r"not run: *.{10,} *-->")
    blocks = [
        fence["body"]
        for fence in FENCE.finditer(text)
        if fence["language"] == "text" and not marked.search(fence["comment"] or "")
    ]
    rest = FENCE.sub("\n", text)
    blocks += [
        block
        for block in re.findall(r"((?:^.*-->\n)?(?:^    .*\n?)+)", rest, flags=re.M)
        if not marked.search(block)
    ]
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.partition(" ")[0] in PROGRAMS]


def run_python(example: Example, namespace: dict[str, Any]) -> None:
    """Execute a block in the namespace of its page and compare what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example.body, example.place, "exec"), namespace)
    if example.expected is not None:
        check_output(example.place, example.expected, printed.getvalue())


def run_console(example: Example, folder: Path, environment: Mapping[str, str]) -> None:
    """Run a block's commands one by one and compare what each prints."""
    commands = read_commands(example.body)
    for number, (command, expected) in enumerate(commands):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        wanted = example.exit_status if number == len(commands) - 1 else 0
        if done.returncode != wanted:
            message = f"{example.place}: `{command}` exited with {done.returncode}, not {wanted}"
            raise AssertionError(f"{message}:\n{done.stdout}")
        if expected.strip():
            check_output(f"{example.place}: `{command}`", expected, done.stdout)


def read_commands(body: str) -> list[tuple[str, str]]:
    """(command, expected output) for every line that begins with "$ "."""
    body = body.replace("\\\n", "")
    parts = re.split(r"^\$ (.*)\n", body, flags=re.M)
    if parts[0].strip():
        raise AssertionError(f"a console block begins with `$ `, this one with {parts[0]!r}")
    return list(zip(parts[1::2], parts[2::2], strict=True))


def check_output(place: str, expected: str, printed: str) -> None:
    """Compare line by line but for trailing blanks; `...` in the page stands for any text."""
    wanted = "\n".join(line.rstrip() for line in expected.strip().splitlines())
    found = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    pattern = ".*".join(re.escape(part) for part in wanted.split("..."))
    if not re.fullmatch(pattern, found, flags=re.S):
        raise AssertionError(f"{place}\nthe page says:\n{wanted}\n\nprinted:\n{found}")
