"""What is weak about the settings of a server, before anybody else finds out: `tercet doctor --security`.

    for weakness in weaknesses(settings, security, surroundings):
        print(weakness.name, weakness.found, weakness.remedy)

A server that only programs of this machine reach, without keys, is one's own: its settings are weak where
they let others in by the back door. Advice is what would be better still; it does not count as weak.
"""

from __future__ import annotations

import ipaddress
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tercet.security.api_keys import KeyStore
from tercet.security.config import SecurityConfig
from tercet.server.settings import ServerSettings

__all__ = ["Surroundings", "Weakness", "is_exposed", "weaknesses"]

Level = Literal["weak", "advice"]
LONG_SECONDS = {
    "header_timeout_seconds": 60,
    "upload_timeout_seconds": 300,
    "write_timeout_seconds": 300,
    "keep_alive_seconds": 300,
}
"""Beyond this, slow clients hold connections for nothing."""
LARGE_BODY_BYTES = 64 * 1024 * 1024
MANY_REQUESTS = 6_000
"""A hundred in a second."""


@dataclass(frozen=True)
class Weakness:
    """One setting, what is wrong with it, and what to do."""

    name: str
    found: str
    remedy: str
    level: Level = "weak"


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What is no setting of the front door, and matters."""

    logs_prompts: bool = False
    model_trust: str = "checked"
    is_root: bool = False
    request_timeout_seconds: float = 600.0
    files: tuple[Path, ...] = ()
    """Files that decide: of settings, keys, certificates, policies."""


def is_exposed(settings: ServerSettings) -> bool:
    """Whether others than this machine's user are meant to come: there are keys, or they reach the port."""
    return settings.keys_file is not None or not settings.is_loopback


def weaknesses(
    settings: ServerSettings, security: SecurityConfig, surroundings: Surroundings
) -> list[Weakness]:
    """Return what is weak, the worst first, and then advice.

    Raises:
        StorageError, FormatError: the file of keys cannot be used.
    """
    found = [*_anywhere(settings, surroundings)]
    if is_exposed(settings):
        found += _reach(settings)
        found += _limits(settings, security, surroundings)
        found += _records(settings, security)
        found += _advice(settings, surroundings)
    found += _storage(security)
    return sorted(found, key=lambda weakness: weakness.level == "advice")


def _anywhere(settings: ServerSettings, surroundings: Surroundings) -> Iterator[Weakness]:
    if "*" in settings.cors_origins:
        yield Weakness(
            "cors_origin",
            "web pages of any server may use this one, with whatever its visitor's browser knows",
            "name the origins that may",
        )
    if surroundings.logs_prompts:
        yield Weakness(
            "log_prompts",
            "prompts and answers are written to the log, and whoever reads the log reads them",
            "leave --log-prompts out, but for a search that has an end",
        )
    for path in surroundings.files:
        if others_may_write(path):
            yield Weakness(
                "file_mode",
                f"others than its owner may change {path}, which decides what this server does",
                f"chmod go-w {path}",
            )


def _reach(settings: ServerSettings) -> Iterator[Weakness]:
    if settings.keys_file is None:
        yield Weakness(
            "keys", "whoever reaches the port may use the server", "make keys with `tercet keys create`"
        )
    elif settings.allow_unauthenticated:
        yield Weakness(
            "allow_unauthenticated",
            "there are keys, and whoever has none is let in as well",
            "leave --allow-unauthenticated out",
        )
    if settings.open_metrics:
        yield Weakness(
            "open_metrics",
            "whoever reaches the port reads /metrics, which tells how much others ask",
            "leave --open-metrics out, and give Prometheus the key of an admin",
        )
    if settings.tls_certificate is None and not settings.is_loopback:
        yield Weakness(
            "tls_cert",
            "keys, prompts and answers cross the network as they are",
            "give --tls-cert and --tls-key, or listen at 127.0.0.1 behind a proxy that speaks HTTPS",
        )


def _limits(
    settings: ServerSettings, security: SecurityConfig, surroundings: Surroundings
) -> Iterator[Weakness]:
    if security.profile == "local":
        yield Weakness(
            "security_profile",
            "the profile for one's own machine is in force, and others can come",
            "leave --security-profile out, or name strict",
        )
    open_ended = [name for name, value in security.to_dict().items() if value is None]
    if open_ended:
        yield Weakness("no_limit", f"without a limit: {', '.join(open_ended)}", "give each of them a number")
    requests = security.rate_limit_requests_per_minute
    if requests is not None and requests > MANY_REQUESTS:
        yield Weakness(
            "rate_limit_requests_per_minute",
            f"one client may send {requests} requests in a minute, which is next to no limit",
            f"allow at most {MANY_REQUESTS}, and give single keys more",
        )
    if not security.enable_content_filtering:
        yield Weakness("enable_content_filtering", "nothing is filtered", "leave --no-content-filtering out")
    elif settings.content_policy == "off":
        yield Weakness("content_policy", "nothing is filtered", "choose block, flag or redact")
    if not security.sanitize_inputs:
        yield Weakness(
            "sanitize_inputs",
            "control characters, and what a browser would run, pass through",
            "leave --no-sanitize-inputs out",
        )
    for name, seconds in LONG_SECONDS.items():
        if (value := getattr(settings, name)) > seconds:
            yield Weakness(
                name.removesuffix("_seconds"),
                f"a client that does nothing may hold a connection for {value:g} seconds",
                f"{seconds} are more than enough",
            )
    if settings.max_body_bytes > LARGE_BODY_BYTES:
        yield Weakness(
            "max_body",
            f"one request may have {settings.max_body_bytes} bytes, all of which are read",
            "4194304 hold the longest prompts",
        )


def _records(settings: ServerSettings, security: SecurityConfig) -> Iterator[Weakness]:
    if settings.audit_folder is None:
        yield Weakness("audit_dir", "nobody will be able to tell who did what", "give --audit-dir a folder")
    if not security.log_requests:
        yield Weakness(
            "log_requests", "the log does not say which requests came", "leave --no-log-requests out"
        )


def _storage(security: SecurityConfig) -> Iterator[Weakness]:
    if find_spec("limits") is None and security.counts_requests:
        yield Weakness(
            "limits",
            "requests cannot be counted: the server would not start",
            "pip install 'tercet[security]'",
        )
    if security.rate_limit_storage == "memory":
        return
    if security.rate_limit_fail_mode == "open":
        yield Weakness(
            "rate_limit_fail_mode",
            "while Redis is away each process counts alone: whoever makes it go away gets more",
            "leave --rate-limit-fail-mode out",
        )
    address = urlsplit(security.rate_limit_storage)
    if address.scheme == "redis" and not _is_own(address.hostname or ""):
        yield Weakness(
            "rate_limit_storage", "the way to Redis is neither encrypted nor proven", "use rediss://"
        )
    if address.scheme in ("redis", "rediss") and address.password is None:
        yield Weakness("rate_limit_storage", "Redis asks for no password", "give it one, in the address")


def _advice(settings: ServerSettings, surroundings: Surroundings) -> Iterator[Weakness]:
    if surroundings.is_root:
        yield Weakness("user", "the server runs as root", "run it as a user who owns nothing else")
    if settings.keys_file is not None:
        store = KeyStore(settings.keys_file, time.time)
        endless = [
            record.id
            for record in (store.records() if store.exists else ())
            if record.expires_at is None and record.revoked_at is None
        ]
        if endless:
            yield Weakness(
                "keys",
                f"keys that never expire: {', '.join(endless[:10])}",
                "create them with an end",
                "advice",
            )
    if surroundings.model_trust == "checked":
        yield Weakness(
            "model_trust",
            "a model needs no manifest, so one that was replaced is not noticed",
            "make one with `tercet manifest`, and give --model-trust manifest, or signed",
            "advice",
        )
    if surroundings.request_timeout_seconds > 3_600:
        yield Weakness(
            "request_timeout",
            "one answer may take longer than an hour",
            "600 seconds are the default",
            "advice",
        )


def others_may_write(path: Path, status_of: Callable[[Path], os.stat_result] = os.stat) -> bool:
    """Whether somebody else than its owner may change a file; false for one that is not there."""
    try:
        mode = status_of(path).st_mode
    except OSError:
        return False
    return os.name == "posix" and bool(mode & (stat.S_IWGRP | stat.S_IWOTH))


def _is_own(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
