"""The simulated Vertex AI answers as the wire formats say, and refuses what they refuse."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession
from yarl import URL

from proxy.simulator import Fault, SimulatedVertex, model

P = "/v1/projects/p/locations/us-central1/publishers"
AUTHORIZED = {"Authorization": "Bearer token", "Content-Type": "application/json"}
FIM: dict[str, Any] = {
    "model": "codestral-2",
    "prompt": "def add(a, b):\n    return ",
    "suffix": "\n\nprint(add(1, 2))\n",
}
ANSWER = model.complete("vertex", FIM["prompt"], FIM["suffix"])


def path(name: str = "codestral-2", method: str = "rawPredict", publisher: str = "mistralai") -> str:
    return f"{P}/{publisher}/models/{name}:{method}"


@pytest.fixture
async def vertex() -> AsyncIterator[SimulatedVertex]:
    async with SimulatedVertex() as provider:
        yield provider


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as client:
        yield client


class Asker:
    """One caller of one provider."""

    def __init__(self, session: ClientSession, vertex: SimulatedVertex) -> None:
        self.session = session
        self.vertex = vertex

    async def __call__(
        self, body: object, target: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = URL(self.vertex.url + (target or path()), encoded=True)
        async with self.session.post(url, data=data, headers=AUTHORIZED if headers is None else headers) as response:
            return response.status, response.headers["content-type"], await response.read()

    async def stream(self, body: object, target: str | None = None) -> list[str]:
        """The data of each event."""
        status, content_type, data = await self(body, target or path(method="streamRawPredict"))
        assert (status, content_type) == (200, "text/event-stream")
        assert data.endswith(b"\n\n")
        events = data.decode().removesuffix("\n\n").split("\n\n")
        assert all(event.startswith("data: ") for event in events)
        return [event.removeprefix("data: ") for event in events]


@pytest.fixture
def ask(session: ClientSession, vertex: SimulatedVertex) -> Asker:
    return Asker(session, vertex)


async def test_whole_fim_answer_is_chat_shaped(ask: Asker) -> None:
    status, content_type, data = await ask(FIM)
    answer = json.loads(data)
    assert (status, content_type) == (200, "application/json")
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "codestral-2"
    assert isinstance(answer["id"], str)
    assert isinstance(answer["created"], int)
    message = {"role": "assistant", "content": ANSWER, "tool_calls": None}
    assert answer["choices"] == [{"index": 0, "message": message, "finish_reason": "stop"}]
    usage = answer["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
    assert usage["completion_tokens"] == model.tokens(ANSWER)


async def test_stream_is_small_chunks_then_finish_with_usage_then_done(ask: Asker) -> None:
    *events, done = await ask.stream({**FIM, "stream": True})
    assert done == "[DONE]"
    chunks = [json.loads(event) for event in events]
    assert {(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks} == {
        (chunks[0]["id"], chunks[0]["created"], "codestral-2")
    }
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    texts = [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
    assert "".join(texts) == ANSWER
    assert max(map(len, texts)) == 8
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert ["usage" in chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


@pytest.mark.parametrize(
    ("method", "stream", "expected"),
    [
        ("rawPredict", None, "application/json"),
        ("rawPredict", False, "application/json"),
        ("rawPredict", True, "text/event-stream"),
        ("streamRawPredict", None, "text/event-stream"),
        ("streamRawPredict", False, "application/json"),
        ("streamRawPredict?alt=sse", True, "text/event-stream"),
    ],
)
async def test_body_and_method_together_decide_on_streaming(
    ask: Asker, method: str, stream: bool | None, expected: str
) -> None:
    body = FIM if stream is None else {**FIM, "stream": stream}
    status, content_type, _ = await ask(body, path(method=method))
    assert (status, content_type) == (200, expected)


async def test_chat_answers_the_last_message_of_the_user(ask: Asker) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": [{"type": "text", "text": "sec"}, {"type": "text", "text": "ond"}]},
    ]
    _, _, data = await ask({"model": "codestral-2", "messages": messages})
    assert json.loads(data)["choices"][0]["message"]["content"] == model.chat("vertex", "second")


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": FIM["suffix"], "suffix": FIM["prompt"]},
        {"suffix": None},
        {"prompt": FIM["prompt"][:-1]},
        {"prompt": FIM["prompt"] + FIM["suffix"], "suffix": ""},
    ],
    ids=["swapped", "no suffix", "cut prompt", "moved border"],
)
async def test_a_question_that_was_changed_on_its_way_gets_another_answer(ask: Asker, changed: dict[str, Any]) -> None:
    _, _, data = await ask({**FIM, **changed})
    text = json.loads(data)["choices"][0]["message"]["content"]
    assert text != ANSWER
    assert "vertex" in text


async def test_the_probes_question_has_a_known_answer(ask: Asker) -> None:
    hole = {"prompt": 'days = ["Monday", "Tuesday", "', "suffix": '", "Thursday"]\n'}
    _, _, data = await ask({**FIM, **hole})
    assert json.loads(data)["choices"][0]["message"]["content"] == "Wednesday"


@pytest.mark.parametrize(
    ("parameters", "text", "finish"),
    [
        ({"stop": "\n"}, ANSWER.partition("\n")[0], "stop"),
        ({"stop": ["nowhere", "\n", "(value)"]}, ANSWER.partition("(")[0], "stop"),
        ({"max_tokens": 2}, ANSWER[:8], "length"),
        ({"max_tokens": 2, "stop": ["\n"]}, ANSWER[:8], "length"),
        ({"max_tokens": 64, "temperature": 0.7, "top_p": 1, "random_seed": 1, "min_tokens": 0}, ANSWER, "stop"),
        ({"max_tokens": 0}, "", "length"),
    ],
)
async def test_stops_and_max_tokens_end_the_answer(
    ask: Asker, parameters: dict[str, Any], text: str, finish: str
) -> None:
    _, _, data = await ask({**FIM, **parameters})
    choice = json.loads(data)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, finish)
    chunks = [json.loads(event) for event in (await ask.stream({**FIM, **parameters}))[:-1]]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == text
    assert chunks[-1]["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize(
    ("url_model", "body_model"),
    [
        ("codestral@2405", "codestral"),
        ("codestral%402405", "codestral"),
        ("codestral-2405", "codestral"),
        ("codestral@2405", "codestral-2405"),
        ("codestral-2501", "codestral-2501"),
    ],
)
async def test_every_spelling_of_a_model_is_taken_and_recorded_as_sent(
    ask: Asker, url_model: str, body_model: str
) -> None:
    target = path(url_model).replace("/v1/", "/v1beta1/") + "?%24alt=json%3Benum-encoding%3Dint"
    status, _, _ = await ask({**FIM, "model": body_model}, target)
    assert status == 200
    assert ask.vertex.requests[-1].raw_path == target


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"prompt": "x"}, ["body", "model"]),
        ({"model": "codestral-2"}, ["body", "prompt"]),
        ({"model": "codestral-2", "prompt": 7}, ["body", "prompt"]),
        ({"model": "codestral-2", "prompt": None}, ["body", "prompt"]),
        ({**FIM, "suffix": ["x"]}, ["body", "suffix"]),
        ({**FIM, "max_tokens": -1}, ["body", "max_tokens"]),
        ({**FIM, "max_tokens": 128.0}, ["body", "max_tokens"]),
        ({**FIM, "max_tokens": True}, ["body", "max_tokens"]),
        ({**FIM, "temperature": 2}, ["body", "temperature"]),
        ({**FIM, "temperature": "0.7"}, ["body", "temperature"]),
        ({**FIM, "top_p": -0.1}, ["body", "top_p"]),
        ({**FIM, "stop": 7}, ["body", "stop"]),
        ({**FIM, "stop": ["x", None]}, ["body", "stop", 1]),
        ({**FIM, "stream": "yes"}, ["body", "stream"]),
        ({**FIM, "model": "codestral"}, ["body", "model"]),
        ({**FIM, "model": "codestral-2501"}, ["body", "model"]),
        ({**FIM, "stop_sequences": ["x"]}, ["body", "stop_sequences"]),
        ({**FIM, "messages": [{"role": "user", "content": "x"}]}, ["body", "prompt"]),
        ({"model": "codestral-2", "messages": []}, ["body", "messages"]),
        ({"model": "codestral-2", "messages": [{"role": "user"}]}, ["body", "messages", 0, "content"]),
        ({"model": "codestral-2", "messages": [{"role": "human", "content": "x"}]}, ["body", "messages", 0]),
    ],
)
async def test_a_body_with_a_wrong_field_is_a_422_of_the_model(
    ask: Asker, body: object, where: list[str | int]
) -> None:
    status, content_type, data = await ask(body)
    assert (status, content_type) == (422, "application/json")
    problem = json.loads(data)["detail"][0]
    assert problem["loc"] == where
    assert problem.keys() == {"type", "loc", "msg"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"prompt": NaN}', b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_object_is_an_invalid_argument(ask: Asker, body: bytes) -> None:
    status, _, data = await ask(body)
    assert (status, json.loads(data)["error"]["status"]) == (400, "INVALID_ARGUMENT")


async def test_another_content_type_is_an_invalid_argument(ask: Asker) -> None:
    status, _, data = await ask(FIM, headers={**AUTHORIZED, "Content-Type": "text/plain"})
    assert (status, json.loads(data)["error"]["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer ", "Basic dG9rZW4=", "Bearer stale"])
async def test_without_an_accepted_token_it_is_unauthenticated(ask: Asker, authorization: str | None) -> None:
    ask.vertex.accepted_tokens = {"fresh"}
    headers = {"Content-Type": "application/json"}
    if authorization is not None:
        headers["Authorization"] = authorization
    status, _, data = await ask(FIM, headers=headers)
    error = json.loads(data)["error"]
    assert (status, error["code"], error["status"]) == (401, 401, "UNAUTHENTICATED")
    status, _, _ = await ask(FIM, headers={**headers, "Authorization": "Bearer fresh"})
    assert status == 200


@pytest.mark.parametrize("target", [path("codestral-1"), path("gemini-3", publisher="google")])
async def test_an_unknown_model_is_not_found(ask: Asker, target: str) -> None:
    status, _, data = await ask(FIM, target)
    error = json.loads(data)["error"]
    assert (status, error["status"]) == (404, "NOT_FOUND")
    assert target.split("/v1/")[1].split(":")[0] in error["message"]


async def test_a_retired_model_is_not_found(ask: Asker) -> None:
    del ask.vertex.models["codestral-2"]
    status, _, _ = await ask(FIM)
    assert status == 404


@pytest.mark.parametrize(
    "target",
    [
        path(method="predict"),
        path("gemini-2.5-flash", "rawPredict", "google"),
        path("code-gecko@002", "generateContent", "google"),
        path("claude-haiku-5-5", "predict", "anthropic"),
    ],
)
async def test_a_method_that_the_model_does_not_have_is_an_invalid_argument(ask: Asker, target: str) -> None:
    status, _, data = await ask(FIM, target)
    assert (status, json.loads(data)["error"]["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "target",
    [
        path("gemini-2.5-flash"),
        path("codestral-2", publisher="google"),
        path("claude-haiku-4-5", publisher="anthropic"),
        path("claude-haiku-4-5-20251001", publisher="anthropic"),
    ],
)
async def test_a_model_of_another_publisher_or_spelling_is_not_found(ask: Asker, target: str) -> None:
    status, _, data = await ask(FIM, target)
    assert (status, json.loads(data)["error"]["status"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("target", ["/", "/v2/models", path(method="explain"), f"{P}/mistralai/models:rawPredict"])
async def test_a_path_of_no_api_is_a_page_of_the_front_end(ask: Asker, target: str) -> None:
    status, content_type, _ = await ask(FIM, target)
    assert (status, content_type) == (404, "text/html; charset=UTF-8")


@pytest.mark.parametrize(
    ("preset", "status", "kind"),
    [
        ("invalid_argument", 400, "INVALID_ARGUMENT"),
        ("failed_precondition", 400, "FAILED_PRECONDITION"),
        ("unauthorized", 401, "UNAUTHENTICATED"),
        ("forbidden", 403, "PERMISSION_DENIED"),
        ("not_found", 404, "NOT_FOUND"),
        ("throttled", 429, "RESOURCE_EXHAUSTED"),
        ("quota", 429, "RESOURCE_EXHAUSTED"),
        ("cancelled", 499, "CANCELLED"),
        ("internal", 500, "INTERNAL"),
        ("unavailable", 503, "UNAVAILABLE"),
        ("overloaded", 503, "UNAVAILABLE"),
        ("deadline_exceeded", 504, "DEADLINE_EXCEEDED"),
    ],
)
async def test_presets_answer_with_googles_own_errors(
    ask: Asker, session: ClientSession, preset: str, status: int, kind: str
) -> None:
    ask.vertex.fault = ask.vertex.preset(preset)
    async with session.post(ask.vertex.url + path(), json=FIM, headers=AUTHORIZED) as response:
        error = (await response.json())["error"]
        assert "retry-after" not in response.headers
    assert (response.status, error["code"], error["status"]) == (status, status, kind)
    assert error["message"]


async def test_a_status_alone_brings_googles_error_for_it(ask: Asker) -> None:
    for status, kind in ((429, "RESOURCE_EXHAUSTED"), (503, "UNAVAILABLE"), (418, "UNKNOWN")):
        ask.vertex.fault = Fault(status=status)
        answered, _, data = await ask(FIM)
        assert (answered, json.loads(data)["error"]["status"]) == (status, kind)


async def test_a_bad_gateway_speaks_html(ask: Asker) -> None:
    ask.vertex.fault = Fault(status=502)
    status, content_type, _ = await ask(FIM)
    assert (status, content_type) == (502, "text/html; charset=UTF-8")


async def test_errors_of_streaming_methods_come_in_an_array_when_asked_for(ask: Asker) -> None:
    ask.vertex.errors_in_array = True
    ask.vertex.fault = Fault(status=503)
    _, _, streamed = await ask(FIM, path(method="streamRawPredict"))
    assert json.loads(streamed)[0]["error"]["status"] == "UNAVAILABLE"
    _, _, plain = await ask(FIM)
    assert json.loads(plain)["error"]["status"] == "UNAVAILABLE"


async def test_a_tests_own_words_are_not_what_the_models_write(ask: Asker) -> None:
    ask.vertex.completes = lambda prefix, suffix: f"{prefix}|{suffix}"
    ask.vertex.chats = lambda text: text.upper()
    _, _, data = await ask({"model": "codestral-2", "prompt": "a", "suffix": "b"})
    assert json.loads(data)["choices"][0]["message"]["content"] == "a|b"
    _, _, data = await ask({"model": "codestral-2", "messages": [{"role": "user", "content": "how?"}]})
    assert json.loads(data)["choices"][0]["message"]["content"] == "HOW?"
    ask.vertex.completes = None
    _, _, data = await ask(FIM)
    assert json.loads(data)["choices"][0]["message"]["content"] == ANSWER


async def test_lone_surrogates_are_a_question_like_any_other(ask: Asker) -> None:
    status, _, data = await ask(b'{"model": "codestral-2", "prompt": "\\ud83d", "suffix": "\\udc00"}')
    assert status == 200
    assert json.loads(data)["choices"][0]["message"]["content"].startswith("vertex_")
