"""A server with keys, an audit log and everything else that remembers, in one folder.

    audited = Audited(tmp_path)                      # admin and two users, limits out of the way
    audited.client("alice").post(...)
    audited.events()                                 # what the audit log has, verified
    audited.stop()
    audited.everything_written()                     # every byte that the server has left, by file

Limits on numbers are lifted, so that tests meet only the refusals that they ask for.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from program import tercet
from served import Server
from tercet.security.audit_chain import audit_files, verify
from tercet.security.secret_file import derived_key, load_secret

if TYPE_CHECKING:
    import httpx

UNLIMITED = ("--rate-limit-requests", "none", "--rate-limit-tokens", "none")


class Audited:
    """See the module; `options` are further ones of `tercet serve`."""

    def __init__(self, folder: Path, *options: str | Path, first: str = "") -> None:
        self.folder = folder
        self.options, self.first = options, first
        self.keys = {
            name: self._key(name, role)
            for name, role in (("admin", "admin"), ("alice", "user"), ("bob", "user"))
        }
        self.server = self.start()

    def start(self) -> Server:
        """Start it over what is there."""
        folder = self.folder
        self.server = Server(
            *("--keys", folder / "keys", "--audit-dir", folder / "audit"),
            *("--security-key", folder / "secret", "--log-file", folder / "log", "--log-level", "debug"),
            *UNLIMITED,
            *self.options,
            first=self.first,
        )
        return self.server

    def stop(self) -> None:
        """Stop it in order."""
        self.server.stop()

    def client(self, name: str | None) -> httpx.Client:
        """A client with the key of somebody, or without one."""
        headers = {} if name is None else {"Authorization": f"Bearer {self.keys[name]}"}
        return self.server.client(headers=headers)

    @property
    def chain_key(self) -> bytes:
        """What the audit log is keyed with."""
        return derived_key(load_secret(self.folder / "secret", make=False), "audit chain")

    def events(self, **fields: Any) -> list[dict[str, Any]]:
        """The lines of the audit log whose fields are these, after it has been verified."""
        verify(self.folder / "audit", key=self.chain_key)
        lines = [
            json.loads(line)
            for _, path in audit_files(self.folder / "audit")
            for line in path.read_text("ascii").splitlines()
        ]
        return [line for line in lines if fields.items() <= line["fields"].items()]

    def event(self, request_id: str, seconds: float = 5) -> dict[str, Any]:
        """The one event of a request; it comes just after the last byte of the answer."""
        end = time.monotonic() + seconds
        while not (found := self.events(request_id=request_id)) and time.monotonic() < end:
            time.sleep(0.01)
        (event,) = found
        return event

    def everything_written(self) -> dict[str, bytes]:
        """What is in the files of log and audit, and what the server said on its console."""
        found = {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and path.name not in ("keys", "secret")
        }
        return {**found, "console": self.server.log.encode()}

    def _key(self, name: str, role: str) -> str:
        made = tercet("keys", "create", name, "--role", role, "--keys", self.folder / "keys", "--json")
        key: str = made.data["key"]
        return key


def run_batch(client: httpx.Client, lines: list[dict[str, Any]], seconds: float = 30) -> dict[str, Any]:
    """Upload lines, have them answered, and wait for the end."""
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = client.post(
        "/v1/files", files={"file": ("lines.jsonl", content)}, data={"purpose": "batch"}
    ).json()
    asked = {"input_file_id": file["id"], "endpoint": lines[0]["url"], "completion_window": "24h"}
    batch: dict[str, Any] = client.post("/v1/batches", json=asked).json()
    end = time.monotonic() + seconds
    while batch["status"] not in ("completed", "failed") and time.monotonic() < end:
        time.sleep(0.02)
        batch = client.get(f"/v1/batches/{batch['id']}").json()
    return batch
