"""Alerts by email, handed to a mail server that the operator names."""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from pathlib import Path
from typing import Literal

from tercet.environment import storage_errors
from tercet.errors import FormatError, ParameterError
from tercet.monitoring.alerts.delivery import DeliveryError
from tercet.monitoring.alerts.events import AlertEvent
from tercet.monitoring.alerts.rules import Severity
from tercet.monitoring.alerts.sinks.conversation import cut_after

__all__ = ["EmailSink"]

_ADDRESS = re.compile(r"[^\s@<>,;:\x00-\x1f]+@[^\s@<>,;:\x00-\x1f]+")


@dataclass(frozen=True, kw_only=True)
class EmailSink:
    """A mailbox, by way of a mail server.

    Attributes:
        host: of the mail server.
        to: whose mailboxes.
        sender: from whom; an address that the mail server lets send.
        port: 587 is for `starttls`, 465 for `tls`, 25 for `none`.
        security: "starttls", "tls", or "none" for a mail server on this machine.
        user: at the mail server; None: it asks for none.
        password_file: of the user.
        timeout_seconds: for all of it.
        severity: "critical" for those alone.
        source: what this machine is called; None takes its name.

    Raises:
        ParameterError: an address cannot be one, or a password would go in the clear.
        StorageError: the password cannot be read.
    """

    host: str
    to: tuple[str, ...]
    sender: str
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password_file: Path | None = None
    timeout_seconds: float = 30.0
    severity: Severity = "warning"
    source: str | None = None
    _password: str | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        for address in (self.sender, *self.to):
            if not _ADDRESS.fullmatch(address):
                raise ParameterError(f"{address[:100]!r} is no address of an email")
        if not self.to:
            raise ParameterError("an email goes to at least one address")
        if not 0 < self.port < 2**16:
            raise ParameterError(f"port is a number from 1 to 65535, not {self.port!r}")
        if (self.user is None) != (self.password_file is None):
            raise ParameterError("user and password_file of a mail server belong together")
        if self.user is not None and self.security == "none":
            raise ParameterError(
                'a password goes to no mail server in the clear: security is "starttls" or "tls"'
            )
        if self.password_file is not None:
            with storage_errors(self.password_file, opening=True):
                data = self.password_file.read_bytes()
            try:
                object.__setattr__(self, "_password", data.decode().strip())
            except UnicodeDecodeError as error:
                raise FormatError(f"{self.password_file} holds no text") from error

    @property
    def label(self) -> str:
        """The mail server."""
        return f"email {self.host}"

    def send(self, event: AlertEvent) -> None:
        """Hand one message to the mail server.

        Raises:
            DeliveryError: it did not take it for all addresses.
        """
        context = ssl.create_default_context()
        smtp: smtplib.SMTP = (
            smtplib.SMTP_SSL(timeout=self.timeout_seconds, context=context)
            if self.security == "tls"
            else smtplib.SMTP(timeout=self.timeout_seconds)
        )
        smtp._host = self.host  # type: ignore[attr-defined]  # the name in the certificate; see smtplib
        try:
            with cut_after(self.timeout_seconds, lambda: smtp.sock):
                smtp.connect(self.host, self.port)
                if self.security == "starttls":
                    smtp.starttls(context=context)
                if self.user is not None:
                    smtp.login(self.user, self._password or "")
                refused = smtp.send_message(self._message(event))
        except smtplib.SMTPResponseException as error:
            raise DeliveryError(f"it answered {error.smtp_code}", again=error.smtp_code < 500) from error
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise DeliveryError(f"{type(error).__name__} in the conversation with it") from error
        finally:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                smtp.close()
        if refused:
            raise DeliveryError(f"it refused {len(refused)} of {len(self.to)} addresses", again=False)

    def _message(self, event: AlertEvent) -> EmailMessage:
        source = self.source or socket.gethostname()
        message = EmailMessage()
        message["Subject"] = f"[{event.severity}] {event.rule} {event.state} at {source}"
        message["From"], message["To"] = self.sender, ", ".join(self.to)
        message["Date"] = format_datetime(datetime.fromtimestamp(event.time, timezone.utc))
        message["Message-ID"] = make_msgid(f"{event.id}-{event.state}", self.sender.rpartition("@")[2])
        # A beginning and its end are one conversation in a mailbox.
        thread = f"<{event.id}@{self.sender.rpartition('@')[2]}>"
        message["References"] = thread
        rows = "\n".join(f"{name}: {value}" for name, value in event.to_dict().items() if name != "message")
        message.set_content(f"{event.message}\n\n{rows}\n")
        return message
