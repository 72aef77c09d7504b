"""Documents on disk -> token files on disk.

A corpus is JSON lines; each line is one document of one of three kinds:

    {"text": "..."}                                     plain text
    {"prompt": "...", "answer": "..."}                  one turn of chat
    {"messages": [{"role": "user", "content": "..."}]}  a conversation

(Plain `.txt` files are one document.) The documents are encoded as they are read and appended to a token
file, so a corpus may be larger than memory. Text never becomes a control token: only the scaffolding
around it is encoded as special tokens.

A token folder holds `train.tokens` and `valid.tokens` (uint16 or uint32, little endian, read by memory map)
and `tokens.json`, which says what they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from tercet.environment import atomic_write
from tercet.errors import FormatError, TrainingError
from tercet.training.tokenizer import BEGIN, END, ROLES, TURN_END, special_token_id

_BATCH = 1000
_PARTS = ("train", "valid")


@dataclass(frozen=True)
class TokenFile:
    """What a token file holds; `num_bytes` counts the UTF-8 bytes of the text, without scaffolding."""

    num_tokens: int
    num_documents: int
    num_bytes: int
    dtype: str


Document = dict[str, Any]


def read_documents(paths: Iterable[Path]) -> Iterator[Document]:
    """Yield the documents of `.jsonl` and `.txt` files; FormatError names the file and line of a bad one."""
    for path in paths:
        if not path.exists():
            raise TrainingError(f"the corpus file {path} does not exist")
        with path.open(encoding="utf-8") as lines:
            if path.suffix == ".txt":
                yield {"text": lines.read()}
                continue
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _parse(line, f"{path}:{number}")


def _parse(line: str, place: str) -> Document:
    try:
        document = json.loads(line)
    except json.JSONDecodeError as error:
        raise FormatError(
            f"{place}: not valid JSON ({error}); a corpus has one JSON object a line"
        ) from error
    kinds = ({"text"}, {"prompt", "answer"}, {"messages"})
    if not isinstance(document, dict) or not any(kind <= document.keys() for kind in kinds):
        found = sorted(document) if isinstance(document, dict) else type(document).__name__
        raise FormatError(f"{place}: found {found}; expected text, or prompt and answer, or messages")
    try:
        for text in document_texts(document):
            text.encode()
    except (AttributeError, KeyError, TypeError, UnicodeEncodeError) as error:
        raise FormatError(
            f"{place}: a text is missing, is not a string or is not valid Unicode ({error}); "
            "messages are objects with a role (system, user, assistant) and a content"
        ) from error
    return document


def document_texts(document: Document) -> list[str]:
    """The pieces of text in a document, without scaffolding."""
    return [text for text, is_special in _pieces(document) if not is_special]


def _pieces(document: Document) -> list[tuple[str, bool]]:
    if "text" in document:
        return [(BEGIN, True), (document["text"], False), (END, True)]
    messages = document.get("messages") or [
        {"role": "user", "content": document["prompt"]},
        {"role": "assistant", "content": document["answer"]},
    ]
    pieces = [(BEGIN, True)]
    for message in messages:
        pieces += [(ROLES[message["role"]], True), (message["content"], False), (TURN_END, True)]
    return pieces


def write_token_file(documents: Iterable[Document], tokenizer: Tokenizer, path: Path) -> TokenFile:
    """Encode `documents` into the token file `path` and return its description; constant memory."""
    tokenizer.encode_special_tokens = True  # special tokens inside the text stay text
    dtype = np.dtype("<u2" if tokenizer.get_vocab_size() <= 1 << 16 else "<u4")
    num_tokens = num_documents = num_bytes = 0
    with atomic_write(path) as file:
        for batch in _batches(documents):
            pieces = [piece for document in batch for piece in _pieces(document)]
            encoded = tokenizer.encode_batch(
                [t for t, special in pieces if not special], add_special_tokens=False
            )
            texts = iter(encoded)
            ids: list[int] = []
            for text, special in pieces:
                ids.extend([special_token_id(tokenizer, text)] if special else next(texts).ids)
            file.write(np.asarray(ids, dtype).tobytes())
            num_tokens += len(ids)
            num_documents += len(batch)
            num_bytes += sum(len(text.encode()) for text, special in pieces if not special)
    return TokenFile(num_tokens, num_documents, num_bytes, dtype.str)


def write_description(folder: Path, parts: dict[str, TokenFile]) -> None:
    """Write `tokens.json` for the token files `parts` in `folder`."""
    with atomic_write(folder / "tokens.json") as file:
        file.write(json.dumps({name: asdict(part) for name, part in parts.items()}, indent=2).encode())


def read_description(folder: Path) -> dict[str, TokenFile]:
    """Read `tokens.json` of a token folder, and see that its files are what it says.

    Raises:
        TrainingError: the folder is no token folder, or its tokenizer is missing.
        FormatError: the description is malformed, or a token file is missing, shorter or longer than it says.
    """
    path = folder / "tokens.json"
    try:
        parts = {name: TokenFile(**part) for name, part in json.loads(path.read_bytes()).items()}
        sizes = {name: parts[name].num_tokens * np.dtype(parts[name].dtype).itemsize for name in _PARTS}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise TrainingError(f"{folder} is no token folder: it has no tokens.json") from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{path}: not a description of token files ({error})") from error
    for name, expected in sizes.items():
        file = folder / f"{name}.tokens"
        found = file.stat().st_size if file.exists() else 0
        if found != expected:
            raise FormatError(
                f"{file}: expected {expected} bytes ({parts[name].num_tokens} tokens), found {found}; "
                "the folder was copied in part or is damaged, make it again"
            )
    if not (folder / "tokenizer.json").exists():
        raise TrainingError(f"{folder} has no tokenizer.json, so nobody knows what its tokens mean")
    return parts


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    for document in documents:
        batch.append(document)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
