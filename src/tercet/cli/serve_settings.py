"""What the options of `tercet serve` mean for what it runs; `tercet doctor --security` reads them, too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tercet.cli import access_options, audit_options, options, security_options, watch_options
from tercet.cli.monitor.place import history_file

if TYPE_CHECKING:
    from tercet.server.settings import ServerSettings
    from tercet.service.settings import ServiceSettings

__all__ = ["server_settings", "service_settings"]


def service_settings(values: Mapping[str, Any]) -> ServiceSettings:
    """Return what the options, by their names, mean for the models.

    Raises:
        ParameterError: one of them is not valid.
    """
    from tercet.service.settings import ServiceSettings

    names = ("threads", "isa", "level", "scenario", "speculation", "draft", "device")
    llm = {name: values[name] for name in names}
    adapters = options.adapters(values["lora"]) or None
    return ServiceSettings(
        models={values["alias"] or "": values["model"]},
        llm=options.given(**llm, max_context=values["context"], adapters=adapters),
        max_concurrent=values["max_concurrent"],
        max_queued_requests=values["max_queued"],
        max_queued_tokens=values["max_queued_tokens"],
        timeout_seconds=values["request_timeout"],
        first_token_timeout_seconds=values["first_token_timeout"],
        response_cache=values["response_cache"],
        max_cached_responses=values["max_cached_responses"],
        cache_ttl_seconds=values["response_cache_ttl"],
        log_requests=values["log_requests"] is not False,
        log_prompts=values["log_prompts"],
    )


def server_settings(values: Mapping[str, Any]) -> ServerSettings:
    """Return what the options, by their names, mean for the front door.

    Raises:
        ParameterError: one of them is not valid.
    """
    from tercet.server.settings import ServerSettings

    return ServerSettings(
        host=values["host"],
        port=values["port"],
        max_body_bytes=values["max_body"],
        max_file_bytes=values["max_file"],
        max_uploading_bytes=values["max_uploading"],
        max_header_bytes=values["max_header_bytes"],
        max_headers=values["max_headers"],
        header_timeout_seconds=values["header_timeout"],
        upload_timeout_seconds=values["upload_timeout"],
        write_timeout_seconds=values["write_timeout"],
        keep_alive_seconds=values["keep_alive"],
        max_connections=values["max_connections"],
        drain_seconds=values["drain"],
        drain_delay_seconds=values["drain_delay"],
        keys_file=access_options.keys_file(_path(values["keys"])),
        allow_unauthenticated=values["allow_unauthenticated"],
        open_health=values["open_health"],
        open_metrics=values["open_metrics"],
        allowed_hosts=tuple(values["allowed_host"] or ()),
        cors_origins=tuple(values["cors_origin"] or ()),
        tls_certificate=_path(values["tls_cert"]),
        tls_key=_path(values["tls_key"]),
        security_profile=values["security_profile"],
        security=security_options.changes(values),
        content_policy=values["content_policy"],
        batch_folder=_path(values["batch_dir"]),
        adapter_folder=_path(values["lora_dir"]),
        history_file=history_file(values["history"], values["port"]),
        sample_seconds=values["sample_every"],
        alerts=watch_options.alert_settings(_path(values["alerts"])),
        otlp_endpoint=values["otlp_endpoint"],
        audit_folder=_path(values["audit_dir"]),
        audit_files=values["audit_files"],
        audit_file_bytes=values["audit_file_bytes"],
        security_key_file=audit_options.key_file(_path(values["security_key"]), _path(values["audit_dir"])),
    )


def _path(value: str | Path | None) -> Path | None:
    """A path, which is a string until Typer calls the command."""
    return None if value is None else Path(value)
