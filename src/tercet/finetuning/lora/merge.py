"""A model and an adapter become one file: what `tercet lora merge` does.

With examples to measure on, the same loss is taken three times: of the model alone, of the model with the
adapter beside it, and of the merged file, all by the engine that serves them. How much of what the adapter
had learned is left says the report, which is written beside the file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tercet.data import Example, prepare
from tercet.data.preparation import Source
from tercet.errors import FormatError, ParameterError, StorageError
from tercet.finetuning.evaluation import evaluation_loss, opened
from tercet.finetuning.export import export
from tercet.finetuning.lora.merge_report import MergeReport, report_paths, write_report
from tercet.finetuning.lora.merging import MatrixChange, merge_float_adapter, merge_ternary_adapter
from tercet.finetuning.lora.ternary_files import FILE, read_ternary_adapter
from tercet.finetuning.trainable import Trainable, load_trainable
from tercet.formats.peft import ADAPTER_CONFIG
from tercet.models.adapters import load_adapter

__all__ = ["merge_adapter"]


def merge_adapter(
    model: str | os.PathLike[str] | None,
    adapter: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    data: Source | None = None,
    max_samples: int = 200,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda what: None,
) -> MergeReport:
    """Merge an adapter into a model and write the result, with a report of what became of it.

    Args:
        model: a name or a path; best one with masters. None is the model that ships with Tercet.
        adapter: the folder of an adapter, of PEFT or of `--method ternary-lora`.
        output: the `.tercet` file to write; the report gets its name and .merge.json, .merge.md.
        data: examples to measure the loss on, as `tercet.data.prepare` takes them; None for no losses.
        max_samples: how many of them.
        overwrite: whether existing files may be replaced.
        progress: called with a word on what is being done.

    Raises:
        FormatError: the adapter is damaged, or was trained beside other codes.
        UnsupportedModelError: the adapter is of a kind that is not read, or for a model of another shape.
        ParameterError, StorageError: the output is no `.tercet` file, exists, or cannot be written.
    """
    started = time.monotonic()
    source, target = Path(adapter), Path(output)
    _check_target(target, overwrite)
    is_ternary = _is_ternary_adapter(source)
    progress("loading the model")
    trainable = load_trainable(model)
    examples = _examples(trainable, data, max_samples)
    progress("merging")
    before = _loss(trainable.path, examples, progress, "measuring the model")
    beside = (
        None if is_ternary else _loss(trainable.path, examples, progress, "measuring the adapter", source)
    )
    changes = _merge(trainable, source, is_ternary)
    export(trainable, target, metadata={"merged_adapter": source.absolute().name}, overwrite=overwrite)
    after = _loss(target, examples, progress, "measuring the result")
    report = MergeReport(
        model=trainable.path.name,
        adapter=str(source),
        result=target.name,
        kind="ternary" if is_ternary else "float",
        has_master=trainable.has_master,
        matrices=tuple(changes),
        examples=len(examples),
        tokens=sum(example.num_learned for example in examples),
        loss_before=before,
        loss_adapter=after if is_ternary else beside,
        loss_after=after,
        seconds=time.monotonic() - started,
    )
    write_report(target, report)
    return report


def _check_target(target: Path, overwrite: bool) -> None:
    if target.suffix != ".tercet":
        raise ParameterError(f"a merged model is written as a .tercet file, not as {target.name!r}")
    for path in (target, *report_paths(target)):
        if path.exists() and not overwrite:
            raise StorageError(f"{path} exists already. Choose another name, or ask to overwrite it.")


def _is_ternary_adapter(path: Path) -> bool:
    if path.name == FILE or (path / FILE).is_file():
        return True
    if path.is_dir() and not (path / ADAPTER_CONFIG).exists():
        raise FormatError(f"{path} holds no adapter: there is neither {ADAPTER_CONFIG} nor {FILE} in it")
    return False


def _merge(trainable: Trainable, adapter: Path, is_ternary: bool) -> list[MatrixChange]:
    if not is_ternary:
        return merge_float_adapter(trainable, load_adapter(adapter, trainable.config))
    shapes = {name: trainable.source.tensors[name].shape for name in trainable.ternary}
    return merge_ternary_adapter(trainable, read_ternary_adapter(adapter, shapes))


def _examples(trainable: Trainable, data: Source | None, max_samples: int) -> Sequence[Example]:
    if data is None:
        return ()
    prepared = prepare(
        data,
        trainable.tokenizer,
        trainable.template,
        max_length=trainable.config.max_context,
        max_samples=max_samples,
        validation_share=0.0,
        packing=False,
        begin=trainable.config.first_token_id,
        ends=trainable.config.eos_token_ids,
    )
    return prepared.train


def _loss(
    model: Path,
    examples: Sequence[Example],
    progress: Callable[[str], None],
    doing: str,
    adapter: Path | None = None,
) -> float | None:
    if not examples:
        return None
    progress(doing)
    with opened(model, adapter) as llm:
        return evaluation_loss(llm, examples)
