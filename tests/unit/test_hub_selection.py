"""Which files of a repository are the model, and which names lead to it."""

from __future__ import annotations

import pytest

from tercet.conversion.hub_selection import RemoteFile, select_files
from tercet.errors import ModelNotFoundError, TercetError, UnsupportedFormatError
from tercet.models.downloads import advice
from tercet.models.hub_names import ALIASES, HubName, hub_name, is_safe_path

INDEX = "model.safetensors.index.json"


def chosen(*names: str, wanted: str | None = None) -> tuple[set[str], str | None]:
    files = [RemoteFile(name, 100, "0" * 40) for name in names]
    selection = select_files(files, "org/name", wanted)
    assert selection.num_bytes == 100 * len(selection.files)
    return {file.path for file in selection.files}, selection.file


def test_a_folder_of_safetensors() -> None:
    small = ("config.json", "tokenizer.json", "chat_template.jinja", "generation_config.json")
    others = (
        "README.md",
        "pytorch_model.bin",
        "modeling.py",
        "original/model.safetensors",
        "onnx/model.onnx",
    )
    assert chosen("model.safetensors", *small, *others) == ({"model.safetensors", *small}, None)
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    assert chosen(INDEX, *shards, "consolidated.safetensors", "config.json") == (
        {INDEX, *shards, "config.json"},
        None,
    )
    assert chosen("weights.safetensors", "adapter_model.safetensors") == ({"weights.safetensors"}, None)
    assert chosen("a.safetensors", "model.gguf") == ({"a.safetensors"}, None), "packed safetensors come first"


@pytest.mark.parametrize(
    ("names", "best"),
    [
        (["m.gguf"], "m.gguf"),
        (["ggml-model-f16.gguf", "ggml-model-i2_s.gguf"], "ggml-model-i2_s.gguf"),
        (["M-TQ1_0.gguf", "M-TQ2_0.gguf", "M-BF16.gguf"], "M-TQ2_0.gguf"),
        (
            ["Ternary-Bonsai-8B-F16.gguf", "Ternary-Bonsai-8B-Q2_0_g64.gguf"],
            "Ternary-Bonsai-8B-Q2_0_g64.gguf",
        ),
        (["M-PQ2_0.gguf", "M-Q2_0.gguf", "mmproj-F16.gguf"], "M-PQ2_0.gguf"),
        (["gguf/m.i2_s.gguf", "gguf/m.f32.gguf"], "gguf/m.i2_s.gguf"),
    ],
)
def test_the_gguf_file_that_we_read_best(names: list[str], best: str) -> None:
    assert chosen(*names, "README.md") == ({best}, best)


def test_a_file_that_was_asked_for() -> None:
    files = ("a-f16.gguf", "sub/b-f16.gguf", "model.safetensors", "config.json", "v2.safetensors")
    assert chosen(*files, wanted="a-f16.gguf") == ({"a-f16.gguf"}, "a-f16.gguf")
    assert chosen(*files, wanted="b-f16.gguf") == ({"sub/b-f16.gguf"}, "sub/b-f16.gguf")
    assert chosen(*files, wanted="v2.safetensors") == ({"v2.safetensors", "config.json"}, None)


@pytest.mark.parametrize(
    ("names", "wanted", "kind", "words"),
    [
        (["a.gguf", "b.gguf"], None, ModelNotFoundError, "2 GGUF files: a.gguf, b.gguf.*--file"),
        (["m-00001-of-00002.gguf"], None, UnsupportedFormatError, "several GGUF files"),
        (["pytorch_model.bin"], None, UnsupportedFormatError, "Pickles run code"),
        (["README.md"], None, ModelNotFoundError, "no model"),
        ([], None, ModelNotFoundError, "no model"),
        (["a/x.gguf", "b/x.gguf"], "x.gguf", ModelNotFoundError, "2 files"),
        (["README.md"], "README.md", UnsupportedFormatError, "GGUF and safetensors"),
    ],
)
def test_no_choice(names: list[str], wanted: str | None, kind: type[TercetError], words: str) -> None:
    with pytest.raises(kind, match=words):
        chosen(*names, wanted=wanted)


def test_names() -> None:
    assert hub_name("org/name") == HubName("org/name")
    assert hub_name("org/name@refs/pr/1:sub/f.gguf") == HubName("org/name", "refs/pr/1", "sub/f.gguf")
    assert hub_name("Falcon-E-3B") == HubName("tiiuae/Falcon-E-3B-Instruct")
    assert hub_name("falcon-e-3b@bfloat16") == HubName("tiiuae/Falcon-E-3B-Instruct", "bfloat16")
    for bad in (
        "",
        "name",
        "a/b/c",
        ".a/b",
        "a/b.",
        "a/..",
        "a/b@",
        "a/b:",
        "a/b:../c",
        "a b/c",
        "a/b@x y",
        "ä/b",
    ):
        assert hub_name(bad) is None, bad


def test_every_short_name_leads_to_a_repository() -> None:
    assert all(alias == alias.lower() and hub_name(alias) is not None for alias in ALIASES)
    for alias in (
        "bitnet-2b",
        "bitnet-b1.58-2b-4t",
        "falcon3-7b-1.58",
        "falcon-e-1b",
        "llama3-8b-1.58",
        "bonsai-8b",
    ):
        assert alias in ALIASES


def test_paths_that_stay_inside() -> None:
    for path in ("a", "a/b.gguf", "a b.gguf", "ü/é.gguf"):
        assert is_safe_path(path), path
    for path in (
        "",
        "/a",
        "../a",
        "a/../b",
        "a//b",
        "./a",
        "a\\b",
        "C:a",
        "a\n",
        "a.part",
        "a/b.",
        "x" * 501,
    ):
        assert not is_safe_path(path), path


def test_advice_about_names(tmp_path: object) -> None:
    assert "tercet pull bitnet-2b" in (advice("bitnet-2b") or "")
    assert "microsoft/bitnet-b1.58-2B-4T" in (advice("bitnet-2b") or "")
    assert "tercet pull org/name" in (advice("org/name") or "")
    assert advice("story.tercet") is None
