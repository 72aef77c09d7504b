"""`tercet deploy list` and `tercet deploy test`: what this machine can run, and how well each does it."""

from __future__ import annotations

from typing import Annotated

import typer

from tercet.cli import options
from tercet.cli.deploy.settings import Only, with_settings
from tercet.deployment.strategy import (
    TEST_PROMPT,
    TEST_SECONDS,
    TEST_TOKENS,
    DeploymentSettings,
    GenerationRequest,
)

Prompt = Annotated[str, typer.Option("--prompt", "-p", help="The text to continue.")]
MaxTokens = Annotated[int, typer.Option("--max-tokens", "-n", help="Tokens to generate in each run.")]
Runs = Annotated[int, typer.Option("--runs", help="Runs to measure, after a first that does not count.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds that a generation may take.")]


@with_settings
def list_strategies(
    settings: DeploymentSettings, only: Only = None, model: options.Model = None, json: options.Json = False
) -> None:
    """Show which strategies can run a model here, and why the others cannot.

    Nothing is loaded or started for that; `tercet deploy test` tries them.
    """
    from tercet.cli import console
    from tercet.cli.deploy.tables import availability_table, show_steps
    from tercet.deployment.trials import availabilities

    found = availabilities(model, settings, only)
    if json:
        rows = [
            {"strategy": name, "available": one.available, "reason": one.reason, "steps": list(one.steps)}
            for name, one in found.items()
        ]
        console.write_json({"strategies": rows})
    else:
        out = console.shown()
        out.print(availability_table(found))
        show_steps(out, ((name, one.steps) for name, one in found.items()))


@with_settings
def try_strategies(
    settings: DeploymentSettings,
    only: Only = None,
    prompt: Prompt = TEST_PROMPT,
    max_tokens: MaxTokens = TEST_TOKENS,
    runs: Runs = 3,
    timeout: Timeout = TEST_SECONDS,
    model: options.Model = None,
    json: options.Json = False,
) -> None:
    """Generate with every strategy that can run a model here, and measure it.

    Each runs in a process of its own, with time limits. The greedy tokens of the first run are compared with
    the reference's. Exits with status 1 if a strategy that can run here fails, or none can.
    """
    from tercet.cli import console
    from tercet.cli.deploy.tables import measurement_table, show_steps
    from tercet.deployment.trials import measure

    request = GenerationRequest(prompt, max_tokens, timeout_seconds=timeout)
    with console.progress("Testing") as show:
        found = measure(model, settings, only, request=request, runs=runs, tell=show)
    if json:
        console.write_json({"strategies": [one.to_dict() for one in found]})
    else:
        out = console.shown()
        out.print(measurement_table(found))
        show_steps(out, ((one.strategy, one.steps) for one in found))
    if any(one.available != one.success for one in found) or not any(one.success for one in found):
        raise typer.Exit(1)
