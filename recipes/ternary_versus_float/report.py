"""What the trainings of `experiment.py` say: a table with intervals, a picture of the curves, the figures.

    python recipes/ternary_versus_float/experiment.py report --output runs/tvf

Losses are in nats a byte of held-out text, so that they do not depend on the tokenizer. An interval is the
95 % one of Student's t over the differences of seeds (both kinds see the same tokens in the same order under
one seed, so their difference varies less than each loss does). With two seeds it is wide: t is 12.7.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from experiment import CONTEXT, EQUAL_BYTES, SEEDS, SIZES, num_bytes

from tercet.environment import atomic_write, optional_import

STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}


def write_report(output: Path) -> None:
    """Write `report.md`, `figures.json` and `curves.png` into `output` and print the table."""
    found = {path.parent.name: read(path.parent) for path in sorted(output.glob("*/result.json"))}
    bytes_per_token = json.loads((output / "tokens" / "tokens.json").read_text())["valid"]
    per_byte = bytes_per_token["num_tokens"] / bytes_per_token["num_bytes"]
    for run in found.values():
        run["curve"] = [(tokens, loss * per_byte) for tokens, loss in run["curve"]]
        run["loss"] = run["curve"][-1][1]
    text = "\n\n".join([trials(found), table(found), stages(found)]) + "\n"
    for name, content in (("report.md", text), ("figures.json", json.dumps(found, indent=1) + "\n")):
        with atomic_write(output / name) as file:
            file.write(content.encode())
    draw(found, output / "curves.png")
    print(text)


def read(folder: Path) -> dict[str, Any]:
    """The validation losses (nats a token) of a finished run over the tokens seen, and its speed."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    return {
        "curve": [(e["tokens"], e["loss"]) for e in lines if e["event"] == "evaluation"],
        "rate": settings["optimizer"]["matrix_rate"],
        "tokens": settings["schedule"]["num_steps"] * settings["batch_size"] * CONTEXT,
    }


def trials(found: dict[str, Any]) -> str:
    """The trials of learning rates."""
    lines = ["| kind | matrix rate | tokens | nats a byte |", "| --- | --- | --- | --- |"]
    for name, run in found.items():
        if name.startswith("rate-"):
            kind = name.split("-")[1]
            lines.append(f"| {kind} | {run['rate']} | {run['tokens'] / 1e6:.1f} M | {run['loss']:.4f} |")
    return "\n".join(lines)


def table(found: dict[str, Any]) -> str:
    """Each size: ternary, the twin with as many parameters, the network with as many bytes."""
    lines = [
        "| size | weights in layers | bytes: ternary, twin | ternary | full precision, same parameters | "
        "ternary minus that | full precision, same bytes | ternary minus that |",
        "| --- " * 8 + "|",
    ]
    for size, model in SIZES.items():
        ternary = losses(found, f"equal-ternary-{size}")
        twin = losses(found, f"equal-float-{size}")
        rival = losses(found, f"bytes-float-{size}")
        weights = (
            f"{model.num_ternary_weights / 1e6:.2f} M, {EQUAL_BYTES[size].num_ternary_weights / 1e6:.2f} M"
        )
        sizes = f"{num_bytes(model, 'ternary') / 1e3:,.0f} kB, {num_bytes(model, 'float') / 1e3:,.0f} kB"
        lines.append(
            f"| {size} | {weights} | {sizes} | {spread(ternary)} | {spread(twin)} | "
            f"{difference(ternary, twin)} | {spread(rival)} | {difference(ternary, rival)} |"
        )
    return "\n".join(lines)


def stages(found: dict[str, Any]) -> str:
    """Two-stage schedule against one cosine."""
    one, two = losses(found, "onestage-ternary-middle"), losses(found, "equal-ternary-middle")
    return (
        "| schedule (ternary, middle) | nats a byte | two stages minus one |\n| --- | --- | --- |\n"
        f"| two stages | {spread(two)} | {difference(two, one)} |\n| one cosine | {spread(one)} | |"
    )


def losses(found: dict[str, Any], name: str) -> dict[int, float]:
    """Final losses by seed."""
    return {seed: found[f"{name}-{seed}"]["loss"] for seed in SEEDS if f"{name}-{seed}" in found}


def spread(values: dict[int, float]) -> str:
    """Mean, and every value."""
    if not values:
        return "not run"
    each = ", ".join(f"{value:.4f}" for value in values.values())
    return f"{sum(values.values()) / len(values):.4f} ({each})"


def difference(first: dict[int, float], second: dict[int, float]) -> str:
    """Mean of the paired differences with its interval."""
    pairs = [first[seed] - second[seed] for seed in SEEDS if seed in first and seed in second]
    if not pairs:
        return "not run"
    mean = sum(pairs) / len(pairs)
    if len(pairs) == 1:
        return f"{mean:+.4f} (one seed)"
    deviation = math.sqrt(sum((value - mean) ** 2 for value in pairs) / (len(pairs) - 1))
    return f"{mean:+.4f} ± {STUDENT_T[len(pairs)] * deviation / math.sqrt(len(pairs)):.4f}"


def draw(found: dict[str, Any], path: Path) -> None:
    """Loss over tokens for every size, and loss over bytes."""
    optional_import("matplotlib", "train").use("Agg")
    pyplot = optional_import("matplotlib.pyplot", "train")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.6), dpi=110, layout="constrained")
    colors = {"small": "tab:green", "middle": "tab:blue", "large": "tab:red", "largest": "tab:purple"}
    kinds = {"equal-ternary": ("ternary", "-"), "equal-float": ("full precision", "--")}
    points: dict[str, list[tuple[float, float]]] = {"ternary": [], "full precision": []}
    for size, color in colors.items():
        for start, (label, style) in kinds.items():
            for seed in SEEDS:
                run = found.get(f"{start}-{size}-{seed}")
                if run is None:
                    continue
                left.plot(
                    [tokens / 1e6 for tokens, _ in run["curve"]],
                    [loss for _, loss in run["curve"]],
                    style, color=color, lw=1, label=f"{label}, {size}" if seed == SEEDS[0] else None,
                )  # fmt: skip
                kind = start.split("-")[1]
                points[label].append((num_bytes(SIZES[size], kind) / 1e6, run["loss"]))
        for seed in SEEDS:
            if run := found.get(f"bytes-float-{size}-{seed}"):
                points["full precision"].append((num_bytes(EQUAL_BYTES[size], "float") / 1e6, run["loss"]))
    for label, marker in (("ternary", "o"), ("full precision", "s")):
        right.plot([x for x, _ in points[label]], [y for _, y in points[label]], marker, label=label)
    left.set(
        xlabel="tokens seen (millions)", ylabel="validation loss (nats a byte)", title="as many parameters"
    )
    right.set(xlabel="bytes of the weights (MB)", xscale="log", title="as many bytes")
    ticks = [0.25, 0.5, 1, 2, 4]
    right.set_xticks(ticks, [str(tick) for tick in ticks])
    right.minorticks_off()
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
    pyplot.close(figure)
