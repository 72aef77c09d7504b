"""Docstrings and help texts as Markdown."""

from __future__ import annotations

import re


def paragraph(text: str | None) -> str:
    """A docstring or help text as Markdown: `Raises:` and the like become lists, the rest stays."""
    result: list[str] = []
    in_list = False
    for line in (text or "").replace("\b", "").strip().splitlines():
        if re.fullmatch(r"(Raises|Args|Returns|Yields):", line.strip()):
            in_list = True
            result += [f"**{line.strip()[:-1]}**", ""]
        elif in_list and (match := re.fullmatch(r" {4}(\w[^:]*): (.*)", line)):
            result.append(f"- `{match[1]}`: {match[2]}")
        else:
            in_list = in_list and line.startswith(" ")
            result.append(f"  {line.strip()}" if in_list else line)
    return "\n".join(result) + "\n"
