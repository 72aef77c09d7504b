"""`tercet serve [MODEL]`: the model behind HTTP, for every client of OpenAI, llama.cpp and Ollama."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tercet.cli import (
    access_options,
    audit_options,
    console,
    limit_options,
    options,
    security_options,
    settings_file,
    watch_options,
)
from tercet.cli.serve_settings import server_settings, service_settings

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

NETWORK = "Network"
LIMITS = "Limits"


@app.command(cls=settings_file.Configured, context_settings=settings_file.CONTEXT)
def serve(
    call: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(
            help="Name or path of the model (default: the one that ships with the package).",
            envvar=settings_file.PREFIX + "MODEL",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="Address to listen at; 0.0.0.0 is every one, which takes --keys.",
            rich_help_panel=NETWORK,
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option("--port", "-p", min=0, max=65535, help="0 takes a free one.", rich_help_panel=NETWORK),
    ] = 8080,
    alias: Annotated[
        str | None,
        typer.Option(
            "--alias",
            "-a",
            help="The name by which requests ask for the model (default: the model's own).",
            show_default=False,
            rich_help_panel=NETWORK,
        ),
    ] = None,
    max_concurrent: Annotated[
        int | None,
        typer.Option(
            "--max-concurrent",
            min=1,
            help="Requests that run at once (default: as many as the engine takes).",
            show_default=False,
            rich_help_panel=LIMITS,
        ),
    ] = None,
    max_queued: Annotated[
        int,
        typer.Option(
            "--max-queued", min=1, help="Requests that may wait; one more gets 503.", rich_help_panel=LIMITS
        ),
    ] = 512,
    request_timeout: Annotated[
        float,
        typer.Option(
            "--request-timeout", min=0.001, help="Seconds for a whole answer.", rich_help_panel=LIMITS
        ),
    ] = 600.0,
    response_cache: Annotated[
        str | None,
        typer.Option(
            "--response-cache",
            metavar="memory|FILE|redis://...",
            help="Remember answers that the same request would get again: in memory, in an SQLite file, "
            "or in Redis (default: nowhere).",
            show_default=False,
            rich_help_panel=LIMITS,
        ),
    ] = None,
    response_cache_ttl: Annotated[
        float,
        typer.Option(
            "--response-cache-ttl", min=0.001, help="Seconds for which they are good.", rich_help_panel=LIMITS
        ),
    ] = 3600.0,
    max_body: Annotated[
        int, typer.Option("--max-body", min=1, help="Bytes of a request's body.", rich_help_panel=LIMITS)
    ] = 4 * 1024 * 1024,
    header_timeout: Annotated[
        float,
        typer.Option(
            "--header-timeout",
            min=0.001,
            help="Seconds in which the headers of a request must come.",
            rich_help_panel=LIMITS,
        ),
    ] = 10.0,
    upload_timeout: Annotated[
        float,
        typer.Option(
            "--upload-timeout",
            min=0.001,
            help="Seconds in which the body of a request must come.",
            rich_help_panel=LIMITS,
        ),
    ] = 30.0,
    write_timeout: Annotated[
        float,
        typer.Option(
            "--write-timeout",
            min=0.001,
            help="Seconds that a client may take without reading any of its answer.",
            rich_help_panel=LIMITS,
        ),
    ] = 30.0,
    max_connections: Annotated[
        int,
        typer.Option("--max-connections", min=1, help="Connections at one time.", rich_help_panel=LIMITS),
    ] = 1024,
    max_queued_tokens: limit_options.MaxQueuedTokens = 65_536,
    first_token_timeout: limit_options.FirstTokenTimeout = None,
    max_cached_responses: limit_options.MaxCachedResponses = 1_024,
    max_file: limit_options.MaxFile = 512 * 1024 * 1024,
    max_uploading: limit_options.MaxUploading = 256 * 1024 * 1024,
    max_header_bytes: limit_options.MaxHeaderBytes = 32 * 1024,
    max_headers: limit_options.MaxHeaders = 100,
    keep_alive: limit_options.KeepAlive = 30.0,
    drain: Annotated[
        float,
        typer.Option(
            "--drain",
            min=0,
            help="Seconds that requests may go on after SIGTERM or Ctrl-C; a second one ends at once.",
            rich_help_panel=LIMITS,
        ),
    ] = 30.0,
    drain_delay: Annotated[
        float,
        typer.Option(
            "--drain-delay",
            min=0,
            help="Seconds before that in which the port stays open and /readyz says 503, for balancers.",
            rich_help_panel=LIMITS,
        ),
    ] = 0.0,
    batch_dir: Annotated[
        Path | None,
        typer.Option(
            "--batch-dir",
            help="Folder of the batch API, its files and results (default: no batch API).",
            show_default=False,
        ),
    ] = None,
    lora_dir: Annotated[
        Path | None,
        typer.Option(
            "--lora-dir",
            help="Folder out of which adapters may be loaded over HTTP (default: none).",
            show_default=False,
        ),
    ] = None,
    log_level: Annotated[
        str,
        typer.Option("--log-level", help="Least that is logged: debug, info, warning or error."),
    ] = "info",
    log_file: Annotated[
        Path | None,
        typer.Option(
            "--log-file", help="A file for the log besides stderr; rotated at 10 MiB.", show_default=False
        ),
    ] = None,
    history: watch_options.History = None,
    sample_every: watch_options.SampleEvery = 60.0,
    alerts: watch_options.Alerts = None,
    otlp_endpoint: watch_options.OtlpEndpoint = None,
    log_prompts: audit_options.LogPrompts = False,
    audit_dir: audit_options.AuditDir = None,
    audit_files: audit_options.AuditFiles = 20,
    audit_file_bytes: audit_options.AuditFileBytes = 10 * 1024 * 1024,
    security_key: audit_options.SecurityKey = None,
    threads: options.Threads = None,
    isa: options.Isa = None,
    level: options.Level = None,
    scenario: options.Scenario = None,
    speculation: options.Speculation = None,
    draft: options.Draft = None,
    device: options.Device = None,
    lora: options.Lora = None,
    config: settings_file.Config = None,
    security_profile: security_options.SecurityProfile = None,
    max_input_length: security_options.MaxInputLength = None,
    max_output_tokens: security_options.MaxOutputTokens = None,
    rate_limit_requests_per_minute: security_options.RateLimitRequests = None,
    rate_limit_tokens_per_minute: security_options.RateLimitTokens = None,
    rate_limit_storage: security_options.RateLimitStorage = None,
    rate_limit_fail_mode: security_options.RateLimitFailMode = None,
    max_parallel_requests: security_options.MaxParallelRequests = None,
    max_choices: security_options.MaxChoices = None,
    max_stop_sequences: security_options.MaxStopSequences = None,
    max_stop_length: security_options.MaxStopLength = None,
    max_logit_bias: security_options.MaxLogitBias = None,
    max_schema_bytes: security_options.MaxSchemaBytes = None,
    max_schema_depth: security_options.MaxSchemaDepth = None,
    max_regex_length: security_options.MaxRegexLength = None,
    enable_content_filtering: security_options.ContentFiltering = None,
    content_policy: security_options.ContentPolicy = "block",
    log_requests: security_options.LogRequests = None,
    sanitize_inputs: security_options.SanitizeInputs = None,
    keys: access_options.Keys = None,
    allow_unauthenticated: access_options.AllowUnauthenticated = False,
    open_health: access_options.OpenHealth = False,
    open_metrics: access_options.OpenMetrics = False,
    allowed_host: access_options.AllowedHost = None,
    cors_origin: access_options.CorsOrigin = None,
    tls_cert: access_options.TlsCert = None,
    tls_key: access_options.TlsKey = None,
    model_trust: options.ModelTrust = None,
    model_key: options.ModelKey = None,
    context: Annotated[
        int | None,
        typer.Option(
            "--context",
            min=1,
            help="Most tokens of prompt and answer together (default: what the model was trained for).",
            show_default=False,
            rich_help_panel=options.MACHINE,
        ),
    ] = None,
) -> None:
    """Serve a model over HTTP: the routes of OpenAI, llama.cpp and Ollama, and a page to chat at.

    The port is open at once, and requests get 503 until the model is loaded. Whoever may call has a key of
    `tercet keys create`; without any, only programs of this machine reach the port.
    """
    from tercet.environment import optional_import

    for module in ("fastapi", "uvicorn", "structlog", "prometheus_client"):
        optional_import(module, "server")
    from tercet.server.serving import leave, listen, serve
    from tercet.service.logs import configure
    from tercet.service.service import Service

    options.demand_trust(model_trust, model_key)
    service = Service(service_settings(call.params))
    settings = server_settings(call.params)
    logs = configure(log_level, log_file)
    opened = listen(settings)
    shown = f"[{host}]" if ":" in host else host
    url = f"http{'' if tls_cert is None else 's'}://{shown}:{opened.getsockname()[1]}"

    def tell(state: str) -> None:
        loading = f"Loading the model; listening at {url}"
        serving = f"Serving {', '.join(service.pool.names())} at {url}"
        console.told().print(loading if state == "listening" else serving)
        if state == "listening" and settings.keys_file is not None:
            console.told().print(f"Whoever calls needs one of the keys in {settings.keys_file}")

    try:
        serve(service, settings, opened, tell)
    finally:
        logs.close()
    leave()
