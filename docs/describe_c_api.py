"""The reference page of libtercet: the header's own words, section by section.

A section of the header begins with a comment whose line ends in dashes; within it every declaration, or group
of them, follows the comment that describes it.
"""

from __future__ import annotations

import re
from pathlib import Path

HEADER = Path(__file__).resolve().parents[1] / "cpp" / "capi" / "tercet.h"
COMMENT = re.compile(r"/\*(.*?)\*/", re.S)
SECTION = re.compile(r"/\* ([A-Z][a-z ]+) -+ \*/")
NAME = re.compile(r"(?<![\w`])(\*?(?:tercet_\w+|TERCET_\w+)(?:\(\))?|\*\w+|NULL|<\w+\.h>|\"[^\"]*\"|-1\b)")
PART = re.compile(r"(?:\A|\n\n)(/\*(?:(?!\*/).)*\*/)\n(.*?)(?=\n\n|\Z)", re.S)
DECLARED = re.compile(
    r"\b(tercet_\w+)(?=\()|^#define (TERCET_\w+)|typedef (?:enum|struct) (tercet_\w+)|\(\*(\w+)\)", re.M
)


def c_api() -> str:
    """Describe the header."""
    text = HEADER.read_text(encoding="utf-8")
    opening, body = text.split("#ifndef TERCET_H", 1)
    lines = ["# C\n", *_opening(opening)]
    pieces = SECTION.split(body)
    for title, declarations in zip(pieces[1::2], pieces[2::2], strict=True):
        lines.append(f"## {title.strip()}\n")
        for comment, code in PART.findall(declarations.split("#ifdef __cplusplus")[0].rstrip() + "\n"):
            names = [next(filter(None, found)) for found in DECLARED.findall(code)]
            heading = ", ".join(f"`{name}`" for name in dict.fromkeys(names))
            quoted = f"<!-- from: cpp/capi/tercet.h -->\n```c\n{code.rstrip()}\n```\n"
            lines += [f"### {heading}\n", _prose(comment) + "\n", quoted]
    return "\n".join(lines)


def _opening(comment: str) -> list[str]:
    """The comment at the top of the header: paragraphs, and an indented example."""
    made = []
    for paragraph in _uncommented(comment).strip().split("\n\n"):
        if paragraph.startswith("    "):
            reason = "a piece of a program; examples/c/tell.c is a whole one, which a test compiles and runs"
            code = "\n".join(line.removeprefix("    ") for line in paragraph.splitlines())
            made.append(f"<!-- not run: {reason} -->\n```c\n{code}\n```\n")
        else:
            made.append(_marked(" ".join(paragraph.split())) + "\n")
    return made


def _prose(comment: str) -> str:
    return _marked(" ".join(_uncommented(comment).split()))


def _marked(text: str) -> str:
    return NAME.sub(r"`\1`", text)


def _uncommented(comment: str) -> str:
    """The words of a comment without its frame."""
    (inner,) = COMMENT.findall(comment)
    return "\n".join(re.sub(r"^ ?\* ?", "", line) for line in inner.splitlines())
