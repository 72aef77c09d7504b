"""From one way of storing a model to the native file.

    plan      what will be done, to be read before it is done
    steps     doing it: in little memory, all or nothing
    verify    whether the result computes what the source does

What is at the destination is whole and was compared with its source, or it is what was there before.
"""

from __future__ import annotations

from tercet.conversion.plan import ConversionPlan, plan_conversion
from tercet.conversion.steps import Conversion, Progress, convert
from tercet.conversion.verify import Verification, compare_models

__all__ = [
    "Conversion",
    "ConversionPlan",
    "Progress",
    "Verification",
    "compare_models",
    "convert",
    "plan_conversion",
]
