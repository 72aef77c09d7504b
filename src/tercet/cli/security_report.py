"""`tercet doctor --security`: the settings that `tercet serve` would have, and what is weak about them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer

from tercet.cli import console, serve, settings_file
from tercet.cli.serve_settings import server_settings
from tercet.environment import optional_import

__all__ = ["report"]


def report(config: Path | None, json: bool) -> None:
    """Show what is weak.

    Raises:
        typer.Exit: something is; the status is 1.
        TercetError: the settings are none.
    """
    for module in ("fastapi", "uvicorn"):
        optional_import(module, "server")
    from tercet.server.weaknesses import Surroundings, is_exposed, weaknesses

    command: Any = typer.main.get_command(serve.app)
    command.name = "serve"
    values = settings_file.effective(command, [] if config is None else ["--config", str(config)])
    settings = server_settings(values)
    security = settings.security_config(is_exposed(settings))
    deciding = [config, values["config"], settings.keys_file, settings.tls_certificate, settings.tls_key]
    found = weaknesses(
        settings,
        security,
        Surroundings(
            logs_prompts=values["log_prompts"],
            model_trust=values["model_trust"] or os.environ.get("TERCET_MODEL_TRUST") or "checked",
            is_root=hasattr(os, "geteuid") and os.geteuid() == 0,
            request_timeout_seconds=values["request_timeout"],
            files=tuple(dict.fromkeys(Path(one) for one in deciding if one is not None)),
        ),
    )
    weak = [one for one in found if one.level == "weak"]
    if json:
        shown = [vars(one) for one in found]
        console.write_json({"settings": dict(security.to_dict()), "host": settings.host, "found": shown})
    else:
        out = console.shown()
        reach = "others can come" if is_exposed(settings) else "only programs of this machine can come"
        out.print(f"Profile {security.profile}; {reach}.", markup=False)
        for one in found:
            style = "red" if one.level == "weak" else "yellow"
            out.print(f"{one.level}: {one.name}: {one.found}; {one.remedy}", style=style, markup=False)
        if not weak:
            out.print("Nothing is weak.", style="green")
    if weak:
        raise typer.Exit(1)
