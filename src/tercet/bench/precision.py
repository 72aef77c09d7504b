"""What ternary weights buy: the same shape with floats, measured beside it on the same machine.

The floats run through our own float products, and where they are there through transformers and through a
llama.cpp given by path. Published figures stand below ours, marked as such: they are of other machines.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence as Names
from typing import Any

from tercet.bench.decode import WARM_UP_TOKENS, decode_row
from tercet.bench.peers import Peer, peer_file
from tercet.bench.report import Axes, Column, Report
from tercet.bench.running import ModelChoice, check_counts, open_model
from tercet.bench.session import Session
from tercet.bench.spread import Spread
from tercet.errors import MissingExtraError, ParameterError
from tercet.formats.floats import FLOAT_TYPES
from tercet.integrations.transformers_speed import transformers_seconds

__all__ = ["bench_precision"]

CONTEXT = 16
MEASURED = "measured here"
COLUMNS = (
    Column("engine", "engine"),
    Column("precision", "weights"),
    Column("source", "source"),
    Column("memory_bytes", "weights, MB", ".0f", 1e-6),
    Column("body_bytes", "without embeddings, MB", ".0f", 1e-6),
    Column("milliseconds", "ms a token", ".1f"),
    Column("speed_up", "ternary is so many times as fast"),
    Column("joules_per_token", "J a token", ".3f"),
)
PUBLISHED = (
    {
        "engine": "bitnet.cpp",
        "precision": "ternary, 2B-4T",
        "source": "published: arXiv 2504.12285, table 1 (energy estimated there)",
        "memory_bytes": None,
        "body_bytes": 400_000_000,
        "milliseconds": 29.0,
        "joules_per_token": 0.028,
    },
    {
        "engine": "bitnet.cpp",
        "precision": "ternary against fp16, 125M to 100B",
        "source": "published: arXiv 2410.16144 (1.37 to 5.07 on ARM, 2.37 to 6.17 on x86)",
        "memory_bytes": None,
        "body_bytes": None,
        "milliseconds": None,
        "speed_up": "1.37 to 6.17",
        "joules_per_token": None,
    },
)


def bench_precision(
    session: Session,
    choice: ModelChoice,
    dense: Names[str] = ("bf16",),
    peers: Names[Peer] = (),
    with_transformers: bool = True,
    tokens: int = 16,
) -> Report:
    """Time decoding with ternary weights and with floats.

    Raises:
        ParameterError: the shape or a type is unknown, or the floats do not fit this machine.
        TercetError: a peer fails.
    """
    check_counts(tokens=tokens)
    for kind in dense:
        if kind not in FLOAT_TYPES:
            raise ParameterError(f"a dense type is one of {', '.join(FLOAT_TYPES)}, not {kind!r}")
    rows = [_ours(session, choice, tokens)]
    notes: list[str] = []
    for kind in dense:
        rows.append(_ours(session, dataclasses.replace(choice, packing=kind, head=kind), tokens))
    for peer in peers:
        rows.append(_theirs(session, choice, dataclasses.replace(peer, type="F16", head="F16"), tokens))
    if with_transformers:
        try:
            rows.append(_transformers(session, choice, tokens))
        except MissingExtraError as missing:
            notes.append(f"transformers was not measured: {missing}")
    for row in rows[1:]:
        row["speed_up"] = f"{row['milliseconds'].median / rows[0]['milliseconds'].median:.2f}"
    rows[0]["speed_up"] = "1"
    return Report.of(
        session,
        "compare-precision",
        f"Ternary weights and floats, {choice.shape} with random weights, {choice.num_threads} threads",
        COLUMNS,
        [*rows, *PUBLISHED],
        Axes("precision", "milliseconds", "weights", "milliseconds a token", ("engine", "source")),
        notes,
    )


def _ours(session: Session, choice: ModelChoice, tokens: int) -> dict[str, Any]:
    with open_model(session, choice, CONTEXT + WARM_UP_TOKENS + tokens) as model:
        row = decode_row(session, model, CONTEXT, tokens)
        return {
            **row,
            "engine": "tercet",
            "precision": model.packing,
            "source": MEASURED,
            "memory_bytes": model.model_bytes,
            "body_bytes": model.body_bytes,
            "milliseconds": _milliseconds(row["runs"]),
        }


def _theirs(session: Session, choice: ModelChoice, peer: Peer, tokens: int) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        path, size = stack.enter_context(peer_file(session, choice, peer))
        rates = []
        for run in range(session.runs + 1):
            session.progress(f"{peer.name}: run {run} of {session.runs}")
            rates.append(peer.run(path, choice.num_threads, 0, tokens))
    return {
        "engine": peer.name,
        "precision": peer.type,
        "source": MEASURED,
        "memory_bytes": size,
        "body_bytes": 2 * choice.config.num_ternary_weights,
        "milliseconds": _milliseconds(Spread.of(rates[1:])),
        "joules_per_token": None,
    }


def _transformers(session: Session, choice: ModelChoice, tokens: int) -> dict[str, Any]:
    session.progress("transformers, bf16")
    config = choice.config
    seconds = transformers_seconds(config, choice.num_threads, CONTEXT, tokens, session.runs)
    return {
        "engine": "transformers",
        "precision": "bf16",
        "source": MEASURED,
        "memory_bytes": 2 * config.num_parameters,
        "body_bytes": 2 * config.num_ternary_weights,
        "milliseconds": Spread.of([1e3 * one / tokens for one in seconds]),
        "joules_per_token": None,
    }


def _milliseconds(rates: Spread) -> Spread:
    return Spread.of([1e3 / rate for rate in rates.values])
