"""Keys as people use them: `tercet keys` beside a server that runs, two tenants, batches, HTTPS."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from certificates_made import write_certificate
from program import assert_refused, tercet
from served import Server, wait_until

MODEL = "llama-tercet-tiny"
COMPLETION = {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
CHECK_SECONDS = 0.1


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings") / "keys.jsonl"


@pytest.fixture(scope="module")
def make(keys_file: Path) -> Callable[..., str]:
    def made(*arguments: str) -> str:
        finished = tercet("keys", "create", *arguments, "--keys", keys_file)
        assert finished.status == 0, finished
        return finished.out.strip()

    return made


@pytest.fixture(scope="module")
def alice(make: Callable[..., str]) -> str:
    return make("alice", "--expires", "1d")


@pytest.fixture(scope="module")
def operator(make: Callable[..., str]) -> str:
    return make("operator", "--role", "admin")


@pytest.fixture(scope="module")
def server(
    keys_file: Path, alice: str, operator: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("batches")
    server = Server("--keys", keys_file, "--batch-dir", folder)
    yield server
    server.stop()


def client(server: Server, key: str | None, **options: Any) -> httpx.Client:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return server.client(headers=headers, **options)


def test_with_keys_on_nothing_answers_without_one(server: Server, alice: str, operator: str) -> None:
    """Over the real socket; tests/unit/test_server_access.py does it for every route of the application."""
    with client(server, operator) as one:
        paths = one.get("/openapi.json").json()["paths"]
    assert len(paths) > 30
    with client(server, None) as one:
        for path, operations in paths.items():
            for method in operations:
                answer = one.request(method, path)
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "missing_api_key"), path
        for path in ("/", "/nothing", "/chat/completions", "/dashboard.json"):
            assert one.get(path).status_code == 401
    with client(server, alice) as one:
        assert one.post("/v1/completions", json=COMPLETION).status_code == 200
        assert one.get("/readyz").status_code == 200
        assert one.get("/metrics").status_code == 403
        with one.stream("POST", "/v1/completions", json=COMPLETION | {"stream": True}) as stream:
            assert "[DONE]" in "".join(stream.iter_text())
    with client(server, operator) as one:
        assert one.get("/metrics").status_code == 200
        assert one.get("/slots").status_code == 200


def test_a_browser_asks_its_user_for_a_key(server: Server, alice: str) -> None:
    with client(server, None) as one:
        assert "Basic" in one.get("/").headers["www-authenticate"]
        assert one.get("/", auth=("anything", alice)).status_code == 200
        assert "Basic" not in one.get("/v1/models").headers["www-authenticate"]


def test_a_key_is_revoked_while_the_server_runs(
    server: Server, keys_file: Path, make: Callable[..., str]
) -> None:
    key = make("carol")
    with client(server, key) as one:
        assert one.get("/v1/models").status_code == 200
        assert tercet("keys", "revoke", "carol", "--keys", keys_file).status == 0
        answer = one.get("/v1/models")
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    listed = tercet("keys", "list", "--keys", keys_file, "--json").data["keys"]
    assert [entry["state"] for entry in listed if entry["name"] == "carol"] == ["revoked"]
    assert key.rpartition("_")[2] not in keys_file.read_text()


def test_a_key_is_for_its_models_alone(server: Server, make: Callable[..., str]) -> None:
    with client(server, make("dave", "--model", "another")) as one:
        assert one.get("/v1/models").json()["data"] == []
        assert one.get("/api/tags").json()["models"] == one.get("/api/ps").json()["models"] == []
        asked = [
            one.get(f"/v1/models/{MODEL}"),
            one.post("/v1/completions", json=COMPLETION),
            one.post("/v1/completions", json=COMPLETION | {"model": MODEL}),
            one.post(
                "/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}], "model": MODEL}
            ),
            one.post("/v1/completions", json=COMPLETION | {"model": "no such model"}),
            one.post("/completion", json={"prompt": "x"}),
            one.post("/tokenize", json={"content": "x"}),
            one.post("/api/generate", json={"model": MODEL, "prompt": "x"}),
            one.post("/api/show", json={"model": MODEL}),
        ]
        assert [answer.status_code for answer in asked] == [403] * len(asked)
        error = asked[1].json()["error"]
        assert (error["type"], error["code"]) == ("permission_error", "model_not_allowed")


def uploaded(one: httpx.Client, num_lines: int = 1) -> str:
    lines = [
        {
            "custom_id": f"{n}",
            "method": "POST",
            "url": "/v1/completions",
            "body": {"model": MODEL, **COMPLETION},
        }
        for n in range(num_lines)
    ]
    data = "\n".join(map(json.dumps, lines)).encode()
    answer = one.post("/v1/files", data={"purpose": "batch"}, files={"file": ("requests.jsonl", data)})
    assert "owner" not in answer.json()
    return str(answer.json()["id"])


def ended(one: httpx.Client, batch_id: str) -> dict[str, Any]:
    end = time.monotonic() + 60
    while (batch := one.get(f"/v1/batches/{batch_id}").json())["status"] not in ("completed", "failed"):
        assert time.monotonic() < end
        time.sleep(0.05)
    return batch


def test_files_and_batches_are_their_makers_alone(
    server: Server, alice: str, operator: str, make: Callable[..., str]
) -> None:
    with client(server, alice) as hers, client(server, make("bob")) as his, client(server, operator) as ours:
        file = uploaded(hers)
        asked = {"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"}
        batch = hers.post("/v1/batches", json=asked).json()
        assert "owner" not in batch
        done = ended(hers, batch["id"])
        assert done["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
        output = done["output_file_id"]
        assert json.loads(hers.get(f"/v1/files/{output}/content").text)["response"]["status_code"] == 200
        for other in (his, ours):
            assert other.get("/v1/files").json()["data"] == other.get("/v1/batches").json()["data"] == []
            answers = [
                other.get(f"/v1/files/{file}"),
                other.get(f"/v1/files/{output}/content"),
                other.delete(f"/v1/files/{file}"),
                other.get(f"/v1/batches/{batch['id']}"),
                other.post(f"/v1/batches/{batch['id']}/cancel"),
                other.post("/v1/batches", json=asked),
            ]
            assert [answer.status_code for answer in answers] == [404] * len(answers)
        assert {one["id"] for one in hers.get("/v1/files").json()["data"]} == {file, output}
        assert hers.delete(f"/v1/files/{file}").status_code == 200


def test_requests_of_a_batch_are_those_of_its_key(server: Server, make: Callable[..., str]) -> None:
    with client(server, make("erin", "--model", "another")) as one:
        asked = {"input_file_id": uploaded(one), "endpoint": "/v1/completions", "completion_window": "24h"}
        done = ended(one, one.post("/v1/batches", json=asked).json()["id"])
        assert done["request_counts"] == {"total": 1, "completed": 0, "failed": 1}
        failed = json.loads(one.get(f"/v1/files/{done['error_file_id']}/content").text)
        assert failed["response"]["status_code"] == 403


def test_no_key_is_in_the_log(server: Server, alice: str) -> None:
    with client(server, alice + "0", params={"key": "x"}) as one:
        one.get("/v1/models")
        one.get("/v1/models", headers={"x-api-key": alice})
    assert alice.rpartition("_")[2] not in server.log


@pytest.mark.parametrize("what", ["no keys", "missing", "damaged", "half of TLS", "bad origin"])
def test_a_server_that_would_let_strangers_in_does_not_start(tmp_path: Path, what: str) -> None:
    (tmp_path / "damaged.jsonl").write_text("{}\n")
    (tmp_path / "damaged.jsonl").chmod(0o600)
    arguments: dict[str, tuple[tuple[str | Path, ...], str]] = {
        "no keys": (("--host", "0.0.0.0"), "tercet keys create"),
        "missing": (("--keys", tmp_path / "none.jsonl"), "there are no keys"),
        "damaged": (("--keys", tmp_path / "damaged.jsonl"), "is not a file of keys: line 1"),
        "half of TLS": (("--tls-key", tmp_path / "damaged.jsonl"), "tls_certificate"),
        "bad origin": (("--cors-origin", "page.example"), "an origin is"),
    }
    options, words = arguments[what]
    assert_refused(tercet("serve", "--port", "0", *options), words)


def test_keys_are_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "keys.jsonl"
    for arguments, words in {
        ("create", "x", "--expires", "soon"): "--expires",
        ("create", "a\nb"): "name",
        ("create", "x", "--model", "a b"): "models",
        ("revoke", "x"): "does not exist",
    }.items():
        assert_refused(tercet("keys", *arguments, "--keys", file), words)
    assert not file.exists()
    assert tercet("keys", "list", "--keys", file, "--json").data == {"file": str(file), "keys": []}


def shown_name(server: Server) -> str:
    """The name in the certificate that the server shows now."""
    from cryptography import x509

    data = ssl.get_server_certificate(("localhost", server.port))
    subject = x509.load_pem_x509_certificate(data.encode()).subject
    return str(subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


def test_https_takes_up_certificates_that_change(tmp_path: Path, serve: Callable[..., Server]) -> None:
    pytest.importorskip("cryptography", reason="the package cryptography is not installed")
    first, second = (write_certificate(tmp_path, name) for name in ("first", "second"))
    certificate, key = tmp_path / "server.crt", tmp_path / "server.key"
    shutil.copy(first[0], certificate)
    shutil.copy(first[1], key)
    often = (
        "import tercet.server.settings as s; "
        f"s.ServerSettings.__init__.__kwdefaults__['tls_check_seconds'] = {CHECK_SECONDS}"
    )
    tls = ("--tls-cert", certificate, "--tls-key", key, "--host", "localhost", "--header-timeout", "2")
    server = serve(*tls, first=often)
    assert server.base_url.startswith("https://")
    with server.client(verify=ssl.create_default_context(cafile=str(first[0]))) as one:
        assert one.post("/v1/completions", json=COMPLETION).status_code == 200
        assert shown_name(server) == "first"
        second[0].replace(certificate)  # only half of the new pair: the old one stays in use
        wait_until(lambda: "the certificate is not exchanged" in server.log)
        assert shown_name(server) == "first"
        second[1].replace(key)
        wait_until(lambda: shown_name(server) == "second")
        assert one.get("/readyz").status_code == 200  # a connection that is open goes on
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLS"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("localhost", server.port)) as plain,
        pytest.raises((ssl.SSLError, OSError)),
    ):
        old.wrap_socket(plain)
    with socket.create_connection(("localhost", server.port), timeout=10) as plain:
        plain.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" not in plain.recv(1000)
    with socket.create_connection(("localhost", server.port), timeout=10) as silent:
        assert silent.recv(1) == b""  # a handshake that does not come ends with the time of headers
