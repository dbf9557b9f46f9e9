"""The simulated Claude answers as the Messages API does, and refuses what it refuses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession
from anthropic import AsyncAnthropic, BadRequestError, RateLimitError
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from proxy.simulator import Fault, SimulatedClaude, model

KEYED = {"x-api-key": "key", "anthropic-version": "2023-06-01", "content-type": "application/json"}
HAIKU_5_5, HAIKU_4_5 = "claude-haiku-5-5", "claude-haiku-4-5-20251001"
OFF = {"type": "disabled"}
PREFIX, SUFFIX = "def add(a, b):\n    return ", "\n\nprint(add(1, 2))\n"
COMPLETION = model.complete("claude", PREFIX, SUFFIX)
TAGGED = f"<COMPLETION>{COMPLETION}</COMPLETION>"


def prompt(prefix: str = PREFIX, suffix: str = SUFFIX, *, number: str = "", head: str = "") -> str:
    return (
        f"{head}<CODE{number}>\n{prefix}<|CURSOR{number}|>{suffix}\n</CODE{number}>\n\n"
        f"Write the code that belongs at <|CURSOR{number}|>. "
        f"Answer inside <COMPLETION{number}> and </COMPLETION{number}>."
    )


def asking(text: str = "How?", **fields: object) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": HAIKU_5_5, "max_tokens": 256, "thinking": OFF, "messages": messages, **fields}


def without(name: str, body: dict[str, Any]) -> dict[str, Any]:
    return {each: value for each, value in body.items() if each != name}


@pytest.fixture
async def claude() -> AsyncIterator[SimulatedClaude]:
    async with SimulatedClaude() as provider:
        yield provider


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as client:
        yield client


class Asker:
    """One caller of one provider."""

    def __init__(self, session: ClientSession, claude: SimulatedClaude) -> None:
        self.session = session
        self.claude = claude

    async def __call__(self, body: object, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Status and the JSON of the answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = self.claude.url + "/v1/messages"
        async with self.session.post(url, data=data, headers=KEYED if headers is None else headers) as response:
            assert response.headers["content-type"] == "application/json"
            assert response.headers["request-id"].startswith("req_")
            return response.status, await response.json()

    async def message(self, body: object) -> Message:
        """A whole answer, read by the client library's own type."""
        status, document = await self(body)
        assert status == 200, document
        return Message.model_validate(document)

    async def text(self, body: object) -> str:
        return "".join(block.text for block in (await self.message(body)).content if block.type == "text")

    async def refusal(self, body: object, headers: dict[str, str] | None = None) -> str:
        """What a 400 says."""
        status, document = await self(body, headers)
        assert (status, document["type"], document["error"]["type"]) == (400, "error", "invalid_request_error")
        return str(document["error"]["message"])

    async def events(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The events of a stream; each is named as its data says."""
        url = self.claude.url + "/v1/messages"
        async with self.session.post(url, json={**body, "stream": True}, headers=KEYED) as response:
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            blocks = (await response.text()).removesuffix("\n\n").split("\n\n")
        events = []
        for block in blocks:
            name, data = block.split("\n")
            events.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {events[-1]['type']}"
        return events


@pytest.fixture
def ask(session: ClientSession, claude: SimulatedClaude) -> Asker:
    return Asker(session, claude)


async def test_whole_answer_is_a_message_of_the_client_library(ask: Asker) -> None:
    message = await ask.message(asking())
    assert [block.type for block in message.content] == ["text"]
    assert await ask.text(asking()) == model.chat("claude", "How?")
    assert (message.model, message.stop_reason, message.stop_sequence) == (HAIKU_5_5, "end_turn", None)
    assert message.usage.output_tokens == model.tokens(model.chat("claude", "How?"))
    assert message.usage.input_tokens == model.tokens("How?")


async def test_stream_has_the_events_of_the_client_library_in_order(ask: Asker) -> None:
    events = await ask.events(asking())
    adapter: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
    for event in events:
        if event["type"] != "ping":
            adapter.validate_python(event)
    names = [event["type"] for event in events]
    deltas = names.count("content_block_delta")
    assert names == [
        "message_start",
        "content_block_start",
        "ping",
        *["content_block_delta"] * deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    texts = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(texts) == model.chat("claude", "How?")
    assert max(map(len, texts)) == 8
    assert events[0]["message"]["usage"]["input_tokens"] == model.tokens("How?")
    assert events[0]["message"]["content"] == []
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] == model.tokens("".join(texts))


async def test_the_anthropic_library_reads_a_whole_answer(claude: SimulatedClaude) -> None:
    # It sends its key as a bearer token, an API version of its own and a dozen x-stainless headers.
    async with AsyncAnthropic(base_url=claude.url, api_key="key", max_retries=0) as client:
        message = await client.messages.create(
            model=HAIKU_5_5,
            max_tokens=64,
            thinking={"type": "disabled"},
            messages=[{"role": "user", "content": "How?"}],
        )
    assert [block.text for block in message.content if block.type == "text"] == [model.chat("claude", "How?")]
    assert claude.leaks == []
    assert claude.requests[-1].header("x-stainless-lang") == "python"


async def test_the_anthropic_library_reads_a_stream(claude: SimulatedClaude) -> None:
    async with (
        AsyncAnthropic(base_url=claude.url, api_key="key", max_retries=0) as client,
        client.messages.stream(
            model=HAIKU_5_5,
            max_tokens=64,
            thinking={"type": "disabled"},
            messages=[{"role": "user", "content": prompt()}],
            stop_sequences=["</COMPLETION>"],
        ) as stream,
    ):
        message = await stream.get_final_message()
    assert [block.text for block in message.content if block.type == "text"] == [f"<COMPLETION>{COMPLETION}"]
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "</COMPLETION>")


async def test_the_anthropic_library_knows_its_errors(claude: SimulatedClaude) -> None:
    async with AsyncAnthropic(base_url=claude.url, api_key="key", max_retries=0) as client:
        with pytest.raises(BadRequestError, match="non-whitespace"):
            await client.messages.create(
                model=HAIKU_5_5, max_tokens=64, stop_sequences=["\n"], messages=[{"role": "user", "content": "How?"}]
            )
        claude.fault = claude.preset("throttled")
        with pytest.raises(RateLimitError):
            await client.messages.create(model=HAIKU_5_5, max_tokens=64, messages=[{"role": "user", "content": "How?"}])


@pytest.mark.parametrize("head", ["", "File: foo.py\n", "Language: python\n", "File: foo.py\nLanguage: python\n"])
async def test_a_file_with_a_hole_is_read_exactly(ask: Asker, head: str) -> None:
    assert await ask.text(asking(prompt(head=head))) == TAGGED


async def test_content_may_be_a_list_of_blocks(ask: Asker) -> None:
    text = prompt()
    blocks = [{"type": "text", "text": text[:20]}, {"type": "text", "text": text[20:]}]
    assert await ask.text(asking(messages=[{"role": "user", "content": blocks}])) == TAGGED


@pytest.mark.parametrize("number", ["-2", "-17"])
async def test_names_with_a_number_are_taken_when_the_code_holds_the_plain_ones(ask: Asker, number: str) -> None:
    prefix = "x = '<CODE>\n</CODE>\n<|CURSOR|> </COMPLETION>'\n"
    text = await ask.text(asking(prompt(prefix, SUFFIX, number=number)))
    expected = model.complete("claude", prefix, SUFFIX)
    assert text == f"<COMPLETION{number}>{expected}</COMPLETION{number}>"


@pytest.mark.parametrize("forged", ["<|CURSOR|>", "</CODE>", "<CODE>", "</COMPLETION>", "<COMPLETION>"])
async def test_names_forged_by_the_code_confuse_the_model(ask: Asker, forged: str) -> None:
    text = await ask.text(asking(prompt(f"x = '{forged}'\n")))
    assert "COMPLETION" not in text
    assert text.startswith("This is claude")


@pytest.mark.parametrize(("prefix", "suffix"), [("", ""), ("\n\n", "\n"), ("\r\nä\t", "  \n\n\n"), (" ", " ")])
async def test_every_character_around_the_hole_counts(ask: Asker, prefix: str, suffix: str) -> None:
    assert model.complete("claude", prefix, suffix) in await ask.text(asking(prompt(prefix, suffix)))


async def test_the_probes_question_has_a_known_answer(ask: Asker) -> None:
    text = await ask.text(asking(prompt('days = ["Monday", "Tuesday", "', '", "Thursday"]\n')))
    assert text == "<COMPLETION>Wednesday</COMPLETION>"


async def test_a_stop_sequence_is_left_out_and_named(ask: Asker) -> None:
    body = asking(prompt(), stop_sequences=["nowhere", "</COMPLETION>"])
    message = await ask.message(body)
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "</COMPLETION>")
    assert await ask.text(body) == f"<COMPLETION>{COMPLETION}"
    delta = (await ask.events(body))[-2]["delta"]
    assert delta == {"stop_reason": "stop_sequence", "stop_sequence": "</COMPLETION>"}


async def test_max_tokens_cuts(ask: Asker) -> None:
    message = await ask.message(asking(prompt(), max_tokens=4, stop_sequences=["</COMPLETION>"]))
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 4)
    assert await ask.text(asking(prompt(), max_tokens=4)) == TAGGED[:16]


async def test_a_model_that_decorates_or_declines(ask: Asker) -> None:
    ask.claude.decorate = lambda text: f"Sure!\n```python\n{text}\n```"
    assert await ask.text(asking(prompt())) == f"Sure!\n```python\n{TAGGED}\n```"
    ask.claude.declines = True
    message = await ask.message(asking(prompt()))
    assert (message.content, message.stop_reason) == ([], "refusal")
    events = await ask.events(asking(prompt()))
    assert [event["type"] for event in events] == ["message_start", "ping", "message_delta", "message_stop"]
    assert events[2]["delta"]["stop_reason"] == "refusal"


async def test_a_tests_own_words_are_not_what_the_model_writes(ask: Asker) -> None:
    ask.claude.completes = lambda prefix, suffix: f"{len(prefix)} {len(suffix)}"
    ask.claude.chats = lambda text: text.upper()
    assert await ask.text(asking(prompt())) == f"<COMPLETION>{len(PREFIX)} {len(SUFFIX)}</COMPLETION>"
    assert await ask.text(asking("how?")) == "HOW?"


@pytest.mark.parametrize("max_tokens", [1, 64, 1023])
async def test_thinking_left_on_eats_a_small_cap(ask: Asker, max_tokens: int) -> None:
    body = without("thinking", asking(max_tokens=max_tokens))
    message = await ask.message(body)
    assert (message.content, message.stop_reason) == ([], "max_tokens")
    assert message.usage.output_tokens == max_tokens
    assert [event["type"] for event in await ask.events(body)][2:] == ["message_delta", "message_stop"]


async def test_thinking_comes_before_the_text_of_a_large_cap(ask: Asker) -> None:
    body = without("thinking", asking(max_tokens=4096))
    message = await ask.message(body)
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert await ask.text(body) == model.chat("claude", "How?")
    events = await ask.events(body)
    starts = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
    assert starts == ["thinking", "text"]
    assert {event["index"] for event in events if event.get("delta", {}).get("type") == "text_delta"} == {1}


@pytest.mark.parametrize(
    ("preset", "status", "kind", "retried"),
    [
        ("invalid_request", 400, "invalid_request_error", "false"),
        ("unauthorized", 401, "authentication_error", "false"),
        ("billing", 402, "billing_error", "false"),
        ("forbidden", 403, "permission_error", "false"),
        ("not_found", 404, "not_found_error", "false"),
        ("too_large", 413, "request_too_large", "false"),
        ("throttled", 429, "rate_limit_error", "true"),
        ("accelerated", 429, "rate_limit_error", "true"),
        ("internal", 500, "api_error", "true"),
        ("timeout", 504, "timeout_error", "true"),
        ("overloaded", 529, "overloaded_error", "true"),
    ],
)
async def test_presets_answer_with_anthropics_own_errors(
    ask: Asker, session: ClientSession, preset: str, status: int, kind: str, retried: str
) -> None:
    ask.claude.fault = ask.claude.preset(preset)
    async with session.post(ask.claude.url + "/v1/messages", json=asking(), headers=KEYED) as response:
        document = await response.json()
    assert (response.status, document["type"], document["error"]["type"]) == (status, "error", kind)
    assert document["request_id"] == response.headers["request-id"]
    assert response.headers["x-should-retry"] == retried
    assert ("retry-after" in response.headers) == (status == 429)


async def test_a_spent_budget_has_no_retry_after(ask: Asker, session: ClientSession) -> None:
    ask.claude.fault = ask.claude.preset("spend_limit")
    async with session.post(ask.claude.url + "/v1/messages", json=asking(), headers=KEYED) as response:
        document = await response.json()
    assert response.status == 429
    assert document["error"]["details"]["error_code"] == "enforced_spend_limit_reached"
    assert "retry-after" not in response.headers


async def test_an_error_event_comes_where_the_fault_says(ask: Asker) -> None:
    for after, deltas in ((0, 0), (2, 2)):
        ask.claude.fault = Fault(error_after_chunks=after)
        events = await ask.events(asking())
        names = [event["type"] for event in events]
        assert names == ["message_start", "content_block_start", "ping", *["content_block_delta"] * deltas, "error"]
        assert events[-1]["error"]["type"] == "overloaded_error"
