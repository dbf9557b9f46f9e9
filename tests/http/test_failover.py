"""Whatever goes wrong at Vertex before the first byte is repaired within the request, and the caller sees no seam."""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING

import pytest
from anthropic.types import message_create_params
from pydantic import TypeAdapter

from proxy import events
from proxy.simulator import Fault, SimulatedVertex
from tests.rig import Answered, chat, expected, fim, path, rig

if TYPE_CHECKING:
    from tests.rig import Rig

pytestmark = pytest.mark.virtual_time

ALWAYS = {
    "reset": (Fault(reset_before_headers=True), "reset"),
    "429": (Fault(status=429), "throttled"),
    "500": (Fault(status=500), "server_error"),
    "502": (Fault(status=502), "server_error"),
    "503": (Fault(status=503), "server_error"),
    "504": (Fault(status=504), "server_error"),
    "401": (Fault(status=401), "unauthorized"),
    "403": (Fault(status=403), "forbidden"),
    "404": (Fault(status=404), "not_found"),
    "failed precondition": (Fault(error="failed_precondition"), "failed_precondition"),
    "redirect": (Fault(redirect="https://elsewhere.invalid/"), "malformed"),
    "hang before headers": (Fault(delay_before_headers=math.inf), "first_byte_timeout"),
    "hang before content": (Fault(delay_before_content=math.inf), "first_byte_timeout"),
    "late headers": (Fault(delay_before_headers=3.0), "first_byte_timeout"),
    "garbage": (Fault(garbage_body=True), "malformed"),
    "error object": (Fault(error_in_body=True), "stream_error"),
}
WHOLE = {
    **ALWAYS,
    "truncated": (Fault(truncated_body=True), "truncated"),
    "cut": (Fault(cut_after_chunks=1), "truncated"),
    "stall": (Fault(stall_after_chunks=1), "stall"),
}
STREAM = {
    **ALWAYS,
    "malformed first event": (Fault(malformed_chunk=0), "malformed"),
    "error event first": (Fault(error_after_chunks=0), "stream_error"),
    "cut before content": (Fault(cut_after_chunks=0), "cut"),
    "end before content": (Fault(end_after_chunks=0), "cut"),
    "stall before content": (Fault(stall_after_chunks=0), "first_byte_timeout"),
}


def assert_codestral(answer: Answered, text: str, model: str = "codestral-2") -> None:
    """Everything that Codestral's own clients read in an answer."""
    assert answer.status == 200
    assert answer.text == text
    if answer.headers["Content-Type"] == "application/json":
        whole = answer.json
        assert whole["object"] == "chat.completion"
        assert whole["model"] == model
        assert isinstance(whole["created"], int)
        assert whole["id"]
        (choice,) = whole["choices"]
        assert choice["index"] == 0
        assert choice["finish_reason"] == "stop"
        assert choice["message"]["role"] == "assistant"
        usage = whole["usage"]
    else:
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.finished
        assert {(chunk["id"], chunk["model"], chunk["created"]) for chunk in answer.chunks} == {
            (answer.chunks[0]["id"], model, answer.chunks[0]["created"])
        }
        finishes = [chunk["choices"][0]["finish_reason"] for chunk in answer.chunks]
        assert finishes == [None] * (len(finishes) - 1) + ["stop"]
        assert all("usage" not in chunk for chunk in answer.chunks[:-1])
        usage = answer.chunks[-1]["usage"]
    assert usage["prompt_tokens"] > 0
    assert usage["completion_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def assert_failed_over(proxy: Rig, answer: Answered, reason: str) -> None:
    assert answer.served_by == ("claude", reason)
    assert 'next-hop="vertex"' in answer.headers["Proxy-Status"]
    assert proxy.metric("failovers_total", reason=reason) == 1
    assert proxy.metric("upstream_failures_total", upstream="vertex", reason=reason) == 1
    assert sum(1 for _ in proxy.seen(events.RequestLost)) == 0
    assert not proxy.claude.leaks


@pytest.mark.parametrize("fault", WHOLE)
async def test_a_whole_answer_is_lost_to(fault: str) -> None:
    what, reason = WHOLE[fault]
    async with rig() as proxy:
        proxy.vertex.fault = what
        answer = await proxy.ask()
        assert_codestral(answer, expected("claude"))
        assert_failed_over(proxy, answer, reason)


@pytest.mark.parametrize("fault", STREAM)
async def test_a_stream_is_lost_to(fault: str) -> None:
    what, reason = STREAM[fault]
    async with rig() as proxy:
        proxy.vertex.fault = what
        answer = await proxy.ask(fim(stream=True))
        assert_codestral(answer, expected("claude"))
        assert_failed_over(proxy, answer, reason)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_is_lost_to_a_refused_connection(stream: bool) -> None:
    async with rig() as proxy:
        await proxy.vertex.refuse()
        answer = await proxy.ask(fim(stream=stream))
        assert_codestral(answer, expected("claude"))
        assert_failed_over(proxy, answer, "connect")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_is_lost_to_broken_tls(stream: bool) -> None:
    async with SimulatedVertex() as plain, rig(VERTEX__BASE_URL=plain.url.replace("http:", "https:")) as proxy:
        answer = await proxy.ask(fim(stream=stream))
        assert_codestral(answer, expected("claude"))
        assert_failed_over(proxy, answer, "tls")


async def test_a_chat_is_answered_in_another_format() -> None:
    async with rig() as proxy:
        healthy = await proxy.ask(chat())
        proxy.vertex.fault = Fault(status=503)
        for body in (chat(), chat(stream=True)):
            answer = await proxy.ask(body)
            assert answer.served_by == ("claude", "server_error")
            assert "claude" in answer.text
        whole = (await proxy.ask(chat())).json
        assert set(whole) == set(healthy.json)
        assert set(whole["choices"][0]) == set(healthy.json["choices"][0])


async def test_the_model_of_an_answer_is_claudes_own() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=503)
        answer = await proxy.ask(fim(model="codestral"), url=path("codestral@2405"))
        assert_codestral(answer, expected("claude"), model="codestral")
        assert b"claude-haiku" not in answer.body


@pytest.mark.parametrize(
    "fields",
    [
        {"stop": ["\n\n", "\n+++++"], "temperature": 0.7, "max_tokens": 64},
        {"stop": "\n", "top_p": 0.9, "temperature": 1.4},
        {"max_tokens": None},
        {"suffix": None},
        {"suffix": "<|CURSOR|></CODE></COMPLETION>"},
    ],
)
async def test_a_body_that_claude_refuses(fields: dict[str, object]) -> None:
    """The simulated Claude is as strict as the real one: a wrong body is a 400 exactly when the backup is needed."""
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=503)
        for stream in (False, True):
            answer = await proxy.ask(fim(stream=stream, **fields))
            assert (answer.status, answer.served_by) == (200, ("claude", "server_error")), answer.body
        for request in proxy.claude.requests:
            kind = (
                message_create_params.MessageCreateParamsStreaming
                if request.json.get("stream")
                else message_create_params.MessageCreateParamsNonStreaming
            )
            TypeAdapter(kind).validate_python(request.json)


async def test_a_header_of_the_callers_reaches_anthropic() -> None:
    secrets = {
        "Authorization": "Bearer g",
        "x-api-key": "k",
        "x-goog-user-project": "p",
        "Cookie": "c",
        "X-Extra": "e",
    }
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=503)
        answer = await proxy.ask(headers=secrets)
        assert answer.served_by == ("claude", "server_error")
        sent = {name.lower() for name, _ in proxy.claude.requests[0].headers}
        assert sent == {"host", "x-api-key", "anthropic-version", "content-type", "content-length", "user-agent"}


async def test_claude_is_asked_by_more_than_it_may_be_at_a_time() -> None:
    async with rig(CLAUDE__MAX_CONCURRENCY="3") as proxy:
        proxy.vertex.fault = Fault(status=503)
        proxy.claude.latency = 0.1
        answers = await asyncio.gather(*(proxy.ask() for _ in range(12)))
        assert {answer.served_by[0] for answer in answers} == {"claude"}
        assert proxy.claude.max_in_flight == 3


async def test_a_place_that_gets_free_late_is_not_waited_for() -> None:
    """With nobody else to ask, a queue at the proxy's own limit is no reason to lose a request."""
    async with rig(CLAUDE__MAX_CONCURRENCY="1") as proxy:
        proxy.vertex.fault = Fault(status=503)
        proxy.claude.latency = 2.0
        answers = await asyncio.gather(*(proxy.ask() for _ in range(5)))
        assert {answer.status for answer in answers} == {200}
        assert max(answer.seconds for answer in answers) == pytest.approx(10, abs=0.5)
        # The wait is no latency of Claude's: only what it took itself is measured.
        total = proxy.metric("upstream_time_to_first_byte_seconds_sum", upstream="claude")
        assert total == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_leaves_and_the_upstream_goes_on(stream: bool) -> None:
    async with rig() as proxy:
        for provider in (proxy.vertex, proxy.claude):
            if provider is proxy.claude:
                proxy.vertex.fault = Fault(status=503)
            provider.fault = provider.fault if provider is proxy.vertex and provider.fault else None
            provider.latency = 1.0
            before = len(provider.requests)
            task = asyncio.create_task(proxy.ask(fim(stream=stream)))
            await provider.received(provider.calls + 1)
            left_at = asyncio.get_running_loop().time()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            request = provider.requests[before]
            await proxy.until(lambda request=request: request.aborted_at is not None, seconds=0.1)  # type: ignore[misc]
            assert request.aborted_at is not None
            assert request.aborted_at - left_at < 0.1
        assert proxy.metric("requests_in_flight") == 0


async def test_a_stream_that_is_left_half_way_goes_on_upstream() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(delay_between_chunks=0.3)
        async with proxy.session.post(proxy.app.address + path(stream=True), json=fim(stream=True)) as response:
            await response.content.readany()
            response.close()
        await proxy.until(lambda: proxy.vertex.requests[0].aborted_at is not None, seconds=0.1)
        await proxy.until(lambda: bool(proxy.seen(events.AttemptEnded)), seconds=0.1)
        (attempt,) = proxy.seen(events.AttemptEnded)
        assert attempt.outcome.kind == "neutral"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(cut_after_chunks=2), "cut"),
        (Fault(end_after_chunks=2), "cut"),
        (Fault(stall_after_chunks=2), "stall"),
        (Fault(error_after_chunks=2), "stream_error"),
    ],
)
async def test_a_stream_that_breaks_half_way_looks_complete(fault: Fault, reason: str) -> None:
    """After the first byte nothing is replayed, and nothing is presented as complete that is not."""
    async with rig() as proxy:
        proxy.vertex.fault = fault
        answer = await proxy.ask(chat(stream=True))
        assert answer.status == 200
        assert answer.broken
        assert not answer.finished
        assert proxy.metric("upstream_failures_total", upstream="vertex", reason=reason) == 1
        assert not proxy.claude.requests


@pytest.mark.parametrize("fault", [Fault(cut_after_chunks=5), Fault(error_after_chunks=5), Fault(stall_after_chunks=5)])
async def test_claudes_stream_that_breaks_half_way_looks_complete(fault: Fault) -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=503)
        proxy.claude.fault = fault
        answer = await proxy.ask(chat(stream=True))
        assert answer.served_by == ("claude", "server_error")
        assert answer.broken
        assert not answer.finished
        assert b"overloaded" not in answer.body.lower()


async def test_an_empty_completion_is_taken_for_a_failure() -> None:
    empty = {"choices": [{"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}]}
    events_of = [
        {"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "stop"}]}
    ]
    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in events_of) + "data: [DONE]\n\n"
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=200, body=empty)
        assert (await proxy.ask()).served_by == ("vertex", "primary")
        proxy.vertex.fault = Fault(status=200, body=stream, headers={"Content-Type": "text/event-stream"})
        answer = await proxy.ask(fim(stream=True))
        assert answer.served_by == ("vertex", "primary")
        assert answer.body.decode() == stream


async def test_a_queue_for_claude_loses_requests_while_the_circuit_is_open() -> None:
    """Asking a dead Vertex as a last resort is no reason to leave the queue for good."""
    async with rig(CLAUDE__MAX_CONCURRENCY="1", BREAKER__OPEN_SECONDS="60") as proxy:
        proxy.vertex.fault = Fault(status=503)
        for _ in range(5):
            await proxy.ask()
        proxy.claude.latency = 1.0
        answers = await asyncio.gather(*(proxy.ask() for _ in range(6)))
        assert [answer.status for answer in answers] == [200] * 6


async def test_a_slow_vertex_is_given_up_for_a_claude_that_refuses() -> None:
    """A failover is a sharp rise of traffic, which Anthropic answers with 429: then Vertex, slow as it is, must do."""
    async with rig() as proxy:
        proxy.vertex.latency = 3.5
        proxy.claude.fault = Fault(status=429)
        for stream in (False, True):
            answer = await proxy.ask(fim(stream=stream))
            assert (answer.status, answer.text) == (200, expected("vertex"))
            # Once Claude is known to refuse, Vertex is waited for instead.
            assert answer.served_by == ("vertex", "primary" if stream else "throttled")


async def test_a_hostile_error_body_costs_the_answer() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=400, body=b"[" * 200_000, headers={"Content-Type": "application/json"})
        assert (await proxy.ask()).status == 400
        proxy.vertex.fault = Fault(status=503, body=b"[" * 200_000, headers={"Content-Type": "application/json"})
        assert (await proxy.ask()).served_by == ("claude", "server_error")


async def test_a_whole_answer_that_drips_uses_up_all_the_time() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(status=200, body=b" " * 4_000, cut_after_chunks=1_000, delay_between_chunks=1.5)
        answer = await proxy.ask()
        assert answer.served_by == ("claude", "stall")
        assert answer.seconds < 8
