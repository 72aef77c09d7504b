"""Half an hour of mixed load: streams, people who leave, malformed, oversized and slow requests.

./dev test-long tests/long/test_server_soak.py                   30 minutes
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from long_results import RecordLongResult
from served import Server
from server_soak import MIB, OPTIONS, soak

SECONDS = 1800

pytestmark = [pytest.mark.long, pytest.mark.timeout(2 * SECONDS)]


def test_half_an_hour_of_mixed_load(
    serve: Callable[..., Server], record_long_result: RecordLongResult
) -> None:
    figures = soak(serve(*OPTIONS), SECONDS, 16 * MIB)
    record_long_result("server-soak", {"seconds": SECONDS, **figures})
