"""`tercet pull`, `list` and `rm` against a stand-in for the Hub, as a person uses them."""

from __future__ import annotations

from pathlib import Path

from hub_server import FILES, MODEL, WEIGHTS, Fault, HubServer, cached_files
from program import Finished, assert_refused
from program import tercet as run_tercet


def tercet(*arguments: str, tmp_path: Path, hub: HubServer, **variables: str) -> Finished:
    commands = "(*a.COMMANDS, 'pull', 'list', 'rm')"
    wired = f"import tercet.cli.app as a; a.COMMANDS = tuple(dict.fromkeys({commands}))"
    settings = {"TERCET_CACHE": str(tmp_path / "cache"), "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    return run_tercet(*arguments, first=wired, **(settings | {"HF_HOME": str(tmp_path / "hf")} | variables))


def test_the_story_of_a_model(hub: HubServer, tmp_path: Path) -> None:
    commit = hub.add(MODEL, FILES)
    done = tercet("pull", MODEL, tmp_path=tmp_path, hub=hub)
    assert done.status == 0, done
    path = Path(done.out.strip())
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    assert MODEL in done.err
    assert "0.26 MB" in done.err
    again = tercet("pull", MODEL, "--json", tmp_path=tmp_path, hub=hub)
    assert (again.data["name"], again.data["path"], again.data["commit"]) == (MODEL, str(path), commit)
    assert again.data["downloaded_bytes"] == 0
    shown = tercet("list", tmp_path=tmp_path, hub=hub)
    assert shown.status == 0, shown
    assert MODEL in shown.out
    assert commit[:8] in shown.out
    assert "incomplete" not in shown.out
    removed = tercet("rm", MODEL, tmp_path=tmp_path, hub=hub)
    assert removed.status == 0, removed
    assert MODEL in removed.out
    assert cached_files(tmp_path) == set()
    assert_refused(tercet("rm", MODEL, tmp_path=tmp_path, hub=hub), MODEL, "not been pulled")


def test_known_names_are_listed(hub: HubServer, tmp_path: Path) -> None:
    shown = tercet("list", "--known", tmp_path=tmp_path, hub=hub)
    assert shown.status == 0, shown
    assert "falcon-e-3b" in shown.out
    assert "microsoft/bitnet-b1.58-2B-4T" in shown.out


def test_large_models_are_asked_about(hub: HubServer, tmp_path: Path) -> None:
    hub.add(MODEL, FILES)
    hub.faults["model.safetensors"] = Fault(listed_size=11 * 10**9)
    done = tercet("pull", MODEL, tmp_path=tmp_path, hub=hub)
    assert done.status == 2, done
    assert "--yes" in done.err
    assert "11.0 GB" in done.err
    assert done.out == ""
    assert not hub.downloads("config.json")


def test_errors_are_one_line_and_leave_nothing_half_written(hub: HubServer, tmp_path: Path) -> None:
    hub.add(MODEL, FILES)
    assert_refused(tercet("pull", "nonsense", tmp_path=tmp_path, hub=hub), "nonsense", "ORGANIZATION/NAME")
    assert_refused(tercet("pull", "org/none", tmp_path=tmp_path, hub=hub), "org/none")
    hub.faults["model.safetensors"] = Fault(content=WEIGHTS[:-1] + b"\0")
    done = tercet("pull", MODEL, tmp_path=tmp_path, hub=hub)
    assert done.status == 2, done
    assert done.err.splitlines()[-1].startswith("tercet: error: model.safetensors is not what the Hub says")
    listed = tercet("list", "--json", tmp_path=tmp_path, hub=hub).data
    assert MODEL not in [model["name"] for model in listed["models"]]
    assert [entry["repository"] for entry in listed["incomplete"]] == [MODEL]
    assert tercet("rm", MODEL, tmp_path=tmp_path, hub=hub).status == 0
    assert cached_files(tmp_path) == set()
    assert_refused(tercet("rm", "llama-tercet-tiny", tmp_path=tmp_path, hub=hub), "ships with the package")
