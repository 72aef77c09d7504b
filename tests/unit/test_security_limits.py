"""How much a client may use: settings, windows of a minute, checks of a request, requests at one time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tercet.errors import InvalidInputError, ParameterError, RateLimitError, UnavailableError
from tercet.sampling.constraints import ConstraintSpec
from tercet.sampling.params import SamplingParams
from tercet.security import rate_limits
from tercet.security import request_limits as checks
from tercet.security.config import SecurityConfig
from tercet.security.identity import ANONYMOUS, LOCAL, Caller
from tercet.security.parallel import ParallelLimits
from tercet.security.rate_limits import RateLimits
from tercet.server.middleware.limits import client_of
from tercet.service.guard import Guard, Quota, current_allowance
from tercet.service.request import GenerationRequest

STRICT = SecurityConfig()
OPEN = SecurityConfig.local()


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# The settings -----------------------------------------------------------------------------------------


def test_strict_is_what_the_settings_are_without_a_word() -> None:
    config = SecurityConfig()
    assert (config.max_input_length, config.max_output_tokens) == (4096, 1024)
    assert config.rate_limit_requests_per_minute == 60
    assert config.enable_content_filtering
    assert config.log_requests
    assert config.sanitize_inputs
    assert config.profile == "strict"
    assert SecurityConfig.of("strict") == config


def test_local_has_no_limit_and_no_filter() -> None:
    values = SecurityConfig.of("local").to_dict()
    assert values["enable_content_filtering"] is values["sanitize_inputs"] is False
    assert values["log_requests"] is True
    limits = [name for name in values if name.startswith("max_") or name.endswith("_per_minute")]
    assert len(limits) == 12
    assert all(values[name] is None for name in limits)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_input_length": 0}, "above 0"),
        ({"max_input_length": True}, "above 0"),
        ({"max_output_tokens": 1.5}, "above 0"),
        ({"rate_limit_storage": "file:///etc"}, "memory"),
        ({"rate_limit_fail_mode": "ajar"}, "closed or open"),
        ({"log_requests": "no"}, "True or False"),
        ({"max_inputs": 3}, "no security setting max_inputs"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        SecurityConfig.of("strict", **changes)


def test_no_password_is_among_the_settings_that_are_shown() -> None:
    config = SecurityConfig(rate_limit_storage="redis://:secret@there/0")
    assert config.to_dict()["rate_limit_storage"] == "redis"


# A minute ---------------------------------------------------------------------------------------------


def test_any_minute_counts_and_not_that_of_the_clock() -> None:
    clock = Clock()
    limits = RateLimits(clock=clock)
    for second in range(10):
        clock.now = 1050.0 + second
        assert limits.take("requests", "a", 1, 10).remaining == 9 - second
    clock.now = 1061.0  # another minute for a fixed window
    with pytest.raises(RateLimitError) as refused:
        limits.take("requests", "a", 1, 10)
    assert refused.value.retry_after == 49
    clock.now = 1109.9
    with pytest.raises(RateLimitError):
        limits.take("requests", "a", 1, 10)
    clock.now = 1110.1  # the oldest is a minute ago
    assert limits.take("requests", "a", 1, 10).remaining == 0
    assert limits.take("requests", "b", 1, 10).remaining == 9


def test_a_refusal_costs_nothing_and_waits_a_minute_at_most() -> None:
    clock = Clock()
    limits = RateLimits(clock=clock)
    limits.take("tokens", "a", 900, 1000)
    for _ in range(5):
        with pytest.raises(RateLimitError) as refused:
            limits.take("tokens", "a", 200, 1000)
        assert 1 <= refused.value.retry_after <= 60
    assert limits.take("tokens", "a", 100, 1000).remaining == 0


def test_what_never_fits_is_no_matter_of_waiting() -> None:
    with pytest.raises(InvalidInputError, match="1001 tokens"):
        RateLimits().take("tokens", "a", 1001, 1000)


def test_clients_that_are_gone_are_forgotten() -> None:
    clock = Clock()
    limits = RateLimits(clock=clock)
    for number in range(1000):
        limits.take("requests", f"client {number}", 1, 10)
    clock.now += 61
    limits.take("requests", "another", 1, 10)
    assert len(limits._own) == 1


def test_the_time_of_day_may_jump() -> None:
    clock, wall = Clock(), Clock()
    limits = RateLimits(clock=clock, wall_clock=wall)
    limits.take("requests", "a", 1, 1)
    wall.now -= 3600
    with pytest.raises(RateLimitError) as refused:
        limits.take("requests", "a", 1, 1)
    assert refused.value.retry_after <= 60
    wall.now += 7200
    with pytest.raises(RateLimitError):
        limits.take("requests", "a", 1, 1)
    clock.now += 60.1
    limits.take("requests", "a", 1, 1)


def test_threads_together_get_no_more_than_there_is() -> None:
    limits = RateLimits()
    taken = []

    def work() -> None:
        for _ in range(50):
            with contextlib.suppress(RateLimitError):
                limits.take("requests", "a", 1, 100)
                taken.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 100


# Redis ------------------------------------------------------------------------------------------------


class Gone:
    """What `limits` has in the place of a Redis that does not answer."""

    def __init__(self) -> None:
        self.asked = 0

    def hit(self, *arguments: object, **values: object) -> bool:
        self.asked += 1
        raise ConnectionError("no route to host")


def without_redis(fail_mode: Any, clock: Clock) -> tuple[RateLimits, Gone]:
    limits, gone = RateLimits("memory", fail_mode, clock=clock), Gone()
    limits._shared = {"requests": gone, "tokens": gone}  # type: ignore[dict-item]
    return limits, gone


def test_closed_nobody_is_let_in_uncounted_while_redis_is_away() -> None:
    clock = Clock()
    limits, gone = without_redis("closed", clock)
    for _ in range(3):
        with pytest.raises(UnavailableError, match="cannot be counted"):
            limits.take("requests", "a", 1, 10)
    assert gone.asked == 1  # and then it is left alone for some seconds
    assert not limits.works
    clock.now += rate_limits.PAUSE_SECONDS
    assert limits.works
    with pytest.raises(UnavailableError):
        limits.take("requests", "a", 1, 10)
    assert gone.asked == 2


def test_open_this_process_counts_while_redis_is_away() -> None:
    limits, gone = without_redis("open", Clock())
    for _ in range(10):
        limits.take("requests", "a", 1, 10)
    with pytest.raises(RateLimitError):
        limits.take("requests", "a", 1, 10)
    assert gone.asked == 1


def test_an_address_that_is_none_is_refused_without_its_password() -> None:
    with pytest.raises(ParameterError) as refused:
        RateLimits("redis://me:secret@here:no-port/0")
    assert "secret" not in str(refused.value)


# One request ------------------------------------------------------------------------------------------


def deep(levels: int) -> Any:
    value: Any = {"type": "string"}
    for _ in range(levels - 1):
        value = {"items": value}
    return value


@pytest.mark.parametrize(
    ("check", "fits", "exceeds"),
    [
        (lambda size: checks.check_text(STRICT, "prompt", size), 4096, 4097),
        (lambda size: checks.check_output(STRICT, size), 1024, 1025),
        (lambda size: checks.check_choices(STRICT, size), 4, 5),
        (lambda size: checks.check_sampling(STRICT, ["x"] * size, {}), 4, 5),
        (lambda size: checks.check_sampling(STRICT, ["x" * size], {}), 100, 101),
        (lambda size: checks.check_sampling(STRICT, [], dict.fromkeys(range(size), 1.0)), 300, 301),
        (lambda size: checks.check_schema(STRICT, "schema", {"title": "x" * (size - 12)}), 16384, 16385),
        (lambda size: checks.check_schema(STRICT, "schema", deep(size)), 16, 17),
        (lambda size: checks.check_schema(STRICT, "schema", "[" * size), 16, 17),
        (lambda size: checks.check_grammar(STRICT, "grammar", "x" * size), 16384, 16385),
        (lambda size: checks.check_regex(STRICT, "regex", "x" * size), 512, 513),
        (lambda size: checks.check_tools(STRICT, [tool(deep(size))]), 16, 17),
    ],
)
def test_a_limit_is_met_and_not_exceeded(check: Callable[[int], None], fits: int, exceeds: int) -> None:
    check(fits)
    with pytest.raises(InvalidInputError, match=str(exceeds)) as refused:
        check(exceeds)
    assert refused.value.code == "INVALID_INPUT"


def tool(parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


def test_a_schema_may_be_as_deep_as_it_likes_without_harm() -> None:
    with pytest.raises(InvalidInputError, match="levels"):
        checks.check_schema(STRICT, "schema", deep(20_000))
    with pytest.raises(InvalidInputError, match="too deep"):
        checks.check_schema(SecurityConfig.local(max_schema_bytes=100), "schema", deep(20_000))


def test_brackets_in_strings_are_not_depth() -> None:
    checks.check_schema(STRICT, "schema", '{"a": "' + "[" * 100 + '\\"' + "{" * 100 + '"}')


def length(ids: Any) -> int:
    return 3 * len(ids)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"prompt": "x" * 4097}, "prompt"),
        ({"prompt": [1] * 1366}, "prompt"),  # of three characters each
        ({"prompt": [1] * 20_000}, "prompt"),
        ({"messages": [{"role": "user", "content": "x" * 2000}] * 3}, "messages"),
        (
            {"messages": [{"role": "user", "content": "x"}], "tools": [tool({"title": "x" * 4096})]},
            "messages",
        ),
        ({"prompt": "x", "params": SamplingParams(max_tokens=1025)}, "max_tokens"),
        ({"prompt": "x", "params": SamplingParams(stop=tuple("abcde"))}, "stop"),
        ({"prompt": "x", "constraint": ConstraintSpec("regex", "x" * 513)}, "the form of the answer"),
        ({"prompt": "x", "constraint": ConstraintSpec("json_schema", deep(17))}, "the form of the answer"),
    ],
)
def test_a_request_that_asks_for_more_is_refused_by_its_field(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        Guard(STRICT).allowance("a").check(GenerationRequest(**values), length)
    assert refused.value.param == field
    Guard(OPEN).allowance("a").check(GenerationRequest(**values), length)


def test_a_request_at_its_limits_is_let_in() -> None:
    allowance = Guard(STRICT).allowance("a")
    messages = [{"role": "user", "content": "x" * 4096}]
    allowance.check(GenerationRequest(messages=messages), length)
    allowance.check(GenerationRequest(prompt=[1] * 1365), length)
    allowance.check(GenerationRequest(prompt="x", params=SamplingParams(max_tokens=1024)), length)


# At one time ------------------------------------------------------------------------------------------


def test_so_many_at_one_time_and_no_more() -> None:
    limits = ParallelLimits()
    for _ in range(3):
        limits.enter("a", 3)
    with pytest.raises(RateLimitError, match="3 requests at one time"):
        limits.enter("a", 3)
    limits.enter("b", 3)
    limits.leave("a")
    limits.enter("a", 3)
    for client in "aaab":
        limits.leave(client)
    assert len(limits) == 0


def test_work_that_fails_gives_its_place_back() -> None:
    guard = Guard(SecurityConfig(max_parallel_requests=1))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), guard.allowance("a").place(), guard.allowance("a").current():
            raise ZeroDivisionError
    assert len(guard.parallel) == 0
    assert current_allowance() is None


def test_a_quota_holds_in_place_of_the_settings() -> None:
    guard = Guard(STRICT)
    quota = Quota(requests_per_minute=2, tokens_per_minute=100, max_parallel_requests=1)
    allowance = guard.allowance("a", quota)
    allowance.take_request()
    allowance.take_request()
    with pytest.raises(RateLimitError, match="2 requests"):
        allowance.take_request()
    allowance.take_tokens(100)
    with pytest.raises(RateLimitError, match="100 tokens"):
        allowance.take_tokens(1)
    with allowance.place(), pytest.raises(RateLimitError), guard.allowance("a", quota).place():
        pass
    assert Guard(OPEN).allowance("a", quota).counts_tokens  # where nobody else has a limit, too
    assert not Guard(OPEN).allowance("a").counts_tokens


# Who is counted ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caller", "address", "client"),
    [
        (Caller(key_id="0123456789ab"), "10.0.0.1", "key:0123456789ab"),
        (LOCAL, "127.0.0.1", "key:local"),
        (ANONYMOUS, "10.0.0.1", "address:10.0.0.1"),
        (ANONYMOUS, "::ffff:10.0.0.1", "address:10.0.0.1"),
        (ANONYMOUS, "2001:db8:1:2:3:4:5:6", "address:2001:db8:1:2::/64"),
        (ANONYMOUS, "2001:db8:1:2:ffff::1", "address:2001:db8:1:2::/64"),
        (ANONYMOUS, "fe80::1%eth0", "address:fe80::/64"),
        (ANONYMOUS, None, "address:local"),
    ],
)
def test_a_client_is_its_key_or_its_address(caller: Caller, address: str | None, client: str) -> None:
    assert client_of(caller, {"client": None if address is None else (address, 1)}) == client


def test_redis_sees_no_name_of_a_client() -> None:
    seen: list[object] = []

    class Listening(Gone):
        def hit(self, *arguments: object, **values: object) -> bool:
            seen.extend(arguments)
            raise ConnectionError

    limits = RateLimits("memory", "open")
    limits._shared = {"requests": Listening(), "tokens": Gone()}  # type: ignore[dict-item]
    limits.take("requests", "address:203.0.113.9", 1, 10)
    assert len(seen) == 2
    assert "203.0.113.9" not in str(seen)
    one, other = (RateLimits("redis://:secret@127.0.0.1:9/0", "open")._secret for _ in range(2))
    assert one == other  # or servers that share a database would count apart
    assert RateLimits()._secret != RateLimits()._secret
