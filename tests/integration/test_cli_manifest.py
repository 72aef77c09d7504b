"""`tercet manifest`, and what every command demands of a model when it is told to trust less."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import signing
from program import assert_refused, tercet
from tercet.models.provenance import make_manifest
from tercet.security.manifest import MANIFEST, SIGNATURE


@pytest.fixture
def model(tmp_path: Path, tiny_model_file: Path) -> Path:
    path = tmp_path / "m" / "model.tercet"
    path.parent.mkdir()
    shutil.copy(tiny_model_file, path)
    return path


def test_a_manifest_is_made_checked_and_demanded(model: Path) -> None:
    assert_refused(tercet("--model-trust", "manifest", "inspect", model), MANIFEST, "tercet manifest create")
    made = tercet("manifest", "create", model)
    assert made.out == f"{model.parent / MANIFEST}: 1 files\n", made
    assert "1 files are as manifest.sha256 says; not signed" in tercet("manifest", "verify", model).out
    with model.open("r+b") as file:
        file.seek(5000)
        file.write(b"x")
    assert_refused(tercet("manifest", "verify", model), MANIFEST, "changed or damaged")


def test_a_signature_is_demanded_by_option_and_by_environment(model: Path) -> None:
    secret = Ed25519PrivateKey.generate()
    key, manifest = model.parent / "key.pub", model.parent / MANIFEST
    key.write_text(signing.public_key(secret))
    manifest.write_bytes(make_manifest(model)[1])
    signed = ("--model-trust", "signed", "--model-key", key)
    # A server that cannot have the model that was asked for does not stay.
    refused = tercet("serve", model, "--port", "0", *signed)
    assert refused.status == 2, refused
    assert "minisign -S" in refused.err
    (model.parent / SIGNATURE).write_text(signing.signature(secret, manifest.read_bytes(), "by us"))
    assert tercet(*signed, "inspect", model).status == 0
    environment = {"TERCET_MODEL_TRUST": "signed", "TERCET_MODEL_KEYS": str(key)}
    assert "signed: by us" in tercet("manifest", "verify", model, "--key", key, **environment).out


def test_a_folder_keeps_its_manifest_until_it_is_told_otherwise(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / MANIFEST).write_bytes(make_manifest(tmp_path)[1])
    assert_refused(tercet("manifest", "create", tmp_path), "--overwrite")
