"""Ten thousand connections at once, or as many as this system lets a process have.

./dev test-long tests/long/test_many_connections.py              half a minute
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from long_results import RecordLongResult
from many_connections import hold_connections, most_connections
from served import Server

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def test_ten_thousand_connections(serve: Callable[..., Server], record_long_result: RecordLongResult) -> None:
    record_long_result("many-connections", hold_connections(serve, most_connections(10_000)))
