"""Finding out how I2_S tensors lie: from structure that training leaves, never from thin air."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

import gguf_files as g
from gguf_files import Tensor, container
from tercet.errors import UnsupportedFormatError
from tercet.formats.gguf import open_gguf
from tercet.formats.gguf.file import GgufFile
from tercet.formats.gguf.i2_s_layout import find_i2_s_layout

LAYOUTS = ("canonical", "arm", "rows")


def trained(structure: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Norms, an embedding and codes in which channels differ in density, alike wherever they take part.

    `structure` 0 is pure noise; 1 is about as much as training leaves.
    """
    random = np.random.default_rng(seed)
    hidden, neurons, values = (random.standard_normal(size) for size in (g.HIDDEN, g.FFN, g.HIDDEN // 2))
    of_rows = {
        "attn_v": values,
        "attn_output": hidden,
        "ffn_gate": neurons,
        "ffn_up": neurons,
        "ffn_down": hidden,
    }
    per_head = np.repeat(values.reshape(g.KV_HEADS, -1), g.HEADS // g.KV_HEADS, axis=0).reshape(-1)
    of_columns = {"attn_output": per_head, "ffn_down": neurons}
    made: dict[str, np.ndarray] = {}
    for name, (rows, columns) in g.SHAPES.items():
        own = random.standard_normal(rows)
        density = 0.6 + structure * 0.06 * (
            of_rows.get(name, own)[:, None] + of_columns.get(name, hidden)[None, :]
        )
        nonzero = random.random((rows, columns)) < density
        made[name] = (nonzero * random.choice([-1, 1], (rows, columns))).astype(np.int8)
    for name, channels in (
        ("attn_norm", hidden),
        ("ffn_norm", hidden),
        ("attn_sub_norm", per_head),
        ("ffn_sub_norm", neurons),
    ):
        noise = random.standard_normal(len(channels))
        made[name] = (1 + 0.1 * (structure * channels + noise)).astype("<f4")
    return made


def file_of(path: Path, weights: dict[str, np.ndarray], layout: str) -> Path:
    def projection(name: str, shape: tuple[int, int]) -> Tensor:
        return Tensor(name, shape[::-1], 36, g.i2_s(weights[name.split(".")[2]], 0.5, layout))

    tensors = g.model_tensors(projection)
    for tensor in tensors:
        part = str(tensor.name).split(".")[-2]
        if part in weights and part.endswith("norm"):
            tensor.data = weights[part].tobytes()
    path.unlink(missing_ok=True)
    path.write_bytes(container(g.metadata(), tensors))
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_structure_gives_the_layout_away(tmp_path: Path, layout: str) -> None:
    weights = trained(1.0)
    model = open_gguf(file_of(tmp_path / "x.gguf", weights, layout))
    assert model.i2_s_layout is not None
    assert (model.i2_s_layout.layout, model.i2_s_layout.certainty) == (layout, "detected")
    for name, part in (("attention.q", "attn_q"), ("attention.o", "attn_output"), ("ffn.down", "ffn_down")):
        assert np.array_equal(model.ternary(f"layers.0.{name}").codes, weights[part])
    assert np.array_equal(model.float32("layers.0.ffn.up"), weights["ffn_up"] * np.float32(0.5))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seed", range(4))
def test_noise_is_taken_for_canonical_and_said_to_be(tmp_path: Path, layout: str, seed: int) -> None:
    found = find_i2_s_layout(GgufFile(file_of(tmp_path / "x.gguf", trained(0.0, seed), layout)))
    assert (found.layout, found.certainty) == ("canonical", "assumed")


def test_nothing_other_than_the_truth_is_ever_believed(tmp_path: Path) -> None:
    """Between noise and structure: right, or the canonical layout, or a refusal that says what to do."""
    refused = 0
    for layout in LAYOUTS:
        for structure in np.linspace(0.05, 0.6, 8):
            path = file_of(tmp_path / "x.gguf", trained(structure, int(100 * structure)), layout)
            found = None
            with contextlib.suppress(UnsupportedFormatError):
                found = find_i2_s_layout(GgufFile(path))
            if found is None:
                assert layout != "canonical"
                refused += 1
                continue
            assert found.layout == layout or (found.layout, found.certainty) == ("canonical", "assumed")
    assert refused > 0


def test_a_refusal_says_what_to_do(tmp_path: Path) -> None:
    """A matrix in another layout among matrices of noise: too little to go by, too much to pass over."""
    for structure in np.linspace(0.1, 0.4, 16):
        path = file_of(tmp_path / "x.gguf", trained(structure, 1), "arm")
        try:
            if find_i2_s_layout(GgufFile(path)).layout == "arm":
                break
        except UnsupportedFormatError:
            with pytest.raises(UnsupportedFormatError, match="say which layout it is in"):
                find_i2_s_layout(GgufFile(path))
            with pytest.raises(UnsupportedFormatError, match="say which layout it is in"):
                assert open_gguf(path).fields
            return
    pytest.fail("no structure was too weak to be believed and too strong to be ignored")


def test_the_caller_may_know_better(tmp_path: Path) -> None:
    weights = trained(0.0)
    path = file_of(tmp_path / "x.gguf", weights, "arm")
    assert not np.array_equal(open_gguf(path).ternary("layers.0.ffn.up").codes, weights["ffn_up"])
    model = open_gguf(path, layout="arm")
    assert np.array_equal(model.ternary("layers.0.ffn.up").codes, weights["ffn_up"])
    assert model.i2_s_layout is not None
    assert model.i2_s_layout.certainty == "given"


def test_shapes_alone_may_tell(tmp_path: Path) -> None:
    codes = g.random_codes(3, 64)  # 192 weights: no whole block of 128, and no 4 rows
    path = tmp_path / "x.gguf"
    path.write_bytes(container([], [Tensor("blk.0.attn_q.weight", (64, 3), 36, g.i2_s(codes, 0.5, "arm"))]))
    found = find_i2_s_layout(GgufFile(path))
    assert (found.layout, found.certainty) == ("arm", "detected")
    path.unlink()
    path.write_bytes(container([], [Tensor("blk.0.attn_q.weight", (20, 3), 36, bytes(15 + 32))]))
    with pytest.raises(UnsupportedFormatError, match="fit none of the layouts"):
        find_i2_s_layout(GgufFile(path))
