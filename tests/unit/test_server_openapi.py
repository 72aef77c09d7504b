"""The description of the routes: every route is in it, every reference leads somewhere, errors are told."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from tercet.monitoring.metrics import ServiceMetrics
from tercet.server.app import create_app
from tercet.server.openapi import api_routes, describe


@pytest.fixture(scope="module")
def app() -> Any:
    service: Any = SimpleNamespace(state="ready", metrics=ServiceMetrics(), observe=lambda observer: None)
    return create_app(service)


@pytest.fixture(scope="module")
def document(app: Any) -> dict[str, Any]:
    return describe(app)


def test_every_route_is_described(app: Any, document: dict[str, Any]) -> None:
    described = {(path, method.upper()) for path, item in document["paths"].items() for method in item}
    routes = [route for route in api_routes(app) if route.include_in_schema]
    assert described == {(route.path_format, method) for route in routes for method in route.methods}
    assert {("/v1/chat/completions", "POST"), ("/health", "GET"), ("/api/chat", "POST")} <= described


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_operation_tells_its_errors_and_no_other(document: dict[str, Any]) -> None:
    for item in document["paths"].values():
        for operation in item.values():
            assert {"400", "404", "431", "500", "503"} <= set(operation["responses"])
            assert "422" not in operation["responses"]
            assert ("413" in operation["responses"]) == ("requestBody" in operation)
            assert operation["summary"]
            assert operation["description"]


def test_operations_have_ids_of_their_own(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))
