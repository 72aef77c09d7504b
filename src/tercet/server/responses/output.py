"""The output of a response while it is written: items, and the events that tell of each change.

    output_item.added
        content_part.added  output_text.delta ...  output_text.done  content_part.done
        function_call_arguments.delta ...  function_call_arguments.done
    output_item.done

A response that is not streamed is written in the same way, and its events go nowhere: so both are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tercet.server.generation.accounts import completion_id
from tercet.service.tool_call_parser import CallDelta, Delta

__all__ = ["Output"]

Event = dict[str, Any]


class Output:
    """Items in the order in which the model wrote them; at most one of them, the last, is open."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self._logprobs: list[dict[str, Any]] = []

    def write(self, delta: Delta, logprobs: list[dict[str, Any]]) -> Iterator[Event]:
        """Add text or a piece of a call."""
        if isinstance(delta, CallDelta):
            yield from self._write_call(delta)
        else:
            yield from self.write_text(delta.text, logprobs)

    def write_text(self, text: str, logprobs: list[dict[str, Any]]) -> Iterator[Event]:
        """Add text, with the log probabilities of its tokens where they are asked for."""
        if not self._is_open("message"):
            yield from self.close("completed")
            yield from self._open_message()
        item = self.items[-1]
        item["content"][0]["text"] += text
        item["content"][0]["logprobs"] += logprobs
        yield self._about_text("response.output_text.delta", delta=text, logprobs=logprobs)

    def close(self, status: str) -> Iterator[Event]:
        """End the item that is open, if one is."""
        if not self.items or self.items[-1]["status"] != "in_progress":
            return
        item = self.items[-1]
        if item["type"] == "message":
            part = item["content"][0]
            yield self._about_text("response.output_text.done", text=part["text"], logprobs=part["logprobs"])
            yield self._about_text("response.content_part.done", part=dict(part))
        else:
            said = {"name": item["name"], "arguments": item["arguments"]}
            yield {**self._about("response.function_call_arguments.done"), **said}
        item["status"] = status
        yield self._of_item("response.output_item.done")

    def _open_message(self) -> Iterator[Event]:
        self.items.append(
            {
                "id": completion_id("msg_"),
                "type": "message",
                "role": "assistant",
                "status": "in_progress",
                "content": [],
            }
        )
        yield self._of_item("response.output_item.added")
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self.items[-1]["content"].append(part)
        yield self._about_text("response.content_part.added", part={**part, "logprobs": []})

    def _write_call(self, delta: CallDelta) -> Iterator[Event]:
        if delta.id is not None:
            yield from self.close("completed")
            self.items.append(
                {
                    "id": completion_id("fc_"),
                    "type": "function_call",
                    "status": "in_progress",
                    "call_id": delta.id,
                    "name": delta.name,
                    "arguments": "",
                }
            )
            yield self._of_item("response.output_item.added")
        if delta.arguments:
            self.items[-1]["arguments"] += delta.arguments
            yield self._about("response.function_call_arguments.delta", delta=delta.arguments)

    def _is_open(self, kind: str) -> bool:
        return (
            bool(self.items) and self.items[-1]["type"] == kind and self.items[-1]["status"] == "in_progress"
        )

    def _of_item(self, name: str) -> Event:
        item = self.items[-1]
        shown = {**item, "content": list(item["content"])} if item["type"] == "message" else dict(item)
        return {"type": name, "output_index": len(self.items) - 1, "item": shown}

    def _about(self, name: str, **fields: Any) -> Event:
        return {"type": name, "item_id": self.items[-1]["id"], "output_index": len(self.items) - 1, **fields}

    def _about_text(self, name: str, **fields: Any) -> Event:
        return self._about(name, content_index=0, **fields)
