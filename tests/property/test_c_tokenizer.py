"""The tokenizer of libtercet gives the ids that Python's gives, for every text, or says that it cannot.

Texts are made of characters that Python's Unicode knows; newer ones are cut as the library's table says
(Unicode 16).
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c_library import CError, CLibrary, build_checked
from damage import damaged_json
from native_files import damaged_blob, write_model
from tercet.errors import TercetError
from tercet.models.loading import load_model
from tercet.models.registry import resolve
from tercet.tokenization import Tokenizer
from tercet.tokenization.pre_tokenizers import BYTE_LEVEL, pre_tokenizer
from tiny_models import CONTROL_TOKENS, TINY_CONFIG, tiny_tokenizer_json

pytestmark = pytest.mark.timeout(1200)  # a compilation, on a machine that may be busy

RANGES = Path(__file__).resolve().parents[2] / "cpp" / "src" / "tokenization" / "unicode_ranges.hpp"

characters = st.characters(codec="utf-8", exclude_categories=["Cn", "Cs"])
pieces = st.one_of(
    st.text(characters, max_size=20),
    st.text(" \n\r\t'sStTrReEvVmMlLdDſ019aé .,-!_́\xa0\u3000²Ⅷ東🙂", max_size=20),
    st.sampled_from([*CONTROL_TOKENS, "<tool>", "<tool_call>", "<|", "they'll've", "  \r\n \n x", "12345"]),
)
texts = st.lists(pieces, max_size=5).map("".join)


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(tiny_tokenizer_json()), **changes}).encode()


def with_rule(name: str) -> bytes:
    rule = pre_tokenizer(name, "a test")
    model = {**json.loads(tiny_tokenizer_json())["model"], "ignore_merges": rule.whole_words}
    return changed(pre_tokenizer={"type": "Sequence", "pretokenizers": list(rule.steps)}, model=model)


def with_tools() -> bytes:
    """Added tokens that are text, and one of them longer than another."""
    parsed = json.loads(tiny_tokenizer_json())
    usual = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    size = len(parsed["model"]["vocab"])
    for index, (content, special, normalized) in enumerate(
        [("<tool>", False, True), ("<tool", False, False), ("ool_call>", True, False), ("é!", False, True)]
    ):
        token = {"id": size + index, "content": content, "special": special, "normalized": normalized}
        parsed["added_tokens"].append({**token, **usual})
    return json.dumps(parsed).encode()


def with_control_words() -> bytes:
    """A vocabulary whose merges make a control token of plain text."""
    parsed = json.loads(tiny_tokenizer_json())
    vocab = parsed["model"]["vocab"]
    words = [content for content in vocab if len(content) > 1 and content not in CONTROL_TOKENS]
    parsed["added_tokens"] += [
        {"id": vocab[content], "content": content, "special": True, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for content in (*words[:3], *words[40:50], "Ġ", "a", "Ã")
    ]
    return json.dumps(parsed).encode()


def without_bytes(**model: Any) -> bytes:
    """A vocabulary that has no tokens for some bytes, as SmolLM2's."""
    parsed = json.loads(tiny_tokenizer_json())
    rare = {"q", "é", "Ł", "Ħ", "ı", "ð"}  # among them the beginning of four-byte characters
    vocab = [token for token in parsed["model"]["vocab"] if token in CONTROL_TOKENS or not rare & set(token)]
    merges = [merge for merge in parsed["model"]["merges"] if not rare & set("".join(merge))]
    numbered = {token: number for number, token in enumerate(vocab)}
    return changed(model={**parsed["model"], "vocab": numbered, "merges": merges, **model})


TOKENIZERS: dict[str, Callable[[], bytes]] = {
    "shipped": lambda: load_model(resolve(None)).tokenizer_json or b"",
    "tiny": tiny_tokenizer_json,
    **{
        name: (lambda name=name: with_rule(name))
        for name in ("llama-bpe", "qwen2", "qwen35", "gpt-2", "minicpm5")
    },  # type: ignore[misc]
    "digit runs": lambda: changed(
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": False}, BYTE_LEVEL],
        }
    ),
    "tools": with_tools,
    "control words": with_control_words,
    "bytes left out": without_bytes,
    "bytes unknown": lambda: without_bytes(unk_token="<|end_of_text|>"),
    "bytes unknown, joined": lambda: without_bytes(unk_token="!", fuse_unk=True),
}


class Pair:
    """A tokenizer in both languages."""

    def __init__(self, library: CLibrary, path: Path, tokenizer_json: bytes) -> None:
        self.python = Tokenizer(tokenizer_json)
        self.library = library
        config = TINY_CONFIG.__class__(**{**TINY_CONFIG.__dict__, "vocab_size": 4200})
        self.path = write_model(path, config, tokenizer_json=tokenizer_json)
        library.open(self.path)


@pytest.fixture(scope="module")
def library() -> Iterator[CLibrary]:
    with CLibrary(build_checked()) as process:
        yield process


@pytest.fixture(scope="module", params=TOKENIZERS)
def pair(request: pytest.FixtureRequest, library: CLibrary, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    made = TOKENIZERS[request.param]()
    return Pair(library, tmp_path_factory.mktemp("tokenizer") / "model.tercet", made)


@given(text=texts)
@settings(max_examples=150)
def test_ids_are_those_of_python(pair: Pair, text: str) -> None:
    ids = pair.library.tokenize(text)
    assert ids == pair.python.encode(text)
    assert pair.library.detokenize(ids, show_control=True) == pair.python.decode(ids, skip_special=False)


@given(ids=st.lists(st.integers(0, 4199), max_size=30), show_control=st.booleans())
@settings(max_examples=60)
def test_texts_of_any_ids_are_those_of_python(pair: Pair, ids: list[int], show_control: bool) -> None:
    assert pair.library.detokenize(ids, show_control) == pair.python.decode(ids, not show_control)


def test_long_texts(pair: Pair) -> None:
    """Words of thousands of letters, which only few ways of merging survive."""
    for text in ("a" * 20_000, "the " * 3_000, "é" * 5_000 + "\n" * 5_000, " " * 10_000 + "x", "ab" * 9_999):
        assert pair.library.tokenize(text) == pair.python.encode(text)


def test_control_tokens_are_found_by_name(pair: Pair) -> None:
    assert {name: pair.library.control(name) for name in pair.python.control_tokens} == {
        name: next(id for id in pair.python.special_ids if pair.python.token_bytes(id) == name.encode())
        for name in pair.python.control_tokens
    }
    assert pair.library.control("<|nobody|>") == -1


# Classes of characters --------------------------------------------------------------------------------


def table(name: str) -> set[int]:
    (body,) = re.findall(rf"{name}_ranges\[\] = {{(.*?)\n}};", RANGES.read_text(encoding="utf-8"), flags=re.S)
    pairs = re.findall(r"{0x([0-9A-F]+), 0x([0-9A-F]+)}", body)
    return {code for first, last in pairs for code in range(int(first, 16), int(last, 16) + 1)}


@pytest.mark.parametrize(("name", "category"), [("letter", "L"), ("number", "N"), ("mark", "M")])
def test_the_table_agrees_with_unicode(name: str, category: str) -> None:
    """For every character that Python's Unicode knows, but the few whose category a later one has changed."""
    known = {code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) != "Cn"}
    expected = {code for code in known if unicodedata.category(chr(code))[0] == category}
    assert len(expected ^ (table(name) & known)) <= 8


def test_the_blanks_are_those_of_patterns() -> None:
    python = {code for code in range(sys.maxunicode + 1) if re.fullmatch(r"\s", chr(code))}
    assert table("space") == python - {0x1C, 0x1D, 0x1E, 0x1F}  # which only Python takes for blanks


# Tokenizers of other kinds, and damaged ones ----------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"normalizer": {"type": "NFC"}}, "rewrites text by a step of the kind"),
        ({"decoder": {"type": "Fuse"}}, "decodes by a step of the kind"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre-tokenizer is of the kind"),
        ({"pre_tokenizer": {"type": "Digits", "individual_digits": True}}, "not byte-level"),
        ({"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0}}, "model is of the kind"),
    ],
    ids=str,
)
def test_a_tokenizer_of_another_kind_is_an_error_and_tokens_still_work(
    library: CLibrary, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    library.open(write_model(tmp_path / "model.tercet", TINY_CONFIG, tokenizer_json=changed(**change)))
    with pytest.raises(CError, match=words) as caught:
        library.tokenize("Once")
    assert caught.value.status == "TERCET_UNSUPPORTED"
    library.session()
    answer = library.generate([5, 6, 7], temperature=0, max_tokens=4, ignore_end=1)
    assert (len(answer.ids), answer.text) == (4, "")


def test_damaged_tokenizers_are_refused_or_give_the_ids_of_python(library: CLibrary, tmp_path: Path) -> None:
    source = write_model(tmp_path / "whole", TINY_CONFIG, tokenizer_json=changed().ljust(40_000))
    whole = source.read_bytes()
    sound = json.loads(changed())
    sound["model"] = {**sound["model"], "merges": sound["model"]["merges"][:40]}
    taken = 0
    for seed in range(150):
        random = np.random.default_rng(seed)
        part = ("added_tokens", "pre_tokenizer", "decoder", "model")[seed % 4]
        edited = damaged_json(json.dumps(sound[part]).encode(), random)
        data = json.dumps({**sound, part: "HERE"}).encode().replace(b'"HERE"', edited)
        if len(data) > 40_000:
            continue
        path = tmp_path / f"{seed}.tercet"
        path.write_bytes(damaged_blob(whole, data))
        library.open(path)
        try:
            ids = library.tokenize("Once upon <|user|> 12 é\n")
        except CError as error:
            if error.status not in ("TERCET_FORMAT", "TERCET_UNSUPPORTED"):
                raise
            continue
        try:
            expected = load_model(path).tokenizer().encode("Once upon <|user|> 12 é\n")
        except TercetError:
            continue  # the library wants even the options that change nothing to be well-formed
        assert ids == expected, seed
        taken += 1
    assert taken >= 3, "damage that both take and cut alike"
