"""Untrusted bytes without weights: tokenizers, chat templates, kernel configs, answers of the Hub."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path

from damage import damaged_json, damaged_ranks, damaged_text
from damaged_gguf import damaged_gguf
from hub_server import HubServer
from tercet.conversion.hub_api import list_repository
from tercet.conversion.hub_selection import select_files
from tercet.errors import (
    FormatError,
    HubError,
    ModelNotFoundError,
    ParameterError,
)
from tercet.formats.gguf import GgufFile, parse_kernel_config
from tercet.formats.gguf.vocabulary import read_vocabulary, vocabulary_metadata
from tercet.formats.gguf.writer import GgufPlan, create_gguf
from tercet.tokenization import ChatTemplate, Tokenizer
from tercet.tokenization.frame import with_end
from tercet.tokenization.gguf_export import to_gguf_vocabulary
from tercet.tokenization.gguf_vocab import read_gguf_vocabulary
from tercet.tokenization.model_file import read_tokenizer_model, read_tokenizer_model_file
from tercet.tokenization.tiktoken_model import read_tiktoken_model
from tiny_models import (
    CHAT_TEMPLATE,
    CONTROL_TOKENS,
    tiny_tokenizer_json,
)
from untrusted_kind import Kind, Read, constant, from_file
from untrusted_weights import KERNELS_TEXT, TEXT
from vocabularies import (
    gguf_of_sentencepiece,
    gguf_vocabulary,
    hand_made_model,
    piece,
    sentencepiece_model,
    tiktoken_ranks,
)

# Tokenizers ---------------------------------------------------------------------------------------


def use(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(TEXT)
    tokenizer.decode(ids)
    tokenizer.encode(TEXT, allow_special=True)
    for token_id in range(0, tokenizer.vocab_size + 2, 37):
        tokenizer.token_bytes(token_id)
    with contextlib.suppress(FormatError):
        _ = tokenizer.frame


def read_tokenizer_json(data: bytes) -> None:
    use(Tokenizer(data))
    with contextlib.suppress(FormatError):
        to_gguf_vocabulary(data, 500)


@functools.cache
def joined_model() -> bytes:
    return sentencepiece_model(user_defined_symbols="<|im_end|>,[x]", remove_extra_whitespaces=False)


def framed_tokenizer() -> bytes:
    return with_end(tiny_tokenizer_json(), 1, CONTROL_TOKENS[1])


def joined_tokenizer() -> bytes:
    return read_tokenizer_model(joined_model()).tokenizer_json


def unigram_tokenizer() -> bytes:
    return read_tokenizer_model(unigram_model()).tokenizer_json


@functools.cache
def unigram_model() -> bytes:
    return sentencepiece_model("unigram", normalization_rule_name="nmt_nfkc")


def small_sentencepiece() -> bytes:
    letters = (piece(letter, -9) for letter in "▁ab")
    return hand_made_model(
        piece("<unk>", 0, "unknown"), piece("<s>", 0, "control"), piece("ab", -1), *letters
    )


def read_ranks(data: bytes) -> None:
    """Without the control tokens that would follow, only the ranks of Llama 3 are a vocabulary."""
    with contextlib.suppress(FormatError):
        read_tokenizer_model(data)
    use(read_tiktoken_model(data, control_tokens=CONTROL_TOKENS).tokenizer())


def read_model_file(data: bytes) -> None:
    use(read_tokenizer_model(data).tokenizer())


def open_added_tokens(folder: Path) -> Read:
    """Tokens beside a `tokenizer.model`, where old folders have them and where newer ones do."""
    (folder / "tokenizer.model").write_bytes(small_sentencepiece())
    places = [folder / name for name in ("added_tokens.json", "tokenizer_config.json")]

    def read(data: bytes) -> None:
        place = places[b"added_tokens_decoder" in data]
        for other in places:
            other.unlink(missing_ok=True)
        place.write_bytes(data)
        use(read_tokenizer_model_file(folder / "tokenizer.model").tokenizer())

    return read


def newer_added_tokens() -> bytes:
    entries = {
        str(token_id): {"content": text} for token_id, text in ((1, "<s>"), (6, "<|x|>"), (7, "<|y|>"))
    }
    return json.dumps({"added_tokens_decoder": entries}).encode()


def old_added_tokens() -> bytes:
    return json.dumps({"<|x|>": 6, "<|y|>": 7}).encode()


def gguf_vocabularies(folder: Path) -> Sequence[bytes]:
    made = []
    for index, vocabulary in enumerate((gguf_vocabulary(), gguf_of_sentencepiece(joined_model()))):
        with create_gguf(folder / f"vocabulary-{index}", GgufPlan(vocabulary_metadata(vocabulary), [])):
            pass
        made.append((folder / f"vocabulary-{index}").read_bytes())
    return made


def read_gguf_tokenizer(path: Path) -> None:
    vocabulary = read_vocabulary(GgufFile(path).metadata)
    if vocabulary is not None:
        use(read_gguf_vocabulary(vocabulary).tokenizer())


# Texts and answers --------------------------------------------------------------------------------

JINJA = [
    *("{{", "}}", "{%", "%}", "{#", "#}", "{% endfor %}", "{% endif %}", "{% else %}", "{% if messages %}"),
    *(
        "{% for m in messages %}",
        "{% set x = messages %}",
        "{{ messages }}",
        "{{ x ~ x }}",
        "{{ m.content }}",
    ),
    *(
        "| trim",
        "| upper",
        "| length",
        "| tojson",
        "| join(',')",
        "| replace('a', 'b')",
        "| list",
        "| indent(9)",
    ),
    *(
        "[0]",
        "[-1]",
        "[1:]",
        ".content",
        ".nothing",
        "raise_exception('no')",
        "range(99999)",
        "'a' * 99999999",
    ),
    *("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "loop.index", "namespace(x=1)", "is defined"),
    *("{{ 'a' | indent(2000000000, true) }}", "{{ '%1000000000d' | format(1) }}", "<|user|>", "\0", "é"),
    "{% set ns = namespace(s='aaaa') %}{% for i in range(70) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "{% set n = namespace(s=[1]) %}{% for i in range(70) %}{% set n.s = n.s + n.s %}{% endfor %}{{ n.s }}",
    "{% for i in range(9999) %}{% for j in range(9999) %}{{ i }}{% endfor %}{% endfor %}",
]
CHATML = (
    "{% for message in messages %}{% if loop.first and message.role != 'system' %}{{ bos_token }}{% endif %}"
    "{{ '<|' ~ message.role ~ '|>' + message['content'] | trim + '<|end_of_turn|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
INI = [
    "[",
    "]",
    "\n",
    "=",
    ":",
    "m = 0",
    "k = -1",
    "bm = 9999999999999999999",
    "[DEFAULT]",
    "%(m)s",
    "#",
    "bmm",
    "\n  x",
]


def open_template(folder: Path) -> Read:
    tokenizer = Tokenizer(tiny_tokenizer_json())
    messages = [{"role": "system", "content": "be <|user|> kind"}, {"role": "user", "content": TEXT}]

    def read(data: bytes) -> None:
        try:
            source = data.decode()
        except UnicodeDecodeError as error:
            raise FormatError("not UTF-8") from error
        ids = ChatTemplate(source, tokenizer, CONTROL_TOKENS[0]).encode(messages)
        if len(ids) > 100_000_000:
            raise AssertionError("a short template makes a text without end")

    return read


def read_kernels(data: bytes) -> None:
    parse_kernel_config(data.decode("utf-8", "replace"))


def hub_answer(folder: Path) -> Sequence[bytes]:
    oid = "0123456789abcdef" * 4
    siblings = [
        {
            "rfilename": name,
            "size": 100,
            "blobId": oid[:40],
            "lfs": {"sha256": oid, "size": 100, "pointerSize": 1},
        }
        for name in ("config.json", "model.safetensors", "x.Q4_0.gguf")
    ]
    answer = {
        "id": "org/name",
        "modelId": "org/name",
        "sha": oid[:40],
        "siblings": siblings,
        "private": False,
    }
    more = {"gated": "auto", "lastModified": "2026-01-01T00:00:00.000Z", "tags": ["x"], "downloads": 1}
    config = {"cardData": {"license": "mit"}, "safetensors": {"parameters": {"BF16": 5}, "total": 5}}
    return [json.dumps(value).encode() for value in (answer, answer | more | config)]


def open_hub(folder: Path) -> Read:
    """The server lives as long as the process."""
    server = HubServer()
    server.__enter__()
    os.environ["HF_ENDPOINT"] = server.url

    def read(data: bytes) -> None:
        server.answer = data
        listing = list_repository("org/name", "main")
        select_files(listing.files, listing.repository)

    return read


TEXTS: dict[str, Kind] = {
    "gguf vocabulary": Kind(gguf_vocabularies, from_file(read_gguf_tokenizer), damaged_gguf),
    "tokenizer.json": Kind(
        constant(framed_tokenizer, tiny_tokenizer_json, joined_tokenizer, unigram_tokenizer),
        lambda folder: read_tokenizer_json,
        damaged_json,
    ),
    "sentencepiece": Kind(
        constant(small_sentencepiece, joined_model, unigram_model), lambda folder: read_model_file
    ),
    "tiktoken": Kind(constant(tiktoken_ranks), lambda folder: read_ranks, damaged_ranks),
    "added tokens": Kind(
        constant(old_added_tokens, newer_added_tokens), open_added_tokens, damaged_json, share=5
    ),
    "kernel config": Kind(constant(KERNELS_TEXT.encode), lambda folder: read_kernels, damaged_text(INI)),
    "chat template": Kind(
        constant(CHAT_TEMPLATE.encode, CHATML.encode),
        open_template,
        damaged_text(JINJA),
        (FormatError, ParameterError),
    ),
    "hub answer": Kind(
        hub_answer, open_hub, damaged_json, (FormatError, HubError, ModelNotFoundError), share=2
    ),
}
