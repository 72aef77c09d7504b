"""The batches of a server: one after the other, in the background, and on again after a restart.

    validating -> in_progress -> finalizing -> completed
                       |                  \\-> expired, where its time is over first
                       \\-> cancelling -> cancelled                      failed, where there is nothing to run

What a batch has done is in its file of results, so every state but the last may be cut off anywhere: the next
process reads it, runs what is missing, and writes the output files again under the same names.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tercet.errors import ParameterError, UnavailableError
from tercet.security.identity import LOCAL, current_caller
from tercet.service.batch.inventory import Inventory
from tercet.service.batch.lines import Outcome, fallback_line, parse_line
from tercet.service.batch.results import ResultFile, is_success
from tercet.service.batch.run import Answer, BatchCounts, run_batch
from tercet.service.batch.store import BatchStore, derived_file_id

__all__ = ["COMPLETION_WINDOW", "BatchJobs"]

COMPLETION_WINDOW = "24h"
WINDOW_SECONDS = 24 * 3600
MAX_ERRORS_TOLD = 100
RETRY_SECONDS = 2.0
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
LOG = logging.getLogger("tercet.batches")


class BatchJobs:
    """Runs the batches of a store.

    Args:
        store: files and batches.
        new_answer: who answers the lines of a batch, for an endpoint and the key that the batch belongs to.
        concurrency: most requests in flight; asked when a batch begins.
    """

    def __init__(
        self, store: BatchStore, new_answer: Callable[[str, str], Answer], concurrency: Callable[[], int]
    ) -> None:
        self.store = store
        self._new_answer = new_answer
        self._concurrency = concurrency
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._current: tuple[str, asyncio.Task[None]] | None = None
        self._counts: dict[str, BatchCounts] = {}
        self._ends: dict[str, float] = {}  # by the monotonic clock: the time of day may be set meanwhile

    def start(self) -> None:
        """Begin, or go on with what an earlier process has left."""
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Leave everything as it is, for the next process."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)

    # What clients ask for ---------------------------------------------------------------------------

    async def create(
        self, input_file_id: str, endpoint: str, metadata: Mapping[str, str] | None
    ) -> dict[str, Any]:
        """Queue a batch and return its object.

        Raises:
            ParameterError: there is no such file.
        """
        self.store.file_path(input_file_id)
        now = int(time.time())
        batch: dict[str, Any] = {
            "id": f"batch_{secrets.token_hex(12)}",
            "object": "batch",
            "endpoint": endpoint,
            "errors": None,
            "input_file_id": input_file_id,
            "completion_window": COMPLETION_WINDOW,
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": now,
            "in_progress_at": None,
            "expires_at": now + WINDOW_SECONDS,
            "finalizing_at": None,
            "completed_at": None,
            "failed_at": None,
            "expired_at": None,
            "cancelling_at": None,
            "cancelled_at": None,
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "metadata": None if metadata is None else dict(metadata),
            "owner": current_caller().key_id,
        }
        self._ends[batch["id"]] = time.monotonic() + WINDOW_SECONDS
        self.store.put_batch(batch)
        await self._save(batch["id"])
        self._wake.set()
        return batch

    def get(self, batch_id: str) -> dict[str, Any] | None:
        """The object of a batch, counted as of now; None where there is none."""
        batch = self.store.batch(batch_id)
        counts = self._counts.get(batch_id)
        if batch is None or counts is None or batch["status"] in ENDED:
            return batch
        return {**batch, "request_counts": _shown(counts)}

    async def cancel(self, batch_id: str) -> dict[str, Any] | None:
        """End a batch; what it has answered is kept. Nothing happens to one that has ended."""
        batch = self.store.batch(batch_id)
        if batch is not None and batch["status"] not in ENDED | {"cancelling", "finalizing"}:
            self._change(batch_id, "cancelling")
            if self._current is not None and self._current[0] == batch_id:
                self._current[1].cancel()
            await self._save(batch_id)
            self._wake.set()
        return self.get(batch_id)

    def uses(self, file_id: str) -> bool:
        """Whether a batch that has not ended reads a file."""
        return any(
            batch["input_file_id"] == file_id and batch["status"] not in ENDED
            for batch in self.store.batches()
        )

    # What runs in the background --------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            waiting = [batch for batch in self.store.batches() if batch["status"] not in ENDED]
            if not waiting:
                await self._wake.wait()
                continue
            batch_id = waiting[-1]["id"]  # the oldest
            task = asyncio.create_task(self._run(batch_id))
            self._current = (batch_id, task)
            try:
                await asyncio.wait({task})
            finally:
                self._current = None
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                if not isinstance(error, UnavailableError):
                    LOG.error("a batch stopped and is tried again", exc_info=error, extra={"batch": batch_id})
                await asyncio.sleep(RETRY_SECONDS)

    async def _run(self, batch_id: str) -> None:
        batch = self.store.batch(batch_id) or {}
        status = "completed"
        try:
            inventory, results = await asyncio.to_thread(self._open, batch)
        except ParameterError as error:
            self._change(batch_id, "failed", errors=_errors([(None, "invalid_input_file", str(error))]))
            await self._save(batch_id)
            return
        with results:
            self._note(batch_id, BatchCounts(inventory.total, results.num_succeeded, results.num_failed))
            if batch["status"] in ("validating", "in_progress"):
                self._change(batch_id, "in_progress")
                await self._save(batch_id)
                status = await self._answer(batch_id, inventory, results)
            elif batch["status"] == "cancelling":
                status = "cancelled"
        if status == "expired":
            await asyncio.to_thread(self._expire, batch)
        if status == "completed":
            self._change(batch_id, "finalizing")
            await self._save(batch_id)
        made = await asyncio.to_thread(self._output_files, batch_id)
        done = self._changed(batch_id, status, **made)
        await asyncio.to_thread(self.store.write_batch, batch_id, done)
        self.store.put_batch(done)  # seen only now: whoever sees it may count on the disk
        self._counts.pop(batch_id, None)
        self._ends.pop(batch_id, None)
        self.store.delete_results(batch_id)

    def _open(self, batch: Mapping[str, Any]) -> tuple[Inventory, ResultFile]:
        inventory = Inventory(self.store.file_path(batch["input_file_id"]))
        return inventory, ResultFile(self.store.results_path(batch["id"]), inventory)

    async def _answer(self, batch_id: str, inventory: Inventory, results: ResultFile) -> str:
        batch = self.store.batch(batch_id) or {}
        problems: list[tuple[int | None, str, str]] = []

        def note_problem(number: int, message: str) -> None:
            if len(problems) < MAX_ERRORS_TOLD:
                problems.append((number, "invalid_request", message))

        running = run_batch(
            inventory,
            results,
            self._new_answer(batch["endpoint"], _owner(batch)),
            concurrency=self._concurrency(),
            progress=lambda counts: self._note(batch_id, counts),
            problem=note_problem,
        )
        try:
            await asyncio.wait_for(running, self._seconds_left(batch))
        except asyncio.TimeoutError:
            return "expired"
        except asyncio.CancelledError:
            if (self.store.batch(batch_id) or {})["status"] != "cancelling":
                raise  # the server stops
            return "cancelled"
        finally:
            if problems:
                self._change(batch_id, None, errors=_errors(problems))
        return "completed"

    def _seconds_left(self, batch: Mapping[str, Any]) -> float:
        """Until its time is over; the clock on the wall is asked only about batches of earlier processes."""
        now = time.monotonic()
        return max(0.0, self._ends.setdefault(batch["id"], now + batch["expires_at"] - time.time()) - now)

    def _expire(self, batch: Mapping[str, Any]) -> None:
        """Record every request that has not run."""
        error = {"code": "batch_expired", "message": "the time of the batch was over before this request ran"}
        inventory, results = self._open(batch)
        with results:
            for raw in inventory.remaining():
                try:
                    line = parse_line(raw)
                except ParameterError:
                    line = fallback_line(raw)
                results.append([line.record(Outcome(408, error=error))])

    def _output_files(self, batch_id: str) -> dict[str, Any]:
        """Write the answers and the failures into two files; one that would be empty is not made."""
        made: dict[str, Any] = {}
        counts = BatchCounts(0)
        owner = _owner(self.store.batch(batch_id) or {})
        for what, wanted in (("output", True), ("error", False)):
            file_id = derived_file_id(batch_id, what)
            count = 0
            with self.store.new_file(f"{batch_id}_{what}.jsonl", "batch_output", file_id, owner) as file:
                for line in self._lines(batch_id):
                    if is_success(json.loads(line)) is wanted:
                        file.write(line)
                        count += 1
            made[f"{what}_file_id"] = file_id if count else None
            if not count:
                self.store.delete_file(file_id)
            counts.succeeded, counts.failed = (count, 0) if wanted else (counts.succeeded, count)
        known = self._counts.get(batch_id)
        counts.total = counts.done if known is None else known.total
        return {**made, "request_counts": _shown(counts)}

    def _lines(self, batch_id: str) -> Iterator[bytes]:
        with contextlib.suppress(FileNotFoundError), self.store.results_path(batch_id).open("rb") as file:
            yield from file

    def _note(self, batch_id: str, counts: BatchCounts) -> None:
        self._counts[batch_id] = counts

    async def _save(self, batch_id: str) -> None:
        await asyncio.to_thread(self.store.write_batch, batch_id)

    def _change(self, batch_id: str, status: str | None, **values: Any) -> None:
        self.store.put_batch(self._changed(batch_id, status, **values))

    def _changed(self, batch_id: str, status: str | None, **values: Any) -> dict[str, Any]:
        """The object of a batch with a new status, and when that began; it may go on after a restart."""
        batch = {**(self.store.batch(batch_id) or {}), **values}
        if status is not None:
            batch["status"] = status
            batch[f"{status}_at"] = batch.get(f"{status}_at") or int(time.time())
        return batch


def _owner(batch: Mapping[str, Any]) -> str:
    return str(batch.get("owner", LOCAL.key_id))


def _shown(counts: BatchCounts) -> dict[str, int]:
    return {"total": counts.total, "completed": counts.succeeded, "failed": counts.failed}


def _errors(problems: list[tuple[int | None, str, str]]) -> dict[str, Any]:
    data = [
        {"code": code, "line": number, "message": message, "param": None}
        for number, code, message in problems
    ]
    return {"object": "list", "data": data}
