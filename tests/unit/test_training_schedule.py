"""The two-stage schedule: where it rises, drops and ends; the presets and their variants."""

from __future__ import annotations

import dataclasses
import json

import pytest

pytest.importorskip("torch", reason="torch (extra 'train') is not installed")

from tercet.errors import ParameterError
from tercet.training.schedule import Schedule
from tercet.training.settings import PRESETS, TrainingSettings
from tercet.training.variants import VARIANTS, as_variant

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


def test_four_bits_come_last() -> None:
    schedule = Schedule(num_steps=100, four_bits_start=0.95)
    assert [schedule.activation_rule(step, "int4") for step in (0, 94, 95, 99)] == [
        "int8",
        "int8",
        "int4",
        "int4",
    ]
    assert SCHEDULE.activation_rule(0, "int4_int8") == "int4_int8"


@pytest.mark.parametrize(
    "values",
    [
        {"num_steps": 0},
        {"num_steps": 10, "stage_two_start": 0.0},
        {"num_steps": 10, "four_bits_start": 1.0},
    ],
)
def test_nonsense_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ParameterError):
        Schedule(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_every_variant(name: str) -> None:
    settings = PRESETS[name]
    assert as_variant(settings, "b1.58") == settings
    found = {variant: as_variant(settings, variant) for variant in VARIANTS}
    assert not found["float"].ternary
    assert found["binary"].model.weight_rule == "sign"
    assert found["a4.8"].model.activation_rule == "int4_int8"
    v2 = found["v2"].model
    assert v2.activation_rule == "int4"
    assert v2.rotation is not None
    assert len(v2.rotation.inputs) == 2 * v2.num_layers
    assert found["v2"].schedule.four_bits_start == found["a4.8"].schedule.four_bits_start == 0.95
    for one in found.values():
        assert TrainingSettings.from_dict(json.loads(json.dumps(one.to_dict()))) == one
        assert as_variant(one, "b1.58") == settings


def test_variants_by_their_published_numbers() -> None:
    """BitNet v2, appendix B."""
    rates = {
        name: (p.optimizer.rate, p.schedule.stage_two_peak * p.optimizer.rate) for name, p in PRESETS.items()
    }
    assert rates["400m"] == pytest.approx((1.8e-3, 1.2e-3))
    assert rates["1.3b"] == pytest.approx((1.2e-3, 8e-4))
    assert rates["3b"] == pytest.approx((1.2e-3, 6.4e-4))
    assert rates["7b"] == pytest.approx((1e-3, 6e-4))
    assert as_variant(PRESETS["7b"], "v2").model.rotation.block_size == 4096  # type: ignore[union-attr]
    with pytest.raises(ParameterError, match=r"no variant 'b2'; there are b1\.58, binary"):
        as_variant(PRESETS["tiny"], "b2")
    odd = dataclasses.replace(
        PRESETS["tiny"], model=dataclasses.replace(PRESETS["tiny"].model, ffn_size=1023)
    )
    with pytest.raises(ParameterError, match="o has 384 inputs and down 1023"):
        as_variant(odd, "v2")
