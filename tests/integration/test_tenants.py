"""Two keys share nothing that is kept: neither prefixes nor responses, by count and by time.

Whoever could see that a prefix is cached could guess, token by token, what somebody else has asked
(CVE-2025-46570). So the time is measured as an attacker would: over HTTP, many times, and judged by how often
it tells a prefix that another key has sent from one that nobody has.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from audited import Audited

NUM_TRIALS = 24
CHANCE = 0.35
"""Four standard deviations of the area under the curve of so many trials of nothing."""


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    audited = Audited(tmp_path_factory.mktemp("tenants"), "--drain", "0", "--response-cache", "memory")
    yield audited
    audited.stop()


@pytest.fixture
def clients(audited: Audited) -> Iterator[dict[str, httpx.Client]]:
    clients = {name: audited.client(name) for name in audited.keys}
    yield clients
    for client in clients.values():
        client.close()


def story(seed: int) -> str:
    """A long text that nobody has sent yet; its beginning differs."""
    chosen = random.Random(seed)
    words = ("dog", "cat", "tree", "boat", "red", "big", "ran", "saw", "the", "and", "sun", "park")
    return f"Story {seed}: " + " ".join(chosen.choices(words, k=400))


NUMBERS = itertools.count()


def fresh() -> str:
    return story(next(NUMBERS))


def ask(client: httpx.Client, prompt: str, **changes: Any) -> dict[str, Any]:
    """Ask for one token; drawn at random, so no response is remembered but for those that say otherwise."""
    body = {"prompt": prompt, "max_tokens": 1, "temperature": 1, **changes}
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def cached(client: httpx.Client, prompt: str, **changes: Any) -> int:
    """Tokens of the prompt that were not computed."""
    found: int = ask(client, prompt, **changes)["usage"]["prompt_tokens_details"]["cached_tokens"]
    return found


def seconds(client: httpx.Client, prompt: str) -> float:
    """What an attacker sees of it."""
    began = time.perf_counter()
    ask(client, prompt)
    return time.perf_counter() - began


def told_apart(one: list[float], other: list[float]) -> float:
    """How likely a value of `one` is the smaller of two: 0.5 is guessing, 1 is knowing."""
    pairs = list(itertools.product(one, other))
    return sum((a < b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)


def test_a_prefix_is_reused_for_the_same_key_alone(clients: dict[str, httpx.Client]) -> None:
    prompt = fresh()
    assert cached(clients["alice"], prompt) == 0
    assert cached(clients["alice"], prompt) > 300
    assert cached(clients["bob"], prompt) == 0
    assert cached(clients["admin"], prompt) == 0
    assert cached(clients["bob"], prompt) > 300


def test_a_salt_of_ones_own_opens_nobody_elses_cache(
    clients: dict[str, httpx.Client], audited: Audited
) -> None:
    prompt = fresh()
    alice = audited.keys["alice"].split("_")[1]
    assert cached(clients["alice"], prompt) == cached(clients["alice"], prompt, cache_salt="mine") == 0
    assert cached(clients["alice"], prompt, cache_salt="mine") > 300
    for salt in ("mine", alice, f"{alice}\0", f"{alice}\0mine", "\0", f"\0{alice}"):
        assert cached(clients["bob"], prompt, cache_salt=salt) == 0


def test_other_routes_keep_keys_apart_too(clients: dict[str, httpx.Client]) -> None:
    def chat(who: str, text: str) -> int:
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 1, "temperature": 1}
        usage = clients[who].post("/v1/chat/completions", json=body).json()["usage"]
        found: int = usage["prompt_tokens_details"]["cached_tokens"]
        return found

    def response(who: str, text: str) -> int:
        usage = (
            clients[who].post("/v1/responses", json={"input": text, "max_output_tokens": 16}).json()["usage"]
        )
        found: int = usage["input_tokens_details"]["cached_tokens"]
        return found

    def llama_cpp(who: str, text: str) -> int:
        body = {"prompt": text, "n_predict": 1, "temperature": 1, "cache_prompt": True}
        found: int = clients[who].post("/completion", json=body).json()["timings"]["cache_n"]
        return found

    for count in (chat, response, llama_cpp):
        text = fresh()
        first, again = count("alice", text), count("alice", text)
        others, others_again = count("bob", text), count("bob", text)
        assert again > 300 < others_again, count
        assert first < 50 > others, count  # one's own beginning of the template


def test_time_does_not_tell_what_another_key_has_asked(clients: dict[str, httpx.Client]) -> None:
    alice, bob = clients["alice"], clients["bob"]
    others: list[float] = []
    unseen: list[float] = []
    own: list[float] = []
    for number in range(NUM_TRIALS):
        prompt = fresh()
        ask(alice, prompt)
        pair = [(others, prompt), (unseen, fresh())]
        for times, asked in pair[:: 1 if number % 2 else -1]:  # neither is always the first
            times.append(seconds(bob, asked))
        own.append(seconds(alice, prompt))
    print(f"another key's prefix: {told_apart(others, unseen):.2f}, one's own: {told_apart(own, unseen):.2f}")
    assert abs(told_apart(others, unseen) - 0.5) < CHANCE
    assert told_apart(own, unseen) > 0.9  # so a shared cache would have shown


def test_a_response_is_remembered_for_the_same_key_alone(clients: dict[str, httpx.Client]) -> None:
    def hits() -> float:
        text = clients["admin"].get("/metrics").text
        (line,) = [one for one in text.splitlines() if one.startswith("tercet_response_cache_hits_total{")]
        return float(line.rpartition(" ")[2])

    prompt, before = fresh(), hits()
    answers = []
    for who, hit in (("alice", 0), ("alice", 1), ("bob", 1), ("admin", 1), ("bob", 2), ("alice", 3)):
        answers.append(ask(clients[who], prompt, temperature=0, max_tokens=5)["choices"])
        assert hits() - before == hit, who
    assert all(answer == answers[0] for answer in answers)
