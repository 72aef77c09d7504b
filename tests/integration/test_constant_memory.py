"""A conversion needs the memory of its largest tensors, however large the model is.

tests/long has the same with a folder of 20 GB, in a process that may not have more than 4 GB.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from large_folders import converted, write_masters
from tercet.models.shapes import SHAPES

MB = 10**6
SHORT = dataclasses.replace(
    SHAPES["2b4t"], hidden_size=512, ffn_size=2048, num_layers=24, num_heads=8, num_kv_heads=2, head_dim=64,
    vocab_size=4096, bos_token_id=0, eos_token_ids=(1,),
)  # fmt: skip


@pytest.fixture(scope="module")
def short_source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    folder = tmp_path_factory.mktemp("masters") / "source"
    yield folder, write_masters(folder, SHORT)
    shutil.rmtree(folder)


@pytest.mark.parametrize("to", ["native", "gguf-tq2_0", "huggingface-packed"])
def test_memory_does_not_grow_with_the_model(short_source: tuple[Path, int], tmp_path: Path, to: str) -> None:
    source, num_bytes = short_source
    assert num_bytes > 180 * MB
    figures = converted(source, tmp_path / "result", to)
    # The embedding has 2 million weights; a matrix of a million is held as float32, codes and bytes at once.
    assert figures["peak"] - figures["before"] < 60 * MB < num_bytes / 3, figures
