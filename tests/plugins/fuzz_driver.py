"""A process that fuzzes: bytes that reach new code are kept and changed further (Atheris, libFuzzer).

    python tests/plugins/fuzz_driver.py TARGET[,TARGET...] FINDINGS [options of libFuzzer] [inputs]
    python tests/plugins/fuzz_driver.py gguf /tmp/findings -max_total_time=600
    python tests/plugins/fuzz_driver.py gguf /tmp/findings tests/fuzz/found/crash-...        one input again

With several targets, the first byte of an input says which of them it is for. An exception that is no
refusal, a crash, a hang and memory without bound end the process, and the input that did it is in FINDINGS.
`run` starts one and tells how it went.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import inspect
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuzz_targets import Target

__all__ = ["Fuzzed", "run"]

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
"""A folder for each target: inputs that reach what the sound examples do not."""
OPTIONS = (
    *("-timeout=30", "-rss_limit_mb=3000", "-malloc_limit_mb=1000", "-max_len=65536"),
    *("-print_final_stats=1", "-use_value_profile=1"),
)
GRAMMAR_SHARE = 2
"""One of so many changes is the target's own damage."""


@dataclasses.dataclass(frozen=True)
class Fuzzed:
    """How a run went."""

    executions: int
    coverage: int
    """Edges of our code that were reached."""
    corpus: int
    """Inputs that reach something that the others do not."""
    failure: str
    """What ended it before its time; empty if nothing did."""


def run(targets: Sequence[str], options: Sequence[str], timeout: float, found: Path) -> Fuzzed:
    """Fuzz in a process of its own.

    Args:
        targets: names of `TARGETS`.
        options: of libFuzzer, among them how long.
        timeout: seconds after which the process is ended.
        found: folder for inputs that reach something new, and for the one that fails.
    """
    found.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "TERCET_CACHE": str(found), "HF_HOME": str(found), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, ",".join(targets), str(found), *options]
    done = subprocess.run(
        command, capture_output=True, env=environment, timeout=timeout, errors="replace", check=False
    )
    told = done.stdout + done.stderr
    last = re.findall(r"cov: (\d+) ft: \d+ corp: (\d+)", told)
    executions = re.findall(r"stat::number_of_executed_units:\s*(\d+)", told)
    coverage, corpus = map(int, last[-1]) if last else (0, 0)
    failure = "" if done.returncode == 0 else f"exit status {done.returncode}\n{told[-4000:]}"
    return Fuzzed(int(executions[-1]) if executions else 0, coverage, corpus, failure)


def main(names: str, findings: str, *options: str) -> None:
    """Fuzz until the options say that it is enough; libFuzzer ends the process."""
    sys.path.insert(0, str(Path(__file__).parent))
    import atheris
    import numpy as np

    from fuzz_targets import BROKEN, TARGETS

    for thing in gc.get_objects():  # an editable installation has a loader of its own, which hides imports
        if inspect.isfunction(thing) and str(thing.__module__).startswith("tercet."):
            atheris.instrument_func(thing)

    chosen = [BROKEN if name == "broken" else TARGETS[name] for name in names.split(",")]
    several = len(chosen) > 1
    place = Path(tempfile.mkdtemp())
    runs = [guarded(target, _made(place / f"run-{n}")) for n, target in enumerate(chosen)]

    def split(data: bytes) -> tuple[int, bytes]:
        return (data[0] % len(chosen), data[1:]) if several and data else (0, data)

    def test_one_input(data: bytes) -> None:
        index, rest = split(data)
        runs[index](rest)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        index, rest = split(data)
        damage = chosen[index].damage
        front = data[:1] if several else b""
        if damage is not None and seed % GRAMMAR_SHARE == 0:
            try:
                return (front + damage(rest, np.random.default_rng(seed)))[:max_size]
            except Exception:  # only what is sound, or nearly, has a grammar
                pass
        return front + atheris.Mutate(rest, max(1, max_size - len(front)))

    seeds = _made(place / "seeds")
    for n, (name, target) in enumerate(zip(names.split(","), chosen, strict=True)):
        committed = [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
        for number, data in enumerate([*target.seeds(_made(place / f"made-{n}")), *committed]):
            (seeds / f"{n}-{number}").write_bytes((bytes([n]) if several else b"") + data)
    inputs = [option for option in options if not option.startswith("-")]
    folders = inputs or [str(_made(Path(findings) / "corpus")), str(seeds)]
    arguments = [f"-artifact_prefix={findings}/", *OPTIONS, *(o for o in options if o.startswith("-"))]
    atheris.Setup([sys.argv[0], *arguments, *folders], test_one_input, custom_mutator=mutate)
    atheris.Fuzz()


def guarded(target: Target, folder: Path) -> Callable[[bytes], None]:
    """The function of a target; that it refuses is as good as an answer."""
    run = target.open(folder)

    def of_bytes(data: bytes) -> None:
        with contextlib.suppress(*target.refusals):
            run(data)

    return of_bytes


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    main(*sys.argv[1:])
