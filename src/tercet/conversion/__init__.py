"""From one way of storing a model to another.

    plan      what will be done, to be read before it is done
    outputs   the ways of storing: native file, folders for transformers, GGUF
    steps     doing it: in little memory, all or nothing
    staging   where the result grows, and how a killed conversion is gone on with
    verify    whether the result computes what the source does

What is at the destination is whole and was compared with its source, or it is what was there before.
"""

from __future__ import annotations

from tercet.conversion.outputs import FORMATS
from tercet.conversion.plan import ConversionPlan, plan_conversion
from tercet.conversion.steps import Conversion, Progress, convert
from tercet.conversion.verify import Verification, compare_models

__all__ = [
    "FORMATS",
    "Conversion",
    "ConversionPlan",
    "Progress",
    "Verification",
    "compare_models",
    "convert",
    "plan_conversion",
]
