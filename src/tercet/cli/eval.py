"""`tercet eval`: how good a model is."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tercet.cli import options

if TYPE_CHECKING:
    from tercet.evaluation.results import Report

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")


@app.callback(invoke_without_command=True)
def evaluate(
    context: typer.Context,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B",
            help="Show how B differs from A: two reports of `tercet eval tasks -o`, or two models, with "
            "--text or --tasks.",
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(help="With --compare: text to read with both models.", show_default=False),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="With --compare: tasks to run with both models.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="With --tasks: folder with the data.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="With --tasks: only the first documents of each.", show_default=False),
    ] = None,
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """Measure the quality of a model, or the difference of two."""
    if context.invoked_subcommand is not None:
        if compare is not None:
            raise typer.BadParameter("--compare stands alone, without another command")
        return
    if compare is None:
        raise typer.BadParameter("give --compare A B, or one of the commands; see --help")
    from tercet.cli.comparison import compare_two

    compare_two(compare, text, tasks, data, limit, threads, json)


@app.command()
def perplexity(
    file: Annotated[Path, typer.Argument(help="Text, or .jsonl with one document a line; also .xz and .gz.")],
    model: options.Model = None,
    field: Annotated[str, typer.Option(help="Where JSON lines have their text.")] = "text",
    window: Annotated[
        int | None, typer.Option(help="Tokens seen at once (default: the context).", show_default=False)
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="New tokens a window (default: half of it).", show_default=False)
    ] = None,
    max_documents: Annotated[
        int | None, typer.Option(help="Read only the first documents.", show_default=False)
    ] = None,
    threads: options.Threads = None,
    isa: options.Isa = None,
    json: options.Json = False,
) -> None:
    """Measure how surprised a model is by a text, per byte and per token; lower is better."""
    from tercet.cli import console
    from tercet.evaluation.documents import read_documents
    from tercet.evaluation.perplexity import measure_perplexity
    from tercet.llm import LLM

    documents = itertools.islice(read_documents(file, field), max_documents)
    with console.progress("Loading the model"):
        llm = LLM(model, threads=threads, isa=isa)
    with console.progress("Reading") as show:
        report = measure_perplexity(
            llm,
            documents,
            window,
            stride,
            lambda tokens, nats: show(f"{tokens} tokens, {nats / tokens:.4f} nats each"),
        )
    if json:
        console.write_json(report.to_dict())
        return
    rate = report.tokens / report.seconds
    console.write_text(
        f"nats per byte         {report.nats_per_byte:.4f} ({report.bits_per_byte:.4f} bits)\n"
        f"perplexity per token  {report.perplexity_per_token:.3f}\n"
        f"text                  {report.bytes} bytes, {report.tokens} tokens, {report.documents} documents\n"
        f"windows               {report.windows} of up to {report.window_tokens} tokens, "
        f"{report.stride_tokens} of them new\n"
    )
    console.told().print(f"{report.model} · {report.seconds:.1f} s · {rate:.0f} tokens/s", style="dim")


@app.command()
def tasks(
    names: Annotated[str, typer.Argument(help="Tasks, with commas between them; `all` for every one.")],
    data: Annotated[Path, typer.Option(help="Folder with the data, see the guide.")],
    model: options.Model = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the first documents of each task.", show_default=False)
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(help="Examples before each question (default: as published).", show_default=False),
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Ask through the model's chat template.")] = False,
    run_code: Annotated[
        bool, typer.Option("--run-code", help="Run programs that the model writes, in a sandbox.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write figures and documents as JSON.", show_default=False),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a table to post.")] = False,
    threads: options.Threads = None,
    isa: options.Isa = None,
    json: options.Json = False,
) -> None:
    """Ask a model the questions of public benchmarks, and count what it gets right."""
    from tercet.cli import console
    from tercet.evaluation.results import markdown as page
    from tercet.evaluation.results import write_report
    from tercet.evaluation.running import TaskSettings, run_tasks
    from tercet.evaluation.tasks import TASKS, find_tasks
    from tercet.llm import LLM

    chosen = find_tasks(names, allows_code=run_code)
    settings = TaskSettings(data, limit, shots, chat, run_code)
    with console.progress("Loading the model"):
        llm = LLM(model, threads=threads, isa=isa)
    with console.progress("Asking") as show:
        report = run_tasks(
            llm,
            chosen,
            settings,
            lambda task, count, figure: show(f"{task}: {count} documents, {100 * figure:.1f} %"),
        )
    if output is not None:
        write_report(report, output)
    if json:
        console.write_json(report.to_dict())
    elif markdown:
        console.write_text(page(report, {name: task.title for name, task in TASKS.items()}))
    else:
        console.write_text(_table(report))


@app.command(name="lm-eval")
def lm_eval(
    names: Annotated[str, typer.Argument(help="lm-eval's tasks, with commas between them.")],
    data: Annotated[Path, typer.Option(help="Folder with the data, see the guide.")],
    model: options.Model = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the first documents of each task.", show_default=False)
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(help="Examples before each question (default: the task's).", show_default=False),
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Ask through the model's chat template.")] = False,
    threads: options.Threads = None,
    isa: options.Isa = None,
    json: options.Json = False,
) -> None:
    """Let lm-eval, the public harness, ask its own questions, over data at hand and without a network."""
    from tercet.cli import console
    from tercet.evaluation.harness.running import run_harness
    from tercet.llm import LLM

    with console.progress("Loading the model"):
        llm = LLM(model, threads=threads, isa=isa)
    tasks = [name.strip() for name in names.split(",") if name.strip()]
    with console.progress("Asking"):
        found = run_harness(llm, tasks, data, limit=limit, shots=shots, chat=chat)
    figures = {
        task: {name: value for name, value in values.items() if "," in name and "_stderr" not in name}
        for task, values in found["results"].items()
    }
    if json:
        console.write_json({"model": llm.name, "results": figures})
        return
    for task, values in figures.items():
        for name, value in values.items():
            shown = f"{value:.4f}" if isinstance(value, float) else str(value)
            console.write_text(f"{task:<32}{name:<34}{shown:>12}\n")


def _table(report: Report) -> str:
    """Figures line by line, the published one beside the main figure."""
    from tercet.evaluation.results import main_first, notes, shown

    lines = []
    for task in report.tasks:
        for name, figure in main_first(task):
            published = report.published.get(task.task) if name == task.main else None
            beside = "" if published is None else f"   published {published:.2f}"
            lines.append(f"{task.task:<18}{name:<28}{shown(name, figure):>16}{beside}")
    return "\n".join([*lines, "", *notes(report.tasks)]) + "\n"
