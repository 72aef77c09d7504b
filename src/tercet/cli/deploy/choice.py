"""`tercet deploy select` and `tercet deploy recommend`: which strategy to take, by measurement."""

from __future__ import annotations

from typing import Annotated

import typer

from tercet.cli import options
from tercet.cli.deploy.settings import Only, with_settings
from tercet.cli.deploy.strategies import MaxTokens, Prompt, Runs, Timeout
from tercet.deployment.strategy import TEST_PROMPT, TEST_SECONDS, DeploymentSettings, GenerationRequest

CHOICE_TOKENS = 32


@with_settings
def select(
    settings: DeploymentSettings,
    goal: Annotated[
        str,
        typer.Option(
            "--for",
            help="latency (the time to the first token), throughput (tokens a second) or memory.",
        ),
    ] = "latency",
    only: Only = None,
    prompt: Prompt = TEST_PROMPT,
    max_tokens: MaxTokens = CHOICE_TOKENS,
    runs: Runs = 3,
    timeout: Timeout = TEST_SECONDS,
    model: options.Model = None,
    json: options.Json = False,
) -> None:
    """Choose the best strategy for a goal, by measuring all that can run here.

    Standard output has its name alone; the measurements and the reason go to standard error.
    """
    from tercet.cli import console
    from tercet.cli.deploy.tables import measurement_table
    from tercet.deployment.selection import goal_named
    from tercet.deployment.selection import select as choose
    from tercet.deployment.trials import measure

    goal_named(goal)  # refused before minutes are spent on measuring
    request = GenerationRequest(prompt, max_tokens, timeout_seconds=timeout)
    with console.progress("Measuring") as show:
        found = measure(model, settings, only, request=request, runs=runs, tell=show)
    chosen = choose(found, goal)
    if json:
        measured = [one.to_dict() for one in found]
        console.write_json({**chosen.to_dict(), "measurements": measured})
        return
    told = console.told()
    told.print(measurement_table(found), width=None if told.is_terminal else console.PIPED_WIDTH)
    told.print(chosen.explanation(), markup=False)
    console.write_text(f"{chosen.chosen}\n")


@with_settings
def recommend(
    settings: DeploymentSettings,
    use_case: Annotated[
        str,
        typer.Option("--use-case", "-u", help="production, development, mobile, research, edge or cloud."),
    ],
    only: Only = None,
    prompt: Prompt = TEST_PROMPT,
    max_tokens: MaxTokens = CHOICE_TOKENS,
    runs: Runs = 3,
    timeout: Timeout = TEST_SECONDS,
    model: options.Model = None,
    json: options.Json = False,
) -> None:
    """Recommend a strategy for a use, and explain it from this machine's measurements."""
    from tercet.cli import console
    from tercet.cli.deploy.tables import measurement_table
    from tercet.deployment.recommendation import recommend as advise
    from tercet.deployment.recommendation import use_case_named
    from tercet.deployment.trials import measure

    use_case_named(use_case)  # refused before minutes are spent on measuring
    request = GenerationRequest(prompt, max_tokens, timeout_seconds=timeout)
    with console.progress("Measuring") as show:
        found = measure(model, settings, only, request=request, runs=runs, tell=show)
    advice = advise(found, use_case)
    if json:
        console.write_json({**advice.to_dict(), "measurements": [one.to_dict() for one in found]})
        return
    console.shown().print(measurement_table(found))
    summary = use_case_named(use_case).summary
    lines = [f"For {use_case} ({summary}) take {advice.chosen}."]
    lines += [f"{number}. {reason}" for number, reason in enumerate(advice.reasons, 1)]
    console.write_text("\n".join([*lines, f"Go on with: {advice.next_step}"]) + "\n")
