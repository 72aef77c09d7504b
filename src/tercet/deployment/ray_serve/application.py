"""The application as Ray Serve deploys it, and the program that keeps it running.

    front door (no CPU of its own)  ->  replicas of the model, from min_replicas to max_replicas

Ray counts for each replica what runs in it and what waits for it, and adds replicas when there is more than
`target_running` of that for `scale_up_seconds`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from tercet.cluster.connection import connected, ray_module
from tercet.deployment.ray_serve.settings import RaySettings
from tercet.errors import UnavailableError
from tercet.server.settings import ServerSettings
from tercet.service.settings import ServiceSettings

__all__ = ["application", "serve_on_ray"]

MODEL, FRONT_DOOR = "Model", "FrontDoor"
LOAD_TRIES = 3
"""Of a replica to load the model, before there is an error."""
MAX_HELD = 100_000
"""Requests that the front door holds at one time; those beyond `max_waiting` it refuses."""
REPORT_SECONDS = 2.0
"""How often replicas and front doors tell how many requests they have."""


def application(
    ray_settings: RaySettings, service: ServiceSettings, server: ServerSettings, log_level: str = "info"
) -> Any:
    """Return what `ray.serve.run` takes.

    Raises:
        MissingExtraError: Ray Serve is not installed.
    """
    serve = ray_module("ray.serve")
    config = ray_module("ray.serve.config")
    from tercet.deployment.ray_serve.model import Model

    model = serve.deployment(Model).options(
        name=MODEL,
        max_ongoing_requests=ray_settings.max_running,
        max_queued_requests=ray_settings.max_waiting,
        autoscaling_config=config.AutoscalingConfig(
            min_replicas=ray_settings.min_replicas,
            max_replicas=ray_settings.max_replicas,
            target_ongoing_requests=ray_settings.target_running,
            upscale_delay_s=ray_settings.scale_up_seconds,
            downscale_delay_s=ray_settings.scale_down_seconds,
            metrics_interval_s=REPORT_SECONDS,
            look_back_period_s=max(ray_settings.scale_up_seconds, REPORT_SECONDS),
        ),
        request_router_config=config.RequestRouterConfig(
            request_router_class="tercet.deployment.ray_serve.routing.PrefixRouter"
        ),
        ray_actor_options={"num_cpus": ray_settings.cpus_per_replica},
        graceful_shutdown_timeout_s=ray_settings.drain_seconds,
        max_constructor_retry_count=LOAD_TRIES,
    )
    limited = dataclasses.replace(server, max_file_bytes=server.max_body_bytes)  # no route here takes files

    def build() -> Any:
        from tercet.deployment.ray_serve.front_door import front_door

        return front_door(serve.get_deployment_handle(MODEL, app_name=ray_settings.name), limited)

    door = serve.deployment(serve.ingress(build)()).options(
        name=FRONT_DOOR, max_ongoing_requests=MAX_HELD, ray_actor_options={"num_cpus": 0}
    )
    return door.bind(model.bind(service, server, log_level))


def serve_on_ray(
    ray_settings: RaySettings,
    service: ServiceSettings,
    server: ServerSettings,
    log_level: str = "info",
    wait: Callable[[], None] = lambda: None,
) -> None:
    """Deploy, and take it down again when `wait` returns, which is called when requests are answered.

    Raises:
        MissingExtraError: Ray Serve is not installed.
        UnavailableError: there is no cluster, it is too small, or the deployment does not become ready.
    """
    app = application(ray_settings, service, server, log_level)
    cpus = ray_settings.cpus_per_replica * ray_settings.max_replicas
    with connected(num_cpus=max(cpus, 1)) as ray:
        least, found = ray_settings.cpus_per_replica * ray_settings.min_replicas, ray.cluster_resources()
        if found.get("CPU", 0) < least:
            raise UnavailableError(
                f"{ray_settings.min_replicas} replicas of {ray_settings.cpus_per_replica:g} processors were "
                f"asked for, and the Ray cluster has {found.get('CPU', 0):g}; ask for fewer, or add machines"
            )
        serve = ray_module("ray.serve")
        serve.start(http_options={"host": server.host, "port": server.port})
        try:
            try:
                serve.run(app, name=ray_settings.name, route_prefix="/")
            except Exception as error:  # Ray raises bare ones
                raise UnavailableError(f"Ray Serve: the deployment is not ready: {error}") from error
            wait()
        finally:
            serve.delete(ray_settings.name)
