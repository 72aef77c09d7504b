"""The application: routes over one service, inside what every request goes through."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from tercet.errors import TercetError
from tercet.server.access import Access
from tercet.server.auditing import Auditing
from tercet.server.authorization import RoleTable, role_of
from tercet.server.batches.opening import open_jobs
from tercet.server.errors import ApiError, answer_error, error_response, note_error
from tercet.server.middleware.admission import Admission
from tercet.server.middleware.audit import Audit
from tercet.server.middleware.authentication import Authentication
from tercet.server.middleware.caller_trace import CallerTrace
from tercet.server.middleware.content import Content
from tercet.server.middleware.departure import Departure
from tercet.server.middleware.limits import Limits
from tercet.server.middleware.origin import Origin, checked_origin
from tercet.server.middleware.request_log import RequestLog
from tercet.server.middleware.upload import Upload
from tercet.server.openapi import api_routes
from tercet.server.openapi import router as description
from tercet.server.request_account import AccountObserver
from tercet.server.routes import ROUTERS
from tercet.server.settings import ServerSettings
from tercet.service.guard import Guard

if TYPE_CHECKING:
    from tercet.service.service import Service

__all__ = ["create_app"]


def create_app(
    service: Service, settings: ServerSettings | None = None, auditing: Auditing | None = None
) -> FastAPI:
    """Make the application; `app.state.service`, `.settings` and `.batches` are what routes work with.

    Args:
        service: answers.
        settings: the limits.
        auditing: of the application that this one belongs to; None makes one.

    Raises:
        ParameterError: others can reach the address, and there are no keys; see `Access`.
        StorageError: the folder of batches or of the audit log, or the file of keys, cannot be used.
        FormatError: the file of keys is damaged.
        ChecksumError: the audit log was changed.
    """
    settings = settings or ServerSettings()
    access = Access(settings)
    if auditing is None:
        auditing = Auditing(settings)
        access.on_change = partial(auditing.events.emit, "configuration.changed", "", what="keys")
        service.observe(AccountObserver())
        service.observe(auditing.slow_requests)
        service.metrics.security = auditing.counts
    app = FastAPI(
        title="Tercet",
        openapi_url=None,  # openapi.py makes a stricter one
        docs_url=None,  # pages that load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.settings = settings
    app.state.unknown_fields = set()
    app.state.access = access
    app.state.security = settings.security_config(access.keys_on or not settings.is_loopback)
    app.state.guard = Guard(app.state.security)
    app.state.content = settings.content_policies(app.state.security)
    app.state.auditing = auditing
    app.state.security_events = auditing.events
    app.state.client_ids = auditing.client_ids
    auditing.counts.configuration = _configuration(app)
    app.state.batches = open_jobs(service, settings, auditing)
    app.state.loop_lag = None  # whoever runs the loop measures it
    app.state.monitor = None  # and watches over time
    for error in (ApiError, TercetError):
        app.add_exception_handler(error, answer_error)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    # The last one added is the outermost.
    if settings.otlp_endpoint is not None:
        app.add_middleware(CallerTrace)
    app.add_middleware(Departure)
    app.add_middleware(Upload, settings=settings)
    app.add_middleware(Admission, service=service)
    app.add_middleware(
        Content,
        policies=app.state.content,
        sanitize=app.state.security.sanitize_inputs,
        emit=lambda scope, kind, counts: auditing.events.emit(kind, auditing.client(scope), **counts),
    )
    app.add_middleware(Limits, guard=app.state.guard)
    app.add_middleware(
        Authentication,
        access=access,
        roles=lambda: app.state.roles,
        open_health=settings.open_health,
        open_metrics=settings.open_metrics,
    )
    app.add_middleware(
        Origin,
        allowed_hosts=settings.allowed_hosts,
        origins=[checked_origin(origin) for origin in settings.cors_origins],
        any_host=not access.allows_anyone,
    )
    app.add_middleware(Audit, auditing=auditing, is_admins=_is_admins)
    app.add_middleware(RequestLog, count=service.metrics.count_http, writes=app.state.security.log_requests)
    for router in (*ROUTERS, description):
        app.include_router(router)
    app.state.routes = api_routes(app)
    app.state.roles = RoleTable(app.routes)
    return app


def _configuration(app: FastAPI) -> dict[str, Any]:
    """The security settings in force, as the audit log, the metrics and /security/status show them."""
    state = app.state
    reached = {"keys_on": state.access.keys_on, "is_loopback": state.settings.is_loopback}
    return {**state.security.to_dict(), **reached}


def _is_admins(route: BaseRoute) -> bool:
    """Whether only admins may use a route."""
    return role_of(route) == "admin"


async def _answer_http(request: Request, error: Exception) -> Response:
    """No such place, or not this method: FastAPI knows the methods of one route, a place may have several."""
    note_error(request.scope, error)
    response = error_response(error)
    if response.status_code == 405:
        routes = [route for route in request.app.state.routes if route.path_regex.match(request.url.path)]
        response.headers["Allow"] = ", ".join(
            sorted({method for route in routes for method in route.methods})
        )
    return response


async def _answer_validation(request: Request, error: Exception) -> Response:
    """A parameter of the path or the query is wrong; bodies have been checked by `bodies`."""
    details = error.errors() if isinstance(error, RequestValidationError) else []
    where = str(details[0]["loc"][-1]) if details else None
    message = f"{where}: {details[0]['msg']}" if details else str(error)
    wrong = ApiError(400, message, param=where, code="invalid_value")
    note_error(request.scope, wrong)
    return error_response(wrong)
