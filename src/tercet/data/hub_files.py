"""Which files of a repository on the Hub make up a split of a data set: the rules of the library `datasets`.

What the card (README.md) says under `configs` counts. Where it says nothing, names do:

    data/NAME-00000-of-00003.parquet      the split NAME
    validation/..., my_validation/...     a folder with the name of a split
    dev.jsonl, questions-test-2.csv       a file with the name of a split
    anything else                         train

A subset is one of `configs`, or a folder. Where a split lies there in several kinds of file, the kind with
most files is taken, so that no row is read twice.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from tercet.data.files import SUFFIXES, kind_of
from tercet.errors import FormatError, ParameterError

__all__ = ["CONVERTED", "data_files", "files_of_split"]

CONVERTED = "refs/convert/parquet"
"""The revision that the Hub makes by itself: SUBSET/SPLIT/0000.parquet."""
_KEYWORDS = {
    "train": "train|training",
    "validation": "validation|valid|dev|val",
    "test": "test|testing|eval|evaluation",
}
_SHARD = re.compile(r"data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*\.[^/]*")
_IN_FOLDER = r"(?:^|[-._ 0-9/])(?:{})(?:[-._ 0-9][^/]*)?/"
_IN_FILE = r"(?:^|[-._ 0-9/])(?:{})[-._ 0-9][^/]*$"
_NOT_DATA = {"config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"}
_KINDS = (".txt", ".csv", ".jsonl", ".parquet")
"""The last is taken where two have equally many files."""
_ALSO = {".json": ".jsonl", ".ndjson": ".jsonl", ".tsv": ".csv"}
_Splits = dict[str, list[str]]


def data_files(paths: Iterable[str]) -> list[str]:
    """The files that hold rows, as far as their names tell."""
    return sorted(
        path
        for path in paths
        if kind_of(PurePosixPath(path)) is not None
        and path.rpartition("/")[2] not in _NOT_DATA
        and not any(part.startswith((".", "__")) for part in path.split("/"))
    )


def files_of_split(
    name: str, files: list[str], card: Mapping[str, Any], subset: str | None, split: str, *, converted: bool
) -> list[str]:
    """Choose from the files that hold rows.

    Args:
        name: what the data set is called in messages.
        files: their paths in the repository.
        card: the fields of the card.
        subset: which configuration.
        split: which split.
        converted: whether the revision is the one that the Hub made.

    Raises:
        ParameterError: there is no such subset or split, or several subsets and none is named.
        FormatError: the card names files in a way that is not known, or files that are not there.
    """
    try:
        splits = _subset(name, files, card, subset, converted)
    except (AttributeError, TypeError, KeyError) as error:
        raise FormatError(f"the card of {name} does not say which files are which split: {error}") from error
    if split not in splits:
        raise ParameterError(
            f"{name} has no split {split!r}; it has {', '.join(splits)}. Name one with --split"
        )
    if not splits[split]:
        raise FormatError(
            f"the card of {name} names files for the split {split!r}, and there are none that hold rows "
            f"({', '.join(SUFFIXES)})"
        )
    counts = Counter(_family(path) for path in splits[split])
    kind = max(counts, key=lambda kind: (counts[kind], _KINDS.index(kind)))
    return [path for path in splits[split] if _family(path) == kind]


def _family(path: str) -> str:
    kind = kind_of(PurePosixPath(path)) or ""
    return _ALSO.get(kind, kind)


def _subset(
    name: str, files: list[str], card: Mapping[str, Any], subset: str | None, converted: bool
) -> _Splits:
    if converted:
        folders = {path.split("/")[0] for path in files if path.count("/") > 1}
        chosen = _one_of(name, sorted(folders), subset)
        return _grouped((path.split("/")[1].removeprefix("partial-"), path) for path in _in(chosen, files))
    configs = {str(config["config_name"]): config for config in card.get("configs") or ()}
    if configs:
        default = [each for each, config in configs.items() if config.get("default") is True]
        default = default or [each for each in configs if each == "default"]
        return _declared(configs[_one_of(name, list(configs), subset or "".join(default[:1]))], files)
    if subset in (None, "default"):
        return _by_name(files)
    folders = {path.split("/")[0] for path in files if "/" in path}
    return _by_name(_in(_one_of(name, ["default", *sorted(folders)], subset), files), f"{subset}/")


def _one_of(name: str, subsets: list[str], subset: str | None) -> str:
    if not subset and len(subsets) == 1:
        return subsets[0]
    if not subset:
        raise ParameterError(f"{name} has several subsets; name one with --subset: {', '.join(subsets)}")
    if subset not in subsets:
        raise ParameterError(f"{name} has no subset {subset!r}; it has {', '.join(subsets)}")
    return subset


def _in(folder: str, files: list[str]) -> list[str]:
    return [path for path in files if path.startswith(f"{folder}/")]


def _declared(config: Mapping[str, Any], files: list[str]) -> _Splits:
    """What an entry of `configs` says."""
    folder = _parts(config.get("data_dir") or "")
    prefix = "".join(f"{part}/" for part in folder)
    inside = [path for path in files if path.startswith(prefix)]
    named = config.get("data_files")
    if named is None:
        return _by_name(inside, prefix)
    if isinstance(named, str) or all(isinstance(each, str) for each in named):
        named = [{"split": "train", "path": named}]
    splits: _Splits = {}
    for entry in named:
        paths = [entry["path"]] if isinstance(entry["path"], str) else entry["path"]
        patterns = [folder + _parts(path) for path in paths]
        found = (path for pattern in patterns for path in inside if _fits(_parts(path), pattern))
        splits[str(entry["split"])] = list(dict.fromkeys(found))
    return splits


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _fits(path: list[str], pattern: list[str]) -> bool:
    """Whether a file is meant by a pattern, in which ** goes through folders and * does not.

    The places reached are a set, so that no pattern of a stranger takes longer than its length.
    """
    reached = {0}
    for part in pattern:
        if part == "**":
            reached = set(range(min(reached), len(path) + 1)) if reached else set()
        else:
            reached = {at + 1 for at in reached if at < len(path) and fnmatchcase(path[at], part)}
    return len(path) in reached


def _by_name(files: list[str], prefix: str = "") -> _Splits:
    inside = [path.removeprefix(prefix) for path in files]
    splits = _grouped((match[1], path) for path in inside if (match := _SHARD.fullmatch(path)))
    for form in (_IN_FOLDER, _IN_FILE):
        if not splits:
            splits = _grouped(
                (split, path)
                for split, words in _KEYWORDS.items()
                for path in inside
                if re.search(form.format(words), path)
            )
    splits = splits or {"train": inside}
    return {split: [prefix + path for path in paths] for split, paths in splits.items()}


def _grouped(pairs: Iterable[tuple[str, str]]) -> _Splits:
    splits: _Splits = defaultdict(list)
    for split, path in pairs:
        splits[split].append(path)
    return dict(splits)
