"""A full-precision model made ternary after its training: quick, and lossy.

    ternarize      the whole: source, result, report
    methods        what can be chosen, and checked
    absmean        each matrix alone: rounded to its mean magnitude
    calibrated     each matrix for its inputs: codes and scales that keep its output, found column by column
    layerwise      inputs as the already ternary layers before give them, a layer at a time
    side_by_side   the specification's decoder, several sequences at once
    quality        how far the result is from its source, on a text that it has not seen
    report         those figures as JSON and Markdown

Ternary models are trained as such for a reason: what is rounded here loses most of what it knew. The report
says how much.
"""

from __future__ import annotations

from tercet.ternarization.methods import METHODS, Method
from tercet.ternarization.ternarize import Ternarization, ternarize

__all__ = ["METHODS", "Method", "Ternarization", "ternarize"]
