"""Data sets as people have them -> examples to train on: token ids with a loss mask.

    sources       a file, a folder, a name on the Hub or rows in memory -> rows with their places;
                  `files`, `json_files`, `tables` and `hub` do the reading (`hub_files`
                  chooses, `hub_errors` explains)
    rows          a row, and what is said of one that is bad
    shapes        a row -> a conversation, a text or segments; `messages` reads the turns
    encoding      chat template, tokens, loss mask
    split         rows held out for validation
    packing       several short examples in one sequence
    preparation   all of this, in order: `prepare`
    report        what became of every row
    creation      rows of Python -> a file: `create_dataset`

Nothing is lost in silence: a bad row is an error that names file and row, and what is skipped, left out or
cut is counted.
"""

from __future__ import annotations

from tercet.data.creation import create_dataset
from tercet.data.example import Example, PreparedData
from tercet.data.preparation import prepare
from tercet.data.report import PreparationReport

__all__ = ["Example", "PreparationReport", "PreparedData", "create_dataset", "prepare"]
