"""What the makers of a model say it scores, to stand beside what was measured here.

bitnet-b1.58-2B-4T: Table 1 of the technical report (Ma et al. 2025, arXiv 2504.12285), in percent. The report
does not print its prompts; where the published figure is one of several that a task gives, we take the one
that is usual (`Task.main`), so a difference of a point or two may be one of method.
"""

from __future__ import annotations

__all__ = ["PUBLISHED", "published_figures"]

BITNET_2B4T = {
    "arc_challenge": 49.91,
    "arc_easy": 74.79,
    "boolq": 80.18,
    "hellaswag": 68.44,
    "piqa": 77.09,
    "winogrande": 71.90,
    "mmlu": 53.17,
    "gsm8k_cot": 58.38,
    "minerva_math500": 43.40,
    "humaneval_plus": 38.40,
    "ifeval": 53.48,
}

PUBLISHED: dict[str, dict[str, float]] = {"bitnet-b1.58-2B-4T": BITNET_2B4T}


def published_figures(model: str) -> dict[str, float]:
    """Figures of the model by task, in percent; none where nothing is known about it."""
    wanted = model.lower()
    for name, figures in PUBLISHED.items():
        if name.lower() in wanted:
            return figures
    return {}
