"""The two-stage schedule: where it rises, drops and ends."""

from __future__ import annotations

import pytest

from tercet.errors import ParameterError
from tercet.training.schedule import Schedule

SCHEDULE = Schedule(
    num_steps=1000, warmup_steps=100, stage_two_start=0.5, stage_one_floor=0.4, stage_two_peak=0.3,
    final=0.0, weight_decay=0.1, quantization_warmup_steps=50,
)  # fmt: skip


def test_the_rate_rises_falls_drops_and_ends() -> None:
    rate = SCHEDULE.learning_rate_factor
    assert rate(0) == pytest.approx(0.01)
    assert rate(99) == 1.0
    assert rate(499) == pytest.approx(0.4, abs=1e-3)
    assert rate(500) == pytest.approx(0.3)  # the abrupt drop between the stages
    assert rate(999) == pytest.approx(0.0, abs=1e-4)
    stage_one, stage_two = [rate(s) for s in range(100, 500)], [rate(s) for s in range(500, 1000)]
    assert stage_one == sorted(stage_one, reverse=True)
    assert stage_two == sorted(stage_two, reverse=True)


def test_weight_decay_is_off_in_stage_two() -> None:
    assert SCHEDULE.weight_decay_at(499) == 0.1
    assert SCHEDULE.weight_decay_at(500) == 0.0


def test_quantization_warms_up_linearly() -> None:
    assert [SCHEDULE.quantization_strength(s) for s in (0, 25, 50, 900)] == [0.0, 0.5, 1.0, 1.0]
    assert Schedule(num_steps=10).quantization_strength(0) == 1.0


@pytest.mark.parametrize("values", [{"num_steps": 0}, {"num_steps": 10, "stage_two_start": 0.0}])
def test_nonsense_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ParameterError):
        Schedule(**values)  # type: ignore[arg-type]
