"""Which files are which split: our rules against those of the library `datasets`, on folders of files."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from tercet.data.hub_files import data_files, files_of_split

pytest.importorskip("datasets", reason="the package datasets is not installed")

FOLDERS = (
    "",
    "data/",
    "train/",
    "my-test/",
    "data/validation_1/",
    "en/",
    "en/dev/",
    "a.b/",
    "latest/",
    "__c__/",
)
NAMES = (
    "train",
    "training-1",
    "x_train",
    "trainer",
    "dev",
    "val.2",
    "test",
    "eval0",
    "rows",
    "detest",
    ".test",
)
PATTERNS = (
    "**",
    "*",
    "data/*",
    "**/t*",
    "*/*",
    "train/**",
    "data/**/*.jsonl",
    "[!t]*/*",
    "?*/dev.jsonl",
    "./en/**",
)


def theirs(folder: Path, patterns: dict[str, list[str]] | None = None) -> dict[str, set[str]]:
    from datasets.data_files import DataFilesList, get_data_patterns

    found = {}
    for split, named in (patterns or get_data_patterns(str(folder))).items():
        paths: set[str] = set()
        for pattern in named:
            try:
                paths.update(DataFilesList.from_patterns([pattern], base_path=str(folder)))
            except FileNotFoundError:  # of a split's patterns, each may fit nothing
                continue
        found[str(split)] = {os.path.relpath(path, folder) for path in paths}
    return found


def ours(paths: list[str], splits: Any, card: dict[str, Any] | None = None) -> dict[str, set[str]]:
    files = data_files(paths)
    return {
        split: set(files_of_split("x/y", files, card or {}, None, split, converted=False)) for split in splits
    }


def tree(folder: Path, chooser: random.Random) -> list[str]:
    kind = chooser.choice((".jsonl", ".csv", ".parquet"))
    paths = {chooser.choice(FOLDERS) + chooser.choice(NAMES) + kind for _ in range(chooser.randint(2, 7))}
    if chooser.random() < 0.2:
        paths |= {f"data/{name}-0000{i}-of-00002-1a{kind}" for name in ("train", "test_sft") for i in (0, 1)}
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"")
    return sorted(paths)


def test_names_of_files(tmp_path: Path) -> None:
    chooser = random.Random(0)
    for number in range(60):
        folder = tmp_path / f"{number:02}"
        paths = [*tree(folder, chooser), "rows.jsonl"]
        (folder / "rows.jsonl").write_bytes(b"")
        expected = theirs(folder)
        assert ours(paths, expected) == expected, paths


def test_patterns_of_cards(tmp_path: Path) -> None:
    chooser = random.Random(1)
    compared = 0
    for number in range(40):
        folder = tmp_path / f"{number:02}"
        paths = tree(folder, chooser)
        for pattern in PATTERNS:
            expected = theirs(folder, {"train": [pattern]})
            if not expected["train"]:
                continue
            compared += 1
            card = {"configs": [{"config_name": "default", "data_files": pattern}]}
            assert ours(paths, expected, card) == expected, (pattern, paths)
    assert compared > 100
