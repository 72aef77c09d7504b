"""Limits and deadlines of the front door; what a request may ask of the model is the service's business."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tercet.errors import ParameterError
from tercet.monitoring.alerts.settings import AlertSettings
from tercet.security.config import Profile, SecurityConfig
from tercet.security.content.policies import ContentPolicies
from tercet.security.content.policy_file import open_policies

__all__ = ["ServerSettings"]


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How much, and for how long, a client may occupy the server.

    Raises:
        ParameterError: a limit is not above zero.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes a free one."""
    header_timeout_seconds: float = 10.0
    """From the connection, or the first byte of a further request, to the end of its headers."""
    keep_alive_seconds: float = 30.0
    """How long a connection may rest between two requests."""
    upload_timeout_seconds: float = 30.0
    """From the headers to the last byte of the body, however the bytes are spread."""
    write_timeout_seconds: float = 30.0
    """How long a reader may take nothing before the connection is given up."""
    max_header_bytes: int = 32 * 1024
    max_headers: int = 100
    max_body_bytes: int = 4 * 1024 * 1024
    max_file_bytes: int = 512 * 1024 * 1024
    """Of a file for a batch, which goes to disk."""
    max_uploading_bytes: int = 256 * 1024 * 1024
    """Of all bodies that are held at one time."""
    max_connections: int = 1024
    keys_file: Path | None = None
    """API keys: whoever has none of them is refused; None: there are none."""
    allow_unauthenticated: bool = False
    """Whether somebody without a key is let in, from wherever; as a user, not as an admin."""
    open_health: bool = False
    """Whether /livez, /readyz and /health need no key."""
    open_metrics: bool = False
    """Whether /metrics needs none: it tells whoever comes how much others ask."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which the server may be asked for, besides those that are this machine's own."""
    cors_origins: tuple[str, ...] = ()
    """Web pages of other servers that may use this one, as `https://example.com`; `*` for all of them."""
    tls_certificate: Path | None = None
    """With `tls_key`: HTTPS. Files in PEM, read again when they change."""
    tls_key: Path | None = None
    tls_check_seconds: float = 10.0
    """How often they are looked at."""
    security_profile: Profile | None = None
    """How much a client may ask for; None: "strict" where others can come, "local" where they cannot."""
    security: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `SecurityConfig` that differ from the profile's."""
    content_policy: str = "block"
    """What filters do where the caller's key says nothing: a policy of the package, or a file of policies."""
    batch_folder: Path | None = None
    """Where batches and their files are kept; None: there is no batch API."""
    adapter_folder: Path | None = None
    """Where adapters that are loaded over HTTP come from; None: none are."""
    audit_folder: Path | None = None
    """Where the audit log is written; None: there is none."""
    audit_files: int = 20
    """Files of the audit log that are kept."""
    audit_file_bytes: int = 10 * 1024 * 1024
    security_key_file: Path | None = None
    """The secret of client hashes and the audit chain; None: a new one, of this process alone."""
    sample_seconds: float = 60.0
    """How long a window of the history is."""
    history_file: Path | None = None
    """Where the history is written; None: it stays in memory."""
    alerts: AlertSettings = field(default_factory=AlertSettings)
    """What each window is judged by, and who is told."""
    otlp_endpoint: str | None = None
    """The collector of OpenTelemetry that hears of every request; None: nobody does."""
    drain_seconds: float = 30.0
    """After SIGTERM: how long requests may go on."""
    drain_delay_seconds: float = 0.0
    """After SIGTERM: how long the port stays open with /readyz at 503, for balancers that poll."""

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine reach the port."""
        return self.is_own(self.host)

    @staticmethod
    def is_own(address: str) -> bool:
        """Whether an address, or a name, is this machine's for itself."""
        try:
            return ipaddress.ip_address(address.partition("%")[0]).is_loopback
        except ValueError:  # a name: only this one is known to mean the machine itself
            return address.lower() == "localhost"

    def security_config(self, is_exposed: bool) -> SecurityConfig:
        """Return the security settings in force; `is_exposed`: others than this machine's user can come.

        Raises:
            ParameterError: one of them is not valid.
        """
        return SecurityConfig.of(
            self.security_profile or ("strict" if is_exposed else "local"), **self.security
        )

    def content_policies(self, security: SecurityConfig) -> ContentPolicies | None:
        """Return the policies of the filters; None where nothing is filtered.

        Raises:
            ParameterError: there is no such policy or file, or the file is not valid.
            MissingExtraError: a filter needs a package that is not installed.
        """
        if not security.enable_content_filtering:
            return None
        policies = open_policies(self.content_policy)
        policies.of(None).open()
        return policies

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            bound = name.startswith("max_") or (name.endswith("_seconds") and not name.startswith("drain"))
            if bound and not value > 0:
                raise ParameterError(f"{name} is above 0, not {value!r}")
        if self.tls_key is not None and self.tls_certificate is None:
            raise ParameterError("tls_key is the key of tls_certificate, which is missing")
        if not 0 <= self.port < 2**16:
            raise ParameterError(f"port is a number from 0 to 65535, not {self.port!r}")
        if self.drain_seconds < 0 or self.drain_delay_seconds < 0:
            raise ParameterError("drain_seconds and drain_delay_seconds are at least 0")
