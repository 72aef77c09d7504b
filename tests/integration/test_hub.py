"""Pulling models from a stand-in for the Hub, as a program does it; test_cli_hub.py has the commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hub_server import FILES, MODEL, WANTED, WEIGHTS, Fault, HubServer, cached_files
from tercet.conversion.file_download import matches
from tercet.conversion.hub import PullProgress, plan_pull, pull
from tercet.conversion.hub_selection import RemoteFile
from tercet.errors import (
    ChecksumError,
    FormatError,
    HubError,
    ModelNotFoundError,
    ParameterError,
    StorageError,
    UnsupportedFormatError,
)
from tercet.models import downloads
from tercet.models.downloads import find_download, forget, incomplete_downloads, repository_lock
from tercet.models.registry import resolve

# A pull that goes well -------------------------------------------------------------------------------


def test_a_folder_is_pulled_and_found_by_its_name(hub: HubServer) -> None:
    commit = hub.add(MODEL, FILES)
    steps: list[PullProgress] = []
    download = pull(plan_pull(MODEL), steps.append)
    assert {path.name for path in download.path.iterdir()} == WANTED
    assert (download.path / "model.safetensors").read_bytes() == WEIGHTS
    assert (download.commit, download.name, download.file) == (commit, MODEL, None)
    assert steps[-1].done_bytes == steps[-1].total_bytes == download.num_bytes
    assert [step.done_bytes for step in steps] == sorted(step.done_bytes for step in steps)
    for name in (MODEL, MODEL.lower(), f"{MODEL}@main", f"{MODEL}@{commit}"):
        assert find_download(name) == download
    assert find_download(f"{MODEL}@other") is None
    assert not incomplete_downloads()


def test_what_is_there_is_not_downloaded_again(hub: HubServer) -> None:
    hub.add(MODEL, FILES)
    first = pull(plan_pull(MODEL))
    asked = len(hub.requests)
    plan = plan_pull(MODEL)
    assert plan.missing_bytes == 0
    assert pull(plan) == first
    assert len(hub.requests) == asked + 1, "only what the model consists of"


def test_a_new_commit_takes_over_what_has_not_changed(hub: HubServer) -> None:
    hub.add(MODEL, FILES)
    old = pull(plan_pull(MODEL)).path
    commit = hub.add(MODEL, FILES | {"config.json": b'{"model_type": "llama"}'})
    new = pull(plan_pull(MODEL))
    assert new.commit == commit
    assert len(hub.downloads("model.safetensors")) == 2, "the redirection and the file, once"
    assert not old.exists()
    assert (new.path / "model.safetensors").read_bytes() == WEIGHTS
    assert b"llama" in (new.path / "config.json").read_bytes()


def test_revisions_live_side_by_side(hub: HubServer) -> None:
    hub.add(MODEL, FILES)
    hub.add(MODEL, FILES | {"model.safetensors": WEIGHTS[::-1]}, revision="bfloat16")
    main, other = pull(plan_pull(MODEL)), pull(plan_pull(MODEL, revision="bfloat16"))
    assert other.name == f"{MODEL}@bfloat16"
    assert find_download(f"{MODEL}@bfloat16") == other
    assert find_download(f"{MODEL}@main") == main
    assert main.path.exists()
    assert other.path.exists()


def test_one_gguf_file_is_the_model(hub: HubServer) -> None:
    names = ("ggml-model-f16.gguf", "ggml-model-i2_s.gguf", "mmproj-f16.gguf")
    hub.add(MODEL, {name: name.encode() * 100 for name in names})
    download = pull(plan_pull(MODEL))
    assert download.path.name == "ggml-model-i2_s.gguf"
    assert download.name == f"{MODEL}:ggml-model-i2_s.gguf"
    other = pull(plan_pull(MODEL, file="ggml-model-f16.gguf"))
    assert other.path.parent == download.path.parent
    assert find_download(f"{MODEL}:ggml-model-i2_s.gguf") == download
    assert find_download(f"{MODEL}:ggml-model-f16.gguf") == other == pull(plan_pull(other.name))
    assert forget(other.name) == [other]
    assert download.path.exists()
    assert find_download(MODEL) == download


def test_short_names(hub: HubServer) -> None:
    hub.add("microsoft/bitnet-b1.58-2B-4T", FILES)
    download = pull(plan_pull("BitNet-2B"))
    assert download.repository == "microsoft/bitnet-b1.58-2B-4T"
    assert find_download("bitnet-2b") == find_download("bitnet-b1.58-2b-4t") == download


def test_the_hub_spells_the_name(hub: HubServer) -> None:
    hub.add(MODEL, FILES)
    assert pull(plan_pull(MODEL.upper())).name == MODEL


def test_private_models_need_a_token(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(MODEL, FILES)
    hub.repositories[MODEL].token = "hf_secret"
    with pytest.raises(ModelNotFoundError, match="HF_TOKEN"):
        plan_pull(MODEL)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    download = pull(plan_pull(MODEL))
    assert download.path.exists()


# What can go wrong -----------------------------------------------------------------------------------


def test_a_dropped_connection_goes_on_by_itself(hub: HubServer) -> None:
    hub.add(MODEL, FILES)
    hub.faults["model.safetensors"] = Fault(drop_after=100_000, times=2)
    download = pull(plan_pull(MODEL))
    assert (download.path / "model.safetensors").read_bytes() == WEIGHTS
    ranges = [asked.range for asked in hub.downloads("model.safetensors") if asked.range]
    assert len(ranges) >= 2, "from where it stopped"


def test_an_interrupted_pull_goes_on_where_it_stopped(hub: HubServer, tmp_path: Path) -> None:
    hub.add(MODEL, FILES)
    hub.faults["model.safetensors"] = Fault(drop_after=50_000, times=1)

    def stop(progress: PullProgress) -> None:
        if progress.file == "model.safetensors" and progress.done_bytes > 40_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(plan_pull(MODEL), stop)
    assert find_download(MODEL) is None
    assert len(incomplete_downloads()) == 1
    (partial,) = (tmp_path / "cache").rglob("*.part")
    begun = partial.stat().st_size
    assert begun > 0
    hub.requests.clear()
    plan = plan_pull(MODEL)
    assert plan.missing_bytes == len(WEIGHTS) - begun
    download = pull(plan)
    assert (download.path / "model.safetensors").read_bytes() == WEIGHTS
    assert {asked.range for asked in hub.downloads("model.safetensors")} == {f"bytes={begun}-"}
    assert not hub.downloads("config.json")
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_a_connection_that_never_holds(hub: HubServer, tmp_path: Path) -> None:
    hub.add(MODEL, FILES)
    hub.faults["model.safetensors"] = Fault(drop_after=0)
    with pytest.raises(HubError, match=r"model\.safetensors.*run the same command again"):
        pull(plan_pull(MODEL))
    assert find_download(MODEL) is None
    del hub.faults["model.safetensors"]
    assert pull(plan_pull(MODEL)).path.exists()


def test_a_wrong_hash(hub: HubServer, tmp_path: Path) -> None:
    commit = hub.add(MODEL, FILES)
    hub.faults["model.safetensors"] = Fault(content=WEIGHTS[:-1] + b"\0")
    with pytest.raises(ChecksumError, match=r"model\.safetensors.*pull again"):
        pull(plan_pull(MODEL))
    assert cached_files(tmp_path) == {"config.json", "tokenizer.json", f"{commit}.pulling"}
    hub.faults = {"config.json": Fault(content=b'{"model_type": "xitnet"}')}  # a small file, by its Git id
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(ChecksumError, match=r"config\.json"):
        pull(plan_pull(MODEL))


@pytest.mark.parametrize("length", [-1000, 1000])
def test_a_wrong_size(hub: HubServer, tmp_path: Path, length: int) -> None:
    hub.add(MODEL, FILES)
    hub.faults["model.safetensors"] = Fault(listed_size=len(WEIGHTS) + length)
    with pytest.raises((FormatError, HubError), match=r"model\.safetensors"):
        pull(plan_pull(MODEL))
    assert find_download(MODEL) is None
    assert "model.safetensors" not in cached_files(tmp_path)
    del hub.faults["model.safetensors"]
    assert (pull(plan_pull(MODEL)).path / "model.safetensors").read_bytes() == WEIGHTS


def test_a_part_that_is_longer_than_the_file_starts_over(hub: HubServer, tmp_path: Path) -> None:
    commit = hub.add(MODEL, FILES)
    folder = tmp_path / "cache" / "models" / MODEL / commit
    folder.mkdir(parents=True)
    (folder / "model.safetensors.part").write_bytes(bytes(len(WEIGHTS) + 5))
    assert (pull(plan_pull(MODEL)).path / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, "", "HF_TOKEN"),
        (401, "RepoNotFound", "no model org/Some-Model"),
        (403, "GatedRepo", "gated"),
        (403, "", "HF_TOKEN"),
        (404, "RepoNotFound", "no model"),
        (404, "", "no .*404"),
        (500, "", "500"),
        (503, "", "503"),
    ],
)
def test_refusals_of_the_hub(hub: HubServer, status: int, code: str, words: str) -> None:
    hub.add(MODEL, FILES)
    hub.repositories[MODEL].status, hub.repositories[MODEL].error_code = status, code
    with pytest.raises((ModelNotFoundError, HubError), match=words):
        plan_pull(MODEL)


def test_names_that_lead_nowhere(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(MODEL, FILES)
    with pytest.raises(ModelNotFoundError, match="no model org/other"):
        plan_pull("org/other")
    with pytest.raises(ModelNotFoundError, match="no revision 'v9'"):
        plan_pull(MODEL, revision="v9")
    with pytest.raises(ModelNotFoundError, match=r"no file 'x\.gguf'.*model\.safetensors"):
        plan_pull(MODEL, file="x.gguf")
    with pytest.raises(UnsupportedFormatError, match=r"pytorch_model\.bin"):
        plan_pull(MODEL, file="pytorch_model.bin")
    for bad in (
        "",
        "bitnet",
        "../../etc/passwd",
        "a/b/c",
        "org/../x",
        "org/x:../y",
        "http://x/y",
        "org/näme",
    ):
        with pytest.raises(ParameterError, match="no name of a model"):
            plan_pull(bad)
    with pytest.raises(ParameterError, match="cannot be a name"):
        plan_pull(MODEL, revision="../../x y")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"127\.0\.0\.1:9 cannot be reached"):
        plan_pull(MODEL)


def test_a_file_that_is_refused_while_it_is_downloaded(hub: HubServer) -> None:
    hub.add(MODEL, FILES)
    hub.faults["tokenizer.json"] = Fault(status=403)
    with pytest.raises(ModelNotFoundError, match="HF_TOKEN"):
        pull(plan_pull(MODEL))


def test_offline_only_what_is_there(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(MODEL, FILES)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError, match="HF_HUB_OFFLINE"):
        plan_pull(MODEL)
    assert not hub.requests
    monkeypatch.delenv("HF_HUB_OFFLINE")
    download = pull(plan_pull(MODEL))
    asked = len(hub.requests)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert pull(plan_pull(MODEL)) == download
    assert len(hub.requests) == asked


def test_a_full_disk_is_told_before(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(MODEL, FILES)
    plan = plan_pull(MODEL)
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StorageError, match="room for"):
        pull(plan)
    assert not hub.downloads("model.safetensors")


def test_two_processes_do_not_pull_the_same(hub: HubServer) -> None:
    hub.add(MODEL, FILES)
    plan = plan_pull(MODEL)
    with repository_lock(MODEL), pytest.raises(StorageError, match="another tercet"):
        pull(plan)
    assert pull(plan).path.exists()


@pytest.mark.parametrize("name", ["../../evil.gguf", "/evil.gguf", "a\\b.gguf", "C:evil.gguf", "x\n.gguf"])
def test_names_of_files_stay_inside(hub: HubServer, name: str) -> None:
    hub.add(MODEL, {name: WEIGHTS})
    with pytest.raises(FormatError, match="not taken"):
        plan_pull(MODEL)


def test_damaged_records_are_named(hub: HubServer, tmp_path: Path) -> None:
    hub.add(MODEL, FILES)
    pull(plan_pull(MODEL))
    record = tmp_path / "cache" / "models" / MODEL / "main.json"
    sound = json.loads(record.read_text())
    for change in ({"commit": "../.."}, {"file": "../x"}, {"repository": "org/other"}, {"files": 3}):
        record.write_text(json.dumps(sound | change))
        with pytest.raises(FormatError, match=r"main\.json"):
            downloads.downloads()


def test_checks_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"hello\n")
    assert matches(tmp_path / "f", RemoteFile("f", 6, "ce013625030ba8dba906f756967f9e9ca394464a"))
    assert not matches(tmp_path / "f", RemoteFile("f", 6, "0" * 64))
    assert not matches(tmp_path / "f", RemoteFile("f", 5, "ce013625030ba8dba906f756967f9e9ca394464a"))


def test_every_command_knows_a_pulled_model(hub: HubServer) -> None:
    hub.add(MODEL, FILES)
    with pytest.raises(ModelNotFoundError, match=f"tercet pull {MODEL}"):
        resolve(MODEL)
    download = pull(plan_pull(MODEL))
    assert resolve(MODEL) == download.path
