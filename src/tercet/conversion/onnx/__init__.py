"""A model as an ONNX graph, which onnxruntime runs without Tercet.

    export      the folder: graph, weights beside it, tokenizer; all or nothing
    decoder     the graph, node by node what `tercet.reference` does line by line
    products    what is multiplied with what: rounding of activations, and the two ways of storing codes
    two_bit     codes at two bits, multiplied by MatMulNBits of onnxruntime
    int8        codes at eight bits, multiplied by operators that every ONNX runtime has
    graph       nodes, and weights that go to their file as soon as they are known
    session     generation with onnxruntime alone, and the comparison with the reference

Only this package needs the packages `onnx` and `onnxruntime`, and only when it is used.
"""

from tercet.conversion.onnx.export import OnnxExport, export_onnx

__all__ = ["OnnxExport", "export_onnx"]
