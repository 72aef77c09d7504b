"""A folder of 20 GB becomes a file in a process that may not have more than 4 GB.

./dev test-long tests/long/test_large_conversion.py            40 GB of disk, and an hour on two cores
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from large_folders import converted, write_masters
from long_results import RecordLongResult
from tercet.models.shapes import SHAPES

MB = 10**6
LIMIT = 4000 * MB
LARGE = dataclasses.replace(
    SHAPES["2b4t"], hidden_size=4096, ffn_size=14336, num_layers=46, num_heads=32, num_kv_heads=8,
)  # fmt: skip

pytestmark = [pytest.mark.long, pytest.mark.timeout(4 * 3600)]


@pytest.mark.parametrize("to", ["native", "gguf-tq2_0"])
def test_twenty_gigabytes_in_four(tmp_path: Path, to: str, record_long_result: RecordLongResult) -> None:
    if shutil.disk_usage(tmp_path).free < 40_000 * MB:
        pytest.skip("40 GB of free disk space are not there")
    source = tmp_path / "source"
    num_bytes = write_masters(source, LARGE)
    assert num_bytes > 20_000 * MB
    try:
        figures = converted(source, tmp_path / "result", to, limit=LIMIT)
    finally:
        shutil.rmtree(source)
    assert figures["peak"] < LIMIT
    record_long_result(
        f"large-conversion-{to}", {"to": to, "source_bytes": num_bytes, "limit_bytes": LIMIT, **figures}
    )
