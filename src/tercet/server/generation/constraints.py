"""What an answer must look like, in the names of the projects whose clients come here.

    response_format                                                       OpenAI
    structured_outputs; guided_json, _regex, _choice, _grammar            vLLM
    grammar, json_schema                                                  llama.cpp

One request names one of them. All become the same `ConstraintSpec`, which is compiled with bounds on size,
depth and time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import Field

from tercet.errors import InvalidInputError
from tercet.sampling.constraints import ConstraintSpec
from tercet.sampling.token_constraint import ConstraintError
from tercet.server.bodies import StrictModel
from tercet.server.errors import ApiError
from tercet.server.generation.refusals import contradiction
from tercet.service.guard import CONSTRAINT

__all__ = [
    "ConstraintFields",
    "JsonSchemaFormat",
    "ResponseFormat",
    "StructuredOutputs",
    "naming_constraints",
]

Choices = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=256)]
JsonSchema = dict[str, Any] | bool


class JsonSchemaFormat(StrictModel):
    """The schema of `response_format`. Every schema is followed strictly, whatever `strict` says."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(StrictModel):
    """OpenAI's way to ask for JSON."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class StructuredOutputs(StrictModel):
    """vLLM's way; one of the fields is given."""

    json_: dict[str, Any] | str | None = Field(None, alias="json")
    regex: str | None = None
    choice: Choices | None = None
    grammar: str | None = None
    json_object: bool | None = None


class ConstraintFields(StrictModel):
    """The fields that completions and conversations share."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: Choices | None = None
    guided_grammar: str | None = None
    grammar: str | None = None
    json_schema: dict[str, Any] | None = None

    def constraint(self) -> ConstraintSpec | None:
        """Return the one constraint that is asked for, None without any.

        Raises:
            ApiError: there are two, or one lacks what it needs.
        """
        asked = self._asked()
        if len(asked) > 1:
            first, second, *_ = asked
            raise contradiction(second, f"is a second constraint beside {first}; an answer follows one")
        return next(iter(asked.values()), None)

    @property
    def constraint_field(self) -> str:
        """The field that asks for the constraint."""
        return next(iter(self._asked()), "response_format")

    def _asked(self) -> dict[str, ConstraintSpec]:
        vllm = self.structured_outputs or StructuredOutputs.model_validate({})
        openai = self.response_format
        asked = {
            "response_format": None if openai is None else format_constraint(openai),
            "structured_outputs.json": _schema(vllm.json_),
            "structured_outputs.regex": _spec("regex", vllm.regex),
            "structured_outputs.choice": _choice(vllm.choice),
            "structured_outputs.grammar": _spec("grammar", vllm.grammar),
            "structured_outputs.json_object": ConstraintSpec("json_object") if vllm.json_object else None,
            "guided_json": _schema(self.guided_json),
            "guided_regex": _spec("regex", self.guided_regex),
            "guided_choice": _choice(self.guided_choice),
            "guided_grammar": _spec("grammar", self.guided_grammar),
            "grammar": _spec("grammar", self.grammar or None),
            "json_schema": _schema(self.json_schema),
        }
        return {name: spec for name, spec in asked.items() if spec is not None}


def format_constraint(asked: ResponseFormat) -> ConstraintSpec | None:
    """Return what a `response_format` asks for, None for text.

    Raises:
        ApiError: the schema is missing.
    """
    if asked.type == "json_object":
        return ConstraintSpec("json_object")
    if asked.type == "text":
        return None
    if asked.json_schema is None:
        raise contradiction("response_format.json_schema", "is missing: the type json_schema needs it")
    return _schema({} if asked.json_schema.schema_ is None else asked.json_schema.schema_)


def _spec(kind: Any, value: str | None) -> ConstraintSpec | None:
    return None if value is None else ConstraintSpec(kind, value)


def _schema(value: dict[str, Any] | str | None) -> ConstraintSpec | None:
    if value is None:
        return None
    return ConstraintSpec("json_schema", value)


def _choice(values: list[str] | None) -> ConstraintSpec | None:
    """One of these texts: a grammar in Lark's notation, whose strings are JSON's."""
    if values is None:
        return None
    return ConstraintSpec("grammar", "start: " + " | ".join(json.dumps(value) for value in values))


@contextmanager
def naming_constraints(field: str) -> Iterator[None]:
    """Give errors of a constraint the name of the field that asked for it."""
    try:
        yield
    except ConstraintError as error:
        raise ApiError(400, f"{field}: {error}", param=field, code="invalid_value") from error
    except InvalidInputError as error:
        if error.param != CONSTRAINT:
            raise
        raise InvalidInputError(str(error).replace(CONSTRAINT, field, 1), field) from error
