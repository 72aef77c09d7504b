"""What answering costs: machines, money a month, money a million tokens, and when an API is cheaper.

    speed = Speed.of_report(json.loads(Path("load.json").read_text()))     # tercet bench load --json
    cost = monthly_cost(speed, Load(requests_per_day=5_000), Prices(machine_hour=0.10))
    cost.machines, cost.a_month, cost.a_million_answer_tokens

The arithmetic is short enough to be checked by hand, and stands in docs/paths/organizations.md with the same
letters; its script, docs/paths/cost.js, computes the same numbers, bit for bit (a test compares them). Speeds
are measured; prices are whatever you type in, in whatever currency.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tercet.errors import FormatError, ParameterError

__all__ = ["Cost", "Load", "Prices", "Speed", "monthly_cost"]

HOURS_A_MONTH = 730.0
DAYS_A_MONTH = HOURS_A_MONTH / 24


class _Positive:
    """Values are finite and not negative; those of `zero_allowed` may be zero."""

    zero_allowed: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = getattr(self, field.name)
            if not math.isfinite(value) or value < 0 or (value == 0 and field.name not in self.zero_allowed):
                wanted = "a number from 0" if field.name in self.zero_allowed else "a number above 0"
                raise ParameterError(f"{field.name} is {wanted}, not {value!r}")


@dataclass(frozen=True)
class Speed(_Positive):
    """What one machine does, in tokens a second over all requests that run at once."""

    prompt_tokens_per_second: float
    answer_tokens_per_second: float
    each_tokens_per_second: float
    """What one reader sees while so many are answered."""

    @classmethod
    def of_report(cls, report: Mapping[str, Any], each_at_least: float = 5.0) -> Speed:
        """Take the speeds from a report of `tercet bench load --json`.

        Of its rows the fastest in all is taken in which every reader still gets `each_at_least` tokens a
        second. The time of a row is that of N prompts and then N answers; the answers' part follows from the
        rate of each, the rest is the prompts'.

        Raises:
            FormatError: it is no such report.
            ParameterError: no row is that fast for each.
        """
        rows = report.get("rows") if isinstance(report, Mapping) else None
        if report.get("benchmark") != "load" or not rows:
            raise FormatError(
                "this is no report of `tercet bench load --json`: it has no rows of that benchmark"
            )
        able = [row for row in rows if (row["tokens_per_second_each"] or 0.0) >= each_at_least]
        if not able:
            best = max(row["tokens_per_second_each"] or 0.0 for row in rows)
            raise ParameterError(
                f"no row of the report gives each reader {each_at_least:g} tokens a second, the best "
                f"{best:.1f}; ask for less, take a smaller model or a faster machine"
            )
        row = max(able, key=lambda row: row["tokens_per_second"])
        together, each = row["sequences"], row["tokens_per_second_each"]
        seconds = together * row["tokens_each"] / row["tokens_per_second"]
        prompts = seconds - (row["tokens_each"] - 1) / each
        if prompts <= 0:
            raise FormatError("the report's rates of all and of each contradict each other: measure again")
        return cls(together * row["prompt_tokens"] / prompts, together * each, each)


@dataclass(frozen=True)
class Load(_Positive):
    """What is asked."""

    requests_per_day: float = 1000.0
    prompt_tokens: float = 400.0
    answer_tokens: float = 200.0
    busiest_hour: float = 0.15
    """Share of a day's requests that come in its busiest hour; evenly spread would be 1/24 = 0.042."""
    use: float = 0.6
    """Share of the busiest hour in which a machine may be at work: waiting grows without bound towards 1."""
    spare_machines: float = 0.0

    zero_allowed = frozenset({"prompt_tokens", "spare_machines"})


@dataclass(frozen=True)
class Prices(_Positive):
    """What things cost, in one currency: a rented machine has an hourly price, an owned one a price, a life
    and a power. An API has prices for a million tokens, to compare with."""

    machine_hour: float = 0.0
    machine: float = 0.0
    machine_months: float = 48.0
    watts: float = 0.0
    """Mean power of an owned machine at the socket; measure it there."""
    kilowatt_hour: float = 0.0
    people_a_month: float = 0.0
    """The hours of whoever looks after it, in money; usually the largest item."""
    api_million_prompt_tokens: float = 0.0
    api_million_answer_tokens: float = 0.0

    zero_allowed = frozenset({
        "machine_hour", "machine", "watts", "kilowatt_hour", "people_a_month", "api_million_prompt_tokens",
        "api_million_answer_tokens",
    })  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What follows; no break-even where an API stays cheaper up to the limit of one machine."""

    seconds_a_request: float
    requests_an_hour: float
    machines: int
    a_month: float
    a_thousand_requests: float
    a_million_answer_tokens: float
    api_a_month: float
    break_even_requests_per_day: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def monthly_cost(speed: Speed, load: Load, prices: Prices) -> Cost:
    """Return what a load costs on machines of this speed, and on an API.

    Raises:
        ParameterError: a value is not finite, or not above zero where it has to be.
    """
    seconds = (
        load.prompt_tokens / speed.prompt_tokens_per_second
        + load.answer_tokens / speed.answer_tokens_per_second
    )
    requests_an_hour = 3600 / seconds * load.use
    machines = math.ceil(load.requests_per_day * load.busiest_hour / requests_an_hour) + load.spare_machines
    owned = (
        prices.machine / prices.machine_months + prices.watts / 1000 * HOURS_A_MONTH * prices.kilowatt_hour
    )
    one = prices.machine_hour * HOURS_A_MONTH + owned
    month = machines * one + prices.people_a_month
    requests = load.requests_per_day * DAYS_A_MONTH
    api_request = (
        load.prompt_tokens * prices.api_million_prompt_tokens
        + load.answer_tokens * prices.api_million_answer_tokens
    ) / 1e6
    least = (1 + load.spare_machines) * one + prices.people_a_month
    break_even = least / (api_request * DAYS_A_MONTH) if api_request > 0 else None
    if break_even is not None and break_even > requests_an_hour / load.busiest_hour:
        break_even = None
    return Cost(
        seconds_a_request=seconds,
        requests_an_hour=requests_an_hour,
        machines=int(machines),
        a_month=month,
        a_thousand_requests=month / requests * 1000,
        a_million_answer_tokens=month / (requests * load.answer_tokens) * 1e6,
        api_a_month=requests * api_request,
        break_even_requests_per_day=break_even,
    )
