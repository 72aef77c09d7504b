"""Data sets as people have them -> examples to train on: token ids with a loss mask.

sources       a file, a folder, a name on the Hub or rows in memory -> rows with their places
rows          a row, and what is said of one that is bad
shapes        a row -> a conversation, a text or segments; `messages` reads the turns
encoding      chat template, tokens, loss mask
split         rows held out for validation
packing       several short examples in one sequence
preparation   all of this, in order: `prepare`
report        what became of every row
"""

from __future__ import annotations

from tercet.data.example import Example, PreparedData
from tercet.data.preparation import prepare
from tercet.data.report import PreparationReport

__all__ = ["Example", "PreparationReport", "PreparedData", "prepare"]
