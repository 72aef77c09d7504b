"""Answers of `tercet batch` to a list of requests: what the examples for code, maths and documents share.

The command does the work: as many requests at once as the engine takes, each held to its own form (`regex`,
`grammar` or `json_schema`), and a second run of the same requests goes on where the first was stopped.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def answers(requests: Sequence[Mapping[str, Any]], folder: Path, model: str | None) -> dict[str, str]:
    """Return the text for each request's id; one that failed or was cut off ends the program."""
    asked, results = folder / "requests.jsonl", folder / "results.jsonl"
    asked.write_text("".join(json.dumps(request) + "\n" for request in requests), encoding="utf-8")
    command = [sys.executable, "-m", "tercet", "batch", str(asked), "--output", str(results)]
    done = subprocess.run([*command, *(["--model", model] if model else [])], capture_output=True, text=True)
    if done.returncode not in (0, 3):  # 3: some requests failed, and each says why below
        raise SystemExit(done.stderr)
    found = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    for result in found:
        if result["status"] != "succeeded":
            raise SystemExit(f"{result['id']}: {result['error']['message']}")
        if result["finish_reason"] == "length":  # half a form is none
            raise SystemExit(f"{result['id']}: max_tokens is too small for its form: {result['text']!r}")
    return {result["id"]: result["text"] for result in found}
