"""`tercet bench decode`, `prefill`, `load`, `context` and `kernels`."""

from __future__ import annotations

from typing import Annotated

import typer

from tercet.cli import options
from tercet.cli.bench import settings

Compare = Annotated[
    list[str] | None,
    typer.Option(
        "--compare",
        help="Run this llama-bench in alternation: NAME=PATH, where NAME is ik_llama.cpp, llama.cpp or "
        "bitnet.cpp, or NAME:TYPE:HEAD=PATH with types of its file. May be given several times.",
        show_default=False,
    ),
]


def decode(
    model: settings.Model = None,
    shape: settings.Shape = "2b4t",
    threads: options.Threads = None,
    isa: options.Isa = None,
    packing: settings.Packing = None,
    head: settings.Head = "f16",
    head_mode: settings.HeadMode = "full",
    weights_memory: settings.WeightsMemory = "auto",
    kv_cache: settings.KvCache = "f16",
    context: Annotated[int, typer.Option(help="Tokens before the first that is timed.")] = 128,
    tokens: Annotated[int, typer.Option(help="Tokens in each timed run.")] = 32,
    temperatures: Annotated[
        str, typer.Option(help="Temperatures of the sampler; 0 draws the likeliest token.")
    ] = "0",
    profile: Annotated[bool, typer.Option("--profile", help="Say where the time of a token goes.")] = False,
    compare: Compare = None,
    runs: settings.Runs = 5,
    keep: settings.Keep = False,
    json: options.Json = False,
    markdown: settings.Markdown = False,
    plot: settings.Plot = None,
) -> None:
    """Time the generation of one token after another, and say what share of the read bandwidth it reached."""
    from tercet.bench.decode import bench_decode
    from tercet.bench.peers import Peer, compare_decode
    from tercet.bench.running import ModelChoice
    from tercet.errors import ParameterError

    choice = ModelChoice(
        shape, packing, head, threads, isa, kv_cache, weights_memory, head_mode, keep=keep, model=model
    )
    chosen = settings.decimals(temperatures, "--temperatures")
    if compare and model is not None:
        raise ParameterError("--compare writes random weights for the peer, so give a --shape, not a --model")
    peers = [Peer.parse(one) for one in compare or []]
    with settings.session(f"Decoding with {choice.name}", runs) as session:
        if peers:
            report = compare_decode(session, choice, peers, tokens)
        else:
            report = bench_decode(session, choice, context, tokens, profile, chosen)
    settings.write(report, json, markdown, plot)


def prefill(
    shape: settings.Shape = "2b4t",
    threads: options.Threads = None,
    isa: options.Isa = None,
    packing: settings.Packing = None,
    head: settings.Head = "f16",
    head_mode: settings.HeadMode = "full",
    weights_memory: settings.WeightsMemory = "auto",
    kv_cache: settings.KvCache = "f16",
    prompts: Annotated[str, typer.Option(help="Lengths of the prompts.")] = "128,512",
    compare: Compare = None,
    runs: settings.Runs = 5,
    keep: settings.Keep = False,
    json: options.Json = False,
    markdown: settings.Markdown = False,
    plot: settings.Plot = None,
) -> None:
    """Time the reading of prompts, and say what share of the int8 dot-product peak it reached."""
    from tercet.bench.peers import Peer, compare_prefill
    from tercet.bench.prefill import bench_prefill
    from tercet.bench.running import ModelChoice

    choice = ModelChoice(shape, packing, head, threads, isa, kv_cache, weights_memory, head_mode, keep=keep)
    lengths = settings.numbers(prompts, "--prompts")
    peers = [Peer.parse(one) for one in compare or []]
    with settings.session(f"Reading prompts with the shape {shape}", runs) as session:
        if peers:
            report = compare_prefill(session, choice, peers, lengths)
        else:
            report = bench_prefill(session, choice, lengths)
    settings.write(report, json, markdown, plot)


def load(
    shape: settings.Shape = "2b4t",
    threads: options.Threads = None,
    isa: options.Isa = None,
    packing: settings.Packing = None,
    head: settings.Head = "f16",
    head_mode: settings.HeadMode = "full",
    weights_memory: settings.WeightsMemory = "auto",
    kv_cache: settings.KvCache = "f16",
    sequences: Annotated[str, typer.Option(help="How many sequences run at once.")] = "1,2,4,8,16,32",
    prompt: Annotated[int, typer.Option(help="Tokens of each prompt.")] = 64,
    tokens: Annotated[int, typer.Option(help="Tokens that each sequence generates.")] = 32,
    runs: settings.Runs = 5,
    keep: settings.Keep = False,
    json: options.Json = False,
    markdown: settings.Markdown = False,
    plot: settings.Plot = None,
) -> None:
    """Time sequences that run at once through the engine: all together, each, and to the first token."""
    from tercet.bench.load import bench_load
    from tercet.bench.running import ModelChoice

    choice = ModelChoice(shape, packing, head, threads, isa, kv_cache, weights_memory, head_mode, keep=keep)
    counts = settings.numbers(sequences, "--sequences")
    with settings.session(f"Sequences at once with the shape {shape}", runs) as session:
        report = bench_load(session, choice, counts, prompt, tokens)
    settings.write(report, json, markdown, plot)


def context(
    shape: settings.Shape = "2b4t",
    threads: options.Threads = None,
    isa: options.Isa = None,
    packing: settings.Packing = None,
    head: settings.Head = "f16",
    head_mode: settings.HeadMode = "full",
    weights_memory: settings.WeightsMemory = "auto",
    contexts: Annotated[str, typer.Option(help="Lengths of the contexts.")] = "128,1024,4096,16384",
    kv_caches: Annotated[str, typer.Option(help="Types of keys and values.")] = "f16,int8",
    tokens: Annotated[int, typer.Option(help="Tokens in each timed run.")] = 16,
    runs: settings.Runs = 5,
    keep: settings.Keep = False,
    json: options.Json = False,
    markdown: settings.Markdown = False,
    plot: settings.Plot = None,
) -> None:
    """Time generation after short and long contexts, with each type of KV cache."""
    from tercet.bench.context import bench_context
    from tercet.bench.running import ModelChoice

    choice = ModelChoice(
        shape, packing, head, threads, isa, weights_memory=weights_memory, head_mode=head_mode, keep=keep
    )
    lengths = settings.numbers(contexts, "--contexts")
    with settings.session(f"Long contexts with the shape {shape}", runs) as session:
        report = bench_context(session, choice, lengths, settings.names(kv_caches), tokens)
    settings.write(report, json, markdown, plot)


def kernels(
    isas: Annotated[
        str | None,
        typer.Option("--isas", help="Instruction sets (default: all but reference).", show_default=False),
    ] = None,
    packings: Annotated[
        str | None, typer.Option("--packings", help="Packings (default: all).", show_default=False)
    ] = None,
    tokens: Annotated[str, typer.Option(help="Numbers of tokens.")] = "1,2,4,8,16,32,64,128,256",
    threads: Annotated[str, typer.Option(help="Numbers of threads.")] = "1",
    runs: settings.Runs = 5,
    json: options.Json = False,
    markdown: settings.Markdown = False,
    plot: settings.Plot = None,
) -> None:
    """Time the ternary products alone, from cache and from DRAM, against the limits of the machine."""
    from tercet.bench.kernels import bench_kernels

    counts, several = settings.numbers(tokens, "--tokens"), settings.numbers(threads, "--threads")
    with settings.session("Ternary products", runs) as session:
        report = bench_kernels(session, settings.names(isas), settings.names(packings), counts, several)
    settings.write(report, json, markdown, plot)
