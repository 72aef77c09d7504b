"""Stacks as a picture: an SVG that needs nothing else, folded text, or a file for speedscope, by the name.

Stacks are what flame graphs are usually made of: `outer;inner;innermost` and how long (Brendan Gregg, "The
Flame Graph", CACM 59.6). The width of a box is its time, what stands on it is inside of it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from tercet.environment import atomic_write
from tercet.errors import ParameterError

__all__ = ["FORMATS", "flame_graph", "folded", "speedscope", "write_flame_graph"]

FORMATS = (".svg", ".folded", ".json")
WIDTH, ROW, MARGIN = 1200.0, 18.0, 8.0
NARROWEST = 0.2
"""A box that would be narrower is left out, as are those on it."""
CHARACTER = 6.6
COLOURS = ("#e07a5f", "#e9a56b", "#f2cc8f", "#e8b77d", "#d98c5f", "#eec170", "#f2a65a", "#e6956f")


def write_flame_graph(path: Path, stacks: Mapping[str, float], title: str) -> None:
    """Write stacks, in seconds; the name says how.

    Raises:
        ParameterError: it ends in none of `FORMATS`.
        StorageError: it cannot be written.
    """
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise ParameterError(
            f"a flame graph is named after its format, and {path.name!r} ends in none of {', '.join(FORMATS)}"
        )
    made = {
        ".svg": lambda: flame_graph(stacks, title),
        ".folded": lambda: folded(stacks),
        ".json": lambda: speedscope(stacks, title),
    }[kind]()
    with atomic_write(path) as file:
        file.write(made.encode())


def folded(stacks: Mapping[str, float]) -> str:
    """A line for each stack, with whole microseconds: what flamegraph.pl and others read."""
    return "".join(f"{frames} {round(1e6 * seconds)}\n" for frames, seconds in sorted(stacks.items()))


def speedscope(stacks: Mapping[str, float], title: str) -> str:
    """The file format of speedscope.app, "sampled"."""
    index: dict[str, int] = {}
    samples = [
        [index.setdefault(frame, len(index)) for frame in frames.split(";")] for frames in sorted(stacks)
    ]
    content = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "shared": {"frames": [{"name": name} for name in index]},
        "profiles": [
            {
                "type": "sampled",
                "name": title,
                "unit": "seconds",
                "startValue": 0,
                "endValue": sum(stacks.values()),
                "samples": samples,
                "weights": [stacks[frames] for frames in sorted(stacks)],
            }
        ],
    }
    return json.dumps(content) + "\n"


@dataclass
class _Box:
    seconds: float = 0.0
    inside: dict[str, _Box] = field(default_factory=dict)

    @property
    def height(self) -> int:
        return 1 + max((box.height for box in self.inside.values()), default=0)


def flame_graph(stacks: Mapping[str, float], title: str) -> str:
    """The picture; a box tells its name, time and share when pointed at."""
    root = _Box()
    for frames, seconds in sorted(stacks.items()):
        box = root
        box.seconds += seconds
        for frame in frames.split(";"):
            box = box.inside.setdefault(frame, _Box())
            box.seconds += seconds
    height = root.height * ROW + 40
    scale = (WIDTH - 2 * MARGIN) / root.seconds if root.seconds > 0 else 0.0
    boxes: list[str] = []
    _draw("all", root, MARGIN, height - ROW - MARGIN, scale, root.seconds, boxes)
    size = f'viewBox="0 0 {WIDTH:g} {height:g}" width="{WIDTH:g}" height="{height:g}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="monospace" font-size="11" role="img" '
        f"aria-label={quoteattr(title)}>\n"
        f'<rect width="100%" height="100%" fill="#fffdf8"/>\n'
        f'<text x="{MARGIN:g}" y="18" font-size="14">{escape(title)}</text>\n' + "".join(boxes) + "</svg>\n"
    )


def _draw(name: str, box: _Box, x: float, y: float, scale: float, whole: float, boxes: list[str]) -> None:
    width = box.seconds * scale
    if width < NARROWEST:
        return
    share = box.seconds / whole
    told = f"{name}: {1e3 * box.seconds:,.3f} ms, {share:.2%}"
    colour = COLOURS[zlib.crc32(name.encode()) % len(COLOURS)]
    fits = int((width - 6) / CHARACTER)
    text = name if len(name) <= fits else name[: fits - 1] + "…" if fits > 3 else ""
    boxes.append(
        f'<g><title>{escape(told)}</title><rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" '
        f'height="{ROW - 1:g}" rx="1" fill="{colour}"/>'
        f'<text x="{x + 3:.2f}" y="{y + ROW - 5:.2f}">{escape(text)}</text></g>\n'
    )
    for inner, inside in box.inside.items():
        _draw(inner, inside, x, y - ROW, scale, whole, boxes)
        x += inside.seconds * scale
