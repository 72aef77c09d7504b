"""What is fuzzed: functions of bytes from strangers, the sound examples to begin with, and how to damage one.

    TARGETS[name].open(folder)      a function of bytes; it returns, or raises one of `refusals`
    TARGETS[name].seeds(folder)     sound examples
    TARGETS[name].damage            damage that keeps the grammar, besides what the fuzzer does by itself

Files are those of `untrusted_kinds`. The others check laws besides: what comes back means what went in.
`fuzz_driver` runs them.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

from damage import Damage, damaged_json, damaged_text
from tercet.errors import (
    ChecksumError,
    FormatError,
    OverloadedError,
    TercetError,
    UnsupportedFormatError,
    UntrustedModelError,
)
from tercet.sampling.constraints import ConstraintSpec, compile_constraint
from tercet.sampling.token_constraint import ConstraintError
from tercet.security.manifest import parse_manifest, write_manifest
from tercet.security.signatures import PublicKey, read_public_key, verify_signature
from tercet.server.json_text import JsonTextError, read_json
from tercet.server.streaming.events import DONE, event, named_event
from tercet.server.streaming.response import EventStream
from tercet.service.tool_call_parser import CallDelta, ContentDelta, ToolCallParser
from tercet.tokenization import IncrementalDecoder, Tokenizer
from tiny_models import TEXTS, tiny_tokenizer_json
from untrusted_kinds import KINDS

__all__ = ["BROKEN", "TARGETS", "Target"]

Run = Callable[[bytes], object]
Refusals = tuple[type[BaseException], ...]


@dataclasses.dataclass(frozen=True)
class Target:
    """One thing to fuzz."""

    open: Callable[[Path], Run]
    seeds: Callable[[Path], Sequence[bytes]]
    damage: Damage | None = None
    refusals: Refusals = (TercetError,)


def file_target(name: str, wrap: Callable[[bytes], bytes] | None = None) -> Target:
    """One of the kinds of files."""
    kind = KINDS[name]

    def open_in(folder: Path) -> Run:
        read = kind.open(folder)
        return read if wrap is None else lambda data: read(wrap(data))

    return Target(open_in, kind.wholes, kind.damage, kind.refusals)


def mended(data: bytes) -> bytes:
    """A native file whose lengths and checksum are right, so that its header is read whatever it says."""
    length = min(int.from_bytes(data[16:24], "little"), max(0, len(data) - 64))
    header = data[64 : 64 + length].ljust(-(-length // 64) * 64)
    rest = data[64 + length :]
    numbers = ((zlib.crc32(header), 4), (len(header), 8), (64 + len(header) + len(rest), 8))
    front = data[:12].ljust(12, b"\0") + b"".join(number.to_bytes(size, "little") for number, size in numbers)
    return front + bytes(32) + header + rest


# Grammars -------------------------------------------------------------------------------------------

SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]},
    {"type": "array", "items": {"enum": ["x", 1, None, True]}, "minItems": 1, "maxItems": 3},
    {
        "anyOf": [{"type": "string", "pattern": "^[a-z]{1,3}$"}, {"$ref": "#/$defs/b"}],
        "$defs": {"b": {"const": 2}},
    },
    {"type": "object", "patternProperties": {"^x": {"type": "number"}}, "additionalProperties": False},
    {"type": "string", "format": "date-time", "maxLength": 30},
]
MOST_TOKENS = 12


def open_constraint(kind: str) -> Callable[[Path], Run]:
    """Compile, and write a little of an answer that keeps to it: the tokens that the bytes point at."""

    def open_in(folder: Path) -> Run:
        tokenizer = Tokenizer(tiny_tokenizer_json())

        def follow(data: bytes) -> None:
            text = data.decode("utf-8", "replace")
            constraint = compile_constraint(ConstraintSpec(kind, text), tokenizer)  # type: ignore[arg-type]
            for byte in data[:MOST_TOKENS]:
                mask = constraint.mask()
                if constraint.is_finished or not mask.any():
                    break
                allowed = mask.nonzero()[0]
                chosen = int(allowed[byte % len(allowed)])
                assert chosen not in tokenizer.special_ids, "a control token in the middle of an answer"
                constraint.accept(chosen)

        return follow

    return open_in


REGEX = [
    *("(", ")", "[", "]", "{3}", "{1,}", "{,9999}", "*", "+", "?", "|"),
    *("\\d", "\\p{L}", "\\b", "(?i)", "^", "$", "[^a]"),
]
GRAMMAR = [
    *("start: ", "root ::= ", " | ", '"a"', "/a+/", "\n", "%ignore"),
    *("start", "(", ")", "*", "{2,3}", "[a-z]"),
]

# Text in pieces --------------------------------------------------------------------------------------


def read_stream(data: bytes) -> list[tuple[str, str]]:
    """Events (name, data) as a browser reads them: WHATWG HTML, section 9.2.6."""
    events: list[tuple[str, str]] = []
    name, lines = "", []
    text = data.decode("utf-8")
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if lines:
                events.append((name, "\n".join(lines)))
            name, lines = "", []
        elif field == "data":
            lines.append(value)
        elif field == "event":
            name = value
    return events


def check_events(data: bytes) -> None:
    """Any texts, in any number of events, are what a client reads, in order, and nothing else."""
    texts = data.decode("utf-8", "surrogateescape").split("\x1e")
    named = [named_event("response.output_text.delta", {"text": text}) for text in texts[1:]]
    sent = asyncio.run(_sent([event({"text": texts[0]}), *named, DONE]))
    assert sent.isascii()
    *events, last = read_stream(sent)
    assert last == ("", "[DONE]")
    assert [json.loads(shown)["text"] for _, shown in events] == texts
    assert [name for name, _ in events] == ["", *["response.output_text.delta"] * len(named)]
    assert len(sent.decode().splitlines()) == sent.count(b"\n"), "a line that only some clients see"


async def _sent(events: Sequence[bytes]) -> bytes:
    async def source() -> AsyncGenerator[bytes, None]:
        for one in events:
            yield one

    messages: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError("a stream does not listen")

    await EventStream(source())({"type": "http"}, receive, send)
    return b"".join(message.get("body", b"") for message in messages)


def open_decoder(folder: Path) -> Run:
    """The pieces of a streamed answer are its text, and what was shown is never taken back."""
    tokenizer = Tokenizer(tiny_tokenizer_json())

    def check(data: bytes) -> None:
        ids = [int.from_bytes(data[at : at + 2], "little") % 520 for at in range(0, len(data) - 1, 2)]
        decoder = IncrementalDecoder(tokenizer)
        pieces = [decoder.push(token_id) for token_id in ids]
        assert "".join([*pieces, decoder.finish()]) == tokenizer.decode(ids)

    return check


TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "get_weather")]
CALLS = [
    'Well: <tool_call>{"name": "f", "arguments": {"a": [1, "}"]}}</tool_call> and <tool_call>{"name": "f"',
    '{"name": "get_weather", "parameters": {"city": "K\\u00f6ln"}}',
    '[TOOL_CALLS] [{"name": "f", "arguments": {}}, {"name": "f", "arguments": {"x": null}}]',
    '{"type": "function", "function": {"name": "f", "arguments": "{\\"a\\": 1}"}}',
    'no <tool_call> at all {"name": "g", "arguments": {}}',
]
CALL_WORDS = [
    *("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>"),
    *('{"name": "f", "arguments": ', "{", "}", "[", '"', "\\"),
]


def check_calls(data: bytes) -> None:
    """An answer in pieces says the same as the whole, and arguments of complete calls are JSON."""
    text = data.decode("utf-8", "replace")
    step = 1 + data[0] % 7 if data else 1
    whole, pieces = ToolCallParser(TOOLS), ToolCallParser(TOOLS)
    expected = _told([*whole.push(text), *whole.finish()])
    deltas = [d for at in range(0, len(text), step) for d in pieces.push(text[at : at + step])]
    assert _told([*deltas, *pieces.finish()]) == expected


def _told(deltas: Sequence[Any]) -> tuple[str, list[list[str]]]:
    words, calls = "", []
    for delta in deltas:
        if isinstance(delta, ContentDelta):
            words += delta.text
        elif isinstance(delta, CallDelta):
            if delta.name is not None:
                calls.append([delta.name, ""])
            calls[-1][1] += delta.arguments
    return words, calls


def check_body(data: bytes) -> None:
    """A body that is taken has one meaning: written down again it is read as the same."""
    value = read_json(data)
    assert read_json(json.dumps(value).encode()) == value


# Those who vouch -------------------------------------------------------------------------------------

FILES = Path(__file__).parents[1] / "golden" / "minisign"


def open_manifest(folder: Path) -> Run:
    """A manifest, a key and a signature: none of them is taken for another, and what is read is written."""
    signed = (FILES / "manifest.sha256").read_bytes()
    key = read_public_key((FILES / "minisign.pub").read_text())

    def check(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        with contextlib.suppress(FormatError):
            digests = parse_manifest(data)
            assert parse_manifest(write_manifest(digests)) == digests
            assert not any(path.startswith("/") or ".." in path.split("/") for path in digests)
        with contextlib.suppress(FormatError):
            assert isinstance(read_public_key(text), PublicKey)
        if verify_signature(signed, text, [key], "it") != "made for a test":
            raise AssertionError("a forged signature was accepted")

    return check


def texts_of(*texts: str) -> Callable[[Path], Sequence[bytes]]:
    return lambda folder: [text.encode() for text in texts]


def files_of(*paths: Path) -> Callable[[Path], Sequence[bytes]]:
    return lambda folder: [path.read_bytes() for path in paths]


CONSTRAINT_REFUSALS: Refusals = (ConstraintError, OverloadedError)
TARGETS: dict[str, Target] = {
    "tercet": file_target("native, checksums mended", mended),
    "gguf": file_target("gguf model"),
    "gguf-vocabulary": file_target("gguf vocabulary"),
    "safetensors": file_target("safetensors"),
    "config": file_target("config.json"),
    "tokenizer": file_target("tokenizer.json"),
    "sentencepiece": file_target("sentencepiece"),
    "tiktoken": file_target("tiktoken"),
    "template": file_target("chat template"),
    "json-schema": Target(
        open_constraint("json_schema"),
        lambda folder: [json.dumps(schema).encode() for schema in SCHEMAS],
        damaged_json,
        CONSTRAINT_REFUSALS,
    ),
    "regex": Target(
        open_constraint("regex"),
        texts_of("[a-z]+(x|yz){2,5}", r"\d{4}-\d\d", "(?i)ab?"),
        damaged_text(REGEX),
        CONSTRAINT_REFUSALS,
    ),
    "grammar": Target(
        open_constraint("grammar"),
        texts_of('start: "a" b*\nb: /[0-9]/ | "(" b ")"', 'root ::= "x" ("y" | [a-z]+) root?'),
        damaged_text(GRAMMAR),
        CONSTRAINT_REFUSALS,
    ),
    "events": Target(
        lambda folder: check_events,
        texts_of("a\x1eb\r\ndata: c\n\n\x1e\u2028\x85é", *TEXTS[:2]),
        refusals=(UnicodeEncodeError,),
    ),
    "streamed-text": Target(open_decoder, lambda folder: [bytes(range(64)), "naïve 🙂".encode("utf-16-le")]),
    "tool-calls": Target(lambda folder: check_calls, texts_of(*CALLS), damaged_text(CALL_WORDS)),
    "body": Target(
        lambda folder: check_body,
        texts_of('{"messages": [{"role": "user", "content": "a"}], "temperature": 0.5, "n": 1}', "[1e5]"),
        damaged_json,
        (JsonTextError,),
    ),
    "manifest": Target(
        open_manifest,
        files_of(*(FILES / name for name in ("manifest.sha256", "minisign.pub", "prehashed.minisig"))),
        refusals=(FormatError, ChecksumError, UnsupportedFormatError, UntrustedModelError),
    ),
}


def _fails(data: bytes) -> None:
    """Fail on one in 256 inputs, to see that the fuzzer tells."""
    _ = 1 // (len(data) and data[0] - 0x2A)


BROKEN = Target(lambda folder: _fails, texts_of("a"), refusals=(FormatError,))
"""Fails on purpose; not among `TARGETS`."""
