"""Files of every kind -> rows with their places."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pytest

from tercet.data.files import read_file
from tercet.data.rows import RowError
from tercet.data.sources import open_source
from tercet.errors import FormatError, ParameterError, TrainingError

ROWS = [{"prompt": "Who?", "answer": "Nobody, 東京."}, {"prompt": "Why?", "answer": "So."}]


def rows_of(path: Path) -> list[object]:
    return [row.fields() for row in read_file(path)]


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a.ndjson", LINES + "\n\n  \n"),
        ("a.jsonl", b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n").encode()),
        ("a.jsonl", json.dumps(ROWS, indent=2)),
        ("a.JSONL", LINES),
        ("a.json", LINES),
        ("a.json", json.dumps(ROWS)),
        ("a.json", b"\xef\xbb\xbf" + json.dumps(ROWS).encode()),
        ("a.json", json.dumps({"version": 1, "data": ROWS})),
        ("a.json", json.dumps({"my rows": ROWS})),
        ("a.json", json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]})),
        ("a.csv", 'prompt,answer\nWho?,"Nobody, 東京."\nWhy?,So.\n'),
        ("a.csv", '\ufeffprompt;answer\r\nWho?;Nobody, 東京.\r\n\r\nWhy?;So.\r\n'),
        ("a.tsv", "prompt\tanswer\nWho?\tNobody, 東京.\nWhy?\tSo."),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("a.json.xz", lzma.compress(json.dumps(ROWS).encode())),
        ("a.csv.bz2", bz2.compress(b"prompt,answer\nWho?,\"Nobody, \xe6\x9d\xb1\xe4\xba\xac.\"\nWhy?,So.")),
    ],
)  # fmt: skip
def test_the_same_rows_come_from_every_kind_of_file(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert rows_of(written(tmp_path / name, content)) == ROWS


def test_parquet(tmp_path: Path) -> None:
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    rows = [{"messages": [{"role": "user", "content": f"question {i}"}]} for i in range(2500)]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=700)
    found = list(read_file(tmp_path / "a.parquet"))
    assert [row.fields() for row in found] == rows
    assert found[2400].place.endswith("a.parquet, row 2401")
    damaged = (tmp_path / "a.parquet").read_bytes()
    written(tmp_path / "b.parquet", damaged[: len(damaged) // 2])
    with pytest.raises(FormatError, match=r"b\.parquet is no whole Parquet file"):
        rows_of(tmp_path / "b.parquet")


def test_a_text_is_cut_into_paragraphs(tmp_path: Path) -> None:
    path = written(tmp_path / "tale.txt", "\n\nOnce upon\r\na time.\n \n\nThe\nend\n")
    found = list(read_file(path))
    assert [row.fields() for row in found] == [{"text": "Once upon\na time."}, {"text": "The\nend"}]
    assert [row.place for row in found] == [f"{path}, row 1 (line 3)", f"{path}, row 2 (line 7)"]


def test_a_row_is_named_where_it_stands(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'prompt,answer\n"two\nlines",x\nlast,y\n')
    assert [row.place for row in read_file(path)] == [f"{path}, row 1 (line 2)", f"{path}, row 2 (line 4)"]
    path = written(tmp_path / "a.jsonl", "\n" + LINES)
    assert [row.place for row in read_file(path)] == [f"{path}, row 2", f"{path}, row 3"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": \n', r"a\.jsonl, row 2: .*not valid JSON"),
        ("a.jsonl", "{\n", "not valid JSON .* one object a line"),
        ("a.jsonl", b'{"a": "\xff"}', "row 1: not UTF-8 text: byte 7 is 0xff"),
        ("a.jsonl", '{"a": ' + "[" * 100_000, "row 1: not valid JSON .*too deep"),
        ("a.jsonl", "17\n", "row 1: is a number, expected an object"),
        ("a.json", "[1, ", r"a\.json: not valid JSON"),
        ("a.json", "17", "expected a list of rows"),
        ("a.json", "[null]", "row 1: is null"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", r"a\.csv, row 2 \(line 3\): has 3 fields, .* 2 columns \(a, b\)"),
        ("a.csv", 'a,b\n1,"2\n', r"row 1 \(line 2\): not CSV"),
        ("a.csv", "a,a\n1,2\n", "two columns have the same name"),
        ("a.csv", b"a,b\n1,\xe9\n", r"line 2 is not UTF-8 text: byte 2 is 0xe9.*iconv"),
        ("a.jsonl.gz", b"not packed", r"not a whole \.gz file"),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)[:-12], r"not a whole \.gz file"),
        ("a.jsonl.xz", lzma.compress(LINES.encode())[:-12], r"not a whole \.xz file"),
        ("a.parquet", b"PAR1", "no whole Parquet file"),
        ("a.docx", b"PK", r"no kind that holds rows.*\.jsonl"),
    ],
)
def test_damage_is_named_by_file_and_row(tmp_path: Path, name: str, content: str | bytes, told: str) -> None:
    path = written(tmp_path / name, content)

    def read() -> None:
        for row in read_file(path):
            try:
                row.fields()
            except RowError as error:
                raise FormatError(f"{row.place}: {error}") from error

    with pytest.raises(FormatError, match=told):
        read()


def test_a_csv_file_with_a_long_field(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "a,b\n1," + "x" * 300_000)
    assert rows_of(path) == [{"a": "1", "b": "x" * 300_000}]


def test_sources_are_files_folders_patterns_and_rows(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    for name in ("train-1.jsonl", "train-2.jsonl", "test.jsonl", "README.md"):
        written(folder / name, json.dumps({"text": name}))

    def texts(*arguments: object, **options: str) -> list[object]:
        return [row.fields()["text"] for row in open_source(*arguments, **options).rows]  # type: ignore[arg-type]

    assert texts(folder) == texts(str(folder)) == ["train-1.jsonl", "train-2.jsonl"]
    assert texts(folder, split="test") == ["test.jsonl"]
    assert texts(str(folder / "*.jsonl")) == ["test.jsonl", "train-1.jsonl", "train-2.jsonl"]
    assert texts([folder / "test.jsonl", str(folder / "train-1.jsonl")]) == ["test.jsonl", "train-1.jsonl"]
    assert texts([{"text": "a"}, "b"]) == ["a", "b"]
    assert texts({"text": name} for name in "xy") == ["x", "y"]
    assert texts({"train": [{"text": "a"}], "test": []}) == ["a"]
    with pytest.raises(ParameterError, match="no split 'dev'; it has train, test"):
        texts({"train": [], "test": []}, split="dev")
    with pytest.raises(ParameterError, match="not a int"):
        texts(17)
    with pytest.raises(TrainingError, match="no data file or folder"):
        texts(tmp_path / "none.jsonl")
    with pytest.raises(TrainingError, match="no data file or folder"):
        texts(str(tmp_path / "none.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="holds no files of rows"):
        texts(tmp_path / "empty")


def test_tables_of_other_libraries() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"question": ["a?", "b?"], "answer": [1, None]})
    assert [row.fields()["question"] for row in open_source(frame).rows] == ["a?", "b?"]


def test_folders_that_datasets_saved(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    saved = datasets.Dataset.from_list(ROWS)
    saved.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": saved, "test": saved.select([1])}).save_to_disk(tmp_path / "splits")
    found = list(open_source(tmp_path / "one").rows)
    assert [row.fields() for row in found] == ROWS
    assert found[1].place.endswith("one, row 2")
    assert [row.fields() for row in open_source(tmp_path / "splits", split="test").rows] == ROWS[1:]
    with pytest.raises(ParameterError, match="splits has no split 'dev'; it has train, test"):
        open_source(tmp_path / "splits", split="dev")
    for table in (tmp_path / "one").glob("*.arrow"):
        table.write_bytes(table.read_bytes()[:100])
    with pytest.raises(FormatError, match="one is no whole data set of `datasets`"):
        open_source(tmp_path / "one")
    (tmp_path / "one" / "state.json").write_bytes(b"{")
    with pytest.raises(FormatError, match="one is no whole data set of `datasets`"):
        open_source(tmp_path / "one")
