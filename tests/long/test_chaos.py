"""Twenty minutes of kills, freezes, ends, crowds and dying engines on two replicas, with batches running.

./dev test-long tests/long/test_chaos.py             20 minutes; TERCET_CHAOS_SEED=N plays a known one again
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from chaos import Chaos
from long_results import RecordLongResult

SECONDS = 1200

pytestmark = [pytest.mark.long, pytest.mark.timeout(2 * SECONDS)]


def test_twenty_minutes_of_chaos_lose_nothing(tmp_path: Path, record_long_result: RecordLongResult) -> None:
    seed = int(os.environ.get("TERCET_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"TERCET_CHAOS_SEED={seed}")
    figures = asyncio.run(Chaos(tmp_path, seed, (4.0, 15.0), (2000, 9000)).run(SECONDS))
    record_long_result("chaos", {"seconds_of_faults": SECONDS, **figures})
