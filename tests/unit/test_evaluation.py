"""Perplexity: which tokens are scored, by which numbers, out of which files."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import FormatError, ModelNotFoundError, StorageError
from tercet.evaluation.documents import read_documents
from tercet.evaluation.perplexity import windows


def test_windows_by_hand() -> None:
    assert list(windows(10, window=4, stride=2)) == [(0, 1, 4), (2, 4, 6), (4, 6, 8), (6, 8, 10)]
    assert list(windows(3, window=4, stride=2)) == [(0, 1, 3)]
    assert list(windows(1, window=4, stride=2)) == list(windows(0, window=4, stride=2)) == []


@given(st.integers(0, 200), st.integers(2, 40), st.data())
def test_every_token_but_the_first_is_scored_once_with_enough_before_it(
    num_tokens: int, window: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, window - 1))
    scored: list[int] = []
    for begin, first, end in windows(num_tokens, window, stride):
        assert begin < first < end <= begin + window
        assert first - begin >= min(first, window - stride)
        scored.extend(range(first, end))
    assert scored == list(range(1, num_tokens))


def test_plain_text_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    assert list(read_documents(tmp_path / "a.txt")) == ["one\ntwo\n"]


@pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".xz", lzma.compress), (".gz", gzip.compress)])
def test_json_lines(tmp_path: Path, suffix: str, pack: object) -> None:
    file = tmp_path / f"a.jsonl{suffix}"
    # U+2028 ends a line for str.splitlines, not in JSON lines.
    file.write_bytes(pack('{"text": "one\u2028"}\n\n"two"\n'.encode()))  # type: ignore[operator]
    assert list(read_documents(file)) == ["one\u2028", "two"]


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("a.txt", b"ok\xff", FormatError, "not UTF-8 text: byte 2 is 0xff"),
        ("a.jsonl", b'{"text": "x"}\n{', FormatError, "line 2 is not JSON"),
        ("a.jsonl", b'{"prompt": "x", "answer": "y"}', FormatError, "it has prompt, answer"),
        ("a.jsonl", b"[1]", FormatError, "the text is list"),
        ("a.txt.xz", b"no", FormatError, "not a whole .xz file"),
        ("a.txt.gz", b"no", FormatError, "not a whole .gz file"),
        ("a.txt.gz", gzip.compress(b"much text", mtime=0)[:-9], FormatError, "not a whole .gz file"),
    ],
)
def test_wrong_files(tmp_path: Path, name: str, content: bytes, error: type[Exception], message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        list(read_documents(tmp_path / name))


def test_absent_files(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no file"):
        list(read_documents(tmp_path / "none.txt"))
    with pytest.raises(StorageError, match="cannot read"):
        list(read_documents(tmp_path))
