"""Which tools a model may call: `tool_choice` of two APIs, made simple."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tercet.server.bodies import StrictModel
from tercet.server.generation.refusals import contradiction, unsupported

__all__ = ["MOST_TOOLS", "FunctionEntry", "FunctionName", "choose_tools", "tool_of"]

MOST_TOOLS = 128
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


class FunctionEntry(StrictModel):
    """Something of type "function"; the other types of tools are OpenAI's own, or call what is not there."""

    type: Literal["function"]

    @model_validator(mode="before")
    @classmethod
    def _is_a_function(cls, value: Any) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        if isinstance(kind, str) and kind != "function":
            raise unsupported(
                f"a tool of type {kind[:40]!r} cannot be used: tools are functions of the client"
            )
        return value


def tool_of(
    name: str, description: str | None, parameters: dict[str, Any] | None, strict: bool | None
) -> dict[str, Any]:
    """Return a tool as the service takes it: as chat completions have it, without what is null."""
    fields = {"description": description, "parameters": parameters, "strict": strict}
    function = {"name": name, **{field: value for field, value in fields.items() if value is not None}}
    return {"type": "function", "function": function}


def choose_tools(
    tools: Sequence[dict[str, Any]], mode: str | None, named: str | None, allowed: Sequence[str] | None
) -> tuple[list[dict[str, Any]] | None, str | dict[str, Any] | None]:
    """Return the tools that may be called, and the simplest `tool_choice` that says how.

    Args:
        tools: all of them.
        mode: "none", "auto", "required", or None where the request says nothing.
        named: the one that must be called.
        allowed: the only ones that may be.

    Raises:
        ApiError: two have one name, or the choice is about tools that are not there.
    """
    by_name = {tool["function"]["name"]: tool for tool in tools}
    if len(by_name) < len(tools):
        raise contradiction("tools", "has two functions of the same name")
    for name in [*(allowed or ()), *([] if named is None else [named])]:
        if name not in by_name:
            raise contradiction("tool_choice", f"names {name!r}, and no tool is called so")
    if mode == "required" and not tools:
        raise contradiction("tool_choice", "requires a call, and there are no tools")
    if not tools:
        return None, None
    if named is not None:
        return list(tools), {"type": "function", "function": {"name": named}}
    return list(tools) if allowed is None else [by_name[name] for name in allowed], mode
