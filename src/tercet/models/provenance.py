"""Who vouches for a model: its manifest and the signature of that, checked before any other byte is read.

    TERCET_MODEL_TRUST    what opening a model demands
        checked           where there is a manifest, the files are as it says (the default)
        manifest          there is one
        signed            there is one, signed by one of TERCET_MODEL_KEYS

For a model that is a folder, `manifest.sha256` lies in it and names every file; one that it does not name is
refused like one that was changed. For a model that is one file it lies beside it, and may name others too.
Models that ship inside the package need none.

What is checked is the file at the moment of opening. Somebody who can write to the folder while it is being
opened can also replace the program.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from tercet.errors import FormatError, ModelNotFoundError, ParameterError, UntrustedModelError
from tercet.formats.mapped_file import read_bytes
from tercet.models.file_digests import file_digest
from tercet.security.manifest import (
    MANIFEST,
    MAX_BYTES,
    SIGNATURE,
    check_digest,
    files_of,
    parse_manifest,
    write_manifest,
)
from tercet.security.signatures import PublicKey, read_public_key, verify_signature

__all__ = ["LEVELS", "ModelTrust", "Voucher", "check_provenance", "make_manifest", "read_key"]

LEVELS = ("checked", "manifest", "signed")
SHIPPED = Path(__file__).parent / "data"


@dataclasses.dataclass(frozen=True)
class ModelTrust:
    """What opening a model demands.

    Args:
        level: one of `LEVELS`.
        keys: public keys of minisign, of which one must have signed. With any, a signature that is there is
            checked at every level.

    Raises:
        ParameterError: there is no such level, or `signed` has no keys.
    """

    level: str = "checked"
    keys: tuple[PublicKey, ...] = ()

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ParameterError(f"TERCET_MODEL_TRUST is {self.level!r}; the levels are {', '.join(LEVELS)}")
        if self.level == "signed" and not self.keys:
            raise ParameterError(
                "TERCET_MODEL_TRUST is signed, but TERCET_MODEL_KEYS names no public key to trust"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ModelTrust:
        """Read the settings: the level, and the files of public keys, separated as in PATH.

        Raises:
            ParameterError: there is no such level.
            FormatError, ModelNotFoundError: a file is no public key, or is not there.
        """
        files = [name for name in environment.get("TERCET_MODEL_KEYS", "").split(os.pathsep) if name]
        keys = tuple(read_key(Path(name)) for name in files)
        return cls(environment.get("TERCET_MODEL_TRUST") or "checked", keys)


@dataclasses.dataclass(frozen=True)
class Voucher:
    """What was found out about a model."""

    manifest: Path
    files: int
    """How many were compared."""
    signed: str | None = None
    """The trusted comment of the signature; None where there was none, or no key to check it with."""


def check_provenance(
    model: str | os.PathLike[str], trust: ModelTrust | None = None, remember: bool = True
) -> Voucher | None:
    """Check the files of a model against its manifest, and that against its signature.

    Args:
        model: a file or a folder.
        trust: what is demanded; by default what the environment says.
        remember: whether files that have not changed since they were read are taken as read.

    Returns:
        None if there is no manifest and none is demanded.

    Raises:
        ChecksumError: a file is not what the manifest says.
        UntrustedModelError: what is demanded is not there, or the signature is another's.
        FormatError: the manifest is none, or a file is missing in it.
        ModelNotFoundError, StorageError: a file is not there, or cannot be read.
    """
    trust = ModelTrust.from_environment() if trust is None else trust
    path = Path(model)
    folder = path if path.is_dir() else path.parent
    if not path.exists() or path.resolve().parent == SHIPPED.resolve():
        return None
    if not (folder / MANIFEST).exists():
        if trust.level == "checked":
            return None
        raise UntrustedModelError(
            f"{path} has no {MANIFEST}, and TERCET_MODEL_TRUST={trust.level} demands one. "
            "Get it from whoever made the model, or make it with: tercet manifest create"
        )
    data = read_bytes(folder / MANIFEST, MAX_BYTES)
    signed = _check_signature(folder, data, trust)
    digests = parse_manifest(data, str(folder / MANIFEST))
    names = _names(path, digests)
    if not names:
        if trust.level == "checked":
            return None
        raise UntrustedModelError(f"{folder / MANIFEST} does not name {path.name}, so nothing vouches for it")
    for name in names:
        if name not in digests:
            raise UntrustedModelError(
                f"{name} in {folder} is not in {MANIFEST}, which must name every file. "
                "Remove it, or make the manifest again."
            )
        check_digest(str(folder / name), file_digest(folder / name, remember), digests[name])
    return Voucher(folder / MANIFEST, len(names), signed)


def read_key(file: Path) -> PublicKey:
    """Return the public key in a file of minisign's.

    Raises:
        FormatError: it holds none.
        ModelNotFoundError, StorageError: it is not there, or cannot be read.
    """
    return read_public_key(_text(file), str(file))


def make_manifest(model: str | os.PathLike[str]) -> tuple[Path, bytes]:
    """Return where the manifest of a model belongs, and its text.

    For one file, what a manifest beside it says of others stays.

    Raises:
        ModelNotFoundError: nothing is at `model`.
        FormatError: the name of a file could mean another place on another system.
    """
    path = Path(model)
    if not path.exists():
        raise ModelNotFoundError(f"no file or folder is at {path}")
    if path.is_dir():
        digests = {name: file_digest(path / name, remember=False) for name in files_of(path)}
        if not digests:
            raise FormatError(f"{path} is empty, expected a folder with a model in it")
        return path / MANIFEST, write_manifest(digests)
    target = path.parent / MANIFEST
    known = parse_manifest(read_bytes(target, MAX_BYTES), str(target)) if target.exists() else {}
    return target, write_manifest({**known, path.name: file_digest(path, remember=False)})


def _names(path: Path, digests: Mapping[str, str]) -> list[str]:
    """What is compared: of a folder all that is in it or should be, and a file if it is named."""
    if path.is_dir():
        return sorted({*files_of(path), *digests})
    if path.suffix == ".safetensors" and (path.parent / "config.json").exists():  # opens the whole folder
        return _names(path.parent, digests)
    return [path.name] if path.name in digests else []


def _check_signature(folder: Path, data: bytes, trust: ModelTrust) -> str | None:
    file = folder / SIGNATURE
    if file.exists() and trust.keys:
        return verify_signature(data, _text(file), trust.keys, str(file))
    if trust.level == "signed":
        raise UntrustedModelError(
            f"{folder} has no {SIGNATURE}, and TERCET_MODEL_TRUST=signed demands it. "
            f"Whoever vouches for the model makes it with: minisign -S -m {MANIFEST}"
        )
    return None


def _text(path: Path) -> str:
    return read_bytes(path, 1 << 16).decode("utf-8", "replace")
