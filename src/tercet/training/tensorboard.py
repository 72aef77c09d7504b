"""The events of a run as TensorBoard reads them: `tensorboard --logdir runs`.

`log.jsonl` is the history and this a second copy of it. A resumed run therefore writes its event file anew,
from the lines that hold, and TensorBoard never shows steps that were done twice.

    train/loss  train/gradient_norm  train/learning_rate_factor  train/tokens_per_second
    validation/loss  validation/perplexity  validation/nats_per_byte       the text validation/sample
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tercet.environment import optional_import

_GROUPS = {"step": "train", "evaluation": "validation"}
_NOT_DRAWN = {"event", "step", "tokens", "time"}


class EventFile:
    """One event file in `folder`, whose older ones are removed."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        writer = optional_import("tensorboard.summary.writer.event_file_writer", "train")
        self._event = optional_import("tensorboard.compat.proto.event_pb2", "train").Event
        self._summary = optional_import("tensorboard.compat.proto.summary_pb2", "train")
        self._tensor = optional_import("tensorboard.compat.proto.tensor_pb2", "train").TensorProto
        self._string = optional_import("tensorboard.compat.proto.types_pb2", "train").DT_STRING
        self._file = writer.EventFileWriter(str(folder))

    def write(self, event: Mapping[str, Any], wall_time: float) -> None:
        """Add an event of `log.jsonl`; kinds that have no curves are left out."""
        group = _GROUPS.get(event["event"])
        if group is None:
            return
        values = []
        for name, value in event.items():
            tag = f"{group}/{name}"
            if isinstance(value, str) and name not in _NOT_DRAWN:
                text = self._tensor(dtype=self._string, string_val=[value.encode()])
                text.tensor_shape.dim.add(size=1)
                about = self._summary.SummaryMetadata(
                    plugin_data=self._summary.SummaryMetadata.PluginData(plugin_name="text")
                )
                values.append(self._summary.Summary.Value(tag=tag, tensor=text, metadata=about))
            elif isinstance(value, int | float) and name not in _NOT_DRAWN:
                values.append(self._summary.Summary.Value(tag=tag, simple_value=value))
        self._file.add_event(
            self._event(wall_time=wall_time, step=event["step"], summary=self._summary.Summary(value=values))
        )

    def flush(self) -> None:
        """Write what is buffered."""
        self._file.flush()
