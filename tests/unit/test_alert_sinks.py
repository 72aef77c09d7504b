"""Alerts reach whoever is named, signed and complete; a sink that is slow, dead or wrong holds up nobody."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from email import message_from_string, policy
from pathlib import Path
from typing import Any

import pytest

from alert_receivers import eventually, mail_server, receiver
from tercet.errors import FormatError, ParameterError, StorageError
from tercet.monitoring.alerts import AlertEvent, AlertManager, DeliveryError
from tercet.monitoring.alerts.delivery import Courier
from tercet.monitoring.alerts.rules import Severity
from tercet.monitoring.alerts.settings import AlertSettings
from tercet.monitoring.alerts.sinks.command import CommandSink
from tercet.monitoring.alerts.sinks.mail import EmailSink
from tercet.monitoring.alerts.sinks.webhook import WebhookSink, signature
from tercet.monitoring.snapshots import Snapshot

BEGUN = AlertEvent(
    id="memory-1790000000000",
    rule="memory",
    state="firing",
    severity="warning",
    time=1_790_000_000.0,
    since=1_789_999_940.0,
    seconds=0.0,
    value=2e9,
    worst=2e9,
    threshold=1e9,
    message="The process has 1,907 MiB in RAM.\r\nSubject: no header",
)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Recorder:
    """A sink that does as it is told."""

    severity: Severity = "warning"
    label = "recorder"

    def __init__(self, act: Callable[[AlertEvent], None] = lambda event: None) -> None:
        self.act, self.sent, self.tries = act, [], 0
        self.sent: list[AlertEvent]

    def send(self, event: AlertEvent) -> None:
        try:
            self.act(event)
            self.sent.append(event)
        finally:
            self.tries += 1


def test_the_signature_is_that_of_the_specification() -> None:
    """The vector of Standard Webhooks' own tests."""
    import base64

    made = signature(
        base64.b64decode(SECRET.removeprefix("whsec_")),
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "1614265330",
        b'{"test": 2432232314}',
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_webhook_gets_a_signed_event(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret of some length\n")
    with receiver() as hook:
        WebhookSink(url=hook.url, secret_file=secret, source="machine-7").send(BEGUN)
    ((path, headers, body),) = hook.requests
    assert path == "/hook?of=tests"
    assert headers["webhook-id"] == "memory-1790000000000-firing"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    made = signature(b"a secret of some length", headers["webhook-id"], headers["webhook-timestamp"], body)
    assert headers["webhook-signature"] == made
    told = json.loads(body)
    assert told["type"] == "alert.firing"
    assert told["source"] == "machine-7"
    assert told["timestamp"] == "2026-09-21T14:13:20+00:00"
    assert told["data"] == BEGUN.to_dict()
    assert told["text"].startswith("[warning] memory firing at machine-7: The process has")


@pytest.mark.parametrize(
    ("answer", "again"),
    [(500, True), (503, True), (429, True), (404, False), (302, False), ("hang up", True)],
)
def test_a_webhook_that_does_not_take_it(answer: int | str, again: bool) -> None:
    with receiver(answer) as hook, pytest.raises(DeliveryError) as error:
        WebhookSink(url=hook.url).send(BEGUN)
    assert error.value.again is again
    assert len(hook.requests) == 1  # no redirect is followed


def test_a_webhook_that_answers_a_byte_at_a_time_is_given_up() -> None:
    begin = time.monotonic()
    with receiver("drip") as hook, pytest.raises(DeliveryError):
        WebhookSink(url=hook.url, timeout_seconds=0.3).send(BEGUN)
    assert time.monotonic() - begin < 10


def test_a_webhook_that_is_not_there() -> None:
    with receiver() as hook:
        gone = hook.url
    with pytest.raises(DeliveryError, match="ConnectionRefusedError"):
        WebhookSink(url=gone).send(BEGUN)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.com/", "begins with https://"),
        ("example.com", "begins with https://"),
        ("https://user:word@example.com/", "secrets belong into secret_file"),
        ("https://example.com/\r\nHost: other", "spaces or letters outside ASCII"),
        ("https://example.com:99999/", "cannot be read"),
    ],
)
def test_addresses_that_are_none(url: str, words: str) -> None:
    with pytest.raises(ParameterError, match=words) as error:
        WebhookSink(url=url)
    assert "word@" not in str(error.value)


def test_secrets_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        WebhookSink(url="https://example.com", secret_file=tmp_path / "missing")
    for text in ("", "short", "whsec_!!!"):
        (tmp_path / "secret").write_text(text)
        with pytest.raises(FormatError):
            WebhookSink(url="https://example.com", secret_file=tmp_path / "secret")
    (tmp_path / "secret").write_text("a secret of some length")
    made = WebhookSink(url="https://hooks.example.com/T0/B0/token", secret_file=tmp_path / "secret")
    assert "of some length" not in repr(made)
    assert "token" not in made.label


def test_an_email_reaches_every_mailbox_and_has_no_header_of_a_stranger() -> None:
    with mail_server() as server:
        EmailSink(
            host="127.0.0.1",
            port=server.port,
            security="none",
            sender="tercet@example.com",
            to=("ops@example.com", "night@example.com"),
            source="machine-7",
        ).send(BEGUN)
    ((sender, to, text),) = server.messages
    assert "<tercet@example.com>" in sender
    assert to == ["TO:<ops@example.com>", "TO:<night@example.com>"]
    message = message_from_string(text, policy=policy.default)
    assert message.get_all("Subject") == ["[warning] memory firing at machine-7"]
    assert message["References"] == "<memory-1790000000000@example.com>"
    assert "threshold: 1000000000.0" in message.get_content()


@pytest.mark.parametrize(("answer", "again"), [("451 later", True), ("554 never", False)])
def test_a_mail_server_that_refuses(answer: str, again: bool) -> None:
    with mail_server(answer) as server, pytest.raises(DeliveryError) as error:
        EmailSink(host="127.0.0.1", port=server.port, security="none", sender="a@b.c", to=("d@e.f",)).send(
            BEGUN
        )
    assert error.value.again is again


def test_a_mail_server_without_tls_gets_nothing_where_tls_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("pass-word\n")
    with mail_server() as server, pytest.raises(DeliveryError):
        EmailSink(
            host="127.0.0.1",
            port=server.port,
            sender="a@b.c",
            to=("d@e.f",),
            user="tercet",
            password_file=tmp_path / "password",
        ).send(BEGUN)
    assert server.messages == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"to": ()}, "at least one address"),
        ({"to": ("a@b.c\r\nBcc: d@e.f",)}, "no address of an email"),
        ({"sender": "nobody"}, "no address of an email"),
        ({"port": 0}, "port is a number"),
        ({"user": "tercet"}, "belong together"),
        ({"user": "tercet", "password_file": Path(__file__), "security": "none"}, "in the clear"),
    ],
)
def test_emails_that_cannot_be(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        EmailSink(**{"host": "localhost", "sender": "a@b.c", "to": ("d@e.f",), **values})


def test_a_command_gets_the_event(tmp_path: Path) -> None:
    script = (
        "import os, sys; open(sys.argv[1], 'w').write(os.environ['TERCET_ALERT_RULE'] + sys.stdin.read())"
    )
    CommandSink(command=(sys.executable, "-c", script, str(tmp_path / "out"))).send(BEGUN)
    told = (tmp_path / "out").read_text()
    assert told.startswith("memory{")
    assert json.loads(told.removeprefix("memory")) == BEGUN.to_dict()


@pytest.mark.parametrize(
    ("script", "words", "again"),
    [("raise SystemExit(3)", "status 3", True), ("import time; time.sleep(60)", "longer than 0.5 s", True)],
)
def test_a_command_that_fails_or_hangs(script: str, words: str, again: bool) -> None:
    with pytest.raises(DeliveryError, match=words) as error:
        CommandSink(command=(sys.executable, "-c", script), timeout_seconds=0.5 if again else 5).send(BEGUN)
    assert error.value.again is again


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(DeliveryError, match="cannot be run") as error:
        CommandSink(command=("/no/such/program",)).send(BEGUN)
    assert not error.value.again
    with pytest.raises(ParameterError):
        CommandSink(command=())


def test_a_sink_is_tried_again_and_gets_everything_once_and_in_order(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = [DeliveryError("busy")] * 3

    def act(event: AlertEvent) -> None:
        if failures:
            raise failures.pop()

    sink = Recorder(act)
    courier = Courier(sink, first_pause=0.001)
    ended = AlertEvent(**{**BEGUN.to_dict(), "state": "resolved"})
    courier.take(BEGUN)
    courier.take(ended)
    eventually(lambda: len(sink.sent) == 2)
    assert sink.sent == [BEGUN, ended]
    assert sink.tries == 5
    courier.close(5)
    assert caplog.records == []


@pytest.mark.parametrize(
    "fault", [DeliveryError("gone"), DeliveryError("no", again=False), RuntimeError("bug")]
)
def test_a_dead_sink_is_one_warning_until_it_lives_again(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    dead = True

    def act(event: AlertEvent) -> None:
        if dead:
            raise fault

    sink = Recorder(act)
    courier = Courier(sink, attempts=2, first_pause=0.001)

    each = 2 if isinstance(fault, DeliveryError) and fault.again else 1

    def take(times: int) -> None:
        wanted = sink.tries + each * times
        for _ in range(times):
            courier.take(BEGUN)
        eventually(lambda: sink.tries == wanted)

    with caplog.at_level(logging.WARNING, "tercet.alerts"):
        take(3)
        dead = False
        courier.take(BEGUN)
        eventually(lambda: len(sink.sent) == 1)
        dead = True
        take(3)
        eventually(lambda: len(caplog.records) == 2)
    courier.close(5)
    assert {one.getMessage() for one in caplog.records} == {
        "an alert could not be sent, nor may those that follow"
    }


def test_a_sink_that_hangs_holds_up_neither_windows_nor_other_sinks_nor_the_end() -> None:
    free = threading.Event()
    hanging, other = Recorder(lambda event: free.wait(60) and None), Recorder()
    manager = AlertManager(sinks=[hanging, other])
    begin = time.monotonic()
    for number in range(3):
        age = 100.0 if number % 2 == 0 else 0.0
        manager.observe(Snapshot(time=number, period_seconds=1.0, engine_tick_age_seconds=age))
    eventually(lambda: len(other.sent) == 3)
    manager.close(0.05)
    assert time.monotonic() - begin < 10
    assert hanging.sent == []
    free.set()


def test_what_waits_when_the_service_ends_is_still_sent() -> None:
    sink = Recorder(lambda event: time.sleep(0.02))
    manager = AlertManager(sinks=[sink])
    for number in range(6):
        age = 100.0 if number % 2 == 0 else 0.0
        manager.observe(Snapshot(time=number, period_seconds=1.0, engine_tick_age_seconds=age))
    manager.close()
    assert len(sink.sent) == 6


def test_a_sink_for_the_critical_ones_gets_no_others() -> None:
    sink = Recorder()
    sink.severity = "critical"
    courier = Courier(sink)
    courier.take(BEGUN)
    courier.take(AlertEvent(**{**BEGUN.to_dict(), "severity": "critical"}))
    eventually(lambda: len(sink.sent) == 1)
    courier.close(5)
    assert sink.sent[0].severity == "critical"


def test_settings_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "alerts.json"
    with pytest.raises(StorageError):
        AlertSettings.read(path)
    (tmp_path / "secret").write_text(SECRET)
    path.write_text(
        json.dumps(
            {
                "rules": {"memory": {"above": 4 * 2**30}, "cpu": None},
                "sinks": [
                    {
                        "kind": "webhook",
                        "url": "https://example.com/",
                        "secret_file": str(tmp_path / "secret"),
                    },
                    {
                        "kind": "email",
                        "host": "mail",
                        "sender": "a@b.c",
                        "to": ["d@e.f"],
                        "port": 465,
                        "security": "tls",
                    },
                    {
                        "kind": "command",
                        "command": ["page", "me"],
                        "timeout_seconds": 5,
                        "severity": "critical",
                    },
                ],
            }
        )
    )
    settings = AlertSettings.read(path)
    assert [type(sink) for sink in settings.sinks] == [WebhookSink, EmailSink, CommandSink]
    assert settings.sinks[2] == CommandSink(command=("page", "me"), timeout_seconds=5.0, severity="critical")
    thresholds = settings.manager().thresholds()
    assert thresholds["memory"]["above"] == 4 * 2**30
    assert "cpu" not in thresholds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ('{"rules": {}, "rules": {}}', "it has 'rules' twice"),
        ("[]", "are an object"),
        ('{"rule": {}}', "there is no 'rule'; is rules meant"),
        ('{"rules": {"memory": {"abvoe": 1}}}', "has no 'abvoe'"),
        ('{"rules": []}', "rules is an object"),
        ('{"sinks": {}}', "sinks is a list"),
        ('{"sinks": [{"kind": "pigeon"}]}', "whose kind is webhook, email, command, not 'pigeon'"),
        ('{"sinks": [{"kind": "webhook"}]}', "needs url"),
        ('{"sinks": [{"kind": "webhook", "url": "https://a", "secret": "b"}]}', "is secret_file meant"),
        ('{"sinks": [{"kind": "webhook", "url": 5}]}', "url of a sink of kind webhook is a string"),
        ('{"sinks": [{"kind": "command", "command": "page me"}]}', "is a list of strings"),
        (
            '{"sinks": [{"kind": "command", "command": ["a"], "timeout_seconds": 0}]}',
            "above 0 and below 3600",
        ),
        ('{"sinks": [{"kind": "command", "command": ["a"], "severity": "x"}]}', "'warning' or 'critical'"),
        (
            '{"sinks": [{"kind": "email", "host": "a", "sender": "a@b", "to": ["a@b"], "port": "5"}]}',
            "whole number",
        ),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "alerts.json"
    path.write_text(text)
    with pytest.raises(ParameterError, match=words) as error:
        AlertSettings.read(path)
    assert str(path) in str(error.value)
