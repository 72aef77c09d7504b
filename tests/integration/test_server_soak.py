"""A minute of everything at once. tests/long has the half hour, with the same code."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from served import Server
from server_soak import MIB, OPTIONS, soak

SECONDS = 60


@pytest.mark.timeout(300)
def test_a_minute_of_mixed_load_leaves_nothing_behind(serve: Callable[..., Server]) -> None:
    figures = soak(serve(*OPTIONS), SECONDS, 12 * MIB)
    assert figures["requests"] > 300
