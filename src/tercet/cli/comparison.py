"""`tercet eval --compare A B`: two reports, or two models on the same text and tasks; and the difference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tercet.cli import console
from tercet.errors import ParameterError

if TYPE_CHECKING:
    from tercet.evaluation.agreement import Agreement
    from tercet.evaluation.comparison import Difference


def compare_two(
    names: tuple[str, str],
    text: Path | None,
    tasks: str | None,
    data: Path | None,
    limit: int | None,
    threads: int | None,
    json: bool,
) -> None:
    """Compare two reports, or two models, and print what came out.

    Raises:
        ParameterError: the options do not go together, or the two cannot be compared.
    """
    are_reports = [name.endswith(".json") for name in names]
    if any(are_reports):
        if not all(are_reports) or text is not None or tasks is not None:
            raise ParameterError(
                "--compare takes two reports (.json) and nothing else, or two models with --text or --tasks"
            )
        from tercet.evaluation.comparison import compare_reports
        from tercet.evaluation.results import read_report

        a, b = (read_report(Path(name)) for name in names)
        _print((a.model, b.model), compare_reports(a, b), None, json)
        return
    if text is None and tasks is None:
        raise ParameterError("two models are compared on --text FILE, or on --tasks NAMES --data FOLDER")
    if tasks is not None and data is None:
        raise ParameterError("--tasks needs --data, the folder with their data")
    _compare_models(names, text, tasks, data, limit, threads, json)


def _compare_models(
    names: tuple[str, str],
    text: Path | None,
    tasks: str | None,
    data: Path | None,
    limit: int | None,
    threads: int | None,
    json: bool,
) -> None:
    from tercet.evaluation.agreement import measure_agreement
    from tercet.evaluation.comparison import compare_reports
    from tercet.evaluation.documents import read_documents
    from tercet.evaluation.running import TaskSettings, run_tasks
    from tercet.evaluation.tasks import find_tasks
    from tercet.llm import LLM

    chosen = find_tasks(tasks) if tasks is not None else []
    with console.progress("Loading the models"):
        a, b = (LLM(name, threads=threads) for name in names)
    agreement, differences = None, []
    if text is not None:
        with console.progress("Reading") as show:
            agreement = measure_agreement(
                a, b, read_documents(text), None, lambda tokens, kl: show(f"{tokens} tokens, KL {kl:.4f}")
            )
    if chosen and data is not None:
        reports = []
        for llm in (a, b):
            with console.progress(f"Asking {llm.name}") as show:
                reports.append(
                    run_tasks(
                        llm,
                        chosen,
                        TaskSettings(data, limit),
                        lambda task, count, _: show(f"{task}: {count} documents"),
                    )
                )
        differences = compare_reports(*reports)
    _print((a.name, b.name), differences, agreement, json)


def _print(
    names: tuple[str, str], differences: Sequence[Difference], agreement: Agreement | None, json: bool
) -> None:
    if json:
        found: dict[str, Any] = {"a": names[0], "b": names[1]}
        found["differences"] = [one.to_dict() for one in differences]
        found["agreement"] = None if agreement is None else agreement.to_dict()
        console.write_json(found)
        return
    lines = [f"A {names[0]}", f"B {names[1]}", ""]
    if agreement is not None:
        lines += [
            f"nats per token   A {agreement.nats_a:.4f}   B {agreement.nats_b:.4f}   B - A "
            f"{agreement.nats_difference:+.4f}  [{agreement.nats_low:+.4f}, {agreement.nats_high:+.4f}]",
            f"KL(A || B)       {agreement.kl:.5f} nats",
            f"same first token {100 * agreement.same_top:.2f} % of {agreement.tokens}",
            "",
        ]
    for one in differences:
        scale, unit = (1.0, "") if one.figure == "perplexity" else (100.0, " %")
        lines.append(
            f"{one.task:<18}{one.figure:<26}A {scale * one.a:8.2f}{unit}  B {scale * one.b:8.2f}{unit}  "
            f"B - A {scale * one.difference:+8.2f}  [{scale * one.low:+.2f}, {scale * one.high:+.2f}]"
            f"{'' if one.is_clear else '  not clear'}"
        )
    lines.append("Intervals hold 95 % of paired bootstrap samples.")
    console.write_text("\n".join(lines) + "\n")
