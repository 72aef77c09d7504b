"""What is said on the command line about strategies: each option sets the field of `DeploymentSettings` with
its name.

    @with_settings
    def run(prompt: str, settings: DeploymentSettings) -> None: ...

gives `run` all these options instead of the parameter `settings`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from tercet.deployment.strategy import DeploymentSettings

PANEL = "Strategies"


def option(*names: str, help: str, **more: Any) -> Any:
    """An option of the panel of strategies."""
    return typer.Option(*names, help=help, show_default=False, rich_help_panel=PANEL, **more)


OPTIONS: dict[str, Any] = {
    "threads": Annotated[
        int | None,
        option(
            "--threads", help="Threads to compute with (default: one for each physical core, ours up to 4)."
        ),
    ],
    "max_context": Annotated[
        int | None, option("--max-context", help="Most tokens of prompt and answer (default: the model's).")
    ],
    "folder": Annotated[
        Path | None,
        option("--folder", help="Where converted models are kept (default: in the cache, see TERCET_CACHE)."),
    ],
    "program": Annotated[
        Path | None,
        option(
            "--program",
            help="For bitnet_cpp: llama-server, run_inference.py, or the folder of a build of bitnet.cpp or "
            "llama.cpp (default: the llama-server on the PATH).",
        ),
    ],
    "install": Annotated[
        bool, option("--install", help="For bitnet_cpp: fetch and build it where there is no build.")
    ],
    "start_seconds": Annotated[
        int,
        option("--start-seconds", help="How long bitnet_cpp may take to load the model (default: 120)."),
    ],
    "endpoint": Annotated[
        str | None,
        option("--endpoint", help="For remote: an OpenAI-compatible API, as https://HOST/v1."),
    ],
    "endpoint_model": Annotated[
        str | None,
        option("--endpoint-model", help="For remote: which of its models (default: the only one)."),
    ],
    "endpoint_key_file": Annotated[
        Path | None,
        option("--endpoint-key-file", metavar="FILE", help="For remote: a file with its API key."),
    ],
    "send_prompts": Annotated[
        bool,
        option("--send-prompts", help="For remote: prompts may leave this machine."),
    ],
}

Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="STRATEGY",
        help="Only this strategy; may be given several times (default: all).",
        show_default=False,
    ),
]


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `OPTIONS` instead of its parameter `settings`."""
    written = inspect.signature(command, eval_str=True)
    defaults = {field.name: field.default for field in dataclasses.fields(DeploymentSettings)}
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [one for name, one in written.parameters.items() if name != "settings"]
    json = [parameters.pop()] if parameters[-1].name == "json" else []  # stays the last in the help
    parameters += [
        inspect.Parameter(name, keyword, default=defaults[name], annotation=kind)
        for name, kind in OPTIONS.items()
    ]
    parameters += [one.replace(kind=keyword) for one in json]

    @functools.wraps(command)
    def asked(**values: Any) -> None:
        given = {name: values.pop(name) for name in OPTIONS}
        texts: dict[str, Any] = {
            name: str(value) if isinstance(value, Path) else value for name, value in given.items()
        }
        command(settings=DeploymentSettings(**texts), **values)

    asked.__signature__ = written.replace(parameters=parameters)  # type: ignore[attr-defined]
    asked.__annotations__ = {one.name: one.annotation for one in parameters}
    return asked
