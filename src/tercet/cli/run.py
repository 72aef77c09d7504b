"""`tercet run [MODEL] PROMPT`: one prompt, one answer, streamed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tercet.cli import console, options
from tercet.cli.console import decoded
from tercet.cli.positionals import model_and_prompt

if TYPE_CHECKING:
    from tercet.tokenization.chat_template import Message

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def run(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] PROMPT...",
            help="The text to continue, quoted or not; `-` reads it from standard input. A first word that "
            "names a model is the model.",
            show_default=False,
        ),
    ],
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    min_p: options.MinP = None,
    repetition_penalty: options.RepetitionPenalty = None,
    seed: options.Seed = None,
    stop: options.Stop = None,
    model: options.Model = None,
    threads: options.Threads = None,
    isa: options.Isa = None,
    level: options.Level = None,
    scenario: options.Scenario = None,
    speculation: options.Speculation = None,
    draft: options.Draft = None,
    lora: options.Lora = None,
    device: options.Device = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Send the prompt as a chat message, by the model's template.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Continue a prompt.

    The text alone goes to standard output, as it is generated; a line of measured figures goes to standard
    error.
    """
    from tercet.sampling.params import SamplingParams

    model, prompt = model_and_prompt(words, model)
    adapters = options.adapters(lora)
    text = _read_standard_input() if prompt == "-" else prompt
    params = SamplingParams(
        **options.given(
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
            stop=stop,
        )
    )
    # After the parameters: what loads NumPy and the kernels takes its time, and a wrong value needs neither.
    from tercet.cli.figures import figures_data, figures_line
    from tercet.cli.interrupts import stopped_by_interrupt
    from tercet.llm import LLM

    with console.progress("Loading the model"):
        llm = LLM(
            model,
            threads=threads,
            isa=isa,
            level=level,
            scenario=scenario,
            speculation=speculation,
            draft=draft,
            adapters=adapters,
            device=device or "cpu",
        )
    messages: list[Message] = [{"role": "user", "content": text}]
    adapter = dict.fromkeys(adapters, 1.0)
    stream = (
        llm.stream_chat(messages, params, adapter=adapter)
        if chat
        else llm.stream(text, params, adapter=adapter)
    )
    if not json and not chat and console.told().is_terminal:
        # The eye reads prompt and continuation as one text; a pipe gets the continuation alone.
        console.told().print(text, style="dim", end="", markup=False, highlight=False, soft_wrap=True)
    with stopped_by_interrupt(stream) as interrupt:
        for piece in stream:
            if not json:
                console.write_text(piece)
    stream.close()
    # After Ctrl-C too: the line with the text ends, and what was measured so far is told.
    if json:
        console.write_json(figures_data(stream.result, llm.memory_usage()))
    else:
        console.write_text("\n")
        console.told().print(figures_line(stream.result, llm.memory_usage()), style="dim")
    if interrupt.pressed:
        raise KeyboardInterrupt


def _read_standard_input() -> str:
    text = decoded(sys.stdin.buffer.read())
    return text.removesuffix("\n").removesuffix("\r")  # the end of the last line, which `echo` adds
