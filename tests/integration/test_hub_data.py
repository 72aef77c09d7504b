"""Data sets on a stand-in for the Hub, as a program reads them and as a person looks at them. No network."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest

from hub_server import Fault, HubServer
from program import assert_refused
from program import tercet as run_tercet
from tercet.data.hub import load_from_hub
from tercet.data.hub_errors import NoSuchDataSetError
from tercet.data.sources import open_source
from tercet.errors import FormatError, HubError, ParameterError, StorageError, TrainingError

NAME = "org/questions"
REPOSITORY = f"datasets/{NAME}"


def lines(*texts: str) -> bytes:
    return "".join(json.dumps({"prompt": f"{text}?", "answer": f"{text}."}) + "\n" for text in texts).encode()


def parquet(*texts: str) -> bytes:
    arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    out = io.BytesIO()
    writer.write_table(
        arrow.Table.from_pylist([json.loads(line) for line in lines(*texts).splitlines()]), out
    )
    return out.getvalue()


def prompts(name: str = NAME, subset: str | None = None, split: str = "train") -> list[str]:
    return [row.fields()["prompt"].rstrip("?") for row in open_source(name, subset, split).rows]  # type: ignore[index,call-overload]


@pytest.fixture
def hub(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.chdir(tmp_path)
    return hub


# Data sets that are there ----------------------------------------------------------------------------


def test_a_data_set_is_found_by_its_name_before_a_folder(hub: HubServer, tmp_path: Path) -> None:
    files = {"train.jsonl": lines("One", "Two"), "validation.parquet": parquet("Three"), "README.md": b"# Hm"}
    hub.add(REPOSITORY, files)
    (tmp_path / NAME).mkdir(parents=True)
    (tmp_path / NAME / "train.jsonl").write_bytes(lines("From the folder"))
    found = list(open_source(NAME).rows)
    assert [row.fields() for row in found] == [
        {"prompt": "One?", "answer": "One."},
        {"prompt": "Two?", "answer": "Two."},
    ]
    assert found[1].place == "org/questions/train.jsonl, row 2"
    assert not hub.downloads("validation.parquet"), "only what was asked for"
    assert prompts(split="validation") == ["Three"]
    with pytest.raises(ParameterError, match="no split 'test'; it has train, validation"):
        prompts(split="test")
    assert prompts(f"./{NAME}") == ["From the folder"]
    del hub.repositories[REPOSITORY]
    assert prompts() == ["From the folder"]


def test_the_card_says_which_files_are_which_subset(hub: HubServer) -> None:
    card = """---
configs:
- config_name: easy
  data_files:
  - {split: train, path: "a/**/*.jsonl"}
  - {split: held.out, path: [b/x.jsonl, "b/y[0-9].jsonl"]}
- config_name: hard
  data_dir: c
---
# Questions
"""
    files = {
        "README.md": card.encode(),
        "a/deep/1.jsonl": lines("A1"),
        "a/2.jsonl": lines("A2"),
        "b/x.jsonl": lines("BX"),
        "b/y1.jsonl": lines("BY"),
        "b/z.jsonl": lines("BZ"),
        "c/dev.jsonl": lines("CD"),
        "c/training-1.jsonl": lines("CT"),
    }
    hub.add(REPOSITORY, files)
    with pytest.raises(ParameterError, match="several subsets; name one with --subset: easy, hard"):
        prompts()
    assert prompts(subset="easy") == ["A2", "A1"]
    assert prompts(subset="easy", split="held.out") == ["BX", "BY"]
    assert prompts(subset="hard") == ["CT"]
    assert prompts(subset="hard", split="validation") == ["CD"]
    with pytest.raises(ParameterError, match="no subset 'harder'; it has easy, hard"):
        prompts(subset="harder")


def test_revisions_and_what_the_hub_converted(hub: HubServer) -> None:
    hub.add(REPOSITORY, {"questions.py": b"import os", "data.jsonl": lines("By a program")})
    hub.add(
        REPOSITORY,
        {"a/train/0000.parquet": parquet("A"), "a/train_gen/0000.parquet": parquet("G")},
        revision="refs/convert/parquet",
    )
    with pytest.raises(TrainingError, match=r"is a program .* not run.*org/questions@refs/convert/parquet"):
        prompts()
    assert prompts(f"{NAME}@refs/convert/parquet") == ["A"]
    assert prompts(f"{NAME}@refs/convert/parquet", "a", "train_gen") == ["G"]
    with pytest.raises(TrainingError, match=r"org/questions@v2 has no such revision. Nor is there a file"):
        prompts(f"{NAME}@v2")


KINDS = {
    ".jsonl": lines,
    ".jsonl.gz": lambda *texts: gzip.compress(lines(*texts)),
    ".csv": lambda *texts: b"prompt,answer\n" + b"".join(f"{t}?,{t}.\n".encode() for t in texts),
    ".parquet": parquet,
}


@pytest.mark.parametrize("kind", KINDS)
def test_shards_are_read_in_order(hub: HubServer, kind: str) -> None:
    names = [f"data/train-{i:05}-of-00011{kind}" for i in range(11)]
    shards = {name: KINDS[kind](f"{i} a", f"{i} b") for i, name in enumerate(names)}
    hub.add(REPOSITORY, {"data/test-00000-of-00001" + kind: KINDS[kind]("Not this"), **shards})
    assert prompts() == [f"{i} {letter}" for i in range(11) for letter in "ab"]
    assert prompts(split="test") == ["Not this"]


def test_a_data_set_without_a_card_in_folders_and_in_several_kinds(hub: HubServer) -> None:
    files = {"fr/train.csv": b"prompt,answer\nOui?,Oui.\n", "de/train.csv": b"prompt,answer\nJa?,Ja.\n"}
    hub.add(REPOSITORY, files | {"LICENSE.txt": b"Take it.\n", ".hidden/train.csv": b"x\ny\n"})
    assert prompts() == ["Ja", "Oui"]
    assert prompts(subset="fr") == ["Oui"]
    with pytest.raises(ParameterError, match="no subset 'it'; it has default, de, fr"):
        prompts(subset="it")


def test_private_data_sets_and_those_for_some(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPOSITORY, {"train.jsonl": lines("One")})
    hub.repositories[REPOSITORY].token = "hf_secret"
    hub.repositories[REPOSITORY].error_code = "RepoNotFound"
    with pytest.raises(TrainingError, match=r"the Hub has no data set .* set HF_TOKEN or .* Nor is there a"):
        prompts()
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert prompts() == ["One"]
    hub.repositories[REPOSITORY].token = None
    hub.repositories[REPOSITORY].status = 403
    hub.repositories[REPOSITORY].error_code = ""
    with pytest.raises(TrainingError, match=r"does not let us have org/questions \(status 403\)"):
        prompts()


# The Hub is away -------------------------------------------------------------------------------------


def test_what_was_fetched_is_read_without_the_hub(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPOSITORY, {"train.jsonl": lines("One"), "validation.jsonl": lines("Two")})
    hub.add(REPOSITORY, {"train.jsonl": lines("Another")}, revision="v2")
    assert (prompts(), prompts(f"{NAME}@v2")) == (["One"], ["Another"])
    asked = len(hub.requests)
    assert prompts() == ["One"]
    assert len(hub.requests) == asked + 1, "only what it consists of"
    for setting in ("HF_ENDPOINT", "offline"):
        if setting == "offline":
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        else:
            monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        assert (prompts(), prompts(f"{NAME}@v2")) == (["One"], ["Another"])
        with pytest.raises(HubError, match=r"not all of org/questions (could be|has been) fetched"):
            prompts(split="validation")
    with pytest.raises(HubError, match=r"org/others has not been fetched before, and HF_HUB_OFFLINE forbids"):
        prompts("org/others")


def test_half_a_data_set_is_not_taken_for_a_whole_one(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "Two" * 40_000
    hub.add(REPOSITORY, {"train-1.jsonl": lines("One"), "train-2.jsonl": lines(long)})
    hub.faults["train-2.jsonl"] = Fault(status=503)
    with pytest.raises(
        HubError, match=r"not all of org/questions could be fetched \(status 503\)\. What has come is kept"
    ):
        prompts()
    hub.faults["train-2.jsonl"] = Fault(drop_after=0)
    with pytest.raises(HubError, match="cannot be reached for org/questions"):
        prompts()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        HubError, match="not all of org/questions has been fetched before, and HF_HUB_OFFLINE"
    ):
        prompts()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub.faults["train-2.jsonl"] = Fault(content=b"{}")
    with pytest.raises(HubError, match=r"org/questions could not be fetched .*should be of size"):
        prompts()
    hub.faults["train-2.jsonl"] = Fault(drop_after=100_000, times=1)
    before = len(hub.downloads("train-1.jsonl"))
    assert prompts() == ["One", long]
    assert hub.requests[-1].range == "bytes=98304-", "from where it broke off"
    assert len(hub.downloads("train-1.jsonl")) == before == 1


def test_a_file_that_cannot_be_kept(hub: HubServer, tmp_path: Path) -> None:
    hub.add(REPOSITORY, {"train.jsonl": lines("One")})
    (tmp_path / "hf").write_bytes(b"no folder")
    with pytest.raises(StorageError, match="files of org/questions cannot be kept"):
        prompts()
    (tmp_path / "hf").unlink()
    assert prompts() == ["One"]
    (kept,) = (tmp_path / "cache" / "data").rglob("*.json")
    hub.repositories[REPOSITORY].status = 500
    for damaged in (b"", b"[]", b'{"commit": 1, "files": []}', b'{"commit": "a", "files": null}'):
        kept.write_bytes(damaged)
        with pytest.raises(FormatError, match=r"main\.json is damaged; remove it"):
            prompts()
    kept.unlink()
    with pytest.raises(HubError, match="the Hub answered with the status 500 for org/questions"):
        prompts()


def test_bad_answers(hub: HubServer) -> None:
    hub.add(REPOSITORY, {"README.md": b"---\na: [\n---\n", "a.jsonl": lines("One")})
    with pytest.raises(FormatError, match=r"the card .* of org/questions cannot be read"):
        prompts()
    hub.add(REPOSITORY, {"README.md": b"---\nconfigs:\n- 17\n---\n", "a.jsonl": lines("One")})
    with pytest.raises(FormatError, match="does not say which files are which split"):
        prompts()
    declared = b"---\nconfigs:\n- {config_name: a, data_files: '*.zip'}\n---\n"
    hub.add(REPOSITORY, {"README.md": declared, "a.zip": b"PK", "a.jsonl": lines("One")})
    with pytest.raises(
        FormatError, match="names files for the split 'train', and there are none that hold rows"
    ):
        prompts()
    hub.add(REPOSITORY, {"picture.png": b""})
    with pytest.raises(NoSuchDataSetError, match=r"holds no files of rows \(\.jsonl"):
        list(load_from_hub(NAME, None, "train"))
    hub.add(REPOSITORY, {"a.jsonl": lines("One")})
    hub.faults["a.jsonl"] = Fault(status=500)
    with pytest.raises(HubError, match="org/questions"):
        prompts()
    for answer in (b"<html>", b"[]", b'{"id": "org/questions"}'):
        hub.answer = answer
        with pytest.raises(FormatError, match="the Hub's answer about org/questions"):
            prompts()


# As a person sees it ---------------------------------------------------------------------------------


def test_the_command_with_a_name(hub: HubServer, tmp_path: Path) -> None:
    rows = [{"dialogue": f"What is {what}?", "summary": f"It is {what}."} for what in ("this", "that", "it")]
    shards = {f"data/train-0000{i}-of-00003.jsonl": json.dumps(row).encode() for i, row in enumerate(rows)}
    hub.add(REPOSITORY, {"data/dev-00000-of-00001.jsonl": lines("Held out"), **shards})
    (tmp_path / "plain.jinja").write_text(
        "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    variables = {"TERCET_CACHE": str(tmp_path / "cache")}
    done = run_tercet(
        *("data", "preview", NAME, "--chat-template", "plain.jinja", "--validation-share", "0"),
        *("--column", "prompt=dialogue", "--column", "answer=summary"),
        folder=tmp_path,
        **variables,
    )
    assert done.status == 0, done
    assert done.err == ""
    for row in rows:
        assert f"user: {row['dialogue']}↵\nassistant:⟦ {row['summary']}" in done.out
    assert f"2 · {NAME}/data/train-00001-of-00003.jsonl, row 1 · " in done.out
    assert f"3 of 3 rows of {NAME} used" in done.out
    hub.repositories[REPOSITORY].gated = True
    hub.add(REPOSITORY, {"train.jsonl": lines("What is new")})
    done = run_tercet("data", "preview", NAME, folder=tmp_path, **variables)
    assert_refused(done, NAME, "is gated: accept its terms", "HF_TOKEN", "Nor is there a file or folder")
