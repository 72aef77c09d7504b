"""The parts of the page's server side that need no server."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("fastapi", reason="the package fastapi is not installed")

from tercet.server.page.alerts import active_alerts
from tercet.server.page.assets import read_assets
from tercet.server.page.dashboard import Samples, endings
from tercet.service.settings import ServiceSettings

CALM = {
    "requests_running": 2.0,
    "requests_waiting": 0.0,
    "waiting_tokens": 0.0,
    "kv_cache_used": 0.5,
    "engine_tick_age_seconds": 0.1,
}


@pytest.mark.parametrize(
    ("changes", "titles"),
    [
        ({}, []),
        ({"requests_waiting": 7.0}, []),
        ({"requests_waiting": 8.0}, ["Queue nearly full"]),
        ({"waiting_tokens": 800.0}, ["Queue nearly full"]),
        ({"requests_waiting": 9.0, "waiting_tokens": 900.0}, ["Queue nearly full"]),
        ({"kv_cache_used": 0.96}, ["Context memory full"]),
        ({"engine_tick_age_seconds": 31.0}, ["Engine stands still"]),
        ({"engine_tick_age_seconds": 31.0, "requests_running": 0.0}, []),
        (
            {"engine_tick_age_seconds": 31.0, "kv_cache_used": 1.0},
            ["Engine stands still", "Context memory full"],
        ),
    ],
)
def test_alerts_come_when_a_limit_is_near(changes: dict[str, float], titles: list[str]) -> None:
    settings = ServiceSettings(max_queued_requests=10, max_queued_tokens=1000, stuck_after_seconds=30)
    assert [alert["title"] for alert in active_alerts({**CALM, **changes}, settings)] == titles


def test_samples_are_summed_and_histograms_are_in_order() -> None:
    samples = Samples(
        [
            ("runs", {"model": "a"}, 1.0),
            ("runs", {"model": "b"}, 2.0),
            *(
                ("t_bucket", {"model": model, "le": le}, 3.0)
                for model in "ab"
                for le in ("+Inf", "10.0", "0.5")
            ),
            ("t_sum", {"model": "a"}, 4.0),
            ("t_count", {"model": "a"}, 3.0),
            ("vllm:request_success_total", {"finished_reason": "stop"}, 5.0),
            ("vllm:request_success_total", {"finished_reason": "error"}, 2.0),
            ("tercet_requests_failed_total", {"kind": "deadline"}, 2.0),
        ]
    )
    assert (samples.total("runs"), samples.highest("runs"), samples.total("none")) == (3.0, 2.0, 0.0)
    assert samples.histogram("t") == {
        "buckets": [[0.5, 6.0], [10.0, 6.0], [None, 6.0]],
        "sum": 4.0,
        "count": 3.0,
    }
    assert endings(samples) == {"stop": 5.0, "deadline": 2.0}
    assert math.isfinite(samples.highest("none"))


def test_every_file_has_an_address_that_changes_with_any_of_them() -> None:
    index, *others = read_assets()
    assert (index.address, index.cache_control) == ("/", "no-cache")
    folders = {asset.address.split("/")[2] for asset in others}
    assert len(folders) == 1
    assert f'"/page/{folders.pop()}/scripts/main.js"'.encode() in index.content
    assert not [asset.address for asset in others if asset.address.endswith((".html", "LICENSE", ".py"))]
    assert {asset.content_type.split(";")[0] for asset in others} == {
        "text/javascript",
        "text/css",
        "image/svg+xml",
    }
    for tags, known in {
        None: False,
        "*": True,
        '"x"': False,
        f'"x", W/{index.etag}': True,
        "": False,
    }.items():
        assert index.is_known_to(tags) is known
