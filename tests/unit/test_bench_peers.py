"""A peer gets a file of its own format and is measured in alternation with us; here the peer is a script."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tercet.bench.peer_model import HEAD_TYPES, PEER_TYPES, peer_plan, write_peer_model
from tercet.bench.peers import Peer, compare_decode, compare_prefill
from tercet.bench.running import ModelChoice
from tercet.bench.session import Session
from tercet.bench.spread import Spread
from tercet.errors import ParameterError, TercetError
from tercet.formats.gguf import GgufFile
from tercet.models.config import ModelConfig

CONFIG = ModelConfig(
    hidden_size=256, ffn_size=512, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=64, vocab_size=300,
    max_context=64, rope_theta=1e4, rms_norm_eps=1e-5, activation="relu2", attention_sub_norm=True,
    ffn_sub_norm=True, tied_embeddings=True, bos_token_id=1, eos_token_ids=(2,),
)  # fmt: skip

LLAMA_BENCH = """#!{python}
import json, sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert open(given["-m"], "rb").read(4) == b"GGUF"
print("build: 1", file=sys.stderr)
{action}
print(json.dumps([{{"n_prompt": int(given["-p"]), "n_gen": int(given["-n"]), "avg_ts": 100.0}}]))
"""


def program(folder: Path, action: str = "") -> Path:
    path = folder / "llama-bench"
    path.write_text(LLAMA_BENCH.format(python=sys.executable, action=action))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("kind", PEER_TYPES)
def test_the_file_is_one_that_readers_of_the_type_understand(kind: str, tmp_path: Path) -> None:
    plan = peer_plan(CONFIG, kind, "Q6_K")
    write_peer_model(tmp_path / "model.gguf", plan)
    assert (tmp_path / "model.gguf").stat().st_size == plan.file_bytes
    file = GgufFile(tmp_path / "model.gguf")
    gate = file.tensors["blk.0.ffn_gate.weight"]
    assert gate.type.name == kind
    values = file.float32("blk.0.ffn_gate.weight")
    assert values.std() == pytest.approx(1 / 16, rel=0.05)
    if kind not in ("F16", "BF16"):
        assert np.mean(values == 0) == pytest.approx(0.42, abs=0.02)


@pytest.mark.parametrize("head", HEAD_TYPES)
def test_heads_are_about_as_large_as_real_ones(head: str, tmp_path: Path) -> None:
    write_peer_model(tmp_path / "model.gguf", peer_plan(CONFIG, "TQ2_0", head))
    file = GgufFile(tmp_path / "model.gguf")
    embedding = file.tensors["token_embd.weight"]
    assert embedding.type.name == head
    values = file.float32("token_embd.weight")
    assert 0.5 / 16 < values.std() < 2 / 16


def test_peers_are_named_with_their_types(tmp_path: Path) -> None:
    path = program(tmp_path)
    peer = Peer.parse(f"ik_llama.cpp={path}")
    assert (peer.type, peer.head) == ("IQ2_BN", "Q6_K")
    peer = Peer.parse(f"llama.cpp:TQ1_0:F16={path}")
    assert (peer.type, peer.head) == ("TQ1_0", "F16")
    assert peer.config(CONFIG).activation == "silu"
    for wrong in ("llama.cpp", f"gpt={path}", f"llama.cpp:a:b:c={path}"):
        with pytest.raises(ParameterError, match="--compare takes NAME=PATH"):
            Peer.parse(wrong)
    with pytest.raises(ParameterError, match="no program is at"):
        Peer.parse(f"llama.cpp={tmp_path / 'nothing'}")
    with pytest.raises(ParameterError, match="written with one of"):
        peer_plan(CONFIG, "Q9", "F16")


def test_ours_and_theirs_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    peer = Peer.parse(f"llama.cpp:TQ2_0:Q4_0={program(tmp_path)}")
    session = Session(runs=2, probe_bytes=1 << 20)
    choice = ModelChoice("125m", threads=1)
    ours, theirs = compare_decode(session, choice, [peer], tokens=2).rows
    assert theirs["tokens_per_second"] == 100
    ratio = theirs["ratio"]
    assert isinstance(ratio, Spread)
    assert ratio.values == pytest.approx([one / 100 for one in ours["runs"].values])
    rows = compare_prefill(session, choice, [peer], [8, 16]).rows
    assert [(row["engine"], row["prompt_tokens"]) for row in rows] == [
        ("tercet", 8), ("llama.cpp", 8), ("tercet", 16), ("llama.cpp", 16),
    ]  # fmt: skip
    assert list((tmp_path / "cache" / "bench").iterdir()) == []


def test_a_peer_that_fails_says_why(tmp_path: Path) -> None:
    action = "print('unknown model architecture', file=sys.stderr); sys.exit(3)"
    peer = Peer.parse(f"llama.cpp={program(tmp_path, action)}")
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    with pytest.raises(TercetError, match=r"llama\.cpp ended with status 3: unknown model architecture"):
        peer.run(model, 1, 0, 4)
