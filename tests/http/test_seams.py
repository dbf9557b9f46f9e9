"""What lies at the edges of a splice and of a stream's end: half events, odd answers, time that is up, and who pays."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from proxy import events
from proxy.simulator import Fault
from tests.http.test_atomic import MESSAGES, OPENAI, PLACE
from tests.http.test_splice import COMPLETION, agree, enveloped, sees_one_stream
from tests.rig import PREFIX, SUFFIX, chat, expected, fim, path, rig

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.virtual_time

SSE = {"Content-Type": "text/event-stream"}
HEAD = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "codestral-2"}
GECKO = f"{PLACE}/publishers/google/models/code-gecko%40002:predict"
TWO_HOLES = [{"prefix": PREFIX, "suffix": SUFFIX}, {"prefix": "x = ", "suffix": ""}]
WHOLE = {"id": "1", "choices": [{"index": 0, "message": {"role": "assistant", "content": "WHOLE"}}]}


def event(text: str, reason: str | None = None, *, end: str = "\n\n", **fields: Any) -> str:
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": reason}
    return f"data: {json.dumps({**HEAD, 'choices': [choice], **fields})}{end}"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=422, body={"detail": [{"msg": "too long"}]}),
        Fault(status=400),
        Fault(status=200, body=WHOLE),
    ],
    ids=["422", "400", "whole"],
)
async def test_an_answer_that_is_no_stream_is_written_into_one(fault: Fault) -> None:
    async with rig(OVERRIDE="claude") as proxy:
        agree(proxy)
        proxy.claude.fault = Fault(cut_after_chunks=12)
        proxy.vertex.fault = fault
        answer = await proxy.ask(fim(stream=True))
        # Claude, asked again, has less to say than where it broke off.
        assert answer.text == COMPLETION
        sees_one_stream(answer)
        assert proxy.vertex.requests


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
@pytest.mark.parametrize("reason", [None, "stop"])
async def test_what_is_added_becomes_part_of_an_event_without_its_blank_line(end: str, reason: str | None) -> None:
    async with rig() as proxy:
        agree(proxy)
        body = event(COMPLETION[:10]) + event(COMPLETION[10:20], reason, end=end)
        proxy.vertex.fault = Fault(status=200, body=body, headers=SSE)
        answer = await proxy.ask(fim(stream=True))
        assert answer.text == (COMPLETION[:20] if reason else COMPLETION)
        assert answer.finished


@pytest.mark.parametrize("tail", ['event: error\ndata: {"error": {"code": 500}}\n\n', "data: x\n\ndata: y\n\n"])
async def test_a_complete_answer_is_gone_on_with(tail: str) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    body = event(COMPLETION[:20]) + event("", "stop", usage=usage).replace('"role": "assistant", ', "") + tail
    async with rig() as proxy:
        agree(proxy)
        proxy.vertex.fault = Fault(status=200, body=body, headers=SSE)
        answer = await proxy.ask(fim(stream=True))
        assert answer.text == COMPLETION[:20]
        sees_one_stream(answer)
        assert not proxy.claude.requests


async def test_the_other_provider_is_blamed_for_time_that_was_up() -> None:
    async with rig(TIMEOUTS__TOTAL_SECONDS="5") as proxy:
        agree(proxy)
        proxy.vertex.fault = Fault(delay_between_chunks=1.0)
        assert (await proxy.ask(fim(stream=True, max_tokens=1000))).broken
        assert [(each.upstream, each.outcome.reason) for each in proxy.seen(events.AttemptEnded)] == [
            ("vertex", "total_timeout")
        ]


async def test_one_splice_is_counted_twice() -> None:
    async with rig() as proxy:
        agree(proxy)
        proxy.vertex.fault = Fault(cut_after_chunks=3, times=1)
        proxy.claude.fault = Fault(error="overloaded")
        assert (await proxy.ask(fim(stream=True))).text == COMPLETION
        assert [each.reason for each in proxy.seen(events.FailedOver)] == ["cut"]


@pytest.mark.parametrize("body", [chat, fim])
@pytest.mark.parametrize("stall", [False, True])
async def test_claudes_last_event_is_waited_for(body: Callable[..., Any], *, stall: bool) -> None:
    async with rig(OVERRIDE="claude") as proxy:
        proxy.claude.fault = Fault(omit_terminator=True, stall_before_end=stall)
        answer = await proxy.ask(body(stream=True))
        assert answer.finished
        assert answer.seconds < 0.5
        assert not proxy.vertex.requests


async def test_one_event_of_claudes_that_cannot_be_read_costs_the_chat() -> None:
    async with rig(OVERRIDE="claude") as proxy:
        proxy.claude.fault = Fault(malformed_chunk=3)
        assert (await proxy.ask(chat(stream=True))).finished


async def test_an_error_is_written_plain_into_a_compressed_stream() -> None:
    asked = {"model": "google/gemini-2.5-flash", "messages": MESSAGES, "stream": True}
    body = gzip.compress(json.dumps(asked).encode())
    async with rig() as proxy:
        proxy.vertex.compress = True
        proxy.vertex.fault = Fault(cut_after_chunks=3)
        headers = {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
        answer = await proxy.ask(body, url=OPENAI, headers=headers)
        assert answer.broken
        assert b"error" not in answer.body


async def test_a_compressed_envelope_trips_the_circuit() -> None:
    body = gzip.compress(json.dumps(enveloped(fim())).encode())
    async with rig() as proxy:
        answer = await proxy.ask(body, headers={"Content-Encoding": "gzip"})
        assert answer.served_by == ("vertex", "primary")
        proxy.vertex.fault = Fault(status=503)
        answer = await proxy.ask(body, headers={"Content-Encoding": "gzip"})
        assert set(answer.json) == {"contentType", "data"}


async def test_instances_are_lost_for_want_of_a_second_place() -> None:
    async with rig(CLAUDE__MAX_CONCURRENCY="1", OVERRIDE="claude") as proxy:
        answer = await proxy.ask({"instances": TWO_HOLES}, url=GECKO)
        assert len({prediction["content"] for prediction in answer.json["predictions"]}) == 2
        assert proxy.claude.max_in_flight == 1


async def test_a_copy_of_an_answer_is_counted_as_tokens() -> None:
    async with rig(CLAUDE__MAX_CONCURRENCY="1", OVERRIDE="claude") as proxy:
        spent = []
        for parameters in ({"candidateCount": 4}, {}):
            await proxy.ask({"instances": TWO_HOLES[:1], "parameters": parameters}, url=GECKO)
            spent.append(proxy.metric("tokens_total", upstream="claude", kind="output"))
        assert spent[1] == 2 * spent[0]


async def test_a_body_too_large_for_mistrals_path_is_called_malformed() -> None:
    settings = {"VERTEX__PROJECT": "project", "VERTEX__LOCATION": "us-central1", "VERTEX__MODEL": "codestral-2"}
    async with rig(**settings, MAX_BODY_BYTES="1000") as proxy:
        answer = await proxy.ask({"prompt": "x" * 2000}, url="/v1/fim/completions")
        assert answer.status == 413
        assert "COMPLETION_PROXY_MAX_BODY_BYTES" in answer.json["message"]


async def test_a_field_that_is_no_number_breaks_a_splice() -> None:
    async with rig(OVERRIDE="claude") as proxy:
        agree(proxy)
        proxy.claude.fault = Fault(cut_after_chunks=12, times=1)
        answer = await proxy.ask(fim(stream=True, min_tokens=[1]))
        assert answer.text == COMPLETION
        assert proxy.vertex.requests[0].status == 422, "Vertex refuses it, in its own words"


async def test_a_plain_request_for_the_rest_is_called_compressed() -> None:
    async with rig(OVERRIDE="claude") as proxy:
        agree(proxy)
        proxy.claude.fault = Fault(cut_after_chunks=14)
        answer = await proxy.ask(
            gzip.compress(json.dumps(fim(stream=True)).encode()),
            url=path(stream=True),
            headers={"Content-Encoding": "gzip"},
        )
        assert answer.text == COMPLETION
        assert proxy.vertex.requests[0].header("content-encoding") is None


async def test_a_caller_whom_vertex_has_just_accepted_is_not_known_in_mid_stream() -> None:
    settings = {"VERTEX__CREDENTIALS": "passthrough", "VERTEX__TOKEN": "", "ALLOW_ANONYMOUS": "true"}
    async with rig(**settings, HOST="0.0.0.0") as proxy:
        proxy.app.address = proxy.app.address.replace("0.0.0.0", "127.0.0.1")
        agree(proxy)
        proxy.vertex.accepted_tokens = {"of-the-caller"}
        proxy.vertex.fault = Fault(cut_after_chunks=3)
        answer = await proxy.ask(fim(stream=True))
        assert answer.text == COMPLETION
        assert expected("vertex") != COMPLETION


async def test_a_caller_without_a_credential_is_gone_on_with_at_the_proxys_expense() -> None:
    async with rig(VERTEX__CREDENTIALS="passthrough", VERTEX__TOKEN="") as proxy:
        agree(proxy)
        proxy.vertex.fault = Fault(status=200, body=event(COMPLETION[:10]), headers=SSE)
        url = proxy.app.address + path(stream=True)
        with pytest.raises(aiohttp.ClientPayloadError):
            async with proxy.session.post(url, json=fim(stream=True)) as response:
                await response.read()
        assert not proxy.claude.requests


async def test_the_proxys_own_queue_is_blamed_on_claude() -> None:
    instances = [{"prefix": f"x{index} = ", "suffix": ""} for index in range(4)]
    async with rig(CLAUDE__MAX_CONCURRENCY="1", OVERRIDE="claude") as proxy:
        proxy.claude.latency = 0.9
        answer = await proxy.ask({"instances": instances}, url=GECKO)
        assert len({prediction["content"] for prediction in answer.json["predictions"]}) == 4
        assert {each.outcome.kind for each in proxy.seen(events.AttemptEnded)} == {"ok"}


async def test_a_broken_stream_looks_whole_to_a_caller_of_http_1_0() -> None:
    """nginx speaks it to what stands behind it, unless told otherwise."""
    body = json.dumps(chat(stream=True)).encode()
    head = f"POST {path(stream=True)} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    async with rig() as proxy:
        proxy.vertex.fault = Fault(cut_after_chunks=3)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.app.address.rpartition(":")[2]))
        writer.write(head.encode() + body)
        answer = await reader.read()
        assert answer.endswith(b"data: [DONE]\n\n")
        assert b"Content-Length: " in answer
        writer.close()
