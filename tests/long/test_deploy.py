"""What deploy/ describes, carried out as far as that goes without a cluster and a cloud.

    ./dev test-long tests/long/test_deploy.py          needs root, and
    apt-get install buildah crun debootstrap           half an hour on two busy cores, most of it compiling

The Dockerfile is built by Buildah from a Debian that debootstrap makes, and the server runs in the image.
The settings for a machine of one's own are judged by cloud-init's schema and by systemd. TERCET_IMAGES names
a folder that keeps the base image from one run to the next.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import jsonschema
import pytest
import yaml

from container_build import Builder, missing_programs
from long_results import RecordLongResult

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
BASE, SUITE = "docker.io/library/debian:trixie-slim", "trixie"
CLOUD_INIT = DEPLOY / "cloud-init" / "tercet.yaml"
SCRIPT = r"""
set -eu
echo "user $(id -u)"
for place in /opt /usr /etc; do touch $place/x 2>/dev/null && echo "may write $place"; done
for program in cc cmake ninja; do command -v $program && echo "still has $program"; done
tercet serve 2>&1 | grep -o "there are no API keys"
tercet keys create operator --role admin > /tmp/key
tercet serve --threads 2 2> /tmp/log &
server=$!
until HEALTHCHECK 2>/dev/null; do sleep 1; kill -0 $server; done
python3 - <<'END'
import json, urllib.error, urllib.request
def ask(path, body=None, key=None):
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request("http://127.0.0.1:8080" + path, data, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""
key = open("/tmp/key").read().strip()
print("without a key", ask("/v1/models")[0], ask("/metrics")[0], ask("/readyz")[0])
question = {"prompt": "Once upon a time", "max_tokens": 16, "temperature": 0}
status, answer = ask("/v1/completions", question, key)
print("with a key", status, json.dumps(json.loads(answer)["choices"][0]["text"]))
END
kill -TERM $server
wait $server
echo "ended with $?"
"""

pytestmark = [pytest.mark.long, pytest.mark.timeout(2 * 3600)]


def test_the_image_is_built_and_serves(tmp_path: Path, record_long_result: RecordLongResult) -> None:
    missing = missing_programs()
    assert not missing, "apt-get install buildah crun debootstrap, as root"
    kept = os.environ.get("TERCET_IMAGES")
    builder = Builder(Path(kept) if kept else tmp_path / "images")
    started = time.monotonic()
    if not builder.has(BASE):
        builder.make_base(BASE, SUITE)
    based = time.monotonic()
    dockerfile = DEPLOY / "docker" / "Dockerfile"
    builder.build(ROOT, dockerfile, "tercet")
    built = time.monotonic()
    check = json.loads(re.findall(r"HEALTHCHECK .*\\\n +CMD (\[.*\])", dockerfile.read_text())[0])
    script = tmp_path / "script"
    script.write_text(SCRIPT.replace("HEALTHCHECK", " ".join(f'"{word}"' for word in check)))
    printed = builder.run("tercet", script).splitlines()
    assert printed[0] == "user 65532"
    assert printed[1] == "there are no API keys"  # so neither may it write there, nor are there compilers
    assert printed[2] == "without a key 401 401 200"
    assert re.fullmatch(r'with a key 200 ".{20,}"', printed[3])
    assert printed[4:] == ["ended with 0"]
    figures = {
        "base": f"{SUITE} by debootstrap" + (" (kept from an earlier run)" if kept else ""),
        "builder": subprocess.run(["buildah", "--version"], capture_output=True, text=True).stdout.strip(),
        "base_seconds": round(based - started),
        "build_seconds": round(built - based),
        "run_seconds": round(time.monotonic() - built),
        "printed": printed,
    }
    record_long_result("container_image", figures)
    if not kept:
        shutil.rmtree(tmp_path / "images", ignore_errors=True)


def test_cloud_init_and_systemd_take_their_files(
    tmp_path: Path, record_long_result: RecordLongResult
) -> None:
    fetched = subprocess.run(
        ["apt-get", "download", "cloud-init"], cwd=tmp_path, capture_output=True, text=True
    )
    assert fetched.returncode == 0, fetched.stderr
    (package,) = tmp_path.glob("cloud-init_*.deb")
    subprocess.run(["dpkg", "--extract", package, tmp_path / "unpacked"], check=True)
    (schema,) = (tmp_path / "unpacked").rglob("schema-cloud-config-v1.json")
    config = yaml.safe_load(CLOUD_INIT.read_text())
    judge = jsonschema.Draft4Validator(json.loads(schema.read_text()))
    judge.validate(config)
    assert list(judge.iter_errors({**config, "runcmd": "no list"}))
    (unit,) = [one["content"] for one in config["write_files"] if one["path"].endswith(".service")]
    service = tmp_path / "tercet.service"
    service.write_text(unit.replace("/opt/tercet/bin/tercet", "/bin/true"))
    verified = subprocess.run(["systemd-analyze", "verify", service], capture_output=True, text=True)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", service]
    exposure = subprocess.run(command, capture_output=True, text=True).stdout.strip().splitlines()[-1]
    level = float(re.findall(r"([0-9.]+) OK", exposure)[0])
    assert level < 3
    systemd = subprocess.run(
        ["systemd-analyze", "--version"], capture_output=True, text=True
    ).stdout.splitlines()[0]
    record_long_result("cloud_init", {"schema": package.name, "systemd": systemd, "exposure": level})
