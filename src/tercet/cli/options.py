"""Options that several commands share, with one wording."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tercet.formats.gguf import KernelConfig

SAMPLING = "Sampling (default: the model's own, else temperature 0.7, top-p 0.9)"
MACHINE = "Model and machine"


def _sampling(*names: str, help: str) -> Any:
    return typer.Option(*names, help=help, show_default=False, rich_help_panel=SAMPLING)


MaxTokens = Annotated[
    int | None, _sampling("--max-tokens", "-n", help="Most tokens to generate (default 256).")
]
Temperature = Annotated[
    float | None, _sampling("--temperature", "-t", help="0 takes the likeliest token; higher is bolder.")
]
TopP = Annotated[float | None, _sampling("--top-p", help="Keep the likeliest tokens up to this probability.")]
TopK = Annotated[int | None, _sampling("--top-k", help="Keep this many likeliest tokens; 0 keeps all.")]
MinP = Annotated[
    float | None, _sampling("--min-p", help="Keep tokens at least this fraction as likely as the likeliest.")
]
RepetitionPenalty = Annotated[
    float | None, _sampling("--repetition-penalty", help="Above 1 makes tokens seen before less likely.")
]
Seed = Annotated[
    int | None, _sampling("--seed", "-s", help="The same seed gives the same text (default: a new one).")
]
Stop = Annotated[
    list[str] | None, _sampling("--stop", help="End before this text; may be given several times.")
]

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Name or path of the model (default: the one that ships with the package).",
        show_default=False,
        rich_help_panel=MACHINE,
    ),
]


ModelTrust = Annotated[
    str | None,
    typer.Option(
        "--model-trust",
        metavar="checked|manifest|signed",
        help="What opening a model demands: files as their manifest says if there is one (the default), "
        "a manifest, or one that a --model-key has signed.",
        show_default=False,
    ),
]
ModelKey = Annotated[
    list[Path] | None,
    typer.Option(
        "--model-key",
        help="File with a public key of minisign; may be given several times.",
        show_default=False,
    ),
]


def demand_trust(level: str | None, keys: list[Path] | None) -> None:
    """Let every model that this process and its children open meet these demands."""
    if level is not None:
        os.environ["TERCET_MODEL_TRUST"] = level
    if keys:
        os.environ["TERCET_MODEL_KEYS"] = os.pathsep.join(map(str, keys))


def _threads(text: str) -> int:
    """A number, or the cores for `all`."""
    if text == "all":
        from tercet.engine.processors import available_cores

        return available_cores()
    if not text.isdigit():
        raise typer.BadParameter(f"{text!r} is neither a whole number nor 'all'")
    return int(text)


Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="NUMBER|all",
        parser=_threads,
        help="Threads to compute with; `all` takes every physical core (default: what the level says).",
        show_default=False,
        rich_help_panel=MACHINE,
    ),
]
Level = Annotated[
    str | None,
    typer.Option(
        "--level",
        help="How hard to try: baseline (1 thread), optimized (up to 4), aggressive (up to 8, with "
        "shortcuts) (default: optimized).",
        show_default=False,
        rich_help_panel=MACHINE,
    ),
]
Scenario = Annotated[
    str | None,
    typer.Option(
        "--scenario",
        help="Threads and memory of a place: mobile, edge, server or cloud, see `tercet optimize`.",
        show_default=False,
        rich_help_panel=MACHINE,
    ),
]
Speculation = Annotated[
    str | None,
    typer.Option(
        "--speculation",
        help="Guess tokens and check them together, which changes none: off, prompt_lookup (from the text "
        "so far), draft (default: what the level says).",
        show_default=False,
        rich_help_panel=MACHINE,
    ),
]
Draft = Annotated[
    str | None,
    typer.Option(
        "--draft",
        help="Name or path of a smaller model with the same tokenizer that guesses tokens.",
        show_default=False,
        rich_help_panel=MACHINE,
    ),
]
Lora = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        metavar="NAME=FOLDER",
        help="An adapter, as PEFT or `tercet finetune --method lora` writes it; may be given several times. "
        "Without a name it has its folder's.",
        show_default=False,
        rich_help_panel=MACHINE,
    ),
]
Isa = Annotated[
    str | None,
    typer.Option(
        "--isa",
        help="Instruction set of the kernels, see `tercet doctor` (default: TERCET_ISA, or the best).",
        show_default=False,
        rich_help_panel=MACHINE,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="What computes: cpu, or cuda (cuda:1) for an NVIDIA GPU (default: cpu).",
        show_default=False,
        rich_help_panel=MACHINE,
    ),
]
Layout = Annotated[
    str | None,
    typer.Option(
        "--layout",
        help="How the I2_S weights of a GGUF file lie, where that cannot be found out: canonical, rows, arm.",
        show_default=False,
    ),
]
KernelConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--kernel-config",
        help="For TL1 and TL2 in a GGUF file: kernel_config.ini of the build of bitnet.cpp that made it.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def kernel_config(file: Path | None) -> KernelConfig | None:
    """What the file of `--kernel-config` says; FormatError where it is not such a file."""
    from tercet.errors import FormatError
    from tercet.formats.gguf import parse_kernel_config
    from tercet.formats.mapped_file import read_bytes

    if file is None:
        return None
    try:
        return parse_kernel_config(read_bytes(file).decode())
    except (FormatError, UnicodeDecodeError) as error:
        raise FormatError(f"{file}: {error}") from error


def adapters(named: list[str] | None) -> dict[str, str]:
    """The adapters of `--lora` by name."""
    found: dict[str, str] = {}
    for text in named or ():
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            path, name = text, Path(text).absolute().name
        if not name or not path:
            raise typer.BadParameter(f"{text!r} is not NAME=FOLDER", param_hint="--lora")
        if name in found:
            raise typer.BadParameter(f"two adapters are called {name}", param_hint="--lora")
        found[name] = path
    return found


def given(**options: Any) -> dict[str, Any]:
    """The options that the user named; the others keep the model's own defaults."""
    return {name: value for name, value in options.items() if value is not None and value != []}
