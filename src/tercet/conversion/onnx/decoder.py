"""The decoder as a graph: each method here has its counterpart of the same name in `tercet.reference`.

Inputs and outputs have the names that other programs use for decoders with a cache:

    input_ids int64 [batch, sequence]                  logits [batch, sequence, vocab_size]
    attention_mask int64 [batch, total]                present.{i}.key  [batch, kv_heads, total, head_dim]
    position_ids int64 [batch, sequence]               present.{i}.value  the same
    past_key_values.{i}.key  [batch, kv_heads, past, head_dim]          total = past + sequence
    past_key_values.{i}.value  the same

The cache is empty (past is 0) at the first call. Sequences of a batch that are shorter are padded in front,
and attention_mask is 0 there. A model that makes embeddings has input_ids and attention_mask only, takes
padding at either end, and gives last_hidden_state and sentence_embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from tercet.conversion.onnx.graph import Graph
from tercet.conversion.onnx.products import Products
from tercet.formats.matrices import FloatMatrix, PackedMatrix
from tercet.models.config import ModelConfig
from tercet.reference.hadamard import hadamard

__all__ = ["DecoderGraph"]

_HIDDEN = np.finfo(np.float32).min
"""The score of a token that is not seen: finite, so that a row of padding has no NaN."""
_SMALLEST_LENGTH = 1e-12
_BOOL, _FLOAT, _INT64 = 9, 1, 7


class DecoderGraph:
    """Adds the nodes of a model to a graph.

    Args:
        graph: an empty graph.
        products: how its matrices are multiplied.
        config: the model's.
        matrices: canonical name -> matrix, looked up when needed.
        release: called when a matrix has been written.
        progress: called with the name of a matrix that is about to be.
    """

    def __init__(
        self,
        graph: Graph,
        products: Products,
        config: ModelConfig,
        matrices: Mapping[str, PackedMatrix | FloatMatrix],
        release: Callable[[], None] = lambda: None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self.graph = graph
        self.products = products
        self.config = config
        self.matrices = matrices
        self.release = release
        self.progress = progress
        self._angles: dict[tuple[bytes, float], tuple[str, str]] = {}
        self._masks: dict[int | None, str] = {}
        self._turned_inputs: dict[tuple[str, bytes], str] = {}

    def build(self) -> None:
        """Add everything."""
        graph, config = self.graph, self.config
        self._ids = graph.input("input_ids", np.int64, ["batch", "sequence"])
        self._has_cache = config.pooling is None
        self._mask = graph.input(
            "attention_mask", np.int64, ["batch", "total" if self._has_cache else "sequence"]
        )
        self._positions()
        x = self._embedded()
        for layer in range(config.num_layers):
            with graph.scope(f"layers.{layer}"):
                x = graph.op("Add", x, self._attention(layer, x))
                x = graph.op("Add", x, self._feed_forward(f"layers.{layer}.", x))
        hidden = self._norm("final_norm", x)
        if config.pooling is not None:
            self._embedding_outputs(hidden)
            return
        head = "embedding" if config.tied_embeddings else "output_head"
        matrix = self.matrices[head]
        turned = self._turned(head, hidden, matrix.depth)
        logits = self.products.linear(head, turned, matrix, rounds=False)
        graph.output("logits", logits, ["batch", "sequence", config.vocab_size], first=True)

    def _positions(self) -> None:
        """Make positions, and where keys stand that queries see."""
        graph = self.graph
        total = self._dimension(self._mask, 1)
        sequence = self._dimension(self._ids, 1)
        if self._has_cache:
            positions = graph.input("position_ids", np.int64, ["batch", "sequence"])
        else:
            counted = graph.op("CumSum", self._mask, graph.constant(1, np.int64))
            positions = graph.op("Sub", counted, graph.constant(1, np.int64))
        floats = graph.op("Cast", positions, to=_FLOAT)
        self._position = graph.op("Unsqueeze", floats, graph.integers(2))  # [batch, sequence, 1]
        zero, one, axis = graph.constant(0, np.int64), graph.constant(1, np.int64), graph.integers(0)
        past = graph.op("Sub", total, sequence)
        keys = graph.op("Range", zero, total, one)
        queries = graph.op("Unsqueeze", graph.op("Range", past, total, one), graph.integers(1))
        self._distance = graph.op("Sub", queries, keys)  # [sequence, total]
        seen = graph.op("Cast", self._mask, to=_BOOL)
        self._seen = graph.op("Unsqueeze", seen, graph.integers(1, 2, 3))  # [batch, 1, 1, 1, total]
        shared_by = self.config.num_heads // self.config.num_kv_heads
        last = graph.op("Unsqueeze", total, axis)
        self._score_shape = graph.op("Concat", graph.integers(0, 0, shared_by, -1), last, axis=0)

    def _dimension(self, value: str, axis: int) -> str:
        shape = self.graph.op("Shape", value)
        return self.graph.op("Gather", shape, self.graph.constant(axis, np.int64), axis=0)

    def _embedded(self) -> str:
        graph, config, table = self.graph, self.config, self.matrices["embedding"]
        rows = self.products.lookup("embedding", self._ids, table)
        self.release()
        rotation = config.rotation
        if rotation is not None and "embedding" in rotation.outputs:
            signs = rotation.signs_of(table.depth)
            rows = graph.op("Mul", self._hadamard(rows, table.depth), graph.constant(signs))
        if config.embedding_scale == 1.0:
            return rows
        return graph.op("Mul", rows, graph.constant(config.embedding_scale))

    def _attention(self, index: int, x: str) -> str:
        graph, config, layer = self.graph, self.config, f"layers.{index}."
        h = self._norm(layer + "attention_norm", x)
        query = self._heads(self._project(layer + "attention.q", h), config.num_heads)
        key = self._heads(self._project(layer + "attention.k", h), config.num_kv_heads)
        value = self._heads(self._project(layer + "attention.v", h), config.num_kv_heads)
        if config.qk_norm:
            query = self._norm(layer + "attention.q_norm", query)
            key = self._norm(layer + "attention.k_norm", key)
        query, key = self._rotated(index, query), self._rotated(index, key)
        query, key, value = (graph.op("Transpose", each, perm=[0, 2, 1, 3]) for each in (query, key, value))
        if self._has_cache:
            key, value = self._cached(index, "key", key), self._cached(index, "value", value)
        attended = self._attend(query, key, value, config.layer_windows[index])
        if config.attention_sub_norm:
            attended = self._norm(layer + "attention.sub_norm", attended)
        return self._post_norm(layer + "attention_post_norm", self._project(layer + "attention.o", attended))

    def _heads(self, x: str, count: int) -> str:
        return self.graph.op("Reshape", x, self.graph.integers(0, 0, count, self.config.head_dim))

    def _cached(self, index: int, kind: str, new: str) -> str:
        graph, config = self.graph, self.config
        shape: list[str | int] = ["batch", config.num_kv_heads, "past", config.head_dim]
        past = graph.input(f"past_key_values.{index}.{kind}", np.float32, shape)
        present = graph.op("Concat", past, new, axis=2)
        shape[2] = "total"
        graph.output(f"present.{index}.{kind}", present, shape)
        return present

    def _attend(self, query: str, key: str, value: str, window: int | None) -> str:
        """Heads that share keys are one matrix for the products, and apart for the mask:
        [batch, kv_heads, shared_by * sequence, ...] and [batch, kv_heads, shared_by, sequence, ...].
        """
        graph, config = self.graph, self.config
        scale = config.head_dim**-0.5 if config.attention_scale is None else config.attention_scale
        query = graph.op("Mul", query, graph.constant(scale))
        query = graph.op("Reshape", query, graph.integers(0, config.num_kv_heads, -1, config.head_dim))
        scores = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 1, 3, 2]))
        shape = graph.op("Shape", scores)
        apart = graph.op(
            "Reshape", scores, self._score_shape
        )  # [batch, kv_heads, shared_by, sequence, total]
        masked = graph.op("Where", self._visible(window), apart, graph.constant(_HIDDEN))
        weights = graph.op("Softmax", masked, axis=-1)
        attended = graph.op("MatMul", graph.op("Reshape", weights, shape), value)
        attended = graph.op("Reshape", attended, graph.integers(0, config.num_heads, -1, config.head_dim))
        attended = graph.op("Transpose", attended, perm=[0, 2, 1, 3])
        return graph.op("Reshape", attended, graph.integers(0, 0, config.num_heads * config.head_dim))

    def _visible(self, window: int | None) -> str:
        """Return which tokens are seen, [batch, 1, 1, sequence, total]."""
        if window not in self._masks:
            graph = self.graph
            visible = graph.op("GreaterOrEqual", self._distance, graph.constant(0, np.int64))
            if window is not None:
                near = graph.op("Less", self._distance, graph.constant(window, np.int64))
                visible = graph.op("And", visible, near)
            self._masks[window] = graph.op("And", visible, self._seen)
        return self._masks[window]

    def _rotated(self, layer: int, x: str) -> str:
        graph, config = self.graph, self.config
        window = config.layer_windows[layer]
        frequencies = config.inverse_frequencies if window is None else config.local_inverse_frequencies
        is_stretched = window is None or config.rope_local_theta is None
        cosine, sine = self._turns(frequencies, config.rope_attention_factor if is_stretched else 1.0)
        first, second = graph.ops("Split", 2, x, axis=-1, num_outputs=2)
        left = graph.op("Sub", graph.op("Mul", first, cosine), graph.op("Mul", second, sine))
        right = graph.op("Add", graph.op("Mul", second, cosine), graph.op("Mul", first, sine))
        return graph.op("Concat", left, right, axis=-1)

    def _turns(self, frequencies: npt.NDArray[np.float32], factor: float) -> tuple[str, str]:
        """Return cosines and sines, [batch, sequence, 1, head_dim / 2]."""
        key = (frequencies.tobytes(), factor)
        if key not in self._angles:
            graph = self.graph
            angles = graph.op("Mul", self._position, graph.constant(frequencies))
            angles = graph.op("Unsqueeze", angles, graph.integers(2))
            cosine, sine = graph.op("Cos", angles), graph.op("Sin", angles)
            if factor != 1.0:
                cosine, sine = (graph.op("Mul", each, graph.constant(factor)) for each in (cosine, sine))
            self._angles[key] = cosine, sine
        return self._angles[key]

    def _feed_forward(self, layer: str, x: str) -> str:
        h = self._norm(layer + "ffn_norm", x)
        gate = self._activation(self._project(layer + "ffn.gate", h))
        gated = self.graph.op("Mul", gate, self._project(layer + "ffn.up", h))
        if self.config.ffn_sub_norm:
            gated = self._norm(layer + "ffn.sub_norm", gated)
        return self._post_norm(layer + "ffn_post_norm", self._project(layer + "ffn.down", gated))

    def _activation(self, x: str) -> str:
        graph = self.graph
        if self.config.activation == "relu2":
            positive = graph.op("Relu", x)
            return graph.op("Mul", positive, positive)
        if self.config.activation == "silu":
            return graph.op("Mul", x, graph.op("Sigmoid", x))
        return graph.op("Gelu", x, approximate="tanh")

    def _project(self, name: str, x: str) -> str:
        if self.progress is not None:
            self.progress(name)
        matrix = self.matrices[name]
        if self.config.projection_norms:
            eps = self.config.projection_norm_eps
            x = self._norm(name + ".input_norm", x, self.config.rms_norm_eps if eps is None else eps)
        rounds = self.config.quantize_activations
        product = self.products.linear(name, self._turned(name, x, matrix.depth), matrix, rounds=rounds)
        self.release()
        return product

    def _turned(self, name: str, x: str, width: int) -> str:
        rotation = self.config.rotation
        if rotation is None or name not in rotation.inputs:
            return x
        signs = rotation.signs_of(width)
        key = (x, signs.tobytes())
        if key not in self._turned_inputs:
            signed = self.graph.op("Mul", x, self.graph.constant(signs))
            self._turned_inputs[key] = self._hadamard(signed, width)
        return self._turned_inputs[key]

    def _hadamard(self, x: str, width: int) -> str:
        graph, rotation = self.graph, self.config.rotation
        size = width if rotation is None else rotation.block_size
        matrix = hadamard(np.eye(size, dtype=np.float32), size)
        table = graph.weight(f"hadamard.{size}", (size, size), [matrix])
        blocks = graph.op("Reshape", x, graph.integers(0, 0, width // size, size))
        return graph.op("Reshape", graph.op("MatMul", blocks, table), graph.integers(0, 0, width))

    def _post_norm(self, name: str, x: str) -> str:
        return self._norm(name, x) if self.config.post_norms else x

    def _norm(self, name: str, x: str, eps: float | None = None) -> str:
        graph, matrix = self.graph, self.matrices[name]
        weight = graph.weight(name, (matrix.depth,), [_floats(matrix)])
        epsilon = graph.constant(self.config.rms_norm_eps if eps is None else eps)
        mean = graph.op("ReduceMean", graph.op("Pow", x, graph.constant(2)), graph.integers(-1), keepdims=1)
        size = graph.op("Sqrt", graph.op("Add", mean, epsilon))
        return graph.op("Mul", graph.op("Div", x, size), weight)

    def _embedding_outputs(self, hidden: str) -> None:
        """Pool: the state of the last token that is no padding."""
        graph, config = self.graph, self.config
        places = graph.op("CumSum", self._mask, graph.constant(1, np.int64))
        last = graph.op("ArgMax", graph.op("Mul", places, self._mask), axis=1, keepdims=1)  # [batch, 1]
        vector = graph.op("GatherND", hidden, last, batch_dims=1)
        if config.normalize_embeddings:
            length = graph.op("ReduceL2", vector, graph.integers(-1), keepdims=1)
            vector = graph.op("Div", vector, graph.op("Max", length, graph.constant(_SMALLEST_LENGTH)))
        graph.output("last_hidden_state", hidden, ["batch", "sequence", config.hidden_size])
        graph.output("sentence_embedding", vector, ["batch", config.hidden_size])


def _floats(matrix: PackedMatrix | FloatMatrix) -> npt.NDArray[np.float32]:
    values = matrix.unpack().dequantize() if isinstance(matrix, PackedMatrix) else matrix.float32()
    return values.reshape(-1)
