"""The curve of a run: a table for people, and a picture.

python recipes/smollm2_ternary/curve.py RUN [PICTURE.png]
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tercet.distillation.curve import Curve


def main(run: Path, picture: Path | None) -> None:
    """Print the table of `run`, and draw it again."""
    curve = Curve(run)
    print("| tokens | λ | held-out loss, nats a token | perplexity | nats a byte |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for point in curve.points():
        is_teacher = point["model"] == "teacher"
        first = "teacher | " if is_teacher else f"{point['tokens']:,} | {point['strength']:.2f}"
        print(f"| {first} | {point['loss']:.3f} | {point['perplexity']:.4g} | {point['nats_per_byte']:.3f} |")
    curve.draw()
    if picture is not None:
        shutil.copyfile(curve.picture, picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
