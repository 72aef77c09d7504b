"""A short chaos, every kind of fault at least once. tests/long has twenty minutes, with the same code."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from chaos import BATCH_ITEMS, KINDS, Chaos

SECONDS = 8


@pytest.mark.timeout(300)
def test_a_short_chaos_loses_nothing(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"TERCET_CHAOS_SEED={seed}")  # for tests/long/test_chaos.py
    figures = asyncio.run(Chaos(tmp_path, seed, (0.2, 0.5), (200, 600)).run(SECONDS))
    assert figures["faults"].keys() >= KINDS
    assert figures["done"]["answers"] > 0
    assert figures["done"]["batch items"] >= 2 * BATCH_ITEMS
