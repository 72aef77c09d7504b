"""`/v1/files` and `/v1/batches` with OpenAI's own client, across restarts of the server and kills."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from served import Server
from tercet import LLM

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server("--batch-dir", tmp_path_factory.mktemp("served") / "batches")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with client_of(server) as client:
        yield client


def client_of(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="none", max_retries=0)


def chat_line(number: int, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Tell of number {number}."}]
    body = {"messages": messages, "max_tokens": 8, "temperature": 0, **body}
    return {"custom_id": f"r{number}", "method": "POST", "url": CHAT, "body": body}


def upload(client: openai.OpenAI, *lines: Any) -> str:
    data = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    return client.files.create(file=("requests.jsonl", data), purpose="batch").id


def ended(client: openai.OpenAI, batch_id: str, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        batch = client.batches.retrieve(batch_id)
        if batch.status in ("completed", "failed", "expired", "cancelled"):
            return batch
        time.sleep(0.05)
    pytest.fail(f"the batch has not ended: {batch}")


def records(client: openai.OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    assert file_id is not None
    found = [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
    by_id = {record["custom_id"]: record for record in found}
    assert len(by_id) == len(found)
    return by_id


# Files -----------------------------------------------------------------------------------------


def test_files_come_and_go(client: openai.OpenAI) -> None:
    data = json.dumps(chat_line(1)).encode() + b"\n"
    created = client.files.create(file=("requêtes.jsonl", data), purpose="batch")
    assert (created.filename, created.bytes, created.purpose) == ("requêtes.jsonl", len(data), "batch")
    assert client.files.retrieve(created.id) == created
    assert client.files.content(created.id).content == data
    assert created in client.files.list().data
    assert created in client.files.list(purpose="batch", limit=100, order="asc").data
    assert client.files.list(purpose="batch_output", after=None or openai.NOT_GIVEN).object == "list"
    assert client.files.delete(created.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(created.id)
    with pytest.raises(openai.NotFoundError):
        client.files.content(created.id)


def test_files_are_listed_page_by_page(client: openai.OpenAI) -> None:
    ids = [upload(client, chat_line(number)) for number in range(5)]
    listed = [file.id for file in client.files.list(limit=2)]  # the client asks for page after page
    assert set(ids) <= set(listed)
    assert len(listed) == len(set(listed))
    first = client.files.list(limit=2)
    assert first.has_more
    for file_id in ids:
        client.files.delete(file_id)


def test_a_large_file_is_not_held_in_memory(server: Server, client: openai.OpenAI) -> None:
    """48 MB, beyond what a JSON body may have; the parts of the form come in pieces of any size."""
    line = json.dumps(chat_line(1, user="x" * 100_000)).encode() + b"\n"
    data = line * 480
    before = resident_bytes(server.pid)
    created = client.files.create(file=("large.jsonl", data), purpose="batch")
    assert created.bytes == len(data)
    assert resident_bytes(server.pid) - before < len(data) / 3
    with client.files.with_streaming_response.content(created.id) as answer:
        assert b"".join(answer.iter_bytes()) == data
    client.files.delete(created.id)


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"purpose": "fine-tune"}, "purpose"), ({}, "purpose"), ({"purpose": "x" * 10_000}, "purpose")],
)
def test_forms_that_are_refused(server: Server, fields: dict[str, str], param: str) -> None:
    with server.client() as http:
        answer = http.post("/v1/files", data=fields, files={"file": ("a.jsonl", b"{}")})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


FORM = "multipart/form-data; boundary=x"


def part(headers: bytes, value: bytes = b"b") -> bytes:
    return b"--x\r\n" + headers + b"\r\n\r\n" + value + b"\r\n"


def named(name: bytes, value: bytes = b"b") -> bytes:
    return part(b'Content-Disposition: form-data; name="' + name + b'"', value)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{}", "application/json", 415),
        (b"", "multipart/form-data", 415),
        (b"nonsense", FORM, 400),
        (named(b"purpose", b"batch"), FORM, 400),  # it ends before its end
        (named(b"purpose", b"batch") + b"--x--\r\n", FORM, 400),  # without a file
        (part(b"Content-Disposition: form-data") + b"--x--\r\n", FORM, 400),
        (part(b"A: " + b"b" * 10_000) + b"--x--\r\n", FORM, 400),
        (named(b"\xff") + b"--x--\r\n", FORM, 400),
        (named(b"a") * 2 + b"--x--\r\n", FORM, 400),
        (b"".join(named(b"%d" % number) for number in range(50)) + b"--x--\r\n", FORM, 400),
    ],
)
def test_bodies_that_are_no_form(server: Server, body: bytes, content_type: str, status: int) -> None:
    with server.client() as http:
        before = http.get("/v1/files").json()["data"]
        answer = http.post("/v1/files", content=body, headers={"content-type": content_type})
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert http.get("/v1/files").json()["data"] == before  # nothing of it is kept


def test_paths_lead_nowhere_else(server: Server) -> None:
    with server.client() as http:
        for file_id in ("..%2f..%2fetc%2fpasswd", "file-x", "lock", "file-" + "0" * 24):
            assert http.get(f"/v1/files/{file_id}/content").status_code == 404
            assert http.get(f"/v1/batches/{file_id}").status_code == 404


# Batches ---------------------------------------------------------------------------------------


def test_a_batch_is_answered_as_single_requests_are(client: openai.OpenAI) -> None:
    bad = {"custom_id": "method", "method": "GET", "url": CHAT, "body": {}}
    other = {**chat_line(100), "url": "/v1/completions"}
    streamed = chat_line(101, stream=True)
    wrong = chat_line(102, temperature=9)
    lines = [*map(chat_line, range(12)), bad, b"{torn\n", other, streamed, wrong, chat_line(3)]
    batch = client.batches.create(
        input_file_id=upload(client, *lines),
        endpoint=CHAT,
        completion_window="24h",
        metadata={"why": "a test"},
    )
    assert batch.status in ("validating", "in_progress")
    batch = ended(client, batch.id)
    assert batch.status == "completed"
    assert batch.metadata == {"why": "a test"}
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (
        18,
        12,
        6,
    )
    answers = records(client, batch.output_file_id)
    assert set(answers) == {f"r{number}" for number in range(12)}
    for number in range(3):
        single = client.chat.completions.create(**chat_line(number)["body"], model="llama-tercet-tiny")
        body = answers[f"r{number}"]["response"]["body"]
        assert body["object"] == "chat.completion"
        assert body["choices"][0]["message"]["content"] == single.choices[0].message.content
        assert body["usage"]["prompt_tokens"] == single.usage.prompt_tokens
    failures = {
        record.get("custom_id"): record
        for record in map(json.loads, client.files.content(batch.error_file_id).text.splitlines())
    }
    assert failures["r102"]["response"]["status_code"] == 400
    assert failures["r102"]["response"]["body"]["error"]["param"] == "temperature"
    assert "GET" in failures["method"]["error"]["message"]
    assert "/v1/completions" in failures["r100"]["error"]["message"]
    assert "stream" in failures["r101"]["error"]["message"]
    assert "earlier line" in failures["r3"]["error"]["message"]
    assert [error.line for error in batch.errors.data] == [13, 14, 18]
    assert batch.id in [one.id for one in client.batches.list(limit=1)]


def test_completions_in_a_batch(client: openai.OpenAI) -> None:
    line = {
        "custom_id": "c", "method": "POST", "url": "/v1/completions",
        "body": {"prompt": "Once upon a time", "max_tokens": 6, "temperature": 0},
    }  # fmt: skip
    batch = client.batches.create(
        input_file_id=upload(client, line), endpoint="/v1/completions", completion_window="24h"
    )
    answers = records(client, ended(client, batch.id).output_file_id)
    expected = LLM().generate("Once upon a time", max_tokens=6, temperature=0).text
    assert answers["c"]["response"]["body"]["choices"][0]["text"] == expected


def test_what_a_batch_needs(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.batches.create(input_file_id="file-x", endpoint=CHAT, completion_window="24h")
    assert caught.value.code == "file_not_found"
    file_id = upload(client, chat_line(1))
    for body in (
        {"endpoint": "/v1/audio", "completion_window": "24h"},
        {"endpoint": CHAT, "completion_window": "1h"},
        {"endpoint": CHAT, "completion_window": "24h", "metadata": {"a": 1}},
        {"endpoint": CHAT},
    ):
        with pytest.raises(openai.BadRequestError):
            client.post("/batches", body={"input_file_id": file_id, **body}, cast_to=object)
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_x")
    with pytest.raises(openai.NotFoundError):
        client.batches.cancel("batch_x")


def test_without_a_folder_there_is_no_batch_api(serving: Server) -> None:
    with serving.client() as http:
        for answer in (
            http.get("/v1/files"),
            http.get("/v1/batches"),
            http.post("/v1/files", files={"file": b""}),
        ):
            assert answer.status_code == 501
            assert "--batch-dir" in answer.json()["error"]["message"]


def test_a_batch_goes_on_after_a_kill(serve: Callable[..., Server], tmp_path: Path) -> None:
    """SIGKILL, again and again, in the middle of a batch: nothing is lost and nothing is there twice."""
    folder = tmp_path / "batches"
    server = serve("--batch-dir", folder, "--max-concurrent", "4")
    with client_of(server) as client:
        file_id = upload(client, *(chat_line(number, max_tokens=24) for number in range(600)))
        batch_id = client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h").id
        with pytest.raises(openai.ConflictError):
            client.files.delete(file_id)  # the batch reads it
    done = 0
    for _ in range(3):
        results = folder / "batches" / f"{batch_id}.jsonl"
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if results.exists() and results.read_bytes().count(b"\n") >= done + 20:
                break
            time.sleep(0.01)
        server.process.send_signal(signal.SIGKILL)
        server.wait(-signal.SIGKILL)
        done = results.read_bytes().count(b"\n")
        assert done < 600, "it ended before it could be killed: add requests"
        server = serve("--batch-dir", folder)
    with client_of(server) as client:
        batch = ended(client, batch_id, 120)
        assert batch.status == "completed"
        assert batch.request_counts.completed == 600
        assert len(records(client, batch.output_file_id)) == 600


def test_cancel_and_people_first(serve: Callable[..., Server], slow_model: Path, tmp_path: Path) -> None:
    server = serve("--batch-dir", tmp_path / "batches", "--max-concurrent", "1", slow_model)
    with client_of(server) as client:
        lines = [
            chat_line(0, max_tokens=2),
            *(chat_line(number, max_tokens=100_000) for number in range(1, 5)),
        ]
        batch = client.batches.create(
            input_file_id=upload(client, *lines), endpoint=CHAT, completion_window="24h"
        )
        end = time.monotonic() + 60
        while client.batches.retrieve(batch.id).request_counts.completed < 1 and time.monotonic() < end:
            time.sleep(0.05)
        assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
        batch = ended(client, batch.id)
        assert batch.status == "cancelled"
        assert set(records(client, batch.output_file_id)) == {"r0"}
        # Nothing of it runs on.
        slots = httpx.get(f"{server.base_url}/slots").json()
        assert not any(slot["is_processing"] for slot in slots)


def test_a_server_that_drains_leaves_its_batch(
    serve: Callable[..., Server], slow_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "batches"
    server = serve("--batch-dir", folder, slow_model)
    with client_of(server) as client:
        file_id = upload(client, chat_line(0, max_tokens=100_000))
        batch = client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
        end = time.monotonic() + 30
        while client.batches.retrieve(batch.id).status != "in_progress" and time.monotonic() < end:
            time.sleep(0.02)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 10  # it does not wait for the batch
    state = json.loads((folder / "batches" / f"{batch.id}.json").read_text())
    assert state["status"] == "in_progress"
