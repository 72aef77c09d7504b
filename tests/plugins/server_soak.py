"""The soak of a server, the same for a minute and for half an hour: crowds with pauses in between.

In the pauses, when nothing runs, the server must be what it was before: memory, file descriptors, blocks of
the KV cache. And every request must be accounted for, by the server and by the clients.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from known_answers import known_answers
from served import Server
from server_load import HUNG_UP, MAX_TOKENS, Account, run_load
from server_watch import Watch

PHASES = 6
OPTIONS = (
    *("--max-queued", "12", "--max-concurrent", "8"),
    *("--header-timeout", "2", "--upload-timeout", "2", "--write-timeout", "3"),
)
PROMPTS = (
    "Once upon a time",
    "Once upon a time there was a little dog",
    "Once upon a time there was a girl named Lily. One day Lily went to the park with her dog",
    "Tom had a red ball.",
    "naïve 東京 🙂",
    "One day " * 30,
)
MIB = 1 << 20
MOST_FILLERS, FILLER_WORDS = 200, 100
SETTLED_PHASE = 1
"""After the first phase all code has run once; what grows later is a leak."""


def soak(server: Server, seconds: float, max_growth_bytes: float) -> dict[str, Any]:
    """Load a server for so long, and check it.

    Args:
        server: started with OPTIONS, and asked by nobody else.
        seconds: how long the crowds stay in all.
        max_growth_bytes: how much resident memory may grow after the first phase.

    Returns:
        figures to keep.
    """
    answers, watch = known_answers(PROMPTS, MAX_TOKENS), Watch(server)
    fill_cache(server, watch)
    idle = [watch.when_idle()]
    accounts: list[Account] = []
    for phase in range(PHASES):
        accounts.append(asyncio.run(run_load(server, seconds / PHASES, phase, answers)))
        assert not accounts[-1].mistakes, "\n".join(accounts[-1].mistakes)
        assert server.process.poll() is None, server.log
        time.sleep(1)  # sockets that the clients left behind
        idle.append(watch.when_idle())
    check_accounts(idle[0], idle[-1], accounts)
    before, after = idle[SETTLED_PHASE], idle[-1]
    for state in ("free", "owned", "cached"):
        assert f"tercet_kv_blocks.{state}" in after
    assert {one["tercet_kv_blocks.owned"] for one in idle} == {0}
    num_blocks = {one["tercet_kv_blocks.free"] + one["tercet_kv_blocks.cached"] for one in idle}
    assert len(num_blocks) == 1, num_blocks
    assert after["process_open_fds"] <= before["process_open_fds"] + 2
    requests = sum(account.total for account in accounts[SETTLED_PHASE:])
    grown = after["process_resident_memory_bytes"] - before["process_resident_memory_bytes"]
    memory = [round(one["process_resident_memory_bytes"] / MIB, 1) for one in idle]
    assert grown <= max_growth_bytes, f"{grown / MIB:.1f} MiB more after {requests} requests: {memory}"
    return {
        "requests": sum(account.total for account in accounts),
        "resident_mib_when_idle": memory,
        "open_files_when_idle": [one["process_open_fds"] for one in idle],
        "ended": {
            name.removeprefix("tercet_requests_"): after[name] - idle[0].get(name, 0)
            for name in after
            if name.startswith("tercet_requests_") and after[name] != idle[0].get(name, 0)
        },
        "seen_by_clients": merged(accounts),
    }


def fill_cache(server: Server, watch: Watch) -> None:
    """Use every block of the KV cache once, so that all its memory is there from now on."""
    with server.client() as client:
        for number in range(MOST_FILLERS):
            body = {"prompt": f"{number} " * FILLER_WORDS, "max_tokens": 1}
            response = client.post("/v1/completions", json=body)
            assert response.status_code == 200, response.text
            if watch.sums()["tercet_kv_blocks.free"] <= 1:  # one is never full, so never kept
                return
    raise AssertionError(f"{MOST_FILLERS} prompts did not fill the KV cache: {watch.sums()}")


def check_accounts(first: dict[str, float], last: dict[str, float], accounts: list[Account]) -> None:
    """Every request has ended once: as the server counts, and as the clients do."""
    counted = Counter({name: value - first.get(name, 0) for name, value in last.items()})
    failed = sum(value for name, value in counted.items() if name.startswith("tercet_requests_failed_total"))
    ended = counted["tercet_requests_succeeded_total"] + counted["tercet_requests_cancelled_total"] + failed
    assert last["tercet_requests_in_flight"] == 0
    assert counted["tercet_requests_total"] == ended

    answered = Counter[str]()
    hung_up = 0
    for account in accounts:
        hung_up += account.times(HUNG_UP)
        for kind in ("whole", "stream", "chat", "several", "sampled", "hang_up_while_waiting"):
            answered[kind] += account.times(200, kind)
    complete = answered.total() + 2 * answered["several"]  # each asks for three answers
    most = complete + 4 * hung_up  # a client that left may have asked for four, and had them computed
    assert complete <= counted["tercet_requests_succeeded_total"] <= most
    assert counted["tercet_requests_cancelled_total"] <= 4 * hung_up + sum(
        3 * account.times(503) for account in accounts
    )  # of several answers, the first ones end when the queue has no room for the last
    refused = sum(account.times(503) for account in accounts)
    assert refused <= counted["tercet_requests_failed_total.overloaded"] <= refused + 4 * hung_up
    too_long = sum(account.times(400, "too_long") for account in accounts)
    assert counted["tercet_requests_failed_total.context_length"] == too_long
    kinds = ("parameter", "unsupported", "model_not_found")
    wrong, unsupported, unknown = (counted[f"tercet_requests_failed_total.{kind}"] for kind in kinds)
    malformed = sum(account.times(400, "malformed") for account in accounts)
    # Of bodies of another kind, those with a foreign content type reach the route; a coded one does not.
    assert malformed <= wrong <= malformed + sum(account.times(415, "malformed") for account in accounts)
    refusals = (400, 404, 501)
    assert unsupported == sum(account.times(code, "embeddings") for account in accounts for code in refusals)
    # Half of these ask for a route that is not there, which is no request to a model.
    assert unknown <= sum(account.times(404, "unknown") for account in accounts)
    assert failed == (
        counted["tercet_requests_failed_total.overloaded"] + too_long + wrong + unsupported + unknown
    ), counted
    assert counted["tercet_requests_cancelled_total"] > 0, "nobody was cut off, so nothing was tried"
    assert counted["tercet_http_responses_total.413"] > 0
    assert counted["tercet_http_responses_total.500"] == 0


def merged(accounts: list[Account]) -> dict[str, dict[str, int]]:
    """Kind -> status -> how often."""
    totals: dict[str, Counter[str]] = {}
    for account in accounts:
        for kind, seen in account.seen.items():
            for status, count in seen.items():
                name = "left" if status == HUNG_UP else str(status)
                totals.setdefault(kind, Counter())[name] += count
    return {kind: dict(sorted(counts.items())) for kind, counts in sorted(totals.items())}
