"""libtercet against the Python package: the same models, the same bits, the same refusals.

Everything runs in a process of its own under the address sanitizer (tests/plugins/c_library.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c_library import CError, CLibrary, build_checked, hexadecimal, integers
from native_files import damaged_header, write_model
from random_decoders import CONFIGS, Feeder, assert_same_bits, random_tokens
from tercet import LLM
from tercet.errors import FormatError, TercetError, UnsupportedModelError
from tercet.kernels.decoder import Decoder
from tercet.models.loading import load_model
from tercet.models.random_weights import RandomStyle
from tiny_models import TINY_CONFIG, tiny_tokenizer_json

pytestmark = pytest.mark.timeout(1200)  # a compilation, on a machine that may be busy

PROMPT = "Once upon a time there was a little dog"
SAMPLINGS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0, "min_tokens": 5, "repetition_penalty": 1.3},
    {"temperature": 0.8, "top_p": 0.9, "seed": 1},
    {"temperature": 1.5, "top_k": 40, "min_p": 0.02, "seed": 2**63 + 11},
    {"temperature": 1.0, "top_p": 1, "presence_penalty": 0.5, "frequency_penalty": -0.5, "seed": 3},
    {"temperature": 0.7, "seed": 4, "stop": (" the ", "dog", "zzz")},
]


@pytest.fixture(scope="module")
def library() -> Iterator[CLibrary]:
    with CLibrary(build_checked()) as process:
        yield process


@pytest.fixture(scope="module")
def shipped(library: CLibrary, shipped_model: Path) -> Iterator[LLM]:
    with LLM(shipped_model, threads=1, prefix_cache=False) as llm:
        yield llm


# What is computed -----------------------------------------------------------------------------------


def test_what_a_model_says_of_itself(library: CLibrary, shipped: LLM) -> None:
    assert library.open(shipped.path) == {
        "vocab_size": shipped.config.vocab_size,
        "max_context": shipped.config.max_context,
        "first_token": shipped.config.first_token_id,
        "chat_template": load_model(shipped.path).chat_template,
        "isa": "reference",
    }


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_answers_are_those_of_python(library: CLibrary, shipped: LLM, sampling: dict[str, Any]) -> None:
    expected = shipped.generate(PROMPT, max_tokens=16, **sampling)
    library.open(shipped.path)
    library.session()
    answer = library.generate(PROMPT, max_tokens=16, **sampling)
    assert answer.ids == expected.token_ids
    assert answer.text == expected.text
    assert answer.finish == expected.finish_reason
    assert answer.seed == sampling.get("seed", answer.seed)


def test_settings_of_the_file_count(library: CLibrary, tiny_model_file: Path) -> None:
    with LLM(tiny_model_file, threads=1) as llm:
        expected = llm.generate(PROMPT, seed=5, max_tokens=20)
    library.open(tiny_model_file)
    library.session()
    assert library.generate(PROMPT, seed=5, max_tokens=20).ids == expected.token_ids


@pytest.mark.parametrize("kv_type", [0, 1, 2], ids=["f32", "f16", "int8"])
def test_a_conversation_goes_on_where_it_ended(library: CLibrary, shipped: LLM, kv_type: int) -> None:
    """A session that grows, is cut back and goes on gives what a new one gives for the whole text."""
    library.open(shipped.path)
    library.session(200, kv_type)
    first = library.generate(PROMPT, temperature=0, max_tokens=6)
    second = library.generate(" The cat", temperature=0, max_tokens=6)
    tokens = [shipped.prompt_tokens(PROMPT), first.ids, shipped.tokenize(" The cat")]
    library.session(200, kv_type)
    whole = library.generate([id for part in tokens for id in part], temperature=0, max_tokens=6)
    assert whole.ids == second.ids
    library.call("truncate", len(tokens[0]))
    assert library.generate([first.ids[0]], temperature=0, max_tokens=5).ids == first.ids[1:]
    library.call("truncate", 0)
    assert library.generate(PROMPT, temperature=0, max_tokens=3, most=2).finish == "callback"


def test_sessions_of_many_threads_share_a_model(library: CLibrary, shipped_model: Path) -> None:
    """Threads that open text, draw and compute at once get what each would get alone."""
    library.open(shipped_model)
    together = library.call("parallel", 6, hexadecimal(PROMPT)).split("|")[:-1]
    for seed, ids in enumerate(together):
        library.session()
        assert library.generate(PROMPT, max_tokens=8, seed=seed).ids == integers(ids)


MODELS: dict[str, dict[str, Any]] = {
    **{name: {"config": config} for name, config in CONFIGS.items() if config.pooling is None},
    "five per byte, f16": {"config": CONFIGS["grouped"], "packing": "five_per_byte", "head_type": "f16"},
    "bf16": {"config": CONFIGS["one kv head"], "head_type": "bf16"},
    "int8 planes": {"config": CONFIGS["grouped"], "head_type": "int8_planes"},
    "int6 planes": {"config": CONFIGS["silu, untied"], "head_type": "int6_planes"},
    "a scale a row": {"config": CONFIGS["grouped"], "style": RandomStyle(granularity="row")},
    "a scale a group": {
        "config": CONFIGS["grouped"],
        "style": RandomStyle(granularity="group", group_size=16),
    },
    "ternary tables": {
        "config": CONFIGS["grouped"],
        "packing": "five_per_byte",
        "style": RandomStyle(ternary_embeddings=True),
    },
}


@pytest.mark.parametrize("name", MODELS)
def test_logits_of_every_family_are_the_same_bits(library: CLibrary, tmp_path: Path, name: str) -> None:
    path = write_model(tmp_path / "model.tercet", **MODELS[name])
    loaded = load_model(path)
    tokens = random_tokens(loaded.config, 30)
    feeder = Feeder(Decoder(loaded.config, loaded.weights))
    feeder.feed({"alone": tokens})
    library.open(path)
    library.session()
    library.call("append", *tokens[:20])
    assert_same_bits(library.logits(), feeder.result("alone")[19])
    library.call("append", *tokens[20:])
    assert_same_bits(library.logits(), feeder.result("alone")[29])


# What is refused ------------------------------------------------------------------------------------


def test_every_refusal_has_its_status(library: CLibrary, tmp_path: Path, shipped: LLM) -> None:
    embedding = write_model(tmp_path / "embedding", CONFIGS["embedding"])
    (tmp_path / "empty").touch()
    (tmp_path / "future").write_bytes(b"TERCET\r\n\x02" + bytes(100))
    damaged = bytearray(shipped.path.read_bytes())
    damaged[-70_000] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    for name, status, words in (
        ("nothing", "TERCET_NOT_FOUND", "there is no file"),
        (".", "TERCET_FORMAT", "not a regular file"),
        ("empty", "TERCET_FORMAT", "is empty"),
        ("future", "TERCET_UNSUPPORTED", "version 2"),
        ("damaged", "TERCET_CHECKSUM", "does not match its checksum"),
    ):
        with pytest.raises(CError, match=words) as caught:
            library.open(tmp_path / name)
        assert caught.value.status == status
        assert str(tmp_path / name) in caught.value.message
    library.open(embedding)
    assert status_of(library, "session", 0, 0) == "TERCET_UNSUPPORTED"
    library.open(shipped.path)
    assert status_of(library, "session", 513, 0) == "TERCET_INVALID_ARGUMENT"
    assert status_of(library, "session", 0, 3) == "TERCET_INVALID_ARGUMENT"
    library.session(16)
    assert status_of(library, "generate", "token=4096") == "TERCET_INVALID_ARGUMENT"
    assert status_of(library, "generate", "temperature=-1", "token=3") == "TERCET_INVALID_ARGUMENT"
    assert status_of(library, "generate", "stop=", "token=3") == "TERCET_INVALID_ARGUMENT"
    assert status_of(library, "logits") == "TERCET_INVALID_ARGUMENT"
    assert status_of(library, "truncate", 1) == "TERCET_INVALID_ARGUMENT"
    assert status_of(library, "tokenize", "c3") == "TERCET_INVALID_ARGUMENT"
    assert status_of(library, "generate", *["token=3"] * 16) == "TERCET_CONTEXT"
    answer = library.generate([3] * 15, temperature=0, ignore_end=1)
    assert (answer.finish, len(answer.ids), answer.session_length) == ("length", 1, 16)


def status_of(library: CLibrary, *words: object) -> str:
    with pytest.raises(CError) as caught:
        library.call(*words)
    return caught.value.status


def test_a_file_that_becomes_shorter_is_an_error(library: CLibrary, tmp_path: Path, shipped: LLM) -> None:
    path = tmp_path / "model.tercet"
    path.write_bytes(shipped.path.read_bytes())
    library.open(path)
    library.session()
    library.call("append", 5)
    with path.open("r+b") as file:
        file.truncate(200_000)
    assert status_of(library, "logits") == "TERCET_DAMAGED"


DAMAGE = [
    ("any", None, 150),
    ("config", "config", 200),
    ("tensors", "tensors", 120),
    ("generation", "generation", 40),
]


@pytest.mark.parametrize(
    ("part", "count"), [(part, count) for _, part, count in DAMAGE], ids=[n for n, *_ in DAMAGE]
)
def test_what_python_refuses_is_refused(
    library: CLibrary, tmp_path: Path, part: str | None, count: int
) -> None:
    """Headers changed by somebody who mends the checksum: both readers say the same."""
    wholes = [
        write_model(
            tmp_path / f"whole{index}",
            config,
            tokenizer_json=tiny_tokenizer_json(),
            generation={"temperature": 0.5, "top_k": 4, "stop": ["x"], "seed": 7},
        ).read_bytes()
        for index, config in enumerate((TINY_CONFIG, CONFIGS["gemma3"], CONFIGS["qwen3"], CONFIGS["rotated"]))
    ]
    taken = 0
    for seed in range(count):
        random = np.random.default_rng(seed)
        path = tmp_path / f"{seed}.tercet"
        path.write_bytes(damaged_header(wholes[seed % len(wholes)], random, part))
        reason = refusal_of_python(path)
        try:
            library.open(path)
            refusal = ""
        except CError as error:
            refusal = str(error)
        assert bool(reason) == bool(refusal), f"{seed}: Python: {reason or 'taken'}; C: {refusal or 'taken'}"
        taken += not refusal
        if not refusal:
            try:
                library.session(1)
                library.call("append", 1)
                library.logits()
            except CError as error:
                if error.status not in ("TERCET_UNSUPPORTED", "TERCET_INVALID_ARGUMENT"):
                    raise
        path.unlink()
    assert 0 < taken < count or part == "tensors"


def refusal_of_python(path: Path) -> str:
    try:
        loaded = load_model(path)
        Decoder(loaded.config, loaded.weights)
    except (FormatError, UnsupportedModelError) as error:
        return str(error)
    except TercetError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def test_no_changed_byte_goes_unnoticed(library: CLibrary, tmp_path: Path) -> None:
    whole = write_model(tmp_path / "whole", TINY_CONFIG).read_bytes()
    library.open(tmp_path / "whole")
    path = tmp_path / "damaged"
    front = 64 + int.from_bytes(whole[16:24], "little")
    for position in [*range(0, front, 23), *range(front, len(whole), 499)]:
        flipped = bytes([whole[position] ^ 1 << position % 8])
        for data in (whole[:position] + flipped + whole[position + 1 :], whole[:position]):
            path.unlink(missing_ok=True)  # the old file may still be mapped: never change it in place
            path.write_bytes(data)
            expected = "TERCET_FORMAT", "TERCET_CHECKSUM", "TERCET_UNSUPPORTED"
            assert status_of(library, "open", bytes(path).hex()) in expected, position
