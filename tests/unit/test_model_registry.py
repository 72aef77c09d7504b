"""Names and paths of models."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercet.errors import ModelNotFoundError
from tercet.models import registry
from tercet.models.registry import DEFAULT_MODEL, known_models, resolve


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that ships two models."""
    folder = tmp_path / "package" / "data"
    folder.mkdir(parents=True)
    for name in (DEFAULT_MODEL, "other-model"):
        (folder / f"{name}.tercet").write_bytes(b"x")
    monkeypatch.setattr(registry, "DATA", folder)
    return folder


def test_known_names(data: Path) -> None:
    assert list(known_models()) == [DEFAULT_MODEL, "other-model"]
    assert resolve() == resolve(None) == resolve(DEFAULT_MODEL) == data / f"{DEFAULT_MODEL}.tercet"
    assert resolve("other-model") == data / "other-model.tercet"


def test_paths(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "other-model").mkdir()
    assert resolve(tmp_path / "other-model") == tmp_path / "other-model"
    assert resolve("./other-model") == Path("other-model")
    assert resolve("~/other-model") == tmp_path / "other-model"
    assert resolve("other-model") == data / "other-model.tercet", "a known name wins"
    assert resolve(Path("other-model")) == Path("other-model"), "but a Path is a path"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("othermodel", "no name and no path. Did you mean other-model?"),
        ("zzz", "known names are: llama-tercet-tiny, other-model"),
        ("missing/other-modell.tercet", "no file or folder is at this path. Did you mean other-model?"),
        ("./zzz", "no file or folder is at this path"),
        ("", "no name and no path"),
        ("a\0b", "no name and no path"),
        ("x" * 5000, "no name and no path"),
    ],
)
@pytest.mark.usefixtures("data")
def test_what_is_not_there(model: str, reason: str) -> None:
    with pytest.raises(ModelNotFoundError, match=reason) as caught:
        resolve(model)
    assert repr(model) in str(caught.value)


def test_an_installation_without_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "DATA", tmp_path)
    for model in (None, DEFAULT_MODEL):
        with pytest.raises(ModelNotFoundError, match="does not contain the model llama-tercet-tiny"):
            resolve(model)
    with pytest.raises(ModelNotFoundError, match="known names are: none"):
        resolve("zzz")
