"""`tercet deploy run PROMPT`: one prompt through one strategy."""

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
        str, typer.Option("--strategy", "-s", help="Who answers, see `tercet deploy list`.")
    ] = "native",
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

    The text alone goes to standard output, as it comes; a line of measured figures goes to standard error.
    """
    from tercet.cli import console
    from tercet.cli.deploy.tables import metrics_line
    from tercet.deployment import create

    request = GenerationRequest(prompt, max_tokens, temperature, seed, chat, timeout)
    chosen = create(strategy, model, settings)
    try:
        with console.progress(f"Deploying {strategy}"):
            chosen.deploy()
        if json:
            from dataclasses import asdict

            answer = chosen.generate(request)
            console.write_json({**asdict(answer), "tokens_per_second": answer.tokens_per_second})
            return
        for piece in chosen.stream(request):
            console.write_text(piece)
        console.write_text("\n")
        console.told().print(metrics_line(chosen.name, chosen.metrics()), style="dim", markup=False)
    finally:
        chosen.close()
