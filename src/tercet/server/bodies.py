"""Bodies of requests: strict JSON, checked against a model, with unknown fields accepted and named once.

    class ChatRequest(StrictModel):
        model: str
        temperature: float | None = Field(None, ge=0, le=2)

    @router.post("/v1/chat/completions")
    async def create(body: Body[ChatRequest], request: Request) -> Response: ...

Strict means that a value has the type that it is declared with: `"1"` is no number and `true` no integer.
What clients of newer APIs send and we do not know is kept (`body.model_extra`), so that a new SDK works with
an old server; the log says so once for each name. A field that is known and refused raises
`PydanticCustomError("unsupported", "why")`. `AnyTypeBody` reads JSON whatever the content type says, for
the APIs whose documentation posts it with plain `curl -d`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

from fastapi import Depends
from fastapi import Request as FastApiRequest
from pydantic import BaseModel, ConfigDict, RootModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from tercet.server.errors import ApiError
from tercet.server.json_text import JsonTextError, path_text, read_json

__all__ = ["AnyTypeBody", "Body", "StrictModel", "read_body"]

LARGE_BYTES = 32 * 1024
"""A body from here on is read in a thread, so that the others' tokens go on."""
MAX_NAMED_FIELDS = 200
LOG = logging.getLogger("tercet.server")
JSON_TYPES = re.compile(r"application/(?:[\w.-]+\+)?json\s*(?:;\s*charset\s*=\s*\"?utf-?8\"?\s*)?;?", re.I)


class StrictModel(BaseModel):
    """The base of every request: see the module."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)


class BodyReader:
    """A dependency of FastAPI that reads the body of a request as `model`; `openapi` describes it by this."""

    def __init__(self, model: type[BaseModel], any_type: bool) -> None:
        self.model = model
        self.any_type = any_type

    async def __call__(self, request: FastApiRequest) -> BaseModel:
        """The body, checked; ApiError says what is wrong with it."""
        return await read_body(request, self.model, any_type=self.any_type)


async def read_body(request: Request, model: type[Model], *, any_type: bool = False) -> Model:
    """Read and check the body of a request.

    Raises:
        ApiError: 415 where it is not declared as JSON, 400 where it is not JSON or not what `model` says.
    """
    if not any_type:
        _check_content_type(request)
    data = await request.body()
    if len(data) < LARGE_BYTES:
        body = parse_body(data, model)
    else:
        body = await asyncio.to_thread(parse_body, data, model)
    if body.model_extra:
        _note_unknown(request, model, body.model_extra)
    return body


def parse_body(data: bytes, model: type[Model]) -> Model:
    """The body that these bytes say; ApiError otherwise."""
    if not data.strip():
        raise ApiError(400, "the request has no body; it needs a JSON object", code="missing_body")
    try:
        value = read_json(data)
    except JsonTextError as error:
        raise ApiError(400, str(error), param=error.param, code=error.code) from None
    if not isinstance(value, dict) and not issubclass(model, RootModel):
        raise ApiError(400, f"the body is a JSON object, not {_kind(value)}", code="invalid_type")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _refusal(error, value) from None


def _check_content_type(request: Request) -> None:
    given = request.headers.getlist("content-type")
    if len(given) == 1 and JSON_TYPES.fullmatch(given[0].strip()):
        return
    found = f"not {given[0][:100]!r}" if given else "and the request names none"
    raise ApiError(
        415, f"the content type is application/json in UTF-8, {found}", code="unsupported_media_type"
    )


def _refusal(error: ValidationError, value: Any) -> ApiError:
    """The first mistake, in OpenAI's words for its kind; how many more there are."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    # Where a field may be of several types, each of them says why not: the deepest knew most.
    detail = max(details, key=lambda one: (len(_real_path(one, value)), one["type"] == "missing"))
    path = _real_path(detail, value)
    param = path_text(path) or None
    kind = detail["type"]
    code = "invalid_value"
    message = detail["msg"][0].lower() + detail["msg"][1:]
    if kind == "missing":
        code, message = "missing_required_parameter", f"missing required parameter: {param}"
    elif kind.endswith("_type") or kind in ("int_from_float",):
        code = "invalid_type"
    if kind == "unsupported":
        code, message = "unsupported_value", f"{param or 'the body'}: {detail['msg']}"
    elif kind == "value_error":
        message = detail["msg"].removeprefix("Value error, ")
    elif kind != "missing":
        message = f"{param or 'the body'}: {message}; got {_kind(_at(value, path))}"
    others = {path_text(_real_path(one, value)) for one in details} - {param, ""}
    if others:
        message += f" (and {len(others)} more parameters are wrong)"
    return ApiError(400, message, param=param, code=code)


def _real_path(detail: ErrorDetails, value: Any) -> tuple[str | int, ...]:
    """Of pydantic's location what exists in the body: not the names of the branches of a union."""
    location = detail["loc"]
    path: list[str | int] = []
    for number, part in enumerate(location):
        if isinstance(value, dict) and isinstance(part, str):
            if part in value:
                value = value[part]
                path.append(part)
            elif number == len(location) - 1 and detail["type"] == "missing":
                path.append(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
            path.append(part)
    return tuple(path)


def _at(value: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        value = value[part]
    return value


def _kind(value: Any) -> str:
    """A value for a message: small ones as they are, others by their kind."""
    if value is None or isinstance(value, (bool, int, float)):
        return json.dumps(value)
    if isinstance(value, str):
        return repr(value) if len(value) <= 50 else f"a string of {len(value)} characters"
    return "an array" if isinstance(value, list) else "an object"


def _note_unknown(request: Request, model: type[BaseModel], unknown: dict[str, Any]) -> None:
    """Count the fields that we do not know; say each name once, and no more names than a few."""
    state = request.app.state
    state.service.metrics.count_unknown_fields(len(unknown))
    for name in unknown:
        known: set[tuple[str, str]] = state.unknown_fields
        key = (model.__name__, name[:64])
        if key not in known and len(known) < MAX_NAMED_FIELDS:
            known.add(key)
            LOG.warning("unknown field", extra={"body": key[0], "field": key[1]})


def _with(model: type[BaseModel], any_type: bool) -> Any:
    return Annotated[model, Depends(BodyReader(model, any_type))]


if TYPE_CHECKING:
    _T = TypeVar("_T")
    Body: TypeAlias = Annotated[_T, "the body"]
    AnyTypeBody: TypeAlias = Annotated[_T, "the body"]
else:

    class Body:
        """`Body[Model]`: the annotation of a parameter that is the body of the request."""

        def __class_getitem__(cls, model: type[BaseModel]) -> Any:
            """The annotation that FastAPI understands."""
            return _with(model, any_type=False)

    class AnyTypeBody:
        """`AnyTypeBody[Model]`: the same, whatever content type the request names."""

        def __class_getitem__(cls, model: type[BaseModel]) -> Any:
            """The annotation that FastAPI understands."""
            return _with(model, any_type=True)
