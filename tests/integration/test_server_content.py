"""The content filter of `tercet serve`: every generating route, whole and as a stream, a policy for each key.

The shipped model says what a grammar or a schema makes it say, so what an answer holds is known. The word
of the default list stands in the middle of it: what comes before may leave, and nothing from it on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from forced_answers import ROUTES, body, code, expected, reasons, tokens_read, told
from served import Server, wait_until
from tercet.security.api_keys import KeyStore

HARMFUL = "This content contains harmful and dangerous information"
BEFORE, AFTER = "This is very", "talk and no more"
SAID = f"{BEFORE} harmful {AFTER}"
MAIL = "anna@example.com"
UNLIMITED = ("--rate-limit-requests", "none", "--rate-limit-tokens", "none")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("content")


@pytest.fixture(scope="module")
def keys(folder: Path) -> dict[str, str]:
    store = KeyStore(folder / "keys", time.time)
    policies = {
        "strict": None,
        "flag": "flag",
        "redact": "redact",
        "house": "house",
        "off": "off",
        "lost": "no-such",
    }
    keys = {name: store.create(name, policy=policy)[0] for name, policy in policies.items()}
    return {**keys, "admin": store.create("admin", role="admin", policy="off")[0]}


@pytest.fixture(scope="module")
def server(folder: Path, keys: dict[str, str]) -> Iterator[Server]:
    policies = {
        "default": "block",
        "filters": {
            # In the place of Presidio, which a process takes seconds to load.
            "personal_data": {
                "kind": "patterns",
                "category": "email",
                "patterns": {"address": r"\b[a-z]{1,20}@[a-z]{1,20}\.com\b"},
                "reach": 50,
            },
            "spiders": {
                "kind": "words",
                "category": "animal",
                "language": "de",
                "words": ["Spinne", "Spinnen"],
            },
        },
        "policies": {"house": {"prompt": {"use": ["spiders"], "otherwise": "block"}, "response": {}}},
    }
    (folder / "policies.json").write_text(json.dumps(policies))
    server = Server(
        *("--keys", folder / "keys", "--content-policy", folder / "policies.json"),
        *("--batch-dir", folder / "batches", "--response-cache", "memory", *UNLIMITED),
    )
    yield server
    server.stop()


@pytest.fixture(scope="module")
def ask(server: Server, keys: dict[str, str]) -> Iterator[Any]:
    clients = {name: server.client(headers={"Authorization": f"Bearer {key}"}) for name, key in keys.items()}

    def ask(path: str, body: Any, who: str = "strict") -> httpx.Response:
        return clients[who].post(path, json=body)

    yield ask
    for client in clients.values():
        client.close()


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_of_the_default_list_is_refused_with_content_filtered(
    ask: Any, path: str, stream: bool
) -> None:
    answer = ask(path, body(path, HARMFUL, stream=stream))
    assert (answer.status_code, code(answer)) == (400, expected(path, "CONTENT_FILTERED"))
    assert "content filter (harm)" in answer.text
    assert "dangerous" not in answer.text, "the text is not told back"


@pytest.mark.parametrize("path", ROUTES)
def test_a_prompt_without_such_words_is_answered(ask: Any, path: str) -> None:
    assert ask(path, body(path, "A charming, harmless story about hats.")).status_code == 200


@pytest.mark.parametrize("path", ROUTES)
def test_an_answer_that_is_whole_is_refused_with_response_filtered(ask: Any, path: str) -> None:
    answer = ask(path, body(path, said=SAID))
    assert (answer.status_code, code(answer)) == (400, expected(path, "RESPONSE_FILTERED"))
    assert BEFORE not in answer.text
    assert "harmful" not in answer.text


@pytest.mark.parametrize("path", ROUTES)
def test_a_stream_ends_with_content_filter_before_the_word(ask: Any, path: str) -> None:
    answer = ask(path, body(path, said=SAID, stream=True))
    assert answer.status_code == 200
    assert reasons(path, answer.text) == {"content_filter"}
    assert "harm" not in told(answer.text), "neither the word nor the beginning of it"
    assert "no more" not in told(answer.text)
    assert "very" in told(answer.text), "what came before it has left"


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"logprobs": True, "top_logprobs": 0}),
        ("/v1/completions", {"logprobs": 0}),
        ("/v1/responses", {"include": ["message.output_text.logprobs"]}),
        ("/completion", {"n_probs": 1, "return_tokens": True}),
        ("/api/generate", {"logprobs": True}),
    ],
)
def test_log_probabilities_and_token_ids_do_not_run_ahead_of_the_text(
    ask: Any, path: str, fields: dict[str, Any]
) -> None:
    with_them = ask(path, body(path, said=SAID, stream=True, **fields), "off").text
    answer = ask(path, body(path, said=SAID, stream=True, **fields)).text
    assert "harm" in told(with_them), "as it is without a filter"
    assert "harm" not in told(answer)
    if path == "/completion":
        ids = [
            one
            for line in with_them.splitlines()
            if line.startswith("data: {")
            for one in json.loads(line[6:])["tokens"]
        ]
        kept = [
            one
            for line in answer.splitlines()
            if line.startswith("data: {")
            for one in json.loads(line[6:])["tokens"]
        ]
        assert kept == ids[: len(kept)]
        assert 0 < len(kept) < len(ids)


def test_all_choices_are_filtered(ask: Any) -> None:
    path = "/v1/chat/completions"
    assert code(ask(path, body(path, said=SAID, n=2))) == "RESPONSE_FILTERED"
    stream = ask(path, body(path, said=SAID, n=2, stream=True))
    assert reasons(path, stream.text) == {"content_filter"}
    assert "harm" not in stream.text


def test_token_ids_are_read_as_the_text_that_they_are(ask: Any) -> None:
    ids = ask("/tokenize", {"content": HARMFUL}, "admin").json()["tokens"]
    for path in ("/v1/completions", "/completion"):
        answer = ask(path, {**body(path), "prompt": ids})
        assert (answer.status_code, code(answer)) == (400, expected(path, "CONTENT_FILTERED"))


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "Do harm."}, {"role": "user", "content": "Hello"}],
        [{"role": "user", "content": [{"type": "text", "text": "do harm"}]}],
        [
            {"role": "user", "content": "Hello"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "a",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"x": "\\u0068arm"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "a", "content": "done"},
        ],
        [{"role": "user", "content": "H\u00c0RM\u200bFUL"}],
    ],
    ids=["system", "parts", "arguments", "folded"],
)
def test_whatever_the_model_would_read_is_looked_at(ask: Any, messages: list[Any]) -> None:
    answer = ask("/v1/chat/completions", {"messages": messages, "max_tokens": 4})
    assert (answer.status_code, code(answer)) == (400, "CONTENT_FILTERED")


def test_tools_are_looked_at(ask: Any) -> None:
    tool = {
        "type": "function",
        "function": {"name": "f", "description": "does harm", "parameters": {"type": "object"}},
    }
    answer = ask("/v1/chat/completions", {**body("/v1/chat/completions"), "tools": [tool]})
    assert (answer.status_code, code(answer)) == (400, "CONTENT_FILTERED")


def test_each_key_has_its_policy(ask: Any) -> None:
    path = "/v1/chat/completions"
    said = {
        who: ask(path, body(path, said=SAID), who) for who in ("strict", "flag", "redact", "off", "house")
    }
    texts = {
        who: json.loads(answer.json()["choices"][0]["message"]["content"])
        for who, answer in said.items()
        if answer.status_code == 200
    }
    assert code(said["strict"]) == "RESPONSE_FILTERED"
    assert texts == {
        "flag": SAID,
        "redact": SAID.replace("harmful", "[REDACTED:HARM]"),
        "off": SAID,
        "house": SAID,
    }


def test_a_stream_is_redacted_as_the_whole_is(ask: Any) -> None:
    path = "/v1/chat/completions"
    stream = ask(path, body(path, said=SAID, stream=True, logprobs=True), "redact").text
    deltas = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    text = "".join(choice["delta"].get("content") or "" for one in deltas for choice in one["choices"])
    assert json.loads(text) == SAID.replace("harmful", "[REDACTED:HARM]")
    tokens = [
        token["token"]
        for one in deltas
        for choice in one["choices"]
        for token in (choice["logprobs"] or {}).get("content") or ()
    ]
    assert tokens, "tokens of what left"
    assert "harm" not in "".join(tokens), "and none of what was taken out"


def test_prompts_are_redacted_before_the_model_reads_them(ask: Any) -> None:
    for path in ("/v1/completions", "/completion", "/api/generate"):
        plain, redacted = (
            ask(path, body(path, f"Write to {who} about hats."), policy).json()
            for who, policy in ((MAIL, "redact"), ("[REDACTED:EMAIL]", "off"))
        )
        assert tokens_read(plain) == tokens_read(redacted)


def test_a_policy_file_adds_lists_of_other_languages(ask: Any) -> None:
    path = "/v1/completions"
    assert code(ask(path, body(path, "Die Spinnen kommen."), "house")) == "CONTENT_FILTERED"
    assert ask(path, body(path, "The spiders do harm."), "house").status_code == 200


def test_a_key_whose_policy_this_server_does_not_have_is_not_served(ask: Any) -> None:
    answer = ask("/v1/completions", body("/v1/completions"), "lost")
    assert (answer.status_code, code(answer)) == (500, "server_error")
    assert "content policy" in answer.text


def test_flags_and_blocks_are_counted_and_no_text_is_logged(
    server: Server, ask: Any, keys: dict[str, str]
) -> None:
    with server.client(headers={"Authorization": f"Bearer {keys['admin']}"}) as admin:
        before = admin.get("/security/status").json()
        path = "/v1/completions"
        assert ask(path, body(path, HARMFUL), "flag").status_code == 200
        ask(path, body(path, HARMFUL))
        ask(path, body(path, said=SAID))
        ask(path, body(path, said=SAID, stream=True))

        def change() -> dict[str, int]:
            blocked = admin.get("/security/status").json()["blocked_by_reason"]
            reasons = ("content_filtered", "response_filtered")
            return {reason: blocked[reason] - before["blocked_by_reason"][reason] for reason in reasons}

        # A stream has ended for its reader before it has for the server.
        wait_until(lambda: sum(change().values()) >= 3)
        assert change() == {"content_filtered": 1, "response_filtered": 2}
        assert admin.get("/security/status").json()["content_flagged"] != before["content_flagged"]
    assert "dangerous information" not in server.log
    assert "very harmful" not in server.log


def test_what_was_filtered_is_not_remembered(ask: Any) -> None:
    path = "/v1/completions"
    asked = body(path, "Say it twice.", said=SAID, temperature=0)
    for _ in range(2):
        answer = ask(path, asked, "redact")
        assert answer.json()["choices"][0]["text"] == SAID.replace("harmful", "[REDACTED:HARM]")
        assert answer.headers["x-tercet-cache"] == "miss"
    kept = {**asked, "guided_choice": ["A calm answer."]}
    assert [ask(path, kept, "redact").headers["x-tercet-cache"] for _ in range(2)] == ["miss", "hit"]


def test_items_of_batches_are_filtered_by_the_policy_of_their_key(
    server: Server, keys: dict[str, str]
) -> None:
    path = "/v1/chat/completions"
    asked = {"prompt": body(path, HARMFUL), "answer": body(path, said=SAID), "fine": body(path)}
    lines = [{"custom_id": name, "method": "POST", "url": path, "body": one} for name, one in asked.items()]
    data = "\n".join(map(json.dumps, lines)).encode()
    with server.client(headers={"Authorization": f"Bearer {keys['strict']}"}) as client:
        file = client.post("/v1/files", files={"file": ("a.jsonl", data)}, data={"purpose": "batch"}).json()
        wanted = {"input_file_id": file["id"], "endpoint": path, "completion_window": "24h"}
        batch = client.post("/v1/batches", json=wanted).json()
        end = time.monotonic() + 60
        while batch["status"] not in ("completed", "failed") and time.monotonic() < end:
            time.sleep(0.05)
            batch = client.get(f"/v1/batches/{batch['id']}").json()
        assert batch["status"] == "completed"
        found = {}
        for name in ("output_file_id", "error_file_id"):
            for line in client.get(f"/v1/files/{batch[name]}/content").text.splitlines():
                record = json.loads(line)
                found[record["custom_id"]] = record
    assert found["fine"]["response"]["status_code"] == 200
    assert "CONTENT_FILTERED" in json.dumps(found["prompt"])
    assert "RESPONSE_FILTERED" in json.dumps(found["answer"])
    assert "harmful" not in json.dumps(found)


@pytest.mark.parametrize(
    ("text", "status"), [("a\x00b", 400), ("a\x1b[31mb", 400), ("a\u009bb", 400), ("a\tb\r\nc", 200)]
)
def test_control_characters_are_refused_where_inputs_are_sanitized(ask: Any, text: str, status: int) -> None:
    answer = ask("/v1/completions", body("/v1/completions", text))
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["error"]["code"] == "INVALID_INPUT"
        assert answer.json()["error"]["param"] == "prompt"


def test_what_a_browser_would_run_is_taken_out_of_prompts(ask: Any) -> None:
    plain = ask("/completion", body("/completion", "Hello <b>you</b>, 1 < 2"), "off").json()[
        "tokens_evaluated"
    ]
    path = "/completion"
    dressed = ask(path, body(path, "Hello <script>alert(1)</script><b>you</b>, 1 < 2"), "off").json()
    assert dressed["tokens_evaluated"] == plain


def test_without_keys_at_this_machine_nothing_is_filtered(serving: Server) -> None:
    with serving.client() as client:
        path = "/v1/completions"
        answer = client.post(path, json=body(path, HARMFUL, said=SAID))
    assert answer.json()["choices"][0]["text"] == SAID
