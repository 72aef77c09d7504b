"""Which route is for whom: a table of all of them. What is not in it is for admins.

Users ask models and see what is theirs. What tells of everybody (figures, slots, properties of the server) or
changes what others get (adapters, their factors) is for admins, `/metrics` too: it would tell one client how
much the others ask. A test walks the routes of the application and fails for one that is not in the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from tercet.security.identity import Role

__all__ = [
    "ADMIN_PATHS",
    "HEALTH_PATHS",
    "METRICS_PATH",
    "USER_PATHS",
    "RoleTable",
    "every_route",
    "role_of",
]

HEALTH_PATHS = frozenset({"/livez", "/readyz", "/health", "/v1/health"})
"""What balancers and supervisors poll; with `open_health` they need no key for it."""

METRICS_PATH = "/metrics"
"""What Prometheus and endpoint pickers read; with `open_metrics` they need no key for it."""

PAGE_FOLDER = "/page/"
"""The scripts and styles of the page, at addresses with a digest."""

USER_PATHS = HEALTH_PATHS | {
    "/",
    "/openapi.json",
    "/version",
    "/v1/chat/completions",
    "/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/responses",
    "/v1/files",
    "/v1/files/{file_id}",
    "/v1/files/{file_id}/content",
    "/v1/batches",
    "/v1/batches/{batch_id}",
    "/v1/batches/{batch_id}/cancel",
    "/v1/models",
    "/models",
    "/v1/models/{model:path}",
    "/completion",
    "/completions",
    "/embedding",
    "/embeddings",
    "/tokenize",
    "/detokenize",
    "/apply-template",
    "/audio/transcriptions",
    "/infill",
    "/rerank",
    "/reranking",
    "/v1/rerank",
    "/v1/reranking",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/embeddings",
    "/api/tags",
    "/api/ps",
    "/api/show",
    "/api/version",
}

ADMIN_PATHS = frozenset(
    {
        METRICS_PATH,
        "/dashboard.json",
        "/dashboard/day.json",
        "/health/details",
        "/alerts",
        "/profile",
        "/security/status",
        "/props",
        "/slots",
        "/slots/{id_slot}",
        "/lora-adapters",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/api/pull",
        "/api/push",
        "/api/create",
        "/api/copy",
        "/api/delete",
    }
)


def role_of(route: BaseRoute) -> Role:
    """Who may use a route."""
    path = str(getattr(route, "path", ""))
    return "user" if path in USER_PATHS or path.startswith(PAGE_FOLDER) else "admin"


def every_route(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """All routes, those of routers within routers as well; a mounted application is one route."""
    for route in routes:
        inner: Any = getattr(route, "original_router", None)  # FastAPI 0.16x nests them
        if inner is None:
            yield route
        else:
            yield from every_route(inner.routes)


class RoleTable:
    """Who may use which address of an application.

    Args:
        routes: the application's own list; what is added to it later is found, too.
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = routes
        self._read()

    def _read(self) -> None:
        self._num_routes = len(self._routes)
        self._fixed: dict[str, Role] = {}
        self._patterns: list[tuple[BaseRoute, Role]] = []
        for route in every_route(self._routes):
            path, role = str(getattr(route, "path", "{")), role_of(route)
            if "{" in path or not hasattr(route, "endpoint"):
                self._patterns.append((route, role))
            elif self._fixed.get(path) != "admin":
                self._fixed[path] = role

    def needed(self, scope: Scope) -> Role:
        """The role that the address of a request asks for; where there is no route, any will do."""
        if len(self._routes) != self._num_routes:
            self._read()
        role = self._fixed.get(scope["path"])
        if role is not None:
            return role
        found = [role for route, role in self._patterns if route.matches(scope)[0] is not Match.NONE]
        return "admin" if "admin" in found else "user"
