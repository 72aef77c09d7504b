"""`tercet chat`: a conversation in the terminal, or over a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from tercet.cli import options

if TYPE_CHECKING:
    from tercet.cli.conversation import Conversation
    from tercet.engine.result import GenerationResult
    from tercet.llm import LLM

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def chat(
    system: Annotated[
        str | None, typer.Option("--system", help="How the assistant should behave.", show_default=False)
    ] = None,
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
    device: options.Device = None,
) -> None:
    """Talk with the model.

    Ctrl-C stops an answer, Ctrl-D leaves, /help lists the commands. Where standard input is a pipe, each
    line is a message and the answers go to standard output.
    """
    from tercet.cli import console
    from tercet.cli.conversation import Conversation, Leave, execute
    from tercet.errors import TercetError
    from tercet.llm import LLM
    from tercet.sampling.params import SamplingParams

    sampling = options.given(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=stop,
    )
    SamplingParams(**sampling)  # a wrong value is told before the model is loaded
    conversation = Conversation(system=system, sampling=sampling)
    with console.progress("Loading the model"):
        llm = LLM(
            model,
            threads=threads,
            isa=isa,
            level=level,
            scenario=scenario,
            speculation=speculation,
            draft=draft,
            device=device or "cpu",
        )
        llm.chat_tokens([{"role": "user", "content": ""}])  # a model without a chat template is told here
    interactive = sys.stdin.isatty()
    results = []
    for line in _typed_lines(llm, conversation) if interactive else _piped_lines():
        try:
            if line.startswith("/"):
                console.told().print(execute(line, conversation), style="cyan", markup=False)
            elif line.strip():
                results.append(_answer(llm, conversation, line.strip()))
        except Leave:
            break
        except TercetError as error:
            if not interactive:
                raise  # a script wants to fail, a person wants to go on
            console.told().print(f"error: {error}", style="red", markup=False)
    if results:
        console.told().print(_session_line(results, llm), style="dim")


def _answer(llm: LLM, conversation: Conversation, question: str) -> GenerationResult:
    """Stream one answer to stdout, and its figures to stderr."""
    from tercet.cli import console
    from tercet.cli.figures import figures_line
    from tercet.cli.interrupts import stopped_by_interrupt

    conversation.say("user", question)
    try:
        _make_room(llm, conversation, console.told().print)
        stream = llm.stream_chat(conversation.messages, **conversation.sampling)
    except BaseException:
        conversation.turns.pop()  # what cannot be answered was not said
        raise
    with stopped_by_interrupt(stream) as interrupt:
        for piece in stream:
            console.write_text(piece)
    stream.close()
    console.write_text("\n")
    result = stream.result
    conversation.say("assistant", result.text)
    stopped = "stopped · " if interrupt.pressed else ""
    console.told().print(stopped + figures_line(result, llm.memory_usage()), style="dim")
    return result


def _make_room(llm: LLM, conversation: Conversation, tell: Callable[..., None]) -> None:
    """Forget the oldest turns while less than a quarter of the context is left for the answer."""
    forgotten = 0
    while (
        len(llm.chat_tokens(conversation.messages)) > llm.max_context * 3 // 4
        and conversation.forget_oldest()
    ):
        forgotten += 1
    if forgotten:
        exchanges = "exchange" if forgotten == 1 else f"{forgotten} exchanges"
        tell(f"The context is full: the oldest {exchanges} forgotten.", style="yellow")


def _session_line(results: list[GenerationResult], llm: LLM) -> str:
    """The figures of all answers together."""
    from tercet.cli.console import mebibytes

    prompt = sum(result.prompt_tokens for result in results)
    generated = sum(result.generated_tokens for result in results)
    reading = sum(result.time_to_first_token_seconds for result in results)
    writing = sum(result.generation_time_seconds for result in results) - reading
    after_first = sum(max(result.generated_tokens - 1, 0) for result in results)
    answers = "1 answer" if len(results) == 1 else f"{len(results)} answers"
    parts = [
        f"{answers}: prompt {prompt} tokens, {prompt / reading:.1f} tokens/s",
        f"generated {generated} tokens" + (f", {after_first / writing:.1f} tokens/s" if after_first else ""),
        f"first token {reading / len(results) * 1000:.0f} ms on average",
        f"peak memory {mebibytes(llm.memory_usage().peak_resident_bytes)}",
    ]
    return " · ".join(parts)


def _piped_lines() -> Iterator[str]:
    from tercet.cli.console import decoded

    for line in sys.stdin.buffer:
        yield decoded(line).rstrip("\r\n")


def _typed_lines(llm: LLM, conversation: Conversation) -> Iterator[str]:
    """Lines from a person, with editing, history, completion of commands and a status bar."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import FuzzyCompleter, WordCompleter
    from prompt_toolkit.filters import Condition
    from prompt_toolkit.history import FileHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    from tercet.cli import console
    from tercet.cli.conversation import COMMANDS
    from tercet.environment import cache_directory

    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    keys = KeyBindings()
    keys.add("escape", "enter")(new_line)

    def status() -> str:
        used = len(llm.chat_tokens(conversation.messages)) if conversation.turns else 0
        return f" {llm.name} · {used} of {llm.max_context} tokens · /help"

    def types_a_command() -> bool:
        return session.default_buffer.text.startswith("/")

    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(cache_directory() / "chat_history")),
        completer=FuzzyCompleter(WordCompleter([f"/{name}" for name in COMMANDS], sentence=True)),
        complete_while_typing=Condition(types_a_command),
        key_bindings=keys,
        bottom_toolbar=status,
    )
    console.told().print(f"{llm.name}: /help lists the commands, Ctrl-D leaves.", style="cyan", markup=False)
    while True:
        try:
            yield session.prompt("you> ", prompt_continuation="...> ")
        except KeyboardInterrupt:
            console.told().print("Ctrl-D or /exit leaves.", style="cyan")
        except EOFError:
            return
