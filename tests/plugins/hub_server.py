"""A small stand-in for the Hugging Face Hub on this machine: what a repository consists of, and its files.

    with HubServer() as hub:
        commit = hub.add("org/name", {"config.json": b"{}", "model.safetensors": b"..."})
        hub.add("datasets/org/name", {"train.jsonl": b"..."})
        hub.url                       # for HF_ENDPOINT
        hub.requests                  # what was asked

It answers as the Hub does (status codes, X-Error-Code, ETag, X-Repo-Commit, ranges, redirections to a "CDN")
and misbehaves on demand: `hub.faults[path]` is a `Fault`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE_FILE_BYTES = 64
"""From here on a file is stored "with LFS", that is, identified by its SHA-256."""
PIECE_BYTES = 1 << 14


@dataclass
class Fault:
    """What is wrong with a file."""

    listed_size: int | None = None
    """The size that the listing claims."""
    content: bytes | None = None
    """What is sent in its place."""
    drop_after: int | None = None
    """The connection breaks after so many bytes of an answer."""
    times: int = 10**9
    """How often."""
    status: int | None = None
    """An error in place of the file."""


@dataclass
class Repository:
    """One repository: its revisions, and the files of each commit."""

    revisions: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    status: int = 200
    error_code: str = ""
    token: str | None = None
    gated: bool = False
    """Everybody sees the listing, nobody gets the files."""


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    range: str | None
    token: str | None


class HubServer:
    """The server, on a free port, in a thread."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.faults: dict[str, Fault] = {}
        self.requests: list[Asked] = []
        self.answer: bytes | None = None
        """What it answers whatever it is asked, if not what it should."""
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        port = self._server.server_address[1]
        self.url, self.cdn = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        """Two hosts: the client asks for what a file is at the Hub alone."""

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, repository: str, files: dict[str, bytes], revision: str = "main") -> str:
        """Make a commit of these files and return its id."""
        text = (
            repository + revision + "".join(f"{name}{hashlib.sha256(files[name])}" for name in sorted(files))
        )
        digest = hashlib.sha1(repr((text, sorted(files.items()))).encode()).hexdigest()
        entry = self.repositories.setdefault(repository, Repository())
        entry.revisions[revision] = digest
        entry.commits[digest] = files
        return digest

    def downloads(self, path: str) -> list[Asked]:
        """The requests for the content of a file."""
        return [asked for asked in self.requests if asked.method == "GET" and asked.path.endswith(f"/{path}")]


def object_id(content: bytes) -> tuple[str, dict[str, Any] | None]:
    """(Git object id, LFS entry of the listing)."""
    lfs = None
    if len(content) >= LARGE_FILE_BYTES:
        sha256 = hashlib.sha256(content).hexdigest()
        lfs = {"sha256": sha256, "size": len(content), "pointerSize": 134}
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), lfs


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests look at `hub.requests`."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        token = self.headers.get("Authorization")
        self.hub.requests.append(Asked(self.command, path, self.headers.get("Range"), token))
        if self.hub.answer is not None:
            self._send(200, self.hub.answer, {})
            return
        first, *parts = path.strip("/").split("/")
        if first == "api" and parts[:1] == ["models"]:
            parts = parts[1:]
        elif first not in ("api", "cdn"):
            parts = [first, *parts]
        length = 3 if parts[:1] == ["datasets"] else 2
        name, rest = "/".join(parts[:length]), parts[length:]
        if first == "api" and len(parts) >= length:
            self._listing(name, rest)
        elif first == "cdn":
            self._file(name, rest[0], "/".join(rest[1:]))
        elif len(rest) >= 3 and rest[0] == "resolve":
            self._resolve(name, rest[1], "/".join(rest[2:]))
        else:
            self._error(404, "", "not found")

    def _repository(self, name: str) -> Repository | None:
        names = {known.lower(): known for known in self.hub.repositories}
        repository = self.hub.repositories.get(names.get(name.lower(), ""))
        if repository is None:
            self._error(401, "RepoNotFound", "Repository not found")
            return None
        given = self.headers.get("Authorization")
        allowed = repository.token is None or given == f"Bearer {repository.token}"
        if repository.status != 200 or not allowed:
            self._error(401 if repository.status == 200 else repository.status, repository.error_code, "no")
            return None
        return repository

    def _listing(self, name: str, rest: list[str]) -> None:
        repository = self._repository(name)
        if repository is None:
            return
        revision = "/".join(rest[1:]) if rest[:1] in (["revision"], ["tree"]) else "main"
        commit = repository.revisions.get(revision, revision)
        if commit not in repository.commits:
            self._error(404, "RevisionNotFound", "Invalid rev id")
            return
        spelled = next(known for known in self.hub.repositories if known.lower() == name.lower())
        siblings, tree = [], []
        for path, content in repository.commits[commit].items():
            blob, lfs = object_id(content)
            size = self.hub.faults.get(path, Fault()).listed_size
            size = len(content) if size is None else size
            siblings.append({"rfilename": path, "size": size, "blobId": blob} | ({"lfs": lfs} if lfs else {}))
            tree.append({"type": "file", "path": path, "size": size, "oid": blob})
        spelled = spelled.removeprefix("datasets/")
        answer = {"id": spelled, "modelId": spelled, "sha": commit, "siblings": siblings, "private": False}
        self._send(200, json.dumps(tree if rest[:1] == ["tree"] else answer).encode(), {})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name)
        if repository is None:
            return
        if repository.gated:
            self._error(403, "GatedRepo", "Access to this repository is restricted")
            return
        commit = repository.revisions.get(revision, revision)
        content = repository.commits.get(commit, {}).get(path)
        fault = self.hub.faults.get(path, Fault())
        if content is None or fault.status is not None:
            self._error(fault.status or 404, "EntryNotFound" if content is None else "", "no such entry")
            return
        blob, lfs = object_id(content)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{lfs["sha256"] if lfs else blob}"'}
        if lfs is None:
            self._file(name, commit, path, headers)
        else:  # large files lie elsewhere
            where = f"{self.hub.cdn}/cdn/{name}/{commit}/{path}"
            self._send(302, b"", headers | {"Location": where, "X-Linked-Size": str(len(content))})

    def _file(self, name: str, commit: str, path: str, headers: dict[str, str] | None = None) -> None:
        content = self.hub.repositories[name].commits[commit][path]
        fault = self.hub.faults.get(path, Fault())
        content = content if fault.content is None else fault.content
        wanted = self.headers.get("Range")
        first = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        headers = {"Accept-Ranges": "bytes", **(headers or {})}
        if wanted and first >= len(content):
            self._send(416, b"", headers | {"Content-Range": f"bytes */{len(content)}"})
            return
        if wanted:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        drop = None
        if fault.drop_after is not None and fault.times > 0 and self.command == "GET":
            fault.times -= 1
            drop = fault.drop_after
        self._send(206 if wanted else 200, content[first:], headers, drop)

    def _error(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str], drop: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        end = len(body) if drop is None else min(drop, len(body))
        with contextlib.suppress(ConnectionError):
            for start in range(0, end, PIECE_BYTES):
                self.wfile.write(body[start : min(start + PIECE_BYTES, end)])
            self.wfile.flush()
        if drop is not None:
            self.close_connection = True
            self.connection.close()


MODEL = "org/Some-Model"
WEIGHTS = bytes(range(256)) * 1000
FILES = {
    "config.json": b'{"model_type": "bitnet"}',
    "tokenizer.json": b"{}" + b" " * 100,
    "model.safetensors": WEIGHTS,
    "README.md": b"# A model",
    "pytorch_model.bin": b"\x80\x04pickle" * 20,
    "modeling_evil.py": b"import os",
}

WANTED = {"config.json", "tokenizer.json", "model.safetensors"}


def cached_files(tmp_path: Path) -> set[str]:
    folder = tmp_path / "cache" / "models"
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {path.name for path in found if path.parts[0] != ".locks"}
