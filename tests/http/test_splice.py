"""A fill-in-the-middle stream that breaks off in the middle is finished by the other provider, and nobody can tell."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from proxy import events
from proxy.simulator import Fault
from tests.rig import PREFIX, SUFFIX, chat, fim, path, rig

if TYPE_CHECKING:
    from tests.rig import Answered, Rig

pytestmark = pytest.mark.virtual_time

COMPLETION = (
    "sum(\n        weight * value\n        for weight, value in zip(weights, values, strict=True)\n"
    "        if value is not None  # was 'missing' once\n    )\n\n\n"
    "class Éclair🙂:\n    layers = frozenset({'kkkkkkk'})"
)
CHUNKS = -(-len(COMPLETION) // 8)
WAYS = {
    "cut": lambda at: Fault(cut_after_chunks=at, times=1),
    "stall": lambda at: Fault(stall_after_chunks=at, times=1),
    "stream_error": lambda at: Fault(error_after_chunks=at, times=1),
    "no finish": lambda at: Fault(end_after_chunks=at, times=1),
}


def goes_on(prefix: str, suffix: str) -> str:
    """A model that knows the whole completion goes on from wherever the prefix ends within it."""
    for length in range(len(COMPLETION), -1, -1):
        if prefix.endswith(PREFIX + COMPLETION[:length]):
            return COMPLETION[length:]
    raise AssertionError(prefix)


def agree(proxy: Rig) -> None:
    proxy.vertex.completes = proxy.claude.completes = goes_on


def sees_one_stream(answer: Answered) -> None:
    """One id, model and time; one role; one end, with usage; and an end that HTTP knows."""
    assert answer.status == 200
    assert answer.finished
    assert not answer.broken
    chunks = answer.chunks
    assert len({(chunk["id"], chunk["model"], chunk["created"], chunk["object"]) for chunk in chunks}) == 1
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons[:-1] == [None] * (len(chunks) - 1)
    assert reasons[-1] in ("stop", "length")
    assert ["usage" in chunk for chunk in chunks].count(True) == 1
    assert sum("role" in chunk["choices"][0]["delta"] for chunk in chunks) == 1
    assert answer.body.count(b"[DONE]") == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", ["vertex", "claude"])
async def test_a_character_is_lost_or_sent_twice_where_one_goes_on_for_the_other(first: str, way: str) -> None:
    """For every place at which the stream may break off."""
    async with rig(OVERRIDE=first, BREAKER__CONSECUTIVE_FAILURES="10000", BREAKER__MINIMUM_CALLS="10000") as proxy:
        agree(proxy)
        broken = proxy.vertex if first == "vertex" else proxy.claude
        for at in range(1, CHUNKS + 1):
            broken.fault = WAYS[way](at)
            answer = await proxy.ask(fim(stream=True))
            assert answer.text == COMPLETION, at
            sees_one_stream(answer)
        assert proxy.seen(events.RequestLost) == []


@pytest.mark.parametrize("at", range(201))
async def test_a_character_at_the_cut_is_lost_or_sent_twice(at: int) -> None:
    """Vertex's own pieces are of any size: the caller's text is whole wherever the cut falls."""
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "codestral-2"}
    choice = {"index": 0, "delta": {"role": "assistant", "content": COMPLETION[:at]}, "finish_reason": None}
    body = f"data: {json.dumps({**head, 'choices': [choice]})}\n\n" + 'data: {"id": "x", "choi'
    async with rig() as proxy:
        agree(proxy)
        proxy.vertex.fault = Fault(status=200, body=body, headers={"Content-Type": "text/event-stream"})
        answer = await proxy.ask(fim(stream=True))
        assert answer.text == COMPLETION
        assert answer.finished
        if at:
            assert answer.served_by == ("vertex", "primary")
            assert {chunk["id"] for chunk in answer.chunks} == {"x"}


async def test_a_splice_is_counted_as_nothing() -> None:
    async with rig() as proxy:
        agree(proxy)
        proxy.vertex.fault = Fault(cut_after_chunks=3)
        answer = await proxy.ask(fim(stream=True))
        assert answer.served_by == ("vertex", "primary")
        assert proxy.metric("failovers_total", reason="cut") == 1
        assert proxy.metric("upstream_failures_total", upstream="vertex", reason="cut") == 1
        assert proxy.metric("upstream_attempts_total", upstream="claude", outcome="ok") == 1
        assert proxy.metric("tokens_total", upstream="claude", kind="output") > 0
        assert proxy.metric("requests_in_flight") == 0
        assert proxy.metric("requests_lost_total", reason="cut") == 0


async def test_the_rest_of_a_splice_breaks_off_too() -> None:
    """Claude dies as well, and Vertex, which only had a bad moment, goes on."""
    async with rig() as proxy:
        agree(proxy)
        proxy.vertex.fault = Fault(cut_after_chunks=3, times=1)
        proxy.claude.fault = Fault(cut_after_chunks=14)
        answer = await proxy.ask(fim(stream=True))
        assert answer.text == COMPLETION
        sees_one_stream(answer)
        begun, finished = (request.json["prompt"].removeprefix(PREFIX) for request in proxy.vertex.requests)
        assert begun == ""
        assert finished
        assert COMPLETION.startswith(finished)


async def test_a_stream_that_nobody_can_finish_looks_complete() -> None:
    async with rig() as proxy:
        agree(proxy)
        proxy.vertex.fault = Fault(cut_after_chunks=3)
        proxy.claude.fault = Fault(error="overloaded")
        answer = await proxy.ask(fim(stream=True))
        assert answer.broken
        assert not answer.finished
        assert COMPLETION.startswith(answer.text)
        assert proxy.metric("requests_lost_total", reason="cut") == 1
        assert proxy.metric("requests_in_flight") == 0
        assert b"overloaded" not in answer.body.lower()


async def test_the_caller_leaves_while_another_is_asked() -> None:
    async with rig() as proxy:
        agree(proxy)
        proxy.vertex.fault = Fault(cut_after_chunks=3)
        proxy.claude.latency = 2.0
        headers = {"Authorization": "Bearer x"}
        url = proxy.app.address + path(stream=True)
        async with proxy.session.post(url, json=fim(stream=True), headers=headers) as response:
            while b"choices" not in await response.content.readany():
                pass
            await proxy.claude.received(1)
            response.close()
        await proxy.until(lambda: len(proxy.seen(events.AttemptEnded)) == 2, seconds=5)
        assert [attempt.outcome.reason for attempt in proxy.seen(events.AttemptEnded)] == ["cut", "client_left"]
        await proxy.until(lambda: proxy.metric("requests_in_flight") == 0, seconds=1)
        assert not proxy.app.engine.upstreams["claude"]._places.locked()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("tokens", "length"), [(4, 16), (10, 40), (64, 200)])
async def test_the_callers_limit_begins_anew_after_a_splice(tokens: int, length: int) -> None:
    async with rig() as proxy:
        agree(proxy)
        proxy.vertex.fault = Fault(cut_after_chunks=2)
        answer = await proxy.ask(fim(stream=True, max_tokens=tokens))
        assert answer.text == COMPLETION[:length]
        sees_one_stream(answer)
        assert answer.chunks[-1]["choices"][0]["finish_reason"] == ("stop" if length == 200 else "length")
        if tokens == 4:
            assert not proxy.claude.requests, "nothing is left to ask for"


@pytest.mark.parametrize("first", ["vertex", "claude"])
@pytest.mark.parametrize("at", [1, 2, 3, 13, 14, 15, 19, 20, 21])
async def test_a_stop_that_lies_across_the_seam_is_missed(first: str, at: int) -> None:
    stops = [")\n\n\nclass", " None  # was"]
    expected = COMPLETION[: min(COMPLETION.index(stop) for stop in stops)]
    async with rig(OVERRIDE=first) as proxy:
        agree(proxy)
        broken = proxy.vertex if first == "vertex" else proxy.claude
        broken.fault = Fault(cut_after_chunks=at)
        answer = await proxy.ask(fim(stream=True, stop=stops))
        # What Vertex itself had sent before the cut is the caller's already.
        assert answer.text == expected
        sees_one_stream(answer)


async def test_the_request_for_the_rest_is_no_longer_the_callers() -> None:
    async with rig(OVERRIDE="claude") as proxy:
        agree(proxy)
        proxy.claude.fault = Fault(cut_after_chunks=14)
        answer = await proxy.ask(fim(stream=True, temperature=0.7, random_seed=7, stop=["\n+++++"]))
        assert answer.text == COMPLETION
        (request,) = proxy.vertex.requests
        sent = COMPLETION[: len(request.json["prompt"]) - len(PREFIX)]
        assert sent
        assert request.json == fim(
            stream=True,
            temperature=0.7,
            random_seed=7,
            stop=["\n+++++"],
            prompt=PREFIX + sent,
            max_tokens=64 - len(sent) // 4,
        )
        assert request.json["suffix"] == SUFFIX


async def test_garbage_in_mid_stream_is_sent_on() -> None:
    garbage = "data: {not json\n\n"
    chunk = {"id": "x", "choices": [{"index": 0, "delta": {"content": COMPLETION[:20]}, "finish_reason": None}]}
    body = f"data: {json.dumps(chunk)}\n\n" + garbage * 3
    async with rig() as proxy:
        agree(proxy)
        proxy.vertex.fault = Fault(status=200, body=body, headers={"Content-Type": "text/event-stream"})
        answer = await proxy.ask(fim(stream=True))
        assert answer.text == COMPLETION
        assert proxy.metric("failovers_total", reason="malformed") == 1


def enveloped(body: Any) -> dict[str, Any]:
    data = base64.b64encode(json.dumps(body).encode()).decode()
    return {"httpBody": {"contentType": "application/json", "data": data}}


async def test_a_stream_in_googles_envelope_is_not_spliced() -> None:
    async with rig() as proxy:
        agree(proxy)
        for at in range(1, CHUNKS):
            proxy.vertex.fault = Fault(cut_after_chunks=at, times=1)
            answer = await proxy.ask(enveloped(fim(stream=True)), url=path(stream=True))
            assert not answer.broken
            inner = b"".join(base64.b64decode(element["data"]) for element in answer.json)
            lines = [line.removeprefix("data: ") for line in inner.decode().split("\n\n") if line]
            chunks = [json.loads(line) for line in lines if line != "[DONE]"]
            assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == COMPLETION, at
            assert len({chunk["id"] for chunk in chunks}) == 1
            assert inner.endswith(b"data: [DONE]\n\n")


async def test_a_chat_goes_on_in_the_middle_of_anothers_sentence() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(cut_after_chunks=3)
        answer = await proxy.ask(chat(stream=True))
        assert answer.broken
        assert not proxy.claude.requests


async def test_a_compressed_stream_cannot_be_spliced_and_is_asked_for() -> None:
    async with rig() as proxy:
        agree(proxy)
        proxy.vertex.compress = True
        proxy.vertex.fault = Fault(cut_after_chunks=3)
        for url in (path(stream=True), path()):
            answer = await proxy.ask(fim(stream=True), url=url, headers={"Accept-Encoding": "gzip, br"})
            assert answer.text == COMPLETION


@pytest.mark.parametrize("close", [True, False])
async def test_a_missing_terminator_makes_the_caller_wait(close: bool) -> None:
    chunk = {"id": "x", "choices": [{"index": 0, "delta": {"content": "y"}, "finish_reason": None}]}
    last = {"id": "x", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]}
    body = "".join(f"data: {json.dumps(each)}\n\n" for each in (chunk, last))
    async with rig() as proxy:
        stall = None if close else 4
        headers = {"Content-Type": "text/event-stream"}
        proxy.vertex.fault = Fault(status=200, body=body, headers=headers, stall_after_chunks=stall)
        answer = await proxy.ask(fim(stream=True))
        assert answer.body.decode() == body + "data: [DONE]\n\n"
        assert not answer.broken
        assert answer.seconds < 0.5
        assert proxy.metric("upstream_attempts_total", upstream="vertex", outcome="ok") == 1


async def test_an_event_that_cannot_be_read_costs_the_stream() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(malformed_chunk=2)
        answer = await proxy.ask(chat(stream=True))
        assert answer.finished
        assert len(answer.chunks) > 3
        assert not answer.broken
        assert proxy.metric("upstream_attempts_total", upstream="vertex", outcome="ok") == 1
