"""Other programs, measured in alternation with ours: `--compare NAME=PATH` with the path of a llama-bench.

A file with random weights of the same shape is written for each, in the type that it is fastest with. Then
every round runs ours and each peer once, so that a machine whose speed drifts is as fast for all. llama-bench
begins with an empty context and warms up by itself, and so do we here. The ratio is taken within each round;
the median of the ratios is the figure.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Numbers
from pathlib import Path
from typing import Any

from tercet.bench.model_store import check_room
from tercet.bench.peer_model import HEAD_TYPES, PEER_TYPES, peer_plan, write_peer_model
from tercet.bench.report import Axes, Column, Report
from tercet.bench.running import ModelChoice, OpenModel, Sequence, check_context, check_counts, open_model
from tercet.bench.session import Session
from tercet.bench.spread import Spread
from tercet.environment import cache_directory
from tercet.errors import ParameterError, TercetError
from tercet.models.config import ModelConfig

__all__ = ["Peer", "compare_decode", "compare_prefill", "peer_file"]

MOST_SECONDS = 1800
_DEFAULTS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "ik_llama.cpp": ("IQ2_BN", "Q6_K", ("-rtr", "1", "-thp", "1")),  # repacked, on huge pages: its best
    "llama.cpp": ("TQ2_0", "Q6_K", ()),
    "bitnet.cpp": ("I2_S", "Q6_K", ()),
}

PEER_COLUMNS = (
    Column("engine", "engine"),
    Column("format", "format"),
    Column("prompt_tokens", "prompt", "d"),
    Column("runs", "tokens/s, median [spread]", ".2f"),
    Column("ratio", "tercet is so many times as fast", ".2f"),
    Column("model_bytes", "weights, MB", ".0f", 1e-6),
    Column("bandwidth_share", "share of the bandwidth", ".0%"),
    Column("threads", "threads", "d"),
)


@dataclasses.dataclass(frozen=True)
class Peer:
    """A llama-bench, and how the model is stored for it."""

    name: str
    path: Path
    type: str
    head: str

    @classmethod
    def parse(cls, text: str) -> Peer:
        """Read `NAME=PATH` or `NAME:TYPE:HEAD=PATH`.

        Raises:
            ParameterError: it is something else, or there is no program at the path.
        """
        front, separator, path = text.partition("=")
        name, *types = front.split(":")
        if not separator or name not in _DEFAULTS or len(types) > 2:
            raise ParameterError(
                f"--compare takes NAME=PATH or NAME:TYPE:HEAD=PATH, where NAME is {', '.join(_DEFAULTS)}, "
                f"TYPE {', '.join(PEER_TYPES)} and HEAD {', '.join(HEAD_TYPES)}; not {text!r}"
            )
        program = Path(path).expanduser()
        if not (program.is_file() and os.access(program, os.X_OK)):
            raise ParameterError(f"--compare {front}: no program is at {path}")
        given = [*types, *_DEFAULTS[name][len(types) : 2]]
        return cls(name, program, str(given[0]), str(given[1]))

    def config(self, config: ModelConfig) -> ModelConfig:
        """The shape as the peer can run it: llama.cpp knows BitNet with SiLU only, at the same cost."""
        if self.name == "llama.cpp" and config.attention_sub_norm and config.activation != "silu":
            return dataclasses.replace(config, activation="silu")
        return config

    def run(self, model: Path, threads: int, prompt: int, tokens: int) -> float:
        """Measure once: tokens a second of a prompt, or of generation where `prompt` is 0.

        Raises:
            TercetError: the program fails, or says something else than expected.
        """
        sizes = ["-p", str(prompt), "-n", str(tokens), "-t", str(threads), "-r", "1", "-o", "json"]
        command = [str(self.path), "-m", str(model), *sizes, *_DEFAULTS[self.name][2]]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TercetError(f"{self.name} cannot be measured: {error}") from error
        try:
            results = json.loads(done.stdout[done.stdout.index("[") :])
            (result,) = [one for one in results if one["n_prompt"] == prompt and one["n_gen"] == tokens]
            return float(result["avg_ts"])
        except (ValueError, KeyError, TypeError) as error:
            reason = (done.stderr.strip().splitlines() or ["it printed no result"])[-1]
            raise TercetError(f"{self.name} ended with status {done.returncode}: {reason}") from error


@contextlib.contextmanager
def peer_file(session: Session, choice: ModelChoice, peer: Peer) -> Iterator[tuple[Path, int]]:
    """Give the path of a peer's model and the bytes of its weights; deleted at the end unless kept."""
    plan = peer_plan(peer.config(choice.config), peer.type, peer.head)
    folder = cache_directory() / "bench"
    folder.mkdir(exist_ok=True)
    architecture = plan.metadata["general.architecture"].value
    path = folder / f"{choice.shape}-{architecture}-{peer.type}-{peer.head}.gguf"
    exists = path.is_file() and path.stat().st_size == plan.file_bytes
    check_room(f"the shape {choice.shape} for {peer.name}", plan.file_bytes, 0, folder, exists)
    if not exists:
        session.progress(f"writing random weights for {peer.name}")
        write_peer_model(path, plan)
    try:
        yield path, sum(tensor.num_bytes for tensor in plan.tensors)
    finally:
        if not exists and not choice.keep:
            path.unlink(missing_ok=True)


def compare_decode(session: Session, choice: ModelChoice, peers: Numbers[Peer], tokens: int = 64) -> Report:
    """Time the generation of `tokens` tokens from an empty context, ours and the peers' in turn.

    Raises:
        ParameterError: the shape is unknown, or a peer has no such model.
        TercetError: a peer fails.
    """
    check_counts(tokens=tokens)
    check_context(choice.config, choice.shape, tokens + 1, "a first token and those after it")
    return _compare(session, choice, peers, [(0, tokens)], "decode", "Decoding")


def compare_prefill(
    session: Session, choice: ModelChoice, peers: Numbers[Peer], prompts: Numbers[int] = (128, 512)
) -> Report:
    """Time the reading of prompts, ours and the peers' in turn. Raises as `compare_decode`."""
    check_counts(prompt=min(prompts))
    check_context(choice.config, choice.shape, max(prompts), "the tokens of the longest prompt")
    return _compare(
        session, choice, peers, [(prompt, 0) for prompt in prompts], "prefill", "Reading a prompt"
    )


def _compare(
    session: Session,
    choice: ModelChoice,
    peers: Numbers[Peer],
    cases: Numbers[tuple[int, int]],
    benchmark: str,
    title: str,
) -> Report:
    longest = max(prompt + tokens for prompt, tokens in cases) + 1
    rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(peer_file(session, choice, peer)) for peer in peers]
        model = stack.enter_context(open_model(session, choice, longest))
        cache = model.cache(longest)
        sequence = Sequence(model.decoder, cache, model.config.vocab_size)
        for prompt, tokens in cases:
            rates = _rounds(session, model, sequence, list(zip(peers, files, strict=True)), prompt, tokens)
            read = model.bytes_per_token(cache, tokens / 2)
            rows += _rows(session, model, read, peers, [size for _, size in files], rates, prompt)
    names = ", ".join(peer.name for peer in peers)
    return Report.of(
        session,
        benchmark,
        f"{title}, {choice.shape} with random weights, in alternation with {names}",
        PEER_COLUMNS,
        rows,
        Axes("engine", "runs", "engine", "tokens a second"),
        ["Every round measured each once; the ratio is that within the rounds. Contexts begin empty."],
    )


def _rounds(
    session: Session,
    model: OpenModel,
    sequence: Sequence,
    peers: Numbers[tuple[Peer, tuple[Path, int]]],
    prompt: int,
    tokens: int,
) -> list[list[float]]:
    """Tokens a second, ours first, of every round after one that does not count."""

    def rewind() -> None:
        sequence.rewind(0)
        sequence.prefill(1) if tokens else None

    def step() -> None:
        sequence.decode(tokens) if tokens else sequence.prefill(prompt, chunk=prompt)

    once = dataclasses.replace(session, runs=1)
    rounds = []
    for number in range(session.runs + 1):
        ours = (
            once.time(step, model.threads, model.isa, rewind, f"round {number}").rate(prompt + tokens).median
        )
        theirs = []
        for peer, (path, _) in peers:
            session.progress(f"round {number} of {session.runs}: {peer.name}")
            theirs.append(peer.run(path, model.threads, prompt, tokens))
        rounds.append([ours, *theirs])
    return rounds[1:]


def _rows(
    session: Session,
    model: OpenModel,
    bytes_per_token: int,
    peers: Numbers[Peer],
    sizes: Numbers[int],
    rounds: Numbers[Numbers[float]],
    prompt: int,
) -> list[dict[str, Any]]:
    bandwidth = session.roofline(model.threads, model.isa).bandwidth
    engines = [
        ("tercet", f"{model.packing}, {model.choice.head} head", model.model_bytes, bytes_per_token),
        *(
            (peer.name, f"{peer.type}, {peer.head} head", size, size)
            for peer, size in zip(peers, sizes, strict=True)
        ),
    ]
    rows = []
    for index, (engine, form, num_bytes, token_bytes) in enumerate(engines):
        rates = Spread.of([one[index] for one in rounds])
        row: dict[str, Any] = {
            "engine": engine,
            "format": form,
            "tokens_per_second": rates.median,
            "runs": rates,
            "ratio": Spread.of([one[0] / one[index] for one in rounds]),
            "model_bytes": num_bytes,
            "shape": model.choice.shape,
            "threads": model.threads,
        }
        row |= (
            {"prompt_tokens": prompt}
            if prompt
            else {"bandwidth_share": rates.median * token_bytes / bandwidth}
        )
        rows.append(row)
    return rows
