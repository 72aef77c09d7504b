"""An ONNX graph while it grows: nodes stay in memory, weights go to a file of their own at once.

So the memory that an export takes is that of one weight, and the graph file stays small, whatever the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["CONTRIB", "Graph"]

OPSET = 21
"""The first with scales by blocks in DequantizeLinear; onnxruntime has it since 1.20."""
IR_VERSION = 10
CONTRIB = "com.microsoft"
"""The operators of onnxruntime that are not in ONNX."""
_PAGE = 4096
"""What onnxruntime maps instead of copying begins at a page."""
_PADDING = 64
_FLOAT_TYPES = {"f32": TensorProto.FLOAT, "f16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


class Graph:
    """Makes nodes and weights; every method returns the name of a value.

    Args:
        data: the file for weights, open for writing at its beginning.
        location: its name as the graph calls it.
    """

    def __init__(self, data: BinaryIO, location: str) -> None:
        self._data = data
        self._location = location
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._scope = ""
        self._uses_contrib = False

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Begin the names of nodes made in the block with `name`, for people who look at the graph."""
        outer, self._scope = self._scope, f"{self._scope}{name}/"
        yield
        self._scope = outer

    def op(self, kind: str, /, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, count: int, /, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        name = f"{self._scope}{kind}_{len(self._nodes)}"
        outputs = [name] if count == 1 else [f"{name}:{index}" for index in range(count)]
        self._uses_contrib |= attributes.get("domain") == CONTRIB
        self._nodes.append(helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
        return outputs

    def constant(self, values: Any, dtype: type[np.generic] = np.float32) -> str:
        """Return a small constant, which is kept in the graph file once."""
        array = np.asarray(values, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = name
            self._weights[name] = numpy_helper.from_array(array, name)
        return self._constants[key]

    def integers(self, *values: int) -> str:
        """Return a constant int64 vector, as shapes and axes are given."""
        return self.constant(values, np.int64)

    def weight(
        self,
        name: str,
        shape: Sequence[int],
        blocks: Iterable[npt.NDArray[Any]],
        type: str | None = None,
    ) -> str:
        """Write a weight to the data file, unless one of this name is there.

        Args:
            name: the weight's.
            shape: its shape.
            blocks: its elements in order, in pieces of any size, all of one type.
            type: `f32`, `f16` or `bf16`; None for that of the first block.
        """
        if name in self._weights:
            return name
        expected = int(np.prod(shape))
        self._data.write(b"\0" * (-self._data.tell() % (_PAGE if expected >= _PAGE else _PADDING)))
        offset, elements, code = self._data.tell(), 0, _FLOAT_TYPES.get(type or "", 0)
        for block in blocks:
            code = code or helper.np_dtype_to_tensor_dtype(block.dtype)
            self._data.write(np.ascontiguousarray(block).data.cast("B"))
            elements += block.size
        if elements != expected:
            raise ValueError(f"{name} {list(shape)} has {expected} elements, {elements} were written")
        tensor = TensorProto(name=name, data_type=code, dims=shape, data_location=TensorProto.EXTERNAL)
        place = {"location": self._location, "offset": offset, "length": self._data.tell() - offset}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._weights[name] = tensor
        return name

    def input(self, name: str, dtype: type[np.generic], shape: Sequence[int | str]) -> str:
        """Declare an input; a dimension with a name is free."""
        self._inputs.append(_value(name, dtype, shape))
        return name

    def output(self, name: str, value: str, shape: Sequence[int | str], *, first: bool = False) -> None:
        """Declare a float32 output and what it is; `first` puts it before those declared already."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=f"{name}/Identity"))
        self._outputs.insert(0 if first else len(self._outputs), _value(name, np.float32, shape))

    def model(self, name: str, metadata: dict[str, str]) -> onnx.ModelProto:
        """Return the whole, without the weights in the data file."""
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, initializer=list(self._weights.values())
        )
        opsets = [helper.make_opsetid("", OPSET)]
        if self._uses_contrib:
            opsets.append(helper.make_opsetid(CONTRIB, 1))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="tercet")
        helper.set_model_props(model, metadata)
        return model


def _value(name: str, dtype: type[np.generic], shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, code, list(shape))
