"""Container images without a container engine's service, and without a registry: Buildah, in chroots.

`Builder(folder)` keeps images in a folder. The base image is made by debootstrap from Debian's packages,
under the name that the Dockerfile has for it; then Buildah carries out the Dockerfile, step by step, and
programs run in what came out. Needs root, and `apt-get install buildah debootstrap crun`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

PROGRAMS = ("buildah", "debootstrap", "tar")
MIRROR = "http://deb.debian.org/debian"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def missing_programs() -> list[str]:
    """What of PROGRAMS is not on this machine; also "root", if somebody else asks."""
    return [name for name in PROGRAMS if shutil.which(name) is None] + ["root"] * (os.geteuid() != 0)


class Builder:
    """Images in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._buildah = [
            "buildah",
            *("--root", str(folder / "images"), "--runroot", str(folder / "run")),
            *("--storage-driver", "overlay"),
        ]
        # pip in the build trusts what this machine trusts, as behind a proxy of a company.
        settings = folder / "pip.conf"
        settings.write_text("[global]\ncert = /etc/pip-certificates.crt\n")
        self._build_mounts = [
            *("--volume", f"{settings}:/etc/pip.conf:ro"),
            *("--volume", f"{CERTIFICATES}:/etc/pip-certificates.crt:ro"),
        ]

    def has(self, image: str) -> bool:
        """Whether there is an image of this name."""
        command = [*self._buildah, "inspect", "--type", "image", image]
        return subprocess.run(command, capture_output=True).returncode == 0

    def make_base(self, image: str, suite: str) -> None:
        """Make an image of a Debian that has nothing but what every Debian has."""
        root = self.folder / suite
        self._call(["debootstrap", "--variant=minbase", suite, str(root), MIRROR])
        archive = self.folder / f"{suite}.tar"
        self._call(["tar", "--directory", str(root), "--create", "--file", str(archive), "."])
        shutil.rmtree(root)
        container = self._call([*self._buildah, "from", "scratch"]).strip()
        self._call([*self._buildah, "add", "--quiet", container, str(archive), "/"])
        self._call([*self._buildah, "commit", "--quiet", "--rm", container, image])
        archive.unlink()

    def build(self, context: Path, dockerfile: Path, image: str) -> None:
        """Carry out a Dockerfile; no image is fetched."""
        command = [*self._buildah, "build", "--isolation", "chroot", "--pull-never", "--format", "docker"]
        command += [*self._build_mounts, "--file", str(dockerfile), "--tag", image, str(context)]
        self._call(command)

    def run(self, image: str, script: Path) -> str:
        """What a shell script prints in a fresh container of an image, as the image's user."""
        container = self._call([*self._buildah, "from", "--pull-never", image]).strip()
        try:
            command = [*self._buildah, "run", "--isolation", "chroot", "--volume", f"{script}:/script:ro"]
            return self._call([*command, container, "--", "sh", "/script"])
        finally:
            self._call([*self._buildah, "rm", container])

    def _call(self, command: list[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            told = (done.stdout + done.stderr)[-4000:]
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{told}")
        return done.stdout
