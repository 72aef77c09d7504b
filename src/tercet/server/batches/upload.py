"""A form with a file (multipart/form-data), written to the disk while it comes.

Only the file may be large; it is never held. Names and other fields are short, or the form is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from tercet.security.identity import current_caller
from tercet.server.errors import ApiError
from tercet.service.batch.store import BatchStore, NewFile

__all__ = ["store_upload"]

MAX_FIELD_BYTES = 4096
MAX_FIELDS = 20
MAX_FILENAME_CHARACTERS = 255


async def store_upload(request: Request, store: BatchStore) -> dict[str, Any]:
    """Read the form of a request, keep its file, and return the file's object.

    Raises:
        ApiError: it is not such a form, or lacks `file` or `purpose`; nothing is kept then.
        StorageError: the disk is full.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise ApiError(415, "the content type is multipart/form-data", code="unsupported_media_type")
    with contextlib.ExitStack() as stack:
        new = stack.enter_context(store.new_file("", "batch", owner=current_caller().key_id))
        form = _Form(new)
        try:
            parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
            async for part in request.stream():
                await asyncio.to_thread(parser.write, part)
            parser.finalize()
        except FormParserError as error:
            raise ApiError(
                400, f"the body is not multipart/form-data: {error}", code="invalid_form"
            ) from None
        form.check()
        new.describe(form.filename or "requests.jsonl", form.fields["purpose"])
        await asyncio.to_thread(stack.close)  # synchronizes
    return new.object


@dataclass
class _Form:
    """What a parser has found so far."""

    file: NewFile
    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    complete: bool = False
    _header: list[bytes] = field(default_factory=lambda: [b"", b""])
    _disposition: bytes = b""
    _name: str = ""
    _value: bytearray = field(default_factory=bytearray)

    def callbacks(self) -> dict[str, Any]:
        """The methods that the parser calls, by its names for them."""
        return {
            name: getattr(self, f"_{name}")
            for name in (
                "on_part_begin", "on_header_field", "on_header_value", "on_header_end", "on_headers_finished",
                "on_part_data", "on_part_end", "on_end",
            )
        }  # fmt: skip

    def check(self) -> None:
        """Refuse a form that is cut off, or lacks something."""
        if not self.complete:
            raise ApiError(400, "the form ends before its last boundary", code="invalid_form")
        for name in ("purpose", "file"):
            if name not in self.fields:
                raise ApiError(
                    400, f"missing required parameter: {name}", param=name, code="missing_required_parameter"
                )
        if self.fields["purpose"] != "batch":
            raise ApiError(
                400,
                f"purpose: files are for batches here, not for {self.fields['purpose'][:50]!r}; send batch",
                param="purpose",
                code="invalid_value",
            )

    def _on_part_begin(self) -> None:
        if len(self.fields) >= MAX_FIELDS:
            raise ApiError(400, f"the form has more than {MAX_FIELDS} fields", code="invalid_form")
        self._disposition, self._name, self._value = b"", "", bytearray()
        self._header = [b"", b""]

    def _on_header_field(self, data: bytes, begin: int, end: int) -> None:
        self._header[0] = _bounded(self._header[0], data[begin:end])

    def _on_header_value(self, data: bytes, begin: int, end: int) -> None:
        self._header[1] = _bounded(self._header[1], data[begin:end])

    def _on_header_end(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = value
        self._header = [b"", b""]

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = _text(options.get(b"name", b""))
        if not self._name or self._name in self.fields:
            what = f"has two fields {self._name!r}" if self._name else "has a field without a name"
            raise ApiError(400, f"the form {what}", code="invalid_form")
        if self._name == "file":
            self.filename = _text(options.get(b"filename", b""))[:MAX_FILENAME_CHARACTERS]

    def _on_part_data(self, data: bytes, begin: int, end: int) -> None:
        if self._name == "file":
            self.file.write(memoryview(data)[begin:end])
        elif len(self._value) + end - begin > MAX_FIELD_BYTES:
            raise ApiError(400, f"{self._name[:60]} is too long", param=self._name[:60], code="invalid_form")
        else:
            self._value += data[begin:end]

    def _on_part_end(self) -> None:
        self.fields[self._name] = _text(bytes(self._value))

    def _on_end(self) -> None:
        self.complete = True


def _bounded(known: bytes, more: bytes) -> bytes:
    if len(known) + len(more) > MAX_FIELD_BYTES:
        raise ApiError(400, "the form has a header that is too long", code="invalid_form")
    return known + more


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ApiError(400, "the form's names and fields are UTF-8", code="invalid_form") from None
