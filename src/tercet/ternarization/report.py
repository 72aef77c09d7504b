"""The quality report of a ternarization: the same figures as JSON for programs and Markdown for people."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tercet.environment import atomic_write
from tercet.ternarization.quality import Quality

__all__ = ["Report", "report_paths", "write_report"]


@dataclasses.dataclass(frozen=True)
class Report:
    """What was made of what, how, and how good it is."""

    source: str
    result: str
    method: Mapping[str, Any]
    """The fields of the `Method`."""
    facts: Mapping[str, str]
    """What the result's metadata say of this."""
    held_out: str
    """Which text the figures are of."""
    source_bytes: int
    """All tensors of the source, as stored."""
    result_bytes: int
    """The whole file."""
    source_matrix_bytes: int
    result_matrix_bytes: int
    """The matrices that became ternary alone."""
    quantize_activations: bool
    seconds: float
    """What finding and writing the result took."""
    quality: Quality

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return dataclasses.asdict(self)

    def markdown(self) -> str:
        """Return the report for people."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        quality = self.quality
        yield f"# {self.result}: how much was lost"
        yield ""
        yield f"`{self.source}` made ternary without training: lossy, a baseline and no substitute."
        yield ""
        yield from (f"- {name.replace('_', ' ')}: {value}" for name, value in self.facts.items())
        yield f"- activations: {'int8' if self.quantize_activations else 'float'}"
        yield f"- held-out text: {self.held_out}"
        yield f"- made in {self.seconds:.0f} s"
        yield ""
        yield "| | source | result |"
        yield "| --- | ---: | ---: |"
        yield f"| perplexity | {_shown(quality.source_perplexity)} | {_shown(quality.result_perplexity)} |"
        yield f"| bytes in all | {self.source_bytes:,} | {self.result_bytes:,} |"
        yield f"| bytes of matrices | {self.source_matrix_bytes:,} | {self.result_matrix_bytes:,} |"
        yield ""
        yield f"KL divergence of the next token: {quality.kl_divergence:.3f} nats."
        yield f"The same first choice: {quality.same_top_token:.1%} of {quality.tokens} positions."
        yield ""
        yield "## Layer by layer"
        yield ""
        yield "Relative errors. `hidden` is what has piled up behind a layer, the others are the error of the"
        yield "output of each matrix, given the inputs that it has in the result."
        yield ""
        kinds = list(dict.fromkeys(_split(matrix.name)[1] for matrix in quality.matrices))
        yield f"| layer | hidden | {' | '.join(kinds)} |"
        yield f"| ---: |{' ---: |' * (1 + len(kinds))}"
        outputs = {matrix.name: matrix.output_error for matrix in quality.matrices}
        for layer, hidden in enumerate(quality.hidden_errors):
            cells = (f"{outputs[f'layers.{layer}.{kind}']:.3f}" for kind in kinds)
            yield f"| {layer} | {hidden:.3f} | {' | '.join(cells)} |"


def report_paths(result: Path) -> tuple[Path, Path]:
    """Return where the report of a result is kept: JSON, Markdown."""
    return result.with_suffix(".quality.json"), result.with_suffix(".quality.md")


def write_report(result: Path, report: Report) -> tuple[Path, Path]:
    """Write a report beside its result. Raises StorageError if it cannot be written."""
    paths = report_paths(result)
    texts = (json.dumps(report.to_dict(), indent=1) + "\n", report.markdown())
    for path, text in zip(paths, texts, strict=True):
        with atomic_write(path) as file:
            file.write(text.encode())
    return paths


def _split(name: str) -> tuple[str, str]:
    """`layers.3.ffn.up` -> (`3`, `ffn.up`)."""
    _, layer, kind = name.split(".", 2)
    return layer, kind


def _shown(perplexity: float) -> str:
    return f"{perplexity:.2f}" if perplexity < 1e5 else f"{perplexity:.1e}"
