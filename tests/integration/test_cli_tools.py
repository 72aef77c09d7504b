"""`tercet inspect`, `convert`, `doctor`, `eval`, `bench` and the program itself."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from program import assert_refused, tercet
from tercet import LLM, __version__
from tercet.evaluation.perplexity import measure_perplexity
from tercet.models.loading import load_model
from tercet.quantization.ternary_tensor import TernaryTensor
from tiny_models import TINY_CONFIG

# The program ---------------------------------------------------------------------------------------


def test_version_and_help() -> None:
    assert tercet("--version").out == f"tercet {__version__}\n"
    done = tercet("--help")
    assert done.status == 0
    for command in ("run", "chat", "doctor", "inspect", "convert", "ternarize", "train", "bench", "eval"):
        assert f" {command} " in done.out


@pytest.mark.parametrize(
    "command", ["run", "chat", "doctor", "inspect", "convert", "ternarize", "train", "bench", "eval"]
)
def test_every_command_explains_itself(command: str) -> None:
    done = tercet(command, "--help")
    assert done.status == 0, done
    assert f"tercet {command} " in done.out


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("run",), ("run", "x", "--seed", "dog"), ("run", "x", "--sed", "1")]
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    done = tercet(*arguments)
    assert (done.status, done.out) == (2, ""), done
    assert "Usage: tercet" in done.err
    assert "Traceback" not in done.err


# An error of ours, provoked by a module that fails.
BROKEN = (
    "def resolve(model=None):\n    raise ZeroDivisionError('a bug')\ndef known_models():\n    return {}\n"
)


def test_a_bug_says_how_to_report_it_and_shows_its_traceback_when_asked(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, types\n"
        "module = types.ModuleType('tercet.models.registry')\n"
        f"exec({BROKEN!r}, module.__dict__)\n"
        "module.DEFAULT_MODEL = ''\n"
        "sys.modules['tercet.models.registry'] = module\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = tercet("run", "hello", PYTHONPATH=path)
    assert (done.status, done.out) == (1, ""), done
    assert done.err.startswith("tercet: error: ZeroDivisionError: a bug\n")
    assert "report" in done.err
    assert "tercet doctor" in done.err
    assert "Traceback" not in done.err
    for shown in (
        tercet("--debug", "run", "hello", PYTHONPATH=path),
        tercet("run", "hello", PYTHONPATH=path, TERCET_DEBUG="1"),
    ):
        assert shown.status == 1
        assert "Traceback" in shown.err
        assert "ZeroDivisionError: a bug" in shown.err


# inspect -------------------------------------------------------------------------------------------


def test_inspect_tells_what_is_there(tiny_model_file: Path) -> None:
    data = tercet("inspect", tiny_model_file, "--json").data
    model = load_model(tiny_model_file)
    assert data["config"] == TINY_CONFIG.to_dict()
    assert data["bytes"] == tiny_model_file.stat().st_size
    assert data["parameters"] == TINY_CONFIG.num_parameters
    content = tiny_model_file.read_bytes()
    assert (
        data["blobs"]["tokenizer.json"]["sha256"] == hashlib.sha256(model.tokenizer_json or b"").hexdigest()
    )
    tensors = {tensor["name"]: tensor for tensor in data["tensors"]}
    assert set(tensors) == set(model.weights)
    zeros = weights = 0
    for name, tensor in tensors.items():
        reference = model.reference_weights[name]
        if isinstance(reference, TernaryTensor):
            assert tensor["zeros"] == np.count_nonzero(reference.codes == 0)
            assert tensor["bits_per_weight"] > 2  # padding and a scale
            zeros += tensor["zeros"]
            weights += reference.codes.size
        else:
            assert tensor["zeros"] is None
    assert data["share_of_zeros"] == pytest.approx(zeros / weights)
    assert len(content) > sum(tensor["bytes"] for tensor in tensors.values())


def test_inspect_shows_tables(tiny_model_file: Path) -> None:
    short = tercet("inspect", tiny_model_file)
    assert short.status == 0, short
    assert "layers.*.ffn.up" in short.out
    assert "2 of width 36" in short.out
    every = tercet("inspect", tiny_model_file, "--tensors").out
    assert "layers.0.ffn.up" in every
    assert "layers.1.ffn.up" in every


def test_inspect_a_folder(tiny_model_folder: Path) -> None:
    data = tercet("inspect", tiny_model_folder, "--json").data
    assert data["kind"] == "folder of BitNetForCausalLM, masters"
    assert {tensor["type"] for tensor in data["tensors"]} == {"f32"}
    assert sum(tensor["rounded_on_loading"] for tensor in data["tensors"]) == 14
    assert 0.2 < data["share_of_zeros"] < 0.5


# convert -------------------------------------------------------------------------------------------


def test_convert_gives_a_file_that_runs(
    tiny_model_folder: Path, tiny_model_file: Path, tmp_path: Path
) -> None:
    done = tercet("convert", tiny_model_folder, "new.tercet", "--name", "new", folder=tmp_path)
    assert done.status == 0, done
    assert "destination  new.tercet" in done.err
    with LLM(tmp_path / "new.tercet", threads=1) as new, LLM(tiny_model_file, threads=1) as old:
        assert new.name == "new"
        assert np.array_equal(new.logits([0, 5, 9]), old.logits([0, 5, 9]))
    assert_refused(
        tercet("convert", tiny_model_folder, "new.tercet", folder=tmp_path), "new.tercet exists already"
    )
    again = tercet(
        "convert", tiny_model_folder, "new.tercet", "--overwrite", "--packing", "five_per_byte",
        "--no-verify", "--json", folder=tmp_path,
    )  # fmt: skip
    assert again.data["bytes"] == (tmp_path / "new.tercet").stat().st_size
    assert again.data["relative_rms_error"] is None


# eval ----------------------------------------------------------------------------------------------


def test_perplexity_is_that_of_the_logits(tiny_model_file: Path, tmp_path: Path) -> None:
    documents = ["Once upon a time there was a little dog.", "The sun was warm. " * 30]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    done = tercet(
        "eval", "perplexity", tmp_path / "text.jsonl", "--model", tiny_model_file,
        "--window", "20", "--stride", "5", "--json",
    )  # fmt: skip
    assert done.status == 0, done
    nats = tokens = 0.0
    with LLM(tiny_model_file, threads=1) as llm:
        for text in documents:
            ids = [TINY_CONFIG.bos_token_id, *llm.tokenize(text)]
            # Token t in the window that begins at a multiple of the stride, 15 to 19 tokens before it.
            for position in range(1, len(ids)):
                begin = max(0, -(-(position - 19) // 5) * 5)
                logits = llm.logits(ids[begin:position])[-1].astype(float)  # type: ignore[arg-type]
                nats += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[ids[position]]
                tokens += 1
        report = measure_perplexity(llm, documents, window=20, stride=5)
    assert done.data["tokens"] == tokens
    assert done.data["documents"] == 2
    assert done.data["bytes"] == sum(len(text) for text in documents)
    assert done.data["total_nats"] == pytest.approx(nats, rel=1e-6)
    assert done.data["nats_per_byte"] == pytest.approx(nats / done.data["bytes"], rel=1e-6)
    assert done.data["perplexity_per_token"] == pytest.approx(np.exp(nats / tokens), rel=1e-6)
    assert report.total_nats == done.data["total_nats"]


def test_perplexity_for_people(tiny_model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Once upon a time.")
    done = tercet("eval", "perplexity", tmp_path / "text.txt", "--model", tiny_model_file)
    assert done.status == 0, done
    assert done.out.startswith("nats per byte ")


def test_perplexity_of_nothing(tiny_model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("")
    assert_refused(
        tercet("eval", "perplexity", tmp_path / "text.txt", "--model", tiny_model_file), "no text to score"
    )


# doctor and bench ----------------------------------------------------------------------------------


def test_doctor_knows_the_machine() -> None:
    done = tercet("doctor", "--json")
    data = done.data
    assert data["chosen_isa"] in data["available_isas"]
    assert data["reason"]
    assert {kernel["operation"] for kernel in data["kernels"]} >= {"matmul_two_bit", "matmul_five_per_byte"}
    assert all(kernel["passed"] for kernel in data["kernels"])
    for limits in data["limits"]:
        assert all(1e8 < rate < 1e13 for rate in limits["read_bandwidth"].values())
        assert 1e8 < limits["int8_multiply_adds"] < 1e14
    assert done.status == (1 if data["problems"] else 0)
    assert data["model"]["passed"] or data["problems"]


def test_doctor_takes_the_forced_instruction_set() -> None:
    data = tercet("doctor", "--json", "--threads", "1", TERCET_ISA="reference").data
    assert data["chosen_isa"] == "reference"
    assert "TERCET_ISA" in data["reason"]
    assert {kernel["provided_by"] for kernel in data["kernels"]} == {"reference"}
    assert_refused(tercet("doctor", TERCET_ISA="abacus"), "abacus", "reference")


def test_doctor_shows_tables() -> None:
    done = tercet("doctor", "--threads", "1")
    assert "self-test" in done.out
    assert "GB/s" in done.out
    assert "Traceback" not in done.err


def test_bench_decode_measures_in_the_same_run() -> None:
    done = tercet(
        "bench", "decode", "--shape", "tiny", "--threads", "1", "--packing", "two_bit",
        "--runs", "3", "--tokens", "8", "--context", "20", "--json",
    )  # fmt: skip
    assert done.status == 0, done
    data = done.data
    assert data["bandwidth_share"] == pytest.approx(
        data["tokens_per_second"] * data["bytes_per_token"] / (data["bandwidth_gb_per_second"] * 1e9)
    )
    assert len(data["runs"]["values"]) == 3
    assert data["tokens_per_second"] == sorted(data["runs"]["values"])[1]
    # tiny: 2 bits for each ternary weight, 16 for each embedding, and little else
    weights = 9_437_184 * 2 // 8 + 4096 * 384 * 2
    assert weights < data["bytes_per_token"] < weights * 1.1
    assert (data["threads"], data["shape"]) == (1, "tiny")
    assert data["machine"]["cpu"]


def test_bench_open_measures_fresh_processes(tiny_model_file: Path) -> None:
    data = tercet("bench", "open", tiny_model_file, "--runs", "1", "--threads", "1", "--json").data
    assert data["file_bytes"] == tiny_model_file.stat().st_size
    assert 0 < data["seconds"] < 60
    assert len(data["runs"]["values"]) == 1
    assert data["model_bytes"] == data["resident_bytes"] - data["before_bytes"] - data["kv_cache_bytes"]
    shown = tercet("bench", "open", "--shape", "tiny", "--runs", "1", "--threads", "1")
    assert shown.status == 0, shown
    assert "of the file" in shown.out
    assert_refused(tercet("bench", "open", tiny_model_file, "--runs", "0"), "runs must be at least 1")


def test_bench_refuses_what_cannot_be() -> None:
    assert_refused(tercet("bench", "decode", "--shape", "9b"), "9b", "2b4t")
    assert_refused(tercet("bench", "decode", "--shape", "tiny", "--context", "5000"), "context of 1024")
    assert_refused(tercet("bench", "decode", "--shape", "tiny", "--runs", "0"), "runs must be at least 1")
