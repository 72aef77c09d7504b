"""A program that looks like llama-server, well behaved or not: `fake_llama_server.py MODE ARGUMENT...`.

It answers with the tokens that it was told to (`FAKE_TOKENS`, with their texts), or fails as MODE says. It is
run by Python without the package, so that it starts in a moment.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

MODE, *ARGUMENTS = sys.argv[1:]


def value(option: str) -> str:
    return ARGUMENTS[ARGUMENTS.index(option) + 1]


def leave(message: str, status: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(status)


class Handler(http.server.BaseHTTPRequestHandler):
    started = time.monotonic()

    def do_GET(self) -> None:
        if self.path == "/health":
            loading = MODE == "never ready" or time.monotonic() - self.started < 0.2
            self.answer(503 if loading else 200, {"status": "loading" if loading else "ok"})
        elif self.path == "/v1/models" and self.knows_key():
            name = "somebody else" if MODE == "another" else value("--alias")
            self.answer(200, {"data": [{"id": name}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.knows_key():
            return
        Path(os.environ["FAKE_RECORD"]).write_text(json.dumps([ARGUMENTS, body]))
        if MODE == "hangs":
            time.sleep(1000)
        if MODE == "garbage":
            return self.answer(200, ["no", "completion"])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        pairs = json.loads(os.environ["FAKE_TOKENS"])[: body["n_predict"]]
        for place, (token, text) in enumerate(pairs):
            if MODE == "dies" and place == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            if MODE == "within a character" and place == 1:
                continue  # its text is no character yet, so nothing is said
            tokens = {} if MODE == "old" else {"tokens": [token]}
            self.event({"content": text, "stop": False, **tokens})
        ended = {"stopped_limit": True} if MODE == "old" else {"stop_type": "limit", "tokens": []}
        counts = {"tokens_evaluated": len(body["prompt"]), "tokens_predicted": len(pairs)}
        self.event({"content": "", "stop": True, **counts, **ended})

    def knows_key(self) -> bool:
        known = self.headers["Authorization"] == f"Bearer {os.environ['LLAMA_API_KEY']}"
        if not known:
            self.answer(401, {"error": {"message": "Invalid API Key"}})
        return known

    def event(self, content: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(content).encode() + b"\n\n")
        self.wfile.flush()

    def answer(self, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def main() -> None:
    if "--version" in ARGUMENTS:
        if MODE == "version hangs":
            time.sleep(1000)
        if MODE == "crashes":
            os.kill(os.getpid(), signal.SIGILL)
        if MODE == "another program":
            leave("this is something else", 0)
        leave("version: 1234 (abcdef)\nbuilt with a pencil", 0)
    if MODE == "exits":
        leave("loading\nerror: failed to load model: no such architecture\nbye", 3)
    if MODE == "port taken":
        tries = Path(os.environ["FAKE_RECORD"]).with_suffix(".tries")
        tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
        if len(tries.read_text()) < int(os.environ.get("FAKE_TRIES", "2")):
            leave("srv: couldn't bind HTTP server socket, hostname: 127.0.0.1", 1)
    address = (value("--host"), int(value("--port")))
    http.server.ThreadingHTTPServer(address, Handler).serve_forever()


if __name__ == "__main__":
    main()
