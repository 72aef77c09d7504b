"""Batches without a model: lines, what is done already, records that outlive a kill, the loop."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tercet.errors import ContextLengthError, ParameterError, StorageError
from tercet.service.batch import lines as lines_module
from tercet.service.batch.inventory import Inventory
from tercet.service.batch.lines import BatchLine, Outcome, RawLine, parse_line, read_lines
from tercet.service.batch.results import ResultFile, is_success
from tercet.service.batch.run import BatchCounts, TryAgain, run_batch

PLAIN = {"id": "a", "prompt": "Once", "max_tokens": 4, "metadata": {"n": [1, None]}}
OPENAI = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": []}}


def write_lines(path: Path, *values: object) -> Path:
    texts = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
    path.write_bytes(b"\n".join(texts) + b"\n")
    return path


def parsed(value: object) -> BatchLine:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return parse_line(RawLine(7, 0xABC, data))


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


async def echo(line: BatchLine) -> Outcome:
    return Outcome(200, {"text": line.body.get("prompt", ""), "usage": {"completion_tokens": 3}})


def run(source: Path, output: Path, answer: Any = echo, concurrency: int = 4, **options: Any) -> BatchCounts:
    opening = {name: options.pop(name) for name in ("overwrite", "retry_failed") if name in options}
    inventory = Inventory(source)
    with ResultFile(output, inventory, **opening) as results:
        return asyncio.run(run_batch(inventory, results, answer, concurrency=concurrency, **options))


# Lines -----------------------------------------------------------------------------------------


def test_both_forms_are_read() -> None:
    plain = parsed(PLAIN)
    assert (plain.id, plain.url, plain.metadata) == ("a", None, {"n": [1, None]})
    assert plain.body == {"prompt": "Once", "max_tokens": 4}
    openai = parsed(OPENAI)
    assert (openai.id, openai.url, openai.body) == ("a", "/v1/chat/completions", {"messages": []})
    assert parsed({"prompt": "Once"}).id == "req_6"
    assert parsed({"prompt": "Once", "id": 12}).id == "12"


def test_records_have_the_form_of_their_line() -> None:
    answered = parsed(PLAIN).record(Outcome(200, {"text": " upon"}))
    assert answered == {
        "id": "a", "line": 7, "status": "succeeded", "text": " upon", "error": None,
        "metadata": {"n": [1, None]}, "request_id": "batch_req_00000007_0000000000000abc",
    }  # fmt: skip
    assert is_success(answered)
    failed = parsed(PLAIN).record(Outcome(400, error={"message": "no"}))
    assert failed["status"] == "failed"
    assert failed["metadata"] == {"n": [1, None]}
    assert not is_success(failed)
    openai = parsed(OPENAI).record(Outcome(200, {"choices": []}))
    assert set(openai) == {"id", "custom_id", "response", "error"}
    assert openai["response"]["status_code"] == 200
    assert is_success(openai)
    refused = parsed(OPENAI).record(Outcome(404, {"error": {"message": "no"}}))
    assert refused["response"]["body"] == {"error": {"message": "no"}}
    assert not is_success(refused)
    impossible = parsed(OPENAI).record(Outcome(400, error={"message": "no"}))
    assert (impossible["response"], impossible["error"]) == (None, {"message": "no"})
    assert not is_success(impossible)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not an object"),
        (b'"x"', "not an object"),
        (b"\xff{}", "not UTF-8"),
        (b'{"prompt": NaN}', "NaN"),
        (b'{"prompt": "\\ud800"}', "surrogate"),
        (b'{"id": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON"),
        ({"id": ""}, "id is a text"),
        ({"id": True}, "id is a text"),
        ({"id": [1]}, "id is a text"),
        ({"custom_id": "a"}, "lacks body, method, url"),
        ({**OPENAI, "custom_id": 3}, "custom_id is a text"),
        ({**OPENAI, "method": "GET"}, "method is POST"),
        ({**OPENAI, "url": "http://example.org"}, "url is the path"),
        ({**OPENAI, "body": []}, "body is a JSON object"),
    ],
)
def test_bad_lines_are_told(value: object, part: str) -> None:
    with pytest.raises(ParameterError, match=part):
        parsed(value)


def test_blank_lines_count_and_are_no_requests(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'\n{"prompt": "a"}\r\n   \n{"prompt": "b"}')
    with path.open("rb") as file:
        assert [(raw.number, raw.data) for raw in read_lines(file)] == [
            (2, b'{"prompt": "a"}'),
            (4, b'{"prompt": "b"}'),
        ]


def test_a_line_without_end_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 1 << 21)
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"x" * (3 << 20) + b'\n{"prompt": "b"}\n')
    with path.open("rb") as file:
        long, short = read_lines(file)
    assert long.data is None
    with pytest.raises(ParameterError, match="longer than"):
        parse_line(long)
    assert parse_line(short).id == "req_1"


# Input and output ------------------------------------------------------------------------------


def test_an_input_without_requests_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="holds no requests"):
        Inventory(write_lines(tmp_path / "in.jsonl", b"", b"  "))
    with pytest.raises(ParameterError, match="no such file"):
        Inventory(tmp_path / "absent")
    with pytest.raises(ParameterError, match="is a directory"):
        Inventory(tmp_path)


def test_every_request_is_answered_once(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", *({"prompt": str(n)} for n in range(100)))
    counts = run(source, tmp_path / "out.jsonl")
    assert (counts.total, counts.succeeded, counts.failed, counts.generated_tokens) == (100, 100, 0, 300)
    found = records(tmp_path / "out.jsonl")
    assert sorted(int(record["text"]) for record in found) == list(range(100))
    assert all(record["id"] == f"req_{record['text']}" for record in found)


def test_bad_lines_fail_alone_and_are_told(tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "in.jsonl", PLAIN, b"{", {"id": "b", "prompt": "x"}, {**OPENAI, "method": "GET"}, PLAIN
    )
    problems: list[tuple[int, str]] = []
    counts = run(source, tmp_path / "out.jsonl", problem=lambda number, text: problems.append((number, text)))
    assert (counts.total, counts.succeeded, counts.failed) == (5, 2, 3)
    assert [number for number, _ in problems] == [2, 4, 5]
    by_line = {record.get("line"): record for record in records(tmp_path / "out.jsonl")}
    assert by_line[2]["status"] == "failed"
    assert "not JSON" in by_line[2]["error"]["message"]
    assert "earlier line" in by_line[5]["error"]["message"]
    assert by_line[5]["id"] == "a"
    assert by_line[None]["custom_id"] == "a"  # in OpenAI's form


def test_failures_stop_nobody(tmp_path: Path) -> None:
    async def answer(line: BatchLine) -> Outcome:
        if line.number % 3 == 0:
            raise ContextLengthError("too long")
        if line.number % 3 == 1:
            raise RuntimeError("a bug")
        return await echo(line)

    source = write_lines(tmp_path / "in.jsonl", *({"prompt": "x"} for _ in range(30)))
    counts = run(source, tmp_path / "out.jsonl", answer)
    assert (counts.succeeded, counts.failed) == (10, 20)
    kinds = {record["error"]["type"] for record in records(tmp_path / "out.jsonl") if record["error"]}
    assert kinds == {"ContextLengthError", "RuntimeError"}


def test_no_room_is_no_failure(tmp_path: Path) -> None:
    refused: set[str] = set()

    async def answer(line: BatchLine) -> Outcome:
        if line.id not in refused:
            refused.add(line.id)
            raise TryAgain(0.01)
        return await echo(line)

    source = write_lines(tmp_path / "in.jsonl", *({"prompt": "x"} for _ in range(10)))
    assert run(source, tmp_path / "out.jsonl", answer).succeeded == 10


def test_as_many_in_flight_as_asked(tmp_path: Path) -> None:
    in_flight = most = 0

    async def answer(line: BatchLine) -> Outcome:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0.005)
        in_flight -= 1
        return await echo(line)

    source = write_lines(tmp_path / "in.jsonl", *({"prompt": "x"} for _ in range(60)))
    run(source, tmp_path / "out.jsonl", answer, concurrency=7)
    assert most == 7


# Again -----------------------------------------------------------------------------------------


def half_done(tmp_path: Path) -> tuple[Path, Path]:
    """A batch of 20 whose first ten are done, two of them failed."""
    source = write_lines(tmp_path / "in.jsonl", *({"prompt": str(n)} for n in range(20)))
    output = tmp_path / "out.jsonl"

    async def answer(line: BatchLine) -> Outcome:
        if line.number in (3, 4):
            raise ParameterError("not this one")
        return await echo(line)

    run(source, output, answer)
    kept = [line for line in output.read_bytes().splitlines(keepends=True) if json.loads(line)["line"] <= 10]
    output.write_bytes(b"".join(kept))
    return source, output


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    source, output = half_done(tmp_path)
    asked: list[int] = []

    async def answer(line: BatchLine) -> Outcome:
        asked.append(line.number)
        return await echo(line)

    counts = run(source, output, answer)
    assert sorted(asked) == list(range(11, 21))
    assert (counts.succeeded, counts.failed, counts.resumed) == (18, 2, 10)
    assert sorted(record["line"] for record in records(output)) == list(range(1, 21))


@pytest.mark.parametrize("cut", [1, 30, 150])
def test_a_torn_last_line_is_cut_and_its_request_runs_again(tmp_path: Path, cut: int) -> None:
    source, output = half_done(tmp_path)
    output.write_bytes(output.read_bytes()[:-cut])
    assert run(source, output).succeeded == 18
    assert sorted(record["line"] for record in records(output)) == list(range(1, 21))


def test_only_a_torn_line_is_there(tmp_path: Path) -> None:
    source, output = half_done(tmp_path)
    for size in (0, 1, 5, 40):
        output.write_bytes(output.read_bytes()[:size] or b'{"id": "req_5", "line": 6, "st'[:size])
        assert run(source, output, overwrite=False).succeeded == 20


def test_failed_requests_run_again_when_asked(tmp_path: Path) -> None:
    source, output = half_done(tmp_path)
    counts = run(source, output, retry_failed=True)
    assert (counts.succeeded, counts.failed, counts.resumed) == (20, 0, 8)
    assert sorted(record["line"] for record in records(output)) == list(range(1, 21))


def test_another_input_is_noticed(tmp_path: Path) -> None:
    source, output = half_done(tmp_path)
    before = output.read_bytes()
    write_lines(source, *({"prompt": str(n + 1)} for n in range(20)))
    with pytest.raises(ParameterError, match=r"line 1 of .* answers none of these requests"):
        run(source, output)
    assert output.read_bytes() == before
    assert run(source, output, overwrite=True).resumed == 0


def test_more_lines_may_be_added_to_the_input(tmp_path: Path) -> None:
    source, output = half_done(tmp_path)
    with source.open("ab") as file:
        file.write(b'{"prompt": "20"}\n')
    counts = run(source, output)
    assert (counts.total, counts.done) == (21, 21)


def test_a_file_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    source, _ = half_done(tmp_path)
    for text in (b"my thesis", b"my thesis\nchapter 1\n", b'{"a": 1}\n', b"[1]\n"):
        output = tmp_path / "thesis"
        output.write_bytes(text)
        with pytest.raises(ParameterError, match=r"another|something else"):
            run(source, output)
        assert output.read_bytes() == text


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    source, output = half_done(tmp_path)
    inventory = Inventory(source)
    with ResultFile(output, inventory), pytest.raises(StorageError, match="another process"):
        ResultFile(output, inventory)


def test_an_input_that_changes_underway_ends_the_batch(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", *({"prompt": str(n)} for n in range(20)))

    async def answer(line: BatchLine) -> Outcome:
        write_lines(source, *({"prompt": str(n)} for n in range(100, 120)))
        return await echo(line)

    with pytest.raises(ParameterError, match="has changed"):
        run(source, tmp_path / "out.jsonl", answer, concurrency=1)


def test_cancelled_keeps_what_was_answered(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", *({"prompt": str(n)} for n in range(20)))
    output = tmp_path / "out.jsonl"

    async def answer(line: BatchLine) -> Outcome:
        if line.number > 8:
            await asyncio.sleep(60)
        return await echo(line)

    async def main() -> None:
        inventory = Inventory(source)
        with ResultFile(output, inventory) as results:
            await asyncio.wait_for(run_batch(inventory, results, answer, concurrency=4), timeout=0.5)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(main())
    assert sorted(record["line"] for record in records(output)) == list(range(1, 9))


def test_a_full_disk_ends_the_batch(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    source = write_lines(tmp_path / "in.jsonl", *({"prompt": str(n)} for n in range(5_000)))
    output = tmp_path / "out.jsonl"
    inventory = Inventory(source)
    with ResultFile(output, inventory) as results, full.open("wb") as device:
        import os

        os.dup2(device.fileno(), results._descriptor)
        with pytest.raises(StorageError, match="no space"):
            asyncio.run(run_batch(inventory, results, echo, concurrency=4))


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    import tracemalloc

    async def briefly(line: BatchLine) -> Outcome:
        return Outcome(200, {"text": "x"})

    def peak(count: int) -> int:
        source = tmp_path / f"{count}.jsonl"
        write_lines(source, *({"prompt": "x" * 5_000, "n": n} for n in range(count)))
        tracemalloc.start()
        run(source, tmp_path / f"{count}.out", briefly)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    small, large = peak(500), peak(2_000)
    assert large - small < 1_500 * 500, (small, large)  # the text alone would be 1,500 x 5,000 and more


def test_synchronizing_does_not_wait_for_every_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_lines(tmp_path / "in.jsonl", *({"prompt": str(n)} for n in range(400)))
    calls: list[int] = []
    append = ResultFile.append

    def slow(self: ResultFile, batch: Any) -> None:
        batch = list(batch)
        calls.append(len(batch))
        time.sleep(0.02)
        append(self, batch)

    monkeypatch.setattr(ResultFile, "append", slow)
    assert run(source, tmp_path / "out.jsonl").succeeded == 400
    assert sum(calls) == 400
    assert len(calls) < 200
