"""Two replicas of the server, Redis between them, and HAProxy or nginx in front, each a process of its own.

The balancers run with the files of `deploy/`, on other ports.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from served import Server, wait_until

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
START_SECONDS = 60


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def running(command: Sequence[str | Path], port: int, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that listens at a port; fails with what it wrote if it does not come to that."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | variables
    ) as process:
        try:
            wait_until(lambda: _listens(port) or process.poll() is not None, START_SECONDS)
            if process.poll() is not None:
                assert process.stdout is not None
                raise AssertionError(process.stdout.read().decode())
            yield process
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Replica:
    """A server at a port that stays the same, however often it begins again."""

    def __init__(self, port: int, folder: Path, redis: str) -> None:
        self.port = port
        shared = ("--response-cache", redis, "--rate-limit-storage", redis)
        limits = ("--rate-limit-requests", "1000", "--drain", "5")
        self._options = (*shared, *limits, "--batch-dir", folder, "--threads", "1")
        self.start()

    def start(self) -> None:
        """Begin; returns when it is ready."""
        self.server = Server("--port", str(self.port), *self._options)

    def kill(self) -> None:
        """End it as a power cut does."""
        self.server.process.kill()
        self.server.wait(-signal.SIGKILL)

    def end(self) -> None:
        """End it as a person does, if it runs."""
        if self.server.process.returncode is None:
            self.server.stop()

    def answers(self) -> int:
        """How many requests it has answered."""
        with self.server.client() as client:
            lines = client.get("/metrics").text.splitlines()
        counted = [line for line in lines if line.startswith("vllm:request_success_total{")]
        return int(sum(float(line.rpartition(" ")[2]) for line in counted))


@contextlib.contextmanager
def balanced(kind: str, folder: Path) -> Iterator[tuple[httpx.URL, list[Replica]]]:
    """The address of the balancer, and what is behind it."""
    front, redis_port, *ports = free_ports(4)
    redis = f"redis://127.0.0.1:{redis_port}/0"
    with contextlib.ExitStack() as stack:
        options = ["--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        stack.enter_context(running(["redis-server", *options], redis_port))
        replicas = []
        for number, port in enumerate(ports):
            replicas.append(Replica(port, folder / f"batches-{number}", redis))
            stack.callback(replicas[-1].end)
        stack.enter_context(_balancer(kind, folder, front, ports))
        yield httpx.URL(f"http://127.0.0.1:{front}"), replicas


def _balancer(
    kind: str, folder: Path, front: int, ports: Sequence[int]
) -> contextlib.AbstractContextManager[object]:
    if kind == "haproxy":
        places = {"FRONT": front, "REPLICA_1": ports[0], "REPLICA_2": ports[1]}
        variables = {name: f"127.0.0.1:{port}" for name, port in places.items()}
        return running(["haproxy", "-f", DEPLOY / "haproxy" / "haproxy.cfg"], front, **variables)
    text = (DEPLOY / "nginx" / "nginx.conf").read_text(encoding="utf-8")
    for written, port in {"8080": front, "8081": ports[0], "8082": ports[1]}.items():
        text = text.replace(f"127.0.0.1:{written}", f"127.0.0.1:{port}")
    file = folder / "nginx.conf"
    file.write_text(text, encoding="utf-8")
    return running(["nginx", "-p", folder, "-c", file], front)
