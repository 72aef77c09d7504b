"""What comes over HTTP is what `LLM.generate` gives, token by token: alone, in company, with less memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from served import Server
from tercet import LLM
from tercet.engine.result import GenerationResult

TOKENS = 40
COMPANY = 6
PROMPTS = (
    "Once upon a time",
    "Once upon a time there was a little dog",
    "Tom had a red ball. He liked to play with it in the park. One day the ball",
    "Lily and Ben went to the forest. " * 6,
    "naïve café 東京 🙂",
    "",
)
SETTINGS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 0.7, "top_p": 0.9, "seed": 3},
    {"temperature": 1.3, "top_p": 1.0, "top_k": 50, "min_p": 0.02, "seed": 2**40 + 1},
    {"temperature": 0.9, "seed": 5, "repetition_penalty": 1.2, "frequency_penalty": 0.5},
    {"temperature": 0.0, "stop": ["little", "."]},
    {"temperature": 0.0, "logit_bias": {11: -100.0, 13: 4.0}, "min_tokens": 8},
)
CASES = [(prompt, settings) for prompt in PROMPTS for settings in SETTINGS]


@pytest.fixture(scope="module")
def answers() -> list[GenerationResult]:
    with LLM() as llm:
        return [generate(llm, *case) for case in CASES]


def generate(llm: LLM, prompt: str, settings: dict[str, Any]) -> GenerationResult:
    return llm.generate(prompt, max_tokens=TOKENS, **settings)


def body(prompt: str, settings: dict[str, Any], **fields: Any) -> dict[str, Any]:
    bias = {str(token): value for token, value in settings.get("logit_bias", {}).items()}
    return {"prompt": prompt, "max_tokens": TOKENS, **settings, "logit_bias": bias or None, **fields}


def ask(client: httpx.Client, prompt: str, settings: dict[str, Any]) -> tuple[str, int, str]:
    response = client.post("/v1/completions", json=body(prompt, settings))
    assert response.status_code == 200, response.text
    (choice,) = response.json()["choices"]
    return choice["text"], response.json()["usage"]["completion_tokens"], choice["finish_reason"]


def ask_streaming(client: httpx.Client, prompt: str, settings: dict[str, Any]) -> tuple[str, int, str]:
    fields = {"stream": True, "stream_options": {"include_usage": True}}
    text, count, reason = "", 0, ""
    with client.stream("POST", "/v1/completions", json=body(prompt, settings, **fields)) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            if line.startswith("data: {"):
                data = json.loads(line[6:])
                text += "".join(choice["text"] for choice in data["choices"])
                reason = next((one["finish_reason"] for one in data["choices"]), None) or reason
                count = (data["usage"] or {"completion_tokens": count})["completion_tokens"]
    return text, count, reason


def told(result: GenerationResult) -> tuple[str, int, str]:
    return result.text, result.generated_tokens, str(result.finish_reason)


@pytest.mark.parametrize("asking", [ask, ask_streaming])
def test_alone(
    serving: Server,
    answers: list[GenerationResult],
    asking: Callable[[httpx.Client, str, dict[str, Any]], tuple[str, int, str]],
) -> None:
    with serving.client() as client:
        for case, expected in zip(CASES, answers, strict=True):
            assert asking(client, *case) == told(expected), case


def test_token_by_token(serving: Server, answers: list[GenerationResult]) -> None:
    with LLM() as llm, serving.client() as client:
        for (prompt, settings), expected in zip(CASES, answers, strict=True):
            if "stop" in settings:
                continue  # the tokens of the stop string itself are listed, too
            response = client.post("/v1/completions", json=body(prompt, settings, logprobs=0)).json()
            tokens = [llm.tokenizer.token_bytes(token) for token in expected.token_ids]
            listed = response["choices"][0]["logprobs"]["tokens"]
            assert [as_bytes(one) for one in listed] == tokens, (prompt, settings)


def test_choices_and_lists_of_prompts(serving: Server) -> None:
    with LLM() as llm:
        expected = [
            told(generate(llm, prompt, {"temperature": 1.0, "seed": seed}))
            for prompt in PROMPTS[:3]
            for seed in (7, 8)
        ]
    fields = {"temperature": 1.0, "seed": 7, "n": 2, "max_tokens": TOKENS}
    with serving.client() as client:
        found = client.post("/v1/completions", json={"prompt": PROMPTS[:3], **fields}).json()
    assert [(one["text"], one["finish_reason"]) for one in found["choices"]] == [
        (text, reason) for text, _, reason in expected
    ]
    assert found["usage"]["completion_tokens"] == sum(count for _, count, _ in expected)


@pytest.mark.parametrize("settings", SETTINGS[:4])
def test_a_conversation(serving: Server, settings: dict[str, Any]) -> None:
    messages = [
        {"role": "system", "content": "You tell short stories."},
        {"role": "user", "content": "Tell me of a dog."},
        {"role": "assistant", "content": "Once upon a time"},
        {"role": "user", "content": "Go on."},
    ]
    with LLM() as llm:
        expected = llm.chat(messages, max_tokens=TOKENS, **settings)
    fields = {"messages": messages, "max_tokens": TOKENS, **settings}
    with serving.client() as client:
        found = client.post("/v1/chat/completions", json=fields).json()
    choice, usage = found["choices"][0], found["usage"]
    assert choice["message"]["content"] == expected.text
    assert (usage["prompt_tokens"], usage["completion_tokens"], choice["finish_reason"]) == (
        expected.prompt_tokens,
        expected.generated_tokens,
        expected.finish_reason,
    )


def as_bytes(token: str) -> bytes:
    if token.startswith("bytes:\\x"):
        return bytes.fromhex(token.removeprefix("bytes:").replace("\\x", ""))
    return token.encode()


@pytest.fixture
def company() -> Iterator[Callable[[Server], None]]:
    """Others who ask the same server, some of whom leave in the middle, until the test ends."""
    stop, threads = threading.Event(), []

    def join_in(server: Server) -> None:
        def talk(number: int) -> None:
            turn = 0
            with server.client() as client:
                while not stop.is_set():
                    turn += 1
                    fields = {"temperature": 1.0, "seed": turn, "ignore_eos": True}
                    prompt = f"{PROMPTS[turn % len(PROMPTS)]} {number}"
                    with client.stream(
                        "POST", "/v1/completions", json=body(prompt, fields, stream=True)
                    ) as one:
                        for count, _ in enumerate(one.iter_lines()):
                            if (number + turn) % 3 == 0 and count == turn % 20:
                                break  # hangs up

        threads.extend(threading.Thread(target=talk, args=(number,)) for number in range(COMPANY))
        for thread in threads:
            thread.start()

    yield join_in
    stop.set()
    for thread in threads:
        thread.join()


def test_in_company(
    serving: Server, answers: list[GenerationResult], company: Callable[[Server], None]
) -> None:
    company(serving)
    with serving.client() as client, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda case: ask_streaming(client, *case), CASES))
    assert found == [told(expected) for expected in answers]


def test_in_company_with_little_memory(
    serve: Callable[..., Server], company: Callable[[Server], None]
) -> None:
    # The scenario's cache, and not its memory: that is the whole process's, and this one has run other tests.
    with LLM(kv_dtype="int8") as llm:
        expected = [told(generate(llm, *case)) for case in CASES]
    server = serve("--scenario", "mobile")
    company(server)
    with server.client() as client, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda case: ask(client, *case), CASES)) == expected
