"""Manifests and signatures: a changed, added or missing file is refused before anything reads it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import signing
from tercet.errors import (
    ChecksumError,
    FormatError,
    ModelNotFoundError,
    ParameterError,
    StorageError,
    TercetError,
    UntrustedModelError,
)
from tercet.llm import LLM
from tercet.models import provenance
from tercet.models.loading import load_model
from tercet.models.provenance import ModelTrust, check_provenance, make_manifest, read_key
from tercet.models.registry import resolve
from tercet.security.manifest import MANIFEST, SIGNATURE, parse_manifest, write_manifest

DEMANDED = ModelTrust("manifest")


@pytest.fixture
def model(tmp_path: Path, tiny_model_file: Path) -> Path:
    """A model of one file with a manifest beside it."""
    path = tmp_path / "m" / "model.tercet"
    path.parent.mkdir()
    shutil.copy(tiny_model_file, path)
    vouch_for(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as models have them; what is in its files is nobody's affair here."""
    place = tmp_path / "folder"
    for name in ("config.json", "model.safetensors", "1_Pooling/config.json", ".gitattributes"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    (place / ".git").mkdir()
    (place / ".git" / "HEAD").write_text("of no concern")
    vouch_for(place)
    return place


def vouch_for(path: Path) -> None:
    target, text = make_manifest(path)
    target.write_bytes(text)


# Files ----------------------------------------------------------------------------------------------


def test_a_model_that_is_as_its_manifest_says_opens(model: Path) -> None:
    voucher = check_provenance(model, DEMANDED)
    assert voucher is not None
    assert (voucher.files, voucher.signed) == (1, None)
    assert LLM(model).generate("once", max_tokens=1)


@pytest.mark.parametrize("at", [0, 5000, -1])
def test_a_flipped_bit_is_refused_before_the_file_is_read(model: Path, at: int) -> None:
    data = bytearray(model.read_bytes())
    data[at] ^= 1
    model.write_bytes(data)
    with pytest.raises(ChecksumError, match=MANIFEST):
        load_model(model)


def test_a_folder_has_no_file_that_nobody_vouches_for(folder: Path) -> None:
    found = check_provenance(folder)
    assert found is not None
    assert found.files == 4
    (folder / "chat_template.jinja").write_text("{{ 'new' }}")
    with pytest.raises(UntrustedModelError, match=r"chat_template\.jinja"):
        check_provenance(folder)


def test_a_link_to_a_folder_brings_in_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "config.json").write_text("{}")
    (folder / "2_Dense").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(UntrustedModelError, match="2_Dense"):
        check_provenance(folder)
    with pytest.raises((FormatError, StorageError)):
        make_manifest(folder)


def test_a_missing_file_is_missed(folder: Path) -> None:
    (folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(ModelNotFoundError, match="1_Pooling"):
        check_provenance(folder)


def test_one_safetensors_file_stands_for_its_folder(folder: Path) -> None:
    (folder / "config.json").write_text("changed")
    with pytest.raises(ChecksumError, match=r"config\.json"):
        check_provenance(folder / "model.safetensors")


def test_what_is_no_file_is_not_read(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with pytest.raises(FormatError, match="regular"):
        check_provenance(folder)


def test_a_large_file_is_read_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "m.tercet"
    path.write_bytes(bytes(17 << 20))
    os.utime(path, ns=(0, 0))
    vouch_for(path)
    monkeypatch.setattr("tercet.formats.tercet.verified.SETTLED_NANOSECONDS", -1)
    check_provenance(path, DEMANDED)
    assert len(list((tmp_path / "cache" / "digests").iterdir())) == 1
    monkeypatch.setattr("tercet.models.file_digests.sha256_of", lambda file: "0" * 64)
    check_provenance(path, DEMANDED)
    with pytest.raises(ChecksumError):
        check_provenance(path, DEMANDED, remember=False)
    with path.open("r+b") as file:
        file.write(b"x")
    os.utime(path, ns=(0, 0))  # the time of the content can be set back; that of the entry cannot
    with pytest.raises(ChecksumError):
        check_provenance(path, DEMANDED)


# What is demanded -----------------------------------------------------------------------------------


def test_without_a_manifest_the_settings_decide(tiny_model_file: Path) -> None:
    assert check_provenance(tiny_model_file) is None
    with pytest.raises(UntrustedModelError, match="demands"):
        check_provenance(tiny_model_file, DEMANDED)
    assert check_provenance(resolve(None), DEMANDED) is None, "what ships inside the package is the package"


def test_the_environment_decides_for_load_model(
    tiny_model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERCET_MODEL_TRUST", "manifest")
    with pytest.raises(UntrustedModelError):
        load_model(tiny_model_file)


def test_a_manifest_of_others_says_nothing_of_this_file(model: Path, tiny_model_file: Path) -> None:
    other = model.with_name("other.tercet")
    shutil.copy(tiny_model_file, other)
    assert check_provenance(other) is None
    with pytest.raises(UntrustedModelError, match="does not name"):
        check_provenance(other, DEMANDED)
    vouch_for(other)
    assert set(parse_manifest((model.parent / MANIFEST).read_bytes())) == {"model.tercet", "other.tercet"}


@pytest.mark.parametrize("environment", [{"TERCET_MODEL_TRUST": "blindly"}, {"TERCET_MODEL_TRUST": "signed"}])
def test_settings_that_mean_nothing_are_refused(environment: Mapping[str, str]) -> None:
    with pytest.raises(ParameterError, match="TERCET_MODEL_TRUST"):
        ModelTrust.from_environment(environment)


OPENS = re.compile(r"\b(?:HuggingFaceFolder|SafetensorsFile|TercetFile|GgufFile|open_gguf)\(")
ASKED_BEFORE = {
    "models/gguf_source.py": "a part of load_model",
    "cli/description.py": "shows what load_model has opened",
    "cli/containers.py": "shows what a file says of itself, and runs nothing of it",
}


def test_whoever_opens_a_container_asks_first() -> None:
    package = Path(provenance.__file__).parents[1]
    modules = [path for path in package.rglob("*.py") if "formats" not in path.parts]
    openers = {
        path.relative_to(package).as_posix()
        for path in modules
        if OPENS.search(text := path.read_text(encoding="utf-8")) and "check_provenance(" not in text
    }
    assert openers == set(ASKED_BEFORE)


# Signatures -----------------------------------------------------------------------------------------


def test_a_signed_model_opens_for_those_who_trust_the_key(model: Path) -> None:
    secret = Ed25519PrivateKey.generate()
    (model.parent / "key.pub").write_text(signing.public_key(secret))
    trust = ModelTrust("signed", (read_key(model.parent / "key.pub"),))
    with pytest.raises(UntrustedModelError, match="minisig"):
        check_provenance(model, trust)
    signature = model.parent / SIGNATURE
    signature.write_text(signing.signature(secret, (model.parent / MANIFEST).read_bytes(), "by us"))
    voucher = check_provenance(model, trust)
    assert voucher is not None
    assert voucher.signed == "by us"
    environment = {"TERCET_MODEL_TRUST": "signed", "TERCET_MODEL_KEYS": str(model.parent / "key.pub")}
    assert check_provenance(model, ModelTrust.from_environment(environment)) == voucher


def test_another_key_or_manifest_is_refused(model: Path) -> None:
    secret, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    key = model.parent / "key.pub"
    key.write_text(signing.public_key(secret))
    trust = ModelTrust("checked", (read_key(key),))
    manifest, signature = model.parent / MANIFEST, model.parent / SIGNATURE
    for signer, data in ((other, manifest.read_bytes()), (secret, b"another manifest")):
        signature.write_text(signing.signature(signer, data))
        with pytest.raises(UntrustedModelError):
            check_provenance(model, trust)


# The text -------------------------------------------------------------------------------------------

DIGEST = "0" * 64


@pytest.mark.parametrize(
    "text",
    [
        "", "\n", "x", f"{DIGEST} x", f"{DIGEST}  ", f"{DIGEST.upper()}A  x", f"{DIGEST[1:]}  x",
        f"\\{DIGEST}  a\\nb\n", f"{DIGEST}  ../x", f"{DIGEST}  /etc/passwd", f"{DIGEST}  C:x",
        f"{DIGEST}  a\\b", f"{DIGEST}  a/./b", f"{DIGEST}  nul.json", f"{DIGEST}  a\r", f"{DIGEST}  a\0",
        f"{DIGEST}  a\n{DIGEST}  a\n", f"{DIGEST}  a\n{DIGEST}  A\n", f"{DIGEST}  a\n\n",
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_manifest(text.encode())


def test_bytes_without_bound_are_not_read(model: Path) -> None:
    (model.parent / MANIFEST).write_bytes(b"x" * (2 << 20))
    with pytest.raises(TercetError, match="at most"):
        check_provenance(model)


def test_sha256sum_reads_and_writes_the_same(folder: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not installed")
    subprocess.run(["sha256sum", "--check", "--quiet", MANIFEST], cwd=folder, check=True)
    names = sorted(parse_manifest((folder / MANIFEST).read_bytes()))
    written = subprocess.run(["sha256sum", *names], cwd=folder, check=True, capture_output=True).stdout
    assert write_manifest(parse_manifest(written)) == (folder / MANIFEST).read_bytes()
