"""`tercet batch`: every request answered once, whatever is killed in between."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from program import assert_refused, command, environment, tercet
from tercet import LLM

PROMPTS = ["Once upon a time", "The little dog", "One day", "Lily and Tom"]


def write_requests(path: Path, count: int, **fields: Any) -> list[dict[str, Any]]:
    requests = [
        {
            "id": f"r{number}",
            "prompt": PROMPTS[number % len(PROMPTS)],
            "max_tokens": 4 + number % 9,
            "temperature": 0,
            "metadata": {"number": number},
            **fields,
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(request) + "\n" for request in requests))
    return requests


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_file_of_requests_becomes_a_file_of_results(tiny_model_file: Path, tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 20)
    done = tercet("batch", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", "-m", tiny_model_file)
    assert done.status == 0, done
    assert done.out == ""
    assert "20 of 20 requests answered, 0 failed" in done.err
    found = {record["id"]: record for record in records(tmp_path / "out.jsonl")}
    llm = LLM(tiny_model_file)
    for request in requests:
        record = found.pop(request["id"])
        expected = llm.generate(request["prompt"], max_tokens=request["max_tokens"], temperature=0)
        assert record["text"] == expected.text
        assert record["status"] == "succeeded"
        assert record["metadata"] == request["metadata"]
        assert record["usage"]["prompt_tokens"] == expected.prompt_tokens
        assert record["usage"]["completion_tokens"] == expected.generated_tokens
    assert found == {}


def test_options_hold_where_a_line_says_nothing(tiny_model_file: Path, tmp_path: Path) -> None:
    lines = [
        {"prompt": "One day"},
        {"prompt": "One day", "seed": 5},
        {"messages": [{"role": "user", "content": "Hi"}]},
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, lines)))
    arguments = ["-m", tiny_model_file, "-n", "6", "--seed", "3", "--json"]
    done = tercet("batch", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", *arguments)
    assert done.status == 0, done
    assert done.data["succeeded"] == 3
    first, second, third = sorted(records(tmp_path / "out.jsonl"), key=lambda record: record["line"])
    llm = LLM(tiny_model_file)
    assert first["text"] == llm.generate("One day", max_tokens=6, seed=3).text
    assert second["text"] == llm.generate("One day", max_tokens=6, seed=5).text
    assert third["text"] == llm.chat([{"role": "user", "content": "Hi"}], max_tokens=6, seed=3).text
    assert [record["id"] for record in (first, second, third)] == ["req_0", "req_1", "req_2"]


def test_bad_lines_are_told_by_number_and_stop_nobody(tiny_model_file: Path, tmp_path: Path) -> None:
    good = '{"prompt": "One day", "max_tokens": 3}'
    lines = [
        good,
        "{",
        '{"prompt": "One day", "temprature": 1}',
        '{"prompt": "One day", "temperature": -1}',
        "{}",
        '{"prompt": "One day", "messages": []}',
        '{"prompt": [1, 999999]}',
        '{"id": "long", "prompt": "' + "dog " * 3000 + '"}',
        good,
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    done = tercet("batch", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", "-m", tiny_model_file)
    assert done.status == 3, done
    assert f"{tmp_path / 'in.jsonl'}:2: the line is not JSON" in done.err
    assert "2 of 9 requests answered, 7 failed" in done.err
    by_line = {record["line"]: record for record in records(tmp_path / "out.jsonl")}
    assert [number for number, record in sorted(by_line.items()) if record["status"] == "succeeded"] == [1, 9]
    parts = {3: "temprature", 4: "temperature", 5: "neither", 6: "both", 7: "vocabulary", 8: "context"}
    for number, part in parts.items():
        assert part in by_line[number]["error"]["message"]
    assert by_line[8]["error"]["type"] == "ContextLengthError"
    again = tercet(
        "batch", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", "-m", tiny_model_file, "--retry-failed"
    )
    assert again.status == 3
    assert Counter(record["line"] for record in records(tmp_path / "out.jsonl")) == Counter(range(1, 10))


def test_killed_again_and_again_no_request_is_lost_or_repeated(tiny_model_file: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    requests = write_requests(source, 2_000, max_tokens=24)
    arguments = command("batch", source, "-o", output, "-m", tiny_model_file, "--concurrency", "8")
    progress = [0]
    while len(progress) < 6:
        process = subprocess.Popen(arguments, stderr=subprocess.PIPE, env=environment())
        # Kill it after some more results, whenever the machine gets there; torn lines come by themselves.
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            lines = output.read_bytes().count(b"\n") if output.exists() else 0
            if lines >= progress[-1] + 100:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it ended before it could be killed: add requests"
        progress.append(output.read_bytes().count(b"\n"))
    torn = output.read_bytes()
    output.write_bytes(torn + b'{"id": "r1", "line": 2, "stat')  # as if killed in the middle of a write
    done = tercet("batch", source, "-o", output, "-m", tiny_model_file)
    assert done.status == 0, done
    assert output.read_bytes().startswith(torn[: torn.rindex(b"\n") + 1])  # what was there has stayed
    found = records(output)
    assert Counter(record["id"] for record in found) == Counter(request["id"] for request in requests)
    assert all(record["metadata"]["number"] == int(record["id"][1:]) for record in found)
    texts = {(record["metadata"]["number"] % len(PROMPTS), record["text"]) for record in found}
    assert len(texts) == len(PROMPTS)  # the same prompt has the same answer, on whichever side of a kill


def test_openai_lines_are_answered_as_a_server_would(tmp_path: Path) -> None:
    """Both forms in one file; the model is that of the command, whatever a line says."""
    url = "/v1/chat/completions"
    body = {
        "model": "gpt-5",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 6,
        "temperature": 0,
    }
    lines = [
        {"custom_id": "a", "method": "POST", "url": url, "body": body},
        {"custom_id": "b", "method": "POST", "url": url, "body": {**body, "temperature": 7}},
        {"custom_id": "c", "method": "POST", "url": "/v1/nothing", "body": {}},
        {"id": "d", "prompt": "Once upon a time", "max_tokens": 6, "temperature": 0},
        {"custom_id": "e", "method": "POST", "url": "/v1/completions",
         "body": {"prompt": "Once upon a time", "max_tokens": 6, "temperature": 0}},
    ]  # fmt: skip
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = tercet("batch", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl")
    assert done.status == 3, done
    found = {record.get("custom_id", record["id"]): record for record in records(tmp_path / "out.jsonl")}
    llm = LLM()
    answer = found["a"]["response"]["body"]
    assert (
        answer["choices"][0]["message"]["content"]
        == llm.chat(body["messages"], max_tokens=6, temperature=0).text
    )
    assert answer["model"] == llm.name
    assert found["b"]["response"]["body"]["error"]["param"] == "temperature"
    assert "/v1/nothing" in found["c"]["error"]["message"]
    assert found["d"]["text"] == found["e"]["response"]["body"]["choices"][0]["text"]
    again = tercet("batch", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", "--json")
    assert (again.status, again.data["resumed"]) == (3, 5)


def test_ctrl_c_keeps_what_is_done(slow_model: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    quick = {"prompt": "One day", "max_tokens": 2}
    source.write_text("\n".join(json.dumps({**quick, "max_tokens": n}) for n in (2, 2, 100_000, 100_000)))
    process = subprocess.Popen(
        command("batch", source, "-o", output, "-m", slow_model),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    until = time.monotonic() + 60
    while (not output.exists() or output.read_bytes().count(b"\n") < 2) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert b"Traceback" not in err
    assert {record["line"] for record in records(output)} == {1, 2}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--temperature", "-1"], "temperature"),
        (["--model", "no-such-model"], "no-such-model"),
    ],
)
def test_what_is_wrong_with_all_is_said_once(tmp_path: Path, arguments: list[str], part: str) -> None:
    write_requests(tmp_path / "in.jsonl", 3)
    done = tercet("batch", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", *arguments)
    assert_refused(done, part)


def test_files_that_cannot_be_read_or_written(tiny_model_file: Path, tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 1)
    assert_refused(tercet("batch", tmp_path / "absent", "-o", tmp_path / "out.jsonl"), "absent")
    assert_refused(
        tercet("batch", tmp_path / "in.jsonl", "-o", tmp_path / "no" / "out.jsonl"), "Create the folder"
    )
    (tmp_path / "thesis.txt").write_text("a thesis")
    assert_refused(tercet("batch", tmp_path / "in.jsonl", "-o", tmp_path / "thesis.txt"), "something else")
    assert (tmp_path / "thesis.txt").read_text() == "a thesis"
