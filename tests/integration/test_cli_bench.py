"""`tercet bench`: each command on a small shape, in the forms that people ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from program import assert_refused, tercet

QUICK = ("--shape", "tiny", "--threads", "1", "--runs", "2")


def test_decode_says_where_the_time_goes_and_draws(tmp_path: Path) -> None:
    plot = tmp_path / "decode.png"
    done = tercet("bench", "decode", *QUICK, "--tokens", "4", "--context", "20", "--profile", "--plot", plot)
    assert done.status == 0, done
    assert "Where the time of a token goes: " in done.out
    assert "share of the bandwidth" in done.out
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("packing", "head", "mode"), [("two_bit", "int8_planes", "two_stage"), ("f16", "f16", "full")]
)
def test_decode_takes_every_form_of_weights(packing: str, head: str, mode: str, tmp_path: Path) -> None:
    form = ("--packing", packing, "--head", head, "--head-mode", mode, "--weights-memory", "mapped", "--keep")
    command = ("bench", "decode", *QUICK, "--tokens", "4", "--context", "4", *form, "--json")
    data = tercet(*command, TERCET_CACHE=str(tmp_path)).data
    assert (data["packing"], data["head_type"], data["weights_memory"]) == (packing, head, "mapped")
    assert sum(data["profile"].values()) == pytest.approx(1)
    assert [file.name for file in (tmp_path / "bench").iterdir()] == [f"tiny-{packing}-{head}.tercet"]


def test_decode_measures_a_model_with_its_sampler() -> None:
    command = ("bench", "decode", "--model", "llama-tercet-tiny", "--threads", "1", "--runs", "1")
    rows = tercet(*command, "--tokens", "8", "--context", "16", "--temperatures", "0,0.7", "--json").data[
        "rows"
    ]
    assert [row["temperature"] for row in rows] == [0, 0.7]
    assert {(row["shape"], row["packing"], row["head_type"]) for row in rows} == {
        ("llama-tercet-tiny", "two_bit", "f16")
    }
    assert_refused(tercet(*command, "--temperatures", "hot"), "--temperatures takes numbers from 0")
    assert_refused(tercet(*command, "--compare", "ik_llama.cpp=x"), "give a --shape, not a --model")


def test_prefill_compares_with_the_peak() -> None:
    done = tercet("bench", "prefill", *QUICK, "--prompts", "16,32", "--markdown")
    assert done.status == 0, done
    assert "| prompt | tokens/s, median [spread] | share of the int8 peak |" in done.out
    assert done.out.count("\n| 16 |") == done.out.count("\n| 32 |") == 1


def test_load_runs_sequences_together() -> None:
    command = ("bench", "load", *QUICK, "--sequences", "1,3", "--prompt", "8", "--tokens", "4", "--json")
    rows = tercet(*command).data["rows"]
    assert [row["sequences"] for row in rows] == [1, 3]
    assert all(row["seconds_to_first_token"]["lowest"] > 0 for row in rows)


def test_context_goes_beyond_the_shape() -> None:
    command = (
        "bench",
        "context",
        *QUICK,
        "--contexts",
        "16,1100",
        "--kv-caches",
        "int8",
        "--tokens",
        "2",
    )
    rows = tercet(*command, "--json").data["rows"]
    assert [(row["kv_cache"], row["context_tokens"]) for row in rows] == [("int8", 16), ("int8", 1100)]
    per_token = (rows[1]["bytes_per_token"] - rows[0]["bytes_per_token"]) / 1084
    assert 1 <= per_token / (6 * 2 * 128) < 1.1  # layers, keys and values, their width; and some scales


def test_scaling_lists_shapes_and_threads() -> None:
    command = ("bench", "scaling", "--shapes", "tiny", "--threads", "1,2", "--runs", "1", "--tokens", "2")
    rows = tercet(*command, "--json").data["rows"]
    assert [row["threads"] for row in rows] == [1, 2]
    assert rows[0]["speed_up"] == 1
    assert rows[0]["file_bytes"] > rows[0]["model_bytes"]


def test_compare_precision_marks_what_was_published() -> None:
    done = tercet("bench", "compare-precision", *QUICK, "--tokens", "2", "--no-transformers")
    assert done.status == 0, done
    assert "published" in done.out
    assert "1.37 to 6.17" in done.out
    assert "bf16" in done.out


def test_server_is_measured_beside_its_engine() -> None:
    command = ("bench", "server", *QUICK, "--prompt", "8", "--tokens", "8", "--prefix", "40", "--json")
    data = tercet(*command, "--streams", "1,2").data
    assert [row["streams"] for row in data["rows"]] == [1, 2]
    assert all(len(row["engine_runs"]["values"]) == 2 for row in data["rows"])
    assert data["rows"][0]["speed_up"] == 1
    assert data["figures"]["cached_tokens"] == 32  # the whole blocks of the prefix
    assert data["figures"]["livez_probes"] > 0
    assert_refused(tercet(*command, "--streams", "0"), "--streams takes whole numbers above 0")
    assert_refused(tercet(*command, "--prefix", "4000"), "context")


def test_being_watched_is_measured() -> None:
    (row,) = tercet("bench", "monitor", *QUICK, "--tokens", "20", "--json").data["rows"]
    assert len(row["runs"]["values"]) == len(row["unwatched_runs"]["values"]) == len(row["cost"]["values"])
    for watched, free, cost in zip(
        row["runs"]["values"], row["unwatched_runs"]["values"], row["cost"]["values"], strict=True
    ):
        assert cost == pytest.approx(1 - watched / free)
    assert 0 < row["piece_seconds"] < row["sample_seconds"] < 5
    assert_refused(tercet("bench", "monitor", *QUICK, "--interval", "0"), "interval")


def test_what_cannot_be_is_refused() -> None:
    assert_refused(tercet("bench", "prefill", "--shape", "tiny", "--prompts", "no"), "--prompts takes whole")
    assert_refused(tercet("bench", "kernels", "--packings", "seven"), "packing must be one of")
    assert_refused(tercet("bench", "decode", "--shape", "tiny", "--head", "q4"), "head must be one of")
    assert_refused(tercet("bench", "decode", "--compare", "x=y"), "--compare takes NAME=PATH")
    assert_refused(tercet("bench", "compare-precision", "--dense", "int3"), "a dense type is one of")
