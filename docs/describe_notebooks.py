"""Turns the pages of docs/notebooks into Jupyter notebooks: the same text, cells to run, empty ones to fill.

    ```python ... ```           a cell of code; a ```text block right below is its output
    <!-- cell: yours -->        an empty cell, for an exercise
    anything else               Markdown

A notebook depends on nothing but its page, so that the test can say whether it is fresh.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

__all__ = ["NOTEBOOKS", "notebook"]

NOTEBOOKS = Path(__file__).parent / "notebooks"
PIECES = re.compile(
    r"^```python\n(?P<code>.*?)^```$(?:\n\n^```text\n(?P<output>.*?)^```$)?"
    r"|^(?P<yours><!-- cell: yours -->)$",
    re.M | re.S,
)
YOURS = "# Yours.\n"


def notebook(page: Path) -> str:
    """Return the notebook of a page, as the text of its file."""
    text = page.read_text(encoding="utf-8")
    cells: list[dict[str, Any]] = []
    position = 0
    for piece in PIECES.finditer(text):
        _add_markdown(cells, text[position : piece.start()])
        if piece["yours"]:
            _add_code(cells, YOURS, None)
        else:
            _add_code(cells, piece["code"], piece["output"])
        position = piece.end()
    _add_markdown(cells, text[position:])
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {
        "cells": [{"id": f"cell-{number}", **cell} for number, cell in enumerate(cells, 1)],
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def _add_markdown(cells: list[dict[str, Any]], text: str) -> None:
    if text.strip():
        cells.append({"cell_type": "markdown", "metadata": {}, "source": _lines(text)})


def _add_code(cells: list[dict[str, Any]], code: str, output: str | None) -> None:
    outputs = (
        [] if output is None else [{"name": "stdout", "output_type": "stream", "text": _lines(output, "\n")}]
    )
    cells.append(
        {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {},
            "outputs": outputs,
            "source": _lines(code),
        }
    )


def _lines(text: str, end: str = "") -> list[str]:
    """The lines of a text as notebooks keep them, each with its end but for the last."""
    return (text.strip("\n") + end).splitlines(keepends=True)
