"""The file `tokenizer.model` of a model folder that holds no `tokenizer.json`.

Two kinds of file bear the name: sentencepiece's, and tiktoken's of Llama 3. Neither holds the tokens that
were added later; they stand beside it, in `tokenizer_config.json` (`added_tokens_decoder`) or
`added_tokens.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tercet.errors import FormatError
from tercet.formats.fields import parse_json
from tercet.formats.mapped_file import read_bytes
from tercet.tokenization.sentencepiece_model import read_sentencepiece_model
from tercet.tokenization.tiktoken_model import count_ranks, is_tiktoken_model, read_tiktoken_model
from tercet.tokenization.vocabulary import MAX_TOKENS, Vocabulary, with_added_tokens

__all__ = ["read_tokenizer_model", "read_tokenizer_model_file"]

MAX_FILE_BYTES = 1 << 26
MAX_DIGITS = len(str(MAX_TOKENS))


def read_tokenizer_model(
    data: bytes, source: str = "tokenizer.model", added_tokens: Mapping[int, str] | None = None
) -> Vocabulary:
    """Read a `tokenizer.model` of either kind.

    Args:
        data: the bytes of the file.
        source: its name, for messages.
        added_tokens: id -> text of control tokens that stand outside the file.

    Raises:
        FormatError: the file is damaged, or the added tokens do not fit it.
        UnsupportedFormatError: it cannot be tokenized exactly.
    """
    if len(data) > MAX_FILE_BYTES:
        raise FormatError(f"{source} has {len(data):,} bytes, expected at most {MAX_FILE_BYTES:,}")
    added = dict(added_tokens or {})
    if not is_tiktoken_model(data):
        vocabulary = read_sentencepiece_model(data, source)
        return with_added_tokens(vocabulary, added, source) if added else vocabulary
    first = count_ranks(data, source)
    behind = sorted(token_id for token_id in added if token_id >= first)
    if behind != list(range(first, first + len(behind))):
        raise FormatError(f"{source} has {first:,} ranks, and the added tokens leave gaps behind them")
    return read_tiktoken_model(data, source, [added[token_id] for token_id in behind] or None)


def read_tokenizer_model_file(path: Path) -> Vocabulary:
    """Read a `tokenizer.model`, with the added tokens that the files beside it name.

    Raises:
        FormatError, UnsupportedFormatError: as `read_tokenizer_model`, or a file beside it is malformed.
        ModelNotFoundError, StorageError: it is not there, or cannot be read.
    """
    return read_tokenizer_model(read_bytes(path), str(path), _added_tokens(path.parent))


def _added_tokens(folder: Path) -> dict[int, str]:
    """Return what the folder says of tokens outside the file, newer statements over older ones."""
    found: dict[int, str] = {}
    config_file, old_file = folder / "tokenizer_config.json", folder / "added_tokens.json"
    entries: list[tuple[object, object]] = []
    if old_file.exists():
        entries += [(token_id, text) for text, token_id in _object(old_file).items()]
    if config_file.exists():
        decoder = _object(config_file).get("added_tokens_decoder", {})
        if not isinstance(decoder, Mapping):
            raise FormatError(f"{config_file}: added_tokens_decoder must be an object")
        entries += [
            (token_id, token.get("content") if isinstance(token, Mapping) else token)
            for token_id, token in decoder.items()
        ]
    for token_id, text in entries:
        number = token_id
        if isinstance(token_id, str) and token_id.isdecimal() and len(token_id) <= MAX_DIGITS:
            number = int(token_id)
        if type(number) is not int or not 0 <= number < MAX_TOKENS or not isinstance(text, str):
            raise FormatError(f"{folder}: an added token is {text!r} with the id {token_id!r}")
        found[number] = text
    return found


def _object(file: Path) -> Mapping[str, object]:
    value = parse_json(read_bytes(file), file, "the file")
    if not isinstance(value, Mapping):
        raise FormatError(f"{file} holds a JSON {type(value).__name__}, expected an object")
    return value
