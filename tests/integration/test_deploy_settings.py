"""The server as the manifests start it: settings, probes, keys, memory and time to end, in a real process."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from program import tercet
from served import Server

KUBERNETES = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"


def manifest(name: str) -> Any:
    return yaml.safe_load((KUBERNETES / f"{name}.yaml").read_text())


def test_the_manifests_start_a_server_that_keeps_to_them(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    pod = manifest("deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    settings = json.loads(manifest("configmap")["data"]["serve.json"])
    # What the cluster would mount: a Secret that cannot be written, a folder for the history.
    keys = tmp_path / "keys.jsonl"
    user = tercet("keys", "create", "alice", "--keys", keys).out.strip()
    admin = tercet("keys", "create", "prometheus", "--role", "admin", "--keys", keys).out.strip()
    keys.chmod(0o440)
    assert Path(settings["keys"]).name == keys.name
    settings |= {"keys": str(keys), "history": str(tmp_path / "history.sqlite"), "host": "127.0.0.1"}
    settings |= {"rate_limit_requests_per_minute": "none", "max_parallel_requests": "none"}
    config = tmp_path / "serve.json"
    config.write_text(json.dumps({key: value for key, value in settings.items() if key != "port"}))
    arguments = [str(config) if word.endswith("serve.json") else word for word in container["args"][1:]]
    server = serve(*arguments)  # at a free port
    assert container["args"][0] == "serve"
    assert settings["port"] == container["ports"][0]["containerPort"]
    question = {"prompt": "Once upon a time " * 20, "max_tokens": 200, "temperature": 0, "ignore_eos": True}
    with server.client() as client:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            path = container[probe]["httpGet"]["path"]
            assert client.get(path, timeout=container[probe]["timeoutSeconds"]).status_code == 200
        assert client.get("/metrics").status_code == 401

        def ask(_: int) -> int:
            answer = client.post("/v1/completions", json=question, headers={"x-api-key": user})
            return answer.status_code

        with ThreadPoolExecutor(settings["max_concurrent"]) as threads:
            assert set(threads.map(ask, range(settings["max_concurrent"]))) == {200}
        metrics = client.get("/metrics", headers={"x-api-key": admin}).text
    (peak,) = re.findall(r"^process_peak_resident_memory_bytes ([\d.e+]+)", metrics, flags=re.M)
    limit = int(container["resources"]["limits"]["memory"].removesuffix("Mi")) << 20
    assert float(peak) < limit * 0.8, "as much as that is left for uploads and what grows"
    begun = time.monotonic()
    server.stop()
    assert time.monotonic() - begun < pod["terminationGracePeriodSeconds"]


def test_what_is_printed_as_values_is_what_helm_takes(tmp_path: Path) -> None:
    printed = tercet("deploy", "resources", "--threads", "2", "--concurrent", "4", "--values")
    assert printed.status == 0, printed
    values = yaml.safe_load(printed.out)
    assert values["server"]["max_concurrent"] == 4
    shown = tercet("deploy", "resources", "--threads", "2", "--concurrent", "4", "--json").data
    assert values == {"server": shown["settings"], "resources": shown["container"]}
    assert shown["memory"] >= shown["program"] + shown["uploads"] + shown["weights"] + shown["pool_bytes"]
    refused = tercet("deploy", "resources", "--context", "9999")
    assert refused.status == 2
    assert "context is from 1 to 512" in refused.err
