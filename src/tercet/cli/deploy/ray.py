"""`tercet deploy ray [OPTIONS] [-- SERVE OPTIONS]`: replicas of the server, on one machine or on many."""

from __future__ import annotations

import dataclasses
import signal
import threading
from typing import Annotated, Any

import typer

from tercet.cli import console

__all__ = ["ray"]

REFUSED = {
    "batch_dir": "a batch belongs to one server; use tercet batch --engine ray",
    "history": "every replica would write it; Ray has metrics of its own",
    "alerts": "every replica would send them; Ray has metrics of its own",
    "otlp_endpoint": "it is for one server",
    "audit_dir": "every replica would write it",
    "log_file": "every replica would write it; Ray keeps the log of each",
    "tls_cert": "put a balancer in front that has the certificate",
}
"""Options of `tercet serve` that mean one process, and what to do instead."""


def ray(
    serve_options: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- MODEL AND OPTIONS OF SERVE]",
            help="As for `tercet serve`; they hold for each replica.",
            show_default=False,
        ),
    ] = None,
    min_replicas: Annotated[
        int, typer.Option("--min-replicas", min=1, help="Replicas that there are always.")
    ] = 1,
    max_replicas: Annotated[
        int, typer.Option("--max-replicas", min=1, help="Replicas that there are at most.")
    ] = 2,
    cpus_per_replica: Annotated[
        float,
        typer.Option(
            "--cpus-per-replica",
            min=0.001,
            help="Processors that Ray sets aside for each; its engine uses --threads of `tercet serve`.",
        ),
    ] = 1.0,
    max_running: Annotated[
        int, typer.Option("--max-running", min=1, help="Requests that a replica takes at one time.")
    ] = 16,
    target_running: Annotated[
        float,
        typer.Option(
            "--target-running",
            min=0.001,
            help="Requests, running and waiting, for each replica; more of them make more replicas.",
        ),
    ] = 8.0,
    max_waiting: Annotated[
        int,
        typer.Option("--max-waiting", min=1, help="Requests that wait for a replica; one more gets 429."),
    ] = 64,
    scale_up_delay: Annotated[
        float,
        typer.Option(
            "--scale-up-delay", min=0.001, help="Seconds of too many requests before there are more replicas."
        ),
    ] = 30.0,
    scale_down_delay: Annotated[
        float,
        typer.Option(
            "--scale-down-delay", min=0.001, help="Seconds of too few before there are fewer replicas."
        ),
    ] = 600.0,
) -> None:
    """Serve a model by Ray Serve: replicas that come and go with the requests.

    Uses the cluster of RAY_ADDRESS, or starts one on this machine. A request goes to a replica that has read
    the same prompt before, unless others have much less to do. Ctrl-C, or SIGTERM, takes it all down.
    """
    from tercet.cluster.connection import ray_module
    from tercet.deployment.ray_serve.settings import RaySettings

    ray_settings = RaySettings(
        min_replicas=min_replicas,
        max_replicas=max_replicas,
        cpus_per_replica=cpus_per_replica,
        max_running=max_running,
        target_running=target_running,
        max_waiting=max_waiting,
        scale_up_seconds=scale_up_delay,
        scale_down_seconds=scale_down_delay,
    )
    service, server, log_level = _served(serve_options or [], max_running)
    ray_module("ray.serve")
    from tercet.deployment.ray_serve.application import serve_on_ray

    ended = threading.Event()
    shown = f"[{server.host}]" if ":" in server.host else server.host

    def wait() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        console.told().print(f"Serving on Ray at http://{shown}:{server.port}")
        while not ended.wait(1):
            pass

    console.told().print(f"Starting {min_replicas} to {max_replicas} replicas")
    serve_on_ray(ray_settings, service, server, log_level, wait)


def _served(arguments: list[str], max_running: int) -> tuple[Any, Any, str]:
    """Settings of the service and of its front door, and the level of the log."""
    from tercet.cli import serve, settings_file
    from tercet.cli.serve_settings import server_settings, service_settings
    from tercet.environment import optional_import
    from tercet.errors import ParameterError

    for module in ("fastapi", "uvicorn", "structlog", "prometheus_client"):
        optional_import(module, "server")
    from tercet.models.registry import resolve
    from tercet.server.serving import listen

    command: Any = typer.main.get_command(serve.app)
    command.name = "serve"
    values = settings_file.effective(command, arguments)
    for name, instead in REFUSED.items():
        if values[name] not in (None, "none"):
            raise ParameterError(f"{name} is not for replicas: {instead}")
    values["history"] = "none"
    # The folder in which a replica runs is another one; and a model that is missing is told here.
    if values["model"] is not None:
        values["model"] = str(resolve(values["model"]).resolve())
    if values["max_concurrent"] is None:
        values["max_concurrent"] = max_running
    service = service_settings(values)
    server = server_settings(values)
    if server.keys_file is not None:
        server = dataclasses.replace(server, keys_file=server.keys_file.resolve())
    with listen(server) as opened:  # a port that is in use is known before anything is started
        server = dataclasses.replace(server, port=opened.getsockname()[1])
    return service, server, str(values["log_level"])
