"""Batches in Parquet: rows are requests, a folder of files holds the results, and a kill costs little."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tercet.errors import ParameterError, StorageError
from tercet.service.batch import parquet
from tercet.service.batch.inventory import Inventory
from tercet.service.batch.lines import Outcome, parse_line
from tercet.service.batch.parquet import ParquetResults

ROWS = [
    {"id": "a", "prompt": "Once", "max_tokens": 5, "metadata": {"page": 1}},
    {"prompt": "Twice"},
    {"id": "c", "messages": [{"role": "user", "content": "Hello"}]},
    {"id": "a", "prompt": "again"},
]


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    file = tmp_path / "requests.parquet"
    names = ("id", "prompt", "max_tokens", "metadata", "messages")
    columns = {name: [row.get(name) for row in ROWS] for name in names}
    pyarrow.parquet.write_table(pyarrow.table(columns), file, row_group_size=2)
    return file


def answered(inventory: Inventory, results: ParquetResults, failing: str = "") -> None:
    """Answer what is left; the prompt of one fails."""
    for raw in list(inventory.remaining()):
        line = parse_line(raw)
        error = {"type": "ParameterError", "message": "no", "code": None}
        if line.body.get("prompt") == failing:
            outcome = Outcome(400, error=error)
        else:
            usage = {"prompt_tokens": 3, "cached_tokens": 0, "completion_tokens": 2, "total_tokens": 5}
            outcome = Outcome(
                200, {"text": f"{raw.number}!", "usage": usage, "seed": 2**64 - 1, "seconds": 0.5}
            )
        inventory.mark_done(raw.number, raw.digest)
        results.append([line.record(outcome)])


def records(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(folder).to_pylist()
    return sorted(rows, key=lambda row: row["line"])


def test_a_row_is_a_request_without_its_nulls(requests: Path) -> None:
    inventory = Inventory(requests)
    assert inventory.total == 4
    lines = [parse_line(raw) for raw in inventory.remaining()]
    assert [line.id for line in lines] == ["a", "req_1", "c", "a"]
    assert [dict(line.body) for line in lines] == [
        {"prompt": "Once", "max_tokens": 5},
        {"prompt": "Twice"},
        {"messages": [{"role": "user", "content": "Hello"}]},
        {"prompt": "again"},
    ]
    assert lines[0].metadata == {"page": 1}
    assert lines[1].metadata is None
    inventory.check_id(lines[0])
    with pytest.raises(ParameterError, match="earlier line"):
        inventory.check_id(lines[3])


def test_results_are_one_table_and_are_gone_on_with(
    requests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "PART_ROWS", 2)
    folder = tmp_path / "results.parquet"
    inventory = Inventory(requests)
    results = ParquetResults(folder, inventory)
    with pytest.raises(StorageError, match="another process"):
        ParquetResults(folder, inventory)
    answered(inventory, results, failing="Twice")
    assert len(list(folder.glob("part-*.parquet"))) == 2  # each when there were enough
    results.close()
    found = records(folder)
    assert [row["status"] for row in found] == ["succeeded", "failed", "succeeded", "succeeded"]
    assert found[0]["text"] == "1!"
    assert found[0]["seed"] == 2**64 - 1
    assert found[0]["usage"]["completion_tokens"] == 2
    assert json.loads(found[0]["metadata"]) == {"page": 1}
    assert found[1]["error"]["message"] == "no"

    (folder / ".tercet-0.tmp").write_bytes(b"torn")  # of a process that was killed
    again = Inventory(requests)
    with ParquetResults(folder, again) as results:
        assert (results.num_succeeded, results.num_failed) == (3, 1)
        assert not list(again.remaining())
    assert not (folder / ".tercet-0.tmp").exists()

    again = Inventory(requests)
    with ParquetResults(folder, again, retry_failed=True) as results:
        assert (results.num_succeeded, results.num_failed) == (3, 0)
        answered(again, results)
    assert [row["text"] for row in records(folder)] == ["1!", "2!", "3!", "4!"]
    with ParquetResults(folder, Inventory(requests), overwrite=True) as results:
        assert results.num_succeeded == 0
    assert not list(folder.glob("part-*.parquet"))


def test_a_folder_of_another_batch_is_left_alone(requests: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results.parquet"
    inventory = Inventory(requests)
    with ParquetResults(folder, inventory) as results:
        answered(inventory, results)
    before = records(folder)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"prompt": "other"}]), requests)
    with pytest.raises(ParameterError, match="another batch"):
        ParquetResults(folder, Inventory(requests))
    (folder / "part-000002.parquet").write_bytes(b"no Parquet")
    with pytest.raises(ParameterError, match="another batch"):
        ParquetResults(folder, Inventory(requests))
    assert pyarrow.parquet.read_table(folder / "part-000001.parquet").num_rows == len(before)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + bytes(64) + b"PAR1", b'{"prompt": "x"}\n'])
def test_what_is_no_parquet_is_refused(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "requests.parquet"
    file.write_bytes(data)
    with pytest.raises(ParameterError, match=r"cannot be read as Parquet"):
        Inventory(file)


def test_answers_of_openais_form_have_no_place_in_a_table(tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    line = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "x"}}
    file.write_text(json.dumps(line))
    with pytest.raises(ParameterError, match=r"\.jsonl"):
        ParquetResults(tmp_path / "results.parquet", Inventory(file))
