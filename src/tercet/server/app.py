"""The application: routes over one service, inside what every request goes through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tercet.errors import TercetError
from tercet.server.batches.opening import open_jobs
from tercet.server.errors import ApiError, answer_error, error_response
from tercet.server.middleware.admission import Admission
from tercet.server.middleware.departure import Departure
from tercet.server.middleware.request_log import RequestLog
from tercet.server.middleware.upload import Upload
from tercet.server.openapi import api_routes
from tercet.server.openapi import router as description
from tercet.server.routes import ROUTERS
from tercet.server.settings import ServerSettings

if TYPE_CHECKING:
    from tercet.service.service import Service

__all__ = ["create_app"]


def create_app(service: Service, settings: ServerSettings | None = None) -> FastAPI:
    """Make the application; `app.state.service`, `.settings` and `.batches` are what routes work with.

    Raises:
        StorageError: the folder of batches cannot be used.
    """
    settings = settings or ServerSettings()
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
    app.state.batches = open_jobs(service, settings)
    app.state.loop_lag = None  # whoever runs the loop measures it
    for error in (ApiError, TercetError):
        app.add_exception_handler(error, answer_error)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    # The last one added is the outermost.
    app.add_middleware(Departure)
    app.add_middleware(Upload, settings=settings)
    app.add_middleware(Admission, service=service)
    app.add_middleware(RequestLog, count=service.metrics.count_http)
    for router in (*ROUTERS, description):
        app.include_router(router)
    app.state.routes = api_routes(app)
    return app


async def _answer_http(request: Request, error: Exception) -> Response:
    """No such place, or not this method: FastAPI knows the methods of one route, a place may have several."""
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
    return error_response(ApiError(400, message, param=where, code="invalid_value"))
