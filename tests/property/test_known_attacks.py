"""Published attacks on programs that load models, each as the smallest file that shows it.

Sources: the advisories of llama.cpp, Ollama, llama-cpp-python, vLLM and SGLang. The container's own catalogue
of damage is in tests/unit/test_gguf_container.py; here each attack bears its number and goes all the way in.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

import gguf_files as g
from gguf_files import Tensor, array, container, metadata, model_tensors, q2_0_projection, scalar, string
from tercet.errors import ContextLengthError, FormatError, TercetError, UnsupportedModelError
from tercet.llm import LLM
from tercet.models.loading import load_model
from tercet.tokenization import ChatTemplate, Tokenizer
from tiny_models import tiny_tokenizer_json

ONE = [("key", g.UINT32, scalar(g.UINT32, 1))]
ONE_TENSOR = struct.pack("<4sIQQ", b"GGUF", 3, 1, 0)
"""The front of a file, up to where its only tensor is told."""
Changes = Mapping[str, tuple[int, bytes] | None]


def model(changes: Changes, extra: list[Tensor] | None = None) -> bytes:
    """A sound small model but for these values."""
    return container(metadata("bitnet", changes), [*model_tensors(q2_0_projection), *(extra or [])])


def count(key: str, value: int, kind: int = g.UINT32) -> Changes:
    return {f"bitnet.{key}": (kind, scalar(kind, value))}


def tokens(*texts: str | bytes) -> Changes:
    return {"tokenizer.ggml.tokens": (g.ARRAY, array(g.STRING, [*texts, *map(str, range(8 - len(texts)))]))}


ATTACKS: dict[str, bytes] = {
    "CVE-2024-21802: dimensions whose product wraps": container(
        ONE, [Tensor("t", (2**32, 2**32), 0, bytes(32))]
    ),
    "CVE-2024-23605: more values than the file holds": container(ONE, num_values=2**61 + 1),
    "CVE-2024-23496: a tensor count that wraps when multiplied": container(ONE, num_tensors=2**60 + 1),
    "CVE-2024-21825: an array of 2^60 elements": container(
        [("key", g.ARRAY, array(g.UINT64, [1], 2**61 + 1))]
    ),
    "CVE-2024-21836: a string length that wraps": container(
        [("key", g.STRING, struct.pack("<Q", 2**64 - 1))]
    ),
    "CVE-2024-32878: a name that the file does not hold": ONE_TENSOR + struct.pack("<Q", 2**40) + bytes(64),
    "CVE-2024-41130: no data where a tensor should be": container(ONE, [Tensor("t", (4,), 0, bytes(16))])[
        :-32
    ],
    "CVE-2025-49847: a token longer than an int": model(
        {"tokenizer.ggml.tokens": (g.ARRAY, struct.pack("<IQQ", g.STRING, 8, 2**31 + 8) + b"x" * 64)}
    ),
    "CVE-2025-49847: a token of a megabyte": model(tokens("x" * (1 << 20))),
    "CVE-2025-53630: sizes whose sum wraps": container(
        ONE, [Tensor("t", (2**61 - 8,), 0, b""), Tensor("u", (2**61 - 8,), 0, bytes(64), offset=2**63 - 32)]
    ),
    "CVE-2026-27940: a sum that wraps to a small number": container(
        ONE, [Tensor(name, (2**62,), 24, b"", offset=i * 2**62) for i, name in enumerate("tuvw")]
    ),
    "CVE-2026-33298: bytes that wrap when padded": container(
        ONE, [Tensor("t", (2**64 - 1, 1), 24, bytes(32))]
    ),
    "CVE-2026-53923: dimensions that an int cuts": container(
        ONE, [Tensor("t", (2**32 + 4, 1), 0, bytes(32))]
    ),
    "CVE-2026-7482: a tensor that reaches past the end": container(
        ONE, [Tensor("t", (1 << 20, 1 << 10), 0, bytes(64))]
    ),
    "CVE-2026-7482: an offset past the end": container(ONE, [Tensor("t", (4,), 0, bytes(16), offset=2**40)]),
    "CVE-2024-8063: a block count of nought": model(count("block_count", 0)),
    "CVE-2024-8063: a head count of nought": model(count("attention.head_count", 0)),
    "CVE-2024-8063: a block count that is a string": model({"bitnet.block_count": (g.STRING, string("1"))}),
    "CVE-2024-12055: more layers than there are": model(count("block_count", 2**31)),
    "a dimension of nought, by which sizes are divided": container(ONE, [Tensor("t", (4, 0), 8, b"")]),
    "an alignment without bound": container(
        [("general.alignment", g.UINT32, scalar(g.UINT32, 2**31))], [Tensor("t", (4,), 0, bytes(16))]
    ),
    "2^32 - 1 dimensions": ONE_TENSOR + string("t") + struct.pack("<I", 2**32 - 1) + bytes(64),
    "scores that are strings": model({"tokenizer.ggml.scores": (g.ARRAY, array(g.STRING, ["1"] * 8))}),
    "token types that are floats": model(
        {"tokenizer.ggml.token_type": (g.ARRAY, array(g.FLOAT32, [1e30] * 8))}
    ),
    "a byte token of -1": model(
        tokens("<unk>", "<s>", "</s>", "<0x-1>")
        | {"tokenizer.ggml.token_type": (g.ARRAY, array(g.INT32, [2, 3, 3, 6, 1, 1, 1, 1]))}
    ),
    "an end-of-text id past the vocabulary": model(
        {"tokenizer.ggml.eos_token_id": (g.UINT32, scalar(g.UINT32, 2**31))}
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_file_that_attacks_is_refused(tmp_path: Path, attack: str) -> None:
    path = tmp_path / "attack.gguf"
    path.write_bytes(ATTACKS[attack])
    with pytest.raises((FormatError, UnsupportedModelError)):  # noqa: PT012 (where it is refused is its affair)
        opened = load_model(path)
        opened.tokenizer()
        for name in opened.weights:
            _ = opened.weights[name]


def test_the_file_that_the_attacks_change_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "sound.gguf"
    path.write_bytes(model({}))
    opened = load_model(path)
    assert len(opened.weights) == len(model_tensors(q2_0_projection))
    assert opened.tokenizer().encode("abc")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ messages.__class__.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os.system('id') }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    ],
    ids=lambda source: f"CVE-2024-34359, CVE-2026-5760: {source[:30]}",
)
def test_a_template_that_attacks_is_refused(source: str) -> None:
    with pytest.raises(FormatError):
        ChatTemplate(source, Tokenizer(tiny_tokenizer_json())).encode([{"role": "user", "content": "x"}])


def test_a_prompt_longer_than_any_buffer(tiny_model_file: Path) -> None:
    """CVE-2025-52566: a signed comparison of lengths let a long prompt overwrite the heap."""
    with pytest.raises(ContextLengthError):
        LLM(tiny_model_file).generate("once upon a time " * 100_000)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    """CVE-2025-32444, CVE-2025-69872, CVE-2026-3059: what unpickles runs code."""
    for name in ("model.bin", "model.pt", "model.tercet"):
        (tmp_path / name).write_bytes(b"\x80\x04cos\nsystem\n(S'touch attacked'\ntR.")
        with pytest.raises(TercetError, match="pickle"):
            load_model(tmp_path / name)
    assert not (tmp_path / "attacked").exists()
