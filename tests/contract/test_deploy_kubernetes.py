"""Chart and manifests, rendered by Helm and kubectl themselves and judged without a cluster.

That a cluster runs them is not tested here; docs/guides/kubernetes.md says so.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from kubernetes_objects import Object, openings, read_objects, unpacked_programs, validate
from tercet.cli.settings_file import PREFIX
from tercet.deployment.resources import resources_of
from tercet.monitoring.catalogue import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "tercet"
Rendered = Callable[[str], list[Object]]
EVERYTHING = [
    "autoscaling.kind=keda,monitoring.enabled=true,gateway.enabled=true",
    "autoscaling.kind=hpa,model.name=some.tercet,model.claim=models,keys.openMetrics=true,monitoring.enabled=true",
    "model.name=microsoft/bitnet-b1.58-2B-4T,model.pull=true,networkPolicy.enabled=false,image.tag=x",
    "keys.secret=,keys.allowUnauthenticated=true,nodeSelector.disk=ssd,server.request_timeout=90",
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = unpacked_programs(tmp_path_factory.mktemp("programs"))
    if len(found) < 2:
        pytest.skip("the programs helm and kubectl are missing")
    return found


@pytest.fixture(scope="module")
def helm(programs: dict[str, Path]) -> str:
    return str(programs["helm"])


@pytest.fixture(scope="module")
def render() -> ModuleType:
    """deploy/render.py, which is a program and in no package."""
    spec = importlib.util.spec_from_file_location("render_deploy", DEPLOY / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rendered(helm: str, render: ModuleType) -> Rendered:
    """The chart's objects for values; each is rendered once, so nobody may change them."""

    @functools.cache
    def objects(values: str) -> list[Object]:
        return read_objects(render.render(helm, "--set", values))

    return objects


def by_kind(objects: list[Object]) -> dict[str, Object]:
    return {one["kind"]: one for one in objects}


def settings_in(objects: list[Object]) -> dict[str, Any]:
    """What the server is started with."""
    maps = [one for one in objects if one["kind"] == "ConfigMap" and "serve.json" in one["data"]]
    found: dict[str, Any] = json.loads(maps[0]["data"]["serve.json"])
    return found


# The chart -------------------------------------------------------------------------------------------


def test_helm_finds_nothing_wrong_with_the_chart(helm: str) -> None:
    done = subprocess.run([helm, "lint", "--strict", CHART], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", ["", *EVERYTHING])
def test_what_the_chart_renders_is_valid_closed_and_consistent(values: str, rendered: Rendered) -> None:
    objects = rendered(values)
    for one in objects:
        validate(one)
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(set(names)) == len(names)
    kinds = by_kind(objects)
    deployment = kinds["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    assert list(openings(pod)) == []
    labels = deployment["template"]["metadata"]["labels"].items()
    selectors = [deployment["selector"]["matchLabels"], kinds["Service"]["spec"]["selector"]]
    selectors += [kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]]
    if "InferencePool" in kinds:
        selectors += [kinds["InferencePool"]["spec"]["selector"]["matchLabels"]]
    assert all(selector and selector.items() <= labels for selector in selectors)
    settings = settings_in(objects)
    assert pod["terminationGracePeriodSeconds"] > settings["drain"] + settings["drain_delay"]
    assert ("keys" in settings) == ("keys" in {volume["name"] for volume in pod["volumes"]})
    assert ("replicas" in deployment) == ("autoscaling" not in values)


def test_the_settings_are_those_of_the_server(rendered: Rendered) -> None:
    known = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    for values in ("", *EVERYTHING):
        for name in settings_in(rendered(values)):
            assert f"`{PREFIX}{name.upper()}`" in known, name


def test_the_default_resources_are_those_of_the_shipped_model() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    found = resources_of(threads=2)
    assert values["resources"] == found.container()
    assert found.settings().items() <= values["server"].items()
    assert yaml.safe_load(found.helm_values()) == {"server": found.settings(), "resources": found.container()}
    assert values["autoscaling"]["runningPerReplica"] == found.concurrent * 3 // 4


def test_what_is_scaled_by_and_routed_by_is_what_the_server_counts(rendered: Rendered) -> None:
    known = {spec.name for spec in CATALOGUE}
    keda = by_kind(rendered(EVERYTHING[0]))["ScaledObject"]
    asked = [re.findall(r"vllm:\w+", trigger["metadata"]["query"]) for trigger in keda["spec"]["triggers"]]
    assert sorted(itertools.chain(*asked)) == ["vllm:num_requests_running", "vllm:num_requests_waiting"]
    assert {"vllm:kv_cache_usage_perc", *itertools.chain(*asked)} <= known
    hpa = by_kind(rendered(EVERYTHING[1]))["HorizontalPodAutoscaler"]
    named = {metric["pods"]["metric"]["name"] for metric in hpa["spec"]["metrics"]}
    adapter = (ROOT / "docs" / "guides" / "kubernetes.md").read_text(encoding="utf-8")
    assert named == {"tercet_requests_waiting", "tercet_requests_running"}
    assert all(name in adapter for name in named)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("keys.secret=", "keys"),  # nobody could come in, and nobody said that anybody may
        ("autoscaling.kind=magic", "autoscaling"),
        ("replica=3", "replica"),
        ("server.port=9000", "port"),  # probes and Service would look elsewhere
        ("model.pull=true", "model.pull needs model.name"),
    ],
)
def test_values_that_make_no_sense_are_refused(
    values: str, words: str, helm: str, render: ModuleType
) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render.render(helm, "--set", values)
    assert words in refused.value.stderr


# The plain manifests ---------------------------------------------------------------------------------


def test_generated_files_are_fresh(helm: str, render: ModuleType) -> None:
    assert render.stale(helm) == [], "run python deploy/render.py --write"


def test_kustomize_builds_the_manifests(programs: dict[str, Path]) -> None:
    command = [programs["kubectl"], "kustomize", DEPLOY / "kubernetes"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    objects = read_objects(done.stdout)
    for one in objects:
        validate(one)
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "tercet"
    files = {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")} - {"kustomization.yaml"}
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert set(listed) == files


@pytest.mark.parametrize("path", sorted((DEPLOY / "kubernetes").rglob("*.yaml")), ids=lambda path: path.name)
def test_each_manifest_is_valid(path: Path) -> None:
    for one in read_objects(path.read_text()):
        validate(one)


def test_the_judges_find_what_is_wrong() -> None:
    deployment = read_objects((DEPLOY / "kubernetes" / "deployment.yaml").read_text())[0]
    pod = deployment["spec"]["template"]["spec"]
    pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = False
    pod["hostNetwork"] = True
    del pod["volumes"][0]
    wrong = ["hostNetwork", "server may write its root", "server mounts settings, which is not there"]
    assert list(openings(pod)) == wrong
    deployment["spec"]["replicsa"] = 3
    with pytest.raises(Exception, match="replicsa"):
        validate(deployment)
    pool = read_objects((DEPLOY / "kubernetes" / "options" / "inference-gateway.yaml").read_text())[1]
    pool["spec"]["extensionRef"] = {}
    with pytest.raises(Exception, match="extensionRef"):
        validate(pool)
    with pytest.raises(ValueError, match="more than once"):
        read_objects("a: 1\na: 2\n")
