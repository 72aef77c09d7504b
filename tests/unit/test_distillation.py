"""Distillation: terms of the loss, the pair, a run that a kill does not change, its file's own loss."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.plugins.random_decoders import LLAMA, QWEN3, SILU_UNTIED
from tests.plugins.tiny_models import CHAT_TEMPLATE, random_masters, tiny_tokenizer_json
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402

from tercet.cli.app import app  # noqa: E402
from tercet.distillation import DistillationSettings, distill  # noqa: E402
from tercet.distillation.curve import Curve  # noqa: E402
from tercet.distillation.export import file_loss  # noqa: E402
from tercet.distillation.losses import output_terms, relation_divergence  # noqa: E402
from tercet.distillation.pair import calibrate_sub_norms, fill, student_config  # noqa: E402
from tercet.distillation.run import DistillationProgress  # noqa: E402
from tercet.distillation.text import prepare_text  # noqa: E402
from tercet.errors import ParameterError, TrainingError  # noqa: E402
from tercet.llm import LLM  # noqa: E402
from tercet.models.config import ModelConfig  # noqa: E402
from tercet.models.loading import load_model  # noqa: E402
from tercet.models.saving import save_huggingface_folder  # noqa: E402
from tercet.reference import ReferenceDecoder  # noqa: E402
from tercet.training.model import TernaryDecoder  # noqa: E402
from tercet.training.schedule import Schedule  # noqa: E402
from tercet.training.windows import Windows  # noqa: E402

VOCABULARY = 500
SETTINGS = DistillationSettings(
    schedule=Schedule(
        num_steps=10, warmup_steps=1, stage_two_start=1.0, stage_one_floor=0.5, weight_decay=0.0,
        quantization_warmup_steps=3,
    ),
    context=24, batch_size=4, micro_batch=2, precision="fp32", checkpoint_every=4, evaluation_windows=4,
    evaluate_at=(0, 400), temperature=2.0,
)  # fmt: skip


def plain(config: ModelConfig) -> ModelConfig:
    return dataclasses.replace(
        config, quantize_activations=False, vocab_size=VOCABULARY, bos_token_id=0, eos_token_ids=(1, 2),
        max_context=128,
    )  # fmt: skip


def write_teacher(folder: Path, config: ModelConfig, seed: int = 3) -> Path:
    save_huggingface_folder(
        folder, config, random_masters(config, seed),
        tokenizer_json=tiny_tokenizer_json(), chat_template=CHAT_TEMPLATE,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher") / "llama", plain(LLAMA))


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    rows = [{"text": f"The cat number {n} sat on mat {n * 7 % 13} and saw {n % 5} dogs."} for n in range(120)]
    rows += [{"prompt": f"Count from {n} on.", "answer": f"{n}, {n + 1}, {n + 2}"} for n in range(40)]
    report = prepare_text(rows, load_model(teacher), folder, validation_share=0.2)
    assert report is not None
    assert report.rows_used == 160
    return folder


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory, teacher: Path, tokens: Path) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    distill(teacher, tokens, run, SETTINGS, threads=1)
    return run


def events(run: Path, kind: str) -> list[dict[str, float]]:
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == kind]


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_gradient_that_is_written_down_is_the_derived_one(temperature: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(7, 50, requires_grad=True), 2 * torch.randn(7, 50)
    targets = torch.randint(50, (7,))
    entropy = functional.cross_entropy(student, targets, reduction="sum")
    log_p, log_q = ((x / temperature).log_softmax(-1) for x in (teacher, student))
    divergence = temperature**2 * (log_p.exp() * (log_p - log_q)).sum()
    (0.7 * entropy + 1.3 * divergence).backward()
    options = {"cross_entropy_weight": 0.7, "logits_weight": 1.3, "temperature": temperature}
    terms = output_terms(student.detach(), teacher, targets, **options)
    assert torch.allclose(terms[0], entropy)
    assert torch.allclose(terms[1], divergence, rtol=1e-5)
    assert torch.allclose(terms[2], student.grad, atol=1e-6)


def test_relations_are_means_whatever_batch_and_heads() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 9, 24), torch.randn(2, 9, 48)
    once = relation_divergence(student, teacher, 3)
    assert once > 0.1
    twice = relation_divergence(student.repeat(2, 1, 1), teacher.repeat(2, 1, 1), 3)
    assert torch.allclose(once, twice)
    assert relation_divergence(student, student, 3).abs() < 1e-6
    repeated = student.repeat(1, 1, 2)  # the same relation in twice as many heads
    assert torch.allclose(relation_divergence(repeated, torch.cat([teacher[..., :24]] * 2, -1), 2),
                          relation_divergence(student, teacher[..., :24], 1))  # fmt: skip


@pytest.mark.parametrize("config", [plain(LLAMA), plain(QWEN3)], ids=["llama", "qwen3"])
def test_the_teacher_network_is_the_specification(config: ModelConfig) -> None:
    weights = dict(random_masters(config))
    network = TernaryDecoder(config, ternary=False)
    fill(network, weights)
    ids = np.arange(40, dtype=np.int64) * 11 % VOCABULARY
    expected = ReferenceDecoder(config, weights).logits(ids)
    with torch.no_grad():
        got = network.logits(torch.from_numpy(ids)[None])[0].numpy()
    assert np.allclose(got, expected, atol=2e-4 * np.abs(expected).max())


def test_sub_norms_begin_at_the_size_of_what_the_teacher_has_there() -> None:
    config = plain(SILU_UNTIED)
    weights = dict(random_masters(config))
    teacher, student = TernaryDecoder(config, ternary=False), TernaryDecoder(student_config(config))
    fill(teacher, weights)
    fill(student, weights)
    windows = torch.arange(96).view(2, 48) * 7 % VOCABULARY
    ones = _distance(teacher, student, windows)
    calibrate_sub_norms(teacher, student, windows)
    sizes = [p.unique().item() for n, p in student.named_parameters() if "sub_norm" in n]
    assert len(sizes) == 4
    assert all(0 < size != 1 for size in sizes)
    assert _distance(teacher, student, windows) < 0.5 * ones


def _distance(teacher: TernaryDecoder, student: TernaryDecoder, windows: torch.Tensor) -> float:
    student.quantization.strength.fill_(0.0)  # λ at the beginning
    with torch.no_grad():
        return float((teacher.states(windows) - student.states(windows)).square().mean())


def test_a_run_learns_and_its_curve_is_that_of_its_files(whole_run: Path, teacher: Path) -> None:
    points = Curve(whole_run).points()
    assert [(p["model"], p["tokens"]) for p in points] == [
        ("teacher", None), ("student", 0), ("student", 480), ("student", 864), ("student", 960),
    ]  # fmt: skip
    steps = events(whole_run, "step")
    assert steps[-1]["logits"] < 0.9 * max(step["logits"] for step in steps)
    assert set(events(whole_run, "gradients")[0]) >= {"cross_entropy", "logits", "attention"}
    with LLM(whole_run / "student.tercet", threads=1) as llm:
        assert llm.config.attention_sub_norm
        assert llm.generate("The cat", max_tokens=3, temperature=0).text is not None
    assert (whole_run / "curve.png").stat().st_size > 1000


def test_the_file_has_the_loss_of_the_network(whole_run: Path, tokens: Path) -> None:
    from safetensors.torch import load_file

    newest = sorted(whole_run.glob("step-*"))[-1]
    config = ModelConfig.from_dict(json.loads((newest / "distillation.json").read_text())["config"])
    network = TernaryDecoder(config)
    network.load_state_dict(load_file(newest / "student.safetensors"), strict=not config.tied_embeddings)
    windows = Windows(tokens / "valid.tokens", "<u2", SETTINGS.context, 0).in_order(4)
    with torch.no_grad():
        trainers = float(network(windows))
    assert file_loss(whole_run / "student.tercet", windows.numpy(), 1) == pytest.approx(trainers, rel=0.005)


def test_a_killed_run_ends_as_one_left_alone(
    tmp_path: Path, whole_run: Path, teacher: Path, tokens: Path
) -> None:
    class Killed(Exception):  # noqa: N818
        pass

    def kill(progress: DistillationProgress) -> None:
        if progress.step == 6:
            raise Killed

    run = tmp_path / "killed"
    with pytest.raises(Killed):
        distill(teacher, tokens, run, SETTINGS, threads=1, on_step=kill)
    with pytest.raises(TrainingError, match="already holds a run; resume it"):
        distill(teacher, tokens, run, SETTINGS, threads=1)
    with pytest.raises(TrainingError, match=r"belongs to another run \(context: 24 there, 12 here\)"):
        distill(teacher, tokens, run, dataclasses.replace(SETTINGS, context=12), threads=1, resume=True)
    result = distill(teacher, tokens, run, SETTINGS, threads=1, resume=True)
    assert not result.interrupted
    name = "step-00000010/student.safetensors"
    assert (run / name).read_bytes() == (whole_run / name).read_bytes()
    assert Curve(run).points() == Curve(whole_run).points()


def test_a_student_of_qwen_has_its_norms_and_sub_norms(tmp_path: Path, tokens: Path) -> None:
    teacher = write_teacher(tmp_path / "qwen", plain(QWEN3))
    settings = dataclasses.replace(
        SETTINGS, schedule=dataclasses.replace(SETTINGS.schedule, num_steps=1), continued_steps=1,
        evaluate_at=(),
    )  # fmt: skip
    result = distill(teacher, tokens, tmp_path / "run", settings, threads=1)
    with LLM(result.file, threads=1) as llm:
        assert (llm.config.qk_norm, llm.config.attention_sub_norm) == (True, True)
    # A student that is there goes on, beside a teacher of another shape.
    other = write_teacher(tmp_path / "other", plain(LLAMA), seed=5)
    again = distill(other, tokens, tmp_path / "again", settings, student=result.file, threads=1)
    assert again.step == 1


def test_pairs_that_do_not_match(tmp_path: Path, teacher: Path, tokens: Path, whole_run: Path) -> None:
    ternary = whole_run / "student.tercet"
    with pytest.raises(ParameterError, match="is ternary itself"):
        distill(ternary, tokens, tmp_path / "a", SETTINGS)
    smaller = dataclasses.replace(plain(LLAMA), vocab_size=501)
    other = write_teacher(tmp_path / "other", smaller)
    with pytest.raises(ParameterError, match=r"do not match: .* 501 tokens, .* one of 500"):
        distill(other, tokens, tmp_path / "b", SETTINGS, student=ternary)
    (tmp_path / "tokens").mkdir()
    for file in tokens.iterdir():
        (tmp_path / "tokens" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "tokens" / "tokenizer.json").write_bytes(b"{}")
    with pytest.raises(TrainingError, match="made with another tokenizer"):
        distill(teacher, tmp_path / "tokens", tmp_path / "c", SETTINGS)
    with pytest.raises(TrainingError, match="attention_layer is 9; the teacher has layers 0 to 1"):
        distill(teacher, tokens, tmp_path / "d", dataclasses.replace(SETTINGS, attention_layer=9))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"micro_batch": 3}, "cannot be taken in parts of 3"),
        ({"logits_weight": -1.0}, "must not be negative"),
        ({"evaluate_at": (5, 5)}, "rising numbers"),
        ({"precision": "int3"}, "'bf16' or 'fp32'"),
        ({"context": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_be(change: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        dataclasses.replace(SETTINGS, **change)


def test_settings_come_back_from_their_file(tmp_path: Path) -> None:
    SETTINGS.save(tmp_path / "settings.json")
    assert DistillationSettings.load(tmp_path / "settings.json") == SETTINGS


def call(*arguments: object) -> str:
    finished = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert finished.exit_code == 0, finished.output + repr(finished.exception)
    return finished.stdout


def write_rows(path: Path) -> Path:
    rows = [{"text": f"The cat number {n} sat on mat {n * 7 % 13} and saw {n % 5} dogs."} for n in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_command_distills_and_goes_on(tmp_path: Path, teacher: Path) -> None:
    data, run = write_rows(tmp_path / "data.jsonl"), tmp_path / "run"
    dataclasses.replace(
        SETTINGS, schedule=dataclasses.replace(SETTINGS.schedule, num_steps=2), context=16, evaluate_at=()
    ).save(tmp_path / "settings.json")
    options = ("-o", run, "--config", tmp_path / "settings.json", "--temperature", 3, "--attention", 0)
    assert call("distill", teacher, data, *options, "--json").count("student.tercet") == 1
    saved = DistillationSettings.load(run / "settings.json")
    assert (saved.temperature, saved.attention_weight, saved.context) == (3.0, 0.0, 16)
    told = json.loads(call("distill", teacher, data, "-o", run, "--steps", 3, "--resume", "--json"))
    assert (told["step"], told["interrupted"]) == (3, False)


def test_ternarizing_with_training_keeps_the_architecture(tmp_path: Path, teacher: Path) -> None:
    result = tmp_path / "result.tercet"
    options = ("--steps", 5, "--lambda-steps", 2, "--context", 16, "--batch-size", 2, "--precision", "fp32")
    told = json.loads(
        call("ternarize", teacher, result, "--train", write_rows(tmp_path / "d.jsonl"), *options, "--json")
    )
    assert told["tokens"] == 5 * 16 * 2
    with LLM(result, threads=1) as llm:
        assert llm.config.architecture == "llama"
        assert not llm.config.attention_sub_norm
        assert llm.config.quantize_activations
    steps = events(tmp_path / "result.tercet.run", "step")
    assert all(step["logits"] == step["attention"] == 0 for step in steps)


def test_at_the_beginning_of_the_warm_up_the_student_is_its_source() -> None:
    config = plain(LLAMA)
    weights = dict(random_masters(config))
    source, student = TernaryDecoder(config, ternary=False), TernaryDecoder(student_config(config, False))
    fill(source, weights)
    fill(student, weights)
    ids = torch.arange(30)[None]
    student.quantization.strength.fill_(0.0)
    with torch.no_grad():
        assert torch.allclose(student.logits(ids), source.logits(ids), atol=1e-3)
        student.quantization.strength.fill_(1.0)
        assert not torch.allclose(student.logits(ids), source.logits(ids), rtol=0.1)


def test_a_pruned_model_learns_from_the_whole_one(tmp_path: Path, whole_run: Path, tokens: Path) -> None:
    """A ternary teacher; the student of a packed file begins at the codes and the scale that it has."""
    from tercet.pruning import prune

    whole = whole_run / "student.tercet"
    pruned = prune(whole, tmp_path / "pruned.tercet", 0.3).path
    settings = dataclasses.replace(
        SETTINGS, schedule=dataclasses.replace(SETTINGS.schedule, num_steps=1, quantization_warmup_steps=0),
        evaluate_at=(0,),
    )  # fmt: skip
    distill(whole, tokens, tmp_path / "run", settings, student=pruned, threads=1)
    start = Curve(tmp_path / "run").points()[1]
    windows = Windows(tokens / "valid.tokens", "<u2", SETTINGS.context, 0).in_order(4).numpy()
    assert start["loss"] == pytest.approx(file_loss(pruned, windows, 1), rel=1e-3)
