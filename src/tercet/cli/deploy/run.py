"""`tercet deploy run PROMPT`: one prompt through one strategy, or the first of several that can."""

from __future__ import annotations

from typing import Annotated

import typer

from tercet.cli import options
from tercet.cli.deploy.settings import with_settings
from tercet.deployment.strategy import GENERATION_SECONDS, DeploymentSettings, GenerationRequest


@with_settings
def run(
    prompt: Annotated[str, typer.Argument(help="The text to continue.")],
    settings: DeploymentSettings,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            "--strategy",
            "-s",
            metavar="STRATEGY",
            help="Who answers, see `tercet deploy list`; given several times, the next answers where one "
            "cannot (default: native).",
            show_default=False,
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", help="Most tokens to generate.")] = 64,
    temperature: Annotated[
        float, typer.Option("--temperature", "-t", help="0 takes the likeliest token; at most 2.")
    ] = 0.0,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Makes sampling repeatable.", show_default=False)
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Send the prompt as a chat message, by the model's template.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds that the answer may take.")
    ] = GENERATION_SECONDS,
    model: options.Model = None,
    json: options.Json = False,
) -> None:
    """Continue a prompt with a strategy, setting it up first if need be.

    The text alone goes to standard output, as it comes; a line of measured figures goes to standard error,
    and before it why others did not answer.
    """
    from tercet.cli import console
    from tercet.cli.deploy.tables import metrics_line
    from tercet.deployment import create
    from tercet.deployment.fallback import FallbackChain

    request = GenerationRequest(prompt, max_tokens, temperature, seed, chat, timeout)
    strategies = {name: create(name, model, settings) for name in strategy or ["native"]}
    chosen = FallbackChain(list(strategies.values()))
    try:
        with console.progress("Deploying"):
            chosen.deploy()
        if json:
            from dataclasses import asdict

            answer = chosen.generate(request)
            others = [asdict(one) for one in chosen.attempts if not one.success]
            console.write_json(
                {**asdict(answer), "tokens_per_second": answer.tokens_per_second, "others": others}
            )
            return
        for piece in chosen.stream(request):
            console.write_text(piece)
        console.write_text("\n")
        told = console.told()
        for one in chosen.attempts:
            if not one.success:
                told.print(f"{one.strategy} did not answer: {one.reason}", style="dim", markup=False)
        who = chosen.attempts[-1].strategy
        told.print(metrics_line(who, strategies[who].metrics()), style="dim", markup=False)
    finally:
        chosen.close()
