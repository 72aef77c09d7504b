"""The batches of a server without a server: states, restarts, cancelling, files that outlive everything."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tercet.errors import ParameterError, StorageError, UnavailableError
from tercet.service.batch.jobs import BatchJobs
from tercet.service.batch.lines import BatchLine, Outcome
from tercet.service.batch.run import Answer, StopBatch
from tercet.service.batch.store import BatchStore

ENDPOINT = "/v1/completions"


def openai_line(number: int, **body: Any) -> dict[str, Any]:
    return {
        "custom_id": f"r{number}",
        "method": "POST",
        "url": ENDPOINT,
        "body": {"prompt": str(number), **body},
    }


def upload(store: BatchStore, *lines: Any) -> str:
    with store.new_file("in.jsonl", "batch") as file:
        for line in lines:
            file.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
    return str(file.object["id"])


def content(store: BatchStore, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(line) for line in store.file_path(file_id).read_bytes().splitlines()]


async def echo(line: BatchLine) -> Outcome:
    if line.url is None:
        raise ParameterError("not this form")
    return Outcome(200, {"text": line.body["prompt"]})


@asynccontextmanager
async def running(store: BatchStore, answer: Answer = echo) -> AsyncIterator[BatchJobs]:
    jobs = BatchJobs(store, lambda endpoint, owner: answer, lambda: 4)
    jobs.start()
    try:
        yield jobs
    finally:
        await jobs.stop()


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


async def begun(jobs: BatchJobs, file_id: str) -> str:
    return str((await jobs.create(file_id, ENDPOINT, None))["id"])


async def ended(jobs: BatchJobs, batch_id: str) -> dict[str, Any]:
    await until(
        lambda: (jobs.get(batch_id) or {})["status"] in ("completed", "failed", "expired", "cancelled")
    )
    return jobs.get(batch_id) or {}


@pytest.fixture
def store(tmp_path: Path) -> BatchStore:
    return BatchStore(tmp_path / "batches")


def test_a_batch_from_its_file_to_its_files(store: BatchStore) -> None:
    async def main() -> dict[str, Any]:
        async with running(store) as jobs:
            file_id = upload(store, *map(openai_line, range(20)), b"{bad\n", {"prompt": "plain"})
            batch = await jobs.create(file_id, ENDPOINT, {"who": "me"})
            assert batch["status"] == "validating"
            return await ended(jobs, batch["id"])

    batch = asyncio.run(main())
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 22, "completed": 20, "failed": 2}
    assert batch["metadata"] == {"who": "me"}
    assert [one["line"] for one in batch["errors"]["data"]] == [21]
    found = content(store, batch["output_file_id"])
    assert {record["custom_id"]: record["response"]["body"]["text"] for record in found} == {
        f"r{number}": str(number) for number in range(20)
    }
    assert len(content(store, batch["error_file_id"])) == 2
    assert not store.results_path(batch["id"]).exists()
    for name in ("in_progress_at", "finalizing_at", "completed_at"):
        assert batch[name] >= batch["created_at"]


def test_a_batch_goes_on_in_the_next_process(store: BatchStore, tmp_path: Path) -> None:
    asked: list[str] = []

    async def first_half(line: BatchLine) -> Outcome:
        asked.append(line.id)
        if len(asked) > 10:
            await asyncio.sleep(60)
        return await echo(line)

    async def begin() -> str:
        async with running(store, first_half) as jobs:
            batch_id = await begun(jobs, upload(store, *map(openai_line, range(20))))
            await until(lambda: (jobs.get(batch_id) or {})["request_counts"]["completed"] == 10)
            return str(batch_id)

    async def go_on(store: BatchStore, batch_id: str) -> dict[str, Any]:
        async def rest(line: BatchLine) -> Outcome:
            again.append(line.id)
            return await echo(line)

        async with running(store, rest) as jobs:
            return await ended(jobs, batch_id)

    again: list[str] = []
    batch_id = asyncio.run(begin())
    assert (store.batch(batch_id) or {})["status"] == "in_progress"
    store.close()
    reopened = BatchStore(tmp_path / "batches")
    batch = asyncio.run(go_on(reopened, batch_id))
    assert batch["status"] == "completed"
    assert sorted(again) == sorted({f"r{number}" for number in range(20)} - set(asked[:10]))
    assert len(content(reopened, batch["output_file_id"])) == 20


def test_a_service_that_goes_away_fails_no_request(
    store: BatchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tercet.service.batch.jobs.RETRY_SECONDS", 0.01)
    refusals = [0]

    async def sometimes(line: BatchLine) -> Outcome:
        if line.id == "r5" and refusals[0] < 3:
            refusals[0] += 1
            raise StopBatch(UnavailableError("the service is draining"))
        return await echo(line)

    async def main() -> dict[str, Any]:
        async with running(store, sometimes) as jobs:
            batch_id = await begun(jobs, upload(store, *map(openai_line, range(20))))
            return await ended(jobs, batch_id)

    batch = asyncio.run(main())
    assert batch["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
    assert batch["error_file_id"] is None
    assert refusals == [3]


def test_cancelling_keeps_what_was_answered(store: BatchStore) -> None:
    async def answer(line: BatchLine) -> Outcome:
        if int(line.body["prompt"]) >= 6:
            await asyncio.sleep(60)
        return await echo(line)

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        async with running(store, answer) as jobs:
            first = await begun(jobs, upload(store, *map(openai_line, range(20))))
            second = await begun(jobs, upload(store, *map(openai_line, range(3))))
            await until(lambda: (jobs.get(first) or {})["request_counts"]["completed"] == 6)
            assert (await jobs.cancel(second) or {})["status"] == "cancelling"  # before its turn
            assert (await jobs.cancel(first) or {})["status"] == "cancelling"
            found = await ended(jobs, first), await ended(jobs, second)
            assert await jobs.cancel(first) == found[0]  # nothing more happens
            return found

    first, second = asyncio.run(main())
    assert (first["status"], second["status"]) == ("cancelled", "cancelled")
    assert len(content(store, first["output_file_id"])) == 6
    assert second["output_file_id"] is None
    assert first["cancelled_at"] >= first["cancelling_at"]


def test_time_runs_out(store: BatchStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tercet.service.batch.jobs.WINDOW_SECONDS", 1)

    async def answer(line: BatchLine) -> Outcome:
        if int(line.body["prompt"]) >= 6:
            await asyncio.sleep(60)
        return await echo(line)

    async def main() -> dict[str, Any]:
        async with running(store, answer) as jobs:
            batch_id = await begun(jobs, upload(store, *map(openai_line, range(20))))
            return await ended(jobs, batch_id)

    batch = asyncio.run(main())
    assert batch["status"] == "expired"
    assert batch["request_counts"] == {"total": 20, "completed": 6, "failed": 14}
    errors = content(store, batch["error_file_id"])
    assert {record["error"]["code"] for record in errors} == {"batch_expired"}
    assert {record["custom_id"] for record in errors} == {f"r{number}" for number in range(6, 20)}


@pytest.mark.parametrize("days", [-400, 400])
def test_a_clock_on_the_wall_that_is_set_ends_no_batch(
    store: BatchStore, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    real = time.time

    async def main() -> dict[str, Any]:
        async with running(store) as jobs:
            batch_id = await begun(jobs, upload(store, *map(openai_line, range(5))))
            monkeypatch.setattr(time, "time", lambda: real() + days * 86_400)
            return await ended(jobs, batch_id)

    batch = asyncio.run(main())
    assert (batch["status"], batch["request_counts"]["completed"]) == ("completed", 5)


def test_a_file_without_requests_fails_its_batch(store: BatchStore) -> None:
    async def main() -> dict[str, Any]:
        async with running(store) as jobs:
            return await ended(jobs, await begun(jobs, upload(store, b"\n")))

    batch = asyncio.run(main())
    assert batch["status"] == "failed"
    assert "no requests" in batch["errors"]["data"][0]["message"]


def test_files_are_there_whole_or_not_at_all(store: BatchStore, tmp_path: Path) -> None:
    class InterruptedUploadError(Exception):
        pass

    def interrupted() -> None:
        with store.new_file("a", "batch") as file:
            file.write(b"half")
            raise InterruptedUploadError

    with pytest.raises(InterruptedUploadError):
        interrupted()
    assert store.files() == []
    file_id = upload(store, openai_line(1))
    assert store.file(file_id) == store.files()[0]
    assert (store.file(file_id) or {})["bytes"] == len(store.file_path(file_id).read_bytes())
    orphan = store.file_path(file_id).with_name("file-" + "0" * 24 + ".data")
    orphan.write_bytes(b"its process was killed before it was described")
    store.close()
    reopened = BatchStore(tmp_path / "batches")
    assert [file["id"] for file in reopened.files()] == [file_id]
    assert not orphan.exists()
    reopened.delete_file(file_id)
    assert reopened.files() == []
    with pytest.raises(ParameterError, match="no file"):
        reopened.file_path(file_id)
    with pytest.raises(ParameterError, match="no file"):
        reopened.file_path("../../etc/passwd")


def test_the_folder_is_bounded_and_belongs_to_one(tmp_path: Path) -> None:
    store = BatchStore(tmp_path / "batches", max_bytes=100)
    upload(store, b"x" * 60)
    with pytest.raises(StorageError, match="as much as it may"):
        upload(store, b"x" * 60)
    assert len(store.files()) == 1
    with pytest.raises(StorageError, match="another process"):
        BatchStore(tmp_path / "batches")
    store.close()
    BatchStore(tmp_path / "batches").close()


def test_damage_is_told(store: BatchStore, tmp_path: Path) -> None:
    file_id = upload(store, openai_line(1))
    store.close()
    described = tmp_path / "batches" / "files" / f"{file_id}.json"
    for text in ("{", "[]", '{"id": "other"}'):
        described.write_text(text)
        with pytest.raises(StorageError, match=file_id):
            BatchStore(tmp_path / "batches")
