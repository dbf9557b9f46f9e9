"""Every fault of the simulated providers does on the wire what it says, and is over when it is switched off."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientSession, TraceConfig

from proxy.simulator import (
    FOREVER,
    Fault,
    SimulatedProvider,
    SimulatedVertex,
    model,
)

RAW = "/v1/projects/p/locations/l/publishers/mistralai/models/codestral-2:rawPredict"
STREAM = "/v1/projects/p/locations/l/publishers/mistralai/models/codestral-2:streamRawPredict"
AUTHORIZED = {"Authorization": "Bearer token", "Content-Type": "application/json"}
BODY: dict[str, Any] = {"model": "codestral-2", "prompt": "x = ", "suffix": "\n"}
ANSWER = model.complete("vertex", BODY["prompt"], BODY["suffix"])
CHUNKS = model.chunks(ANSWER)
SHORTLY = 0.05


@pytest.fixture
async def vertex() -> AsyncIterator[SimulatedVertex]:
    async with SimulatedVertex() as provider:
        yield provider


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as client:
        yield client


async def whole(session: ClientSession, vertex: SimulatedVertex) -> tuple[int, bytes]:
    async with session.post(vertex.url + RAW, json=BODY, headers=AUTHORIZED) as response:
        return response.status, await response.read()


async def text(session: ClientSession, vertex: SimulatedVertex) -> str:
    status, data = await whole(session, vertex)
    assert status == 200
    return str(json.loads(data)["choices"][0]["message"]["content"])


async def until_it_breaks(session: ClientSession, url: str, **kwargs: Any) -> tuple[bytes, BaseException | None]:
    """What of a body arrives, and what it broke with."""
    received = bytearray()
    try:
        async with session.post(url, json=BODY, headers=AUTHORIZED, **kwargs) as response:
            assert response.status == 200
            async for data in response.content.iter_any():
                received += data
    except ClientPayloadError as error:
        return bytes(received), error
    return bytes(received), None


def contents(stream: bytes) -> list[str]:
    """The texts of the readable chunks of a stream, without empty ones."""
    events = [event.removeprefix(b"data: ") for event in stream.split(b"\n\n")]
    chunks = [json.loads(event) for event in events if event.startswith(b"{") and event.endswith(b"}")]
    return [text for chunk in chunks if "choices" in chunk and (text := chunk["choices"][0]["delta"]["content"])]


async def exchange(vertex: SimulatedProvider, target: str = RAW) -> bytes:
    """All bytes of one answer as they are on the wire, until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", vertex.port)
    body = json.dumps(BODY).encode()
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_delays_come_before_headers_before_content_and_between_chunks(
    session: ClientSession, vertex: SimulatedVertex
) -> None:
    loop = asyncio.get_running_loop()
    vertex.fault = Fault(delay_before_headers=0.03, delay_before_content=0.02, delay_between_chunks=0.01)
    started = loop.time()
    async with session.post(vertex.url + STREAM, json=BODY, headers=AUTHORIZED) as response:
        headers_at = loop.time()
        preamble = await response.content.readuntil(b"\n\n")
        await response.content.readuntil(b"\n\n")
        content_at = loop.time()
        await response.read()
    assert contents(preamble) == []
    assert headers_at - started >= 0.03
    assert content_at - headers_at >= 0.02
    assert loop.time() - content_at >= 0.01 * (len(CHUNKS) - 1)


async def test_latency_is_the_models_and_not_that_of_errors(session: ClientSession, vertex: SimulatedVertex) -> None:
    loop = asyncio.get_running_loop()
    vertex.latency = 0.02
    started = loop.time()
    await text(session, vertex)
    assert loop.time() - started >= 0.02
    vertex.latency = FOREVER
    vertex.fault = Fault(status=503)
    async with asyncio.timeout(1):
        assert (await whole(session, vertex))[0] == 503


@pytest.mark.parametrize("target", [RAW, STREAM])
@pytest.mark.parametrize("preset", ["hang", "hang_before_content", "stall"])
async def test_a_hang_never_ends_until_the_caller_leaves(
    session: ClientSession, vertex: SimulatedVertex, preset: str, target: str
) -> None:
    vertex.fault = vertex.preset(preset)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SHORTLY):
            await until_it_breaks(session, vertex.url + target)
    record = vertex.requests[-1]
    await record.ended.wait()
    assert record.aborted_at is not None
    assert not record.finished


async def test_a_stall_sends_what_comes_before_it(session: ClientSession, vertex: SimulatedVertex) -> None:
    vertex.fault = Fault(stall_after_chunks=2)
    async with session.post(vertex.url + STREAM, json=BODY, headers=AUTHORIZED) as response:
        received = b"".join([await response.content.readuntil(b"\n\n") for _ in range(3)])
        assert contents(received) == CHUNKS[:2]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await response.content.readany()


async def test_a_reset_is_a_reset(vertex: SimulatedVertex) -> None:
    vertex.fault = vertex.preset("reset")
    with pytest.raises(ConnectionResetError):
        await exchange(vertex)
    assert vertex.requests[-1].status is None
    assert vertex.requests[-1].aborted_at is None


@pytest.mark.parametrize("chunks", [0, 1, 3, len(CHUNKS)])
async def test_a_cut_stream_has_no_end(session: ClientSession, vertex: SimulatedVertex, chunks: int) -> None:
    vertex.fault = Fault(cut_after_chunks=chunks)
    received, error = await until_it_breaks(session, vertex.url + STREAM)
    assert contents(received) == CHUNKS[:chunks]
    assert b"[DONE]" not in received
    assert error is not None
    assert not vertex.requests[-1].finished
    assert not (await exchange(vertex, STREAM)).endswith(b"0\r\n\r\n")


async def test_a_place_behind_the_end_is_never_reached(session: ClientSession, vertex: SimulatedVertex) -> None:
    vertex.fault = Fault(cut_after_chunks=len(CHUNKS) + 1)
    received, error = await until_it_breaks(session, vertex.url + STREAM)
    assert error is None
    assert received.endswith(b"data: [DONE]\n\n")


async def test_a_stream_that_ends_early_ends_cleanly(session: ClientSession, vertex: SimulatedVertex) -> None:
    vertex.fault = Fault(end_after_chunks=1)
    received, error = await until_it_breaks(session, vertex.url + STREAM)
    assert contents(received) == CHUNKS[:1]
    assert error is None
    assert b"[DONE]" not in received
    assert b'"stop"' not in received


async def test_a_malformed_chunk_takes_the_place_of_one(session: ClientSession, vertex: SimulatedVertex) -> None:
    vertex.fault = Fault(malformed_chunk=1)
    received, error = await until_it_breaks(session, vertex.url + STREAM)
    assert error is None
    assert contents(received) == [CHUNKS[0], *CHUNKS[2:]]
    assert received.split(b"\n\n")[2].endswith(b'"choi')


@pytest.mark.parametrize("chunks", [0, 2])
async def test_an_error_event_ends_a_stream(session: ClientSession, vertex: SimulatedVertex, chunks: int) -> None:
    vertex.fault = Fault(error_after_chunks=chunks)
    received, error = await until_it_breaks(session, vertex.url + STREAM)
    assert error is None
    assert contents(received) == CHUNKS[:chunks]
    last = json.loads(received.removesuffix(b"\n\n").split(b"\n\n")[-1].removeprefix(b"data: "))
    assert last["error"]["status"] == "UNAVAILABLE"


async def test_whole_bodies_are_cut_ended_and_spoilt_too(session: ClientSession, vertex: SimulatedVertex) -> None:
    _, complete = await whole(session, vertex)
    vertex.fault = Fault(cut_after_chunks=1)
    received, error = await until_it_breaks(session, vertex.url + RAW)
    assert error is not None
    assert 0 < len(received) < len(complete)
    vertex.fault = Fault(end_after_chunks=1)
    received, error = await until_it_breaks(session, vertex.url + RAW)
    assert error is None
    assert 0 < len(received) < len(complete)
    vertex.fault = Fault(malformed_chunk=1)
    received, error = await until_it_breaks(session, vertex.url + RAW)
    assert error is None
    assert len(received) == len(complete)
    assert b"\xff" in received


@pytest.mark.parametrize("target", [RAW, STREAM])
async def test_a_truncated_body_stops_half_way(session: ClientSession, vertex: SimulatedVertex, target: str) -> None:
    vertex.fault = Fault(truncated_body=True)
    received, error = await until_it_breaks(session, vertex.url + target)
    assert error is not None
    assert received
    if target == RAW:
        head, _, body = (await exchange(vertex, RAW)).partition(b"\r\n\r\n")
        announced = re.search(rb"content-length: (\d+)", head.lower())
        assert announced is not None
        assert len(body) == int(announced[1]) // 2


@pytest.mark.parametrize("target", [RAW, STREAM])
async def test_bodies_that_are_no_answer(session: ClientSession, vertex: SimulatedVertex, target: str) -> None:
    vertex.fault = Fault(garbage_body=True)
    async with session.post(vertex.url + target, json=BODY, headers=AUTHORIZED) as response:
        assert (response.status, response.content_type) == (200, "text/html")
    vertex.fault = Fault(error_in_body=True)
    async with session.post(vertex.url + target, json=BODY, headers=AUTHORIZED) as response:
        assert (response.status, (await response.json())["error"]["status"]) == (200, "INTERNAL")
    vertex.fault = Fault(body={"choices": []}, headers={"Content-Type": "application/json", "x-more": "1"})
    async with session.post(vertex.url + target, json=BODY, headers=AUTHORIZED) as response:
        assert (await response.json(), response.headers["x-more"]) == ({"choices": []}, "1")
        assert response.headers.getall("content-type") == ["application/json"]
    vertex.fault = Fault(body=b"\x00\xff", status=500)
    assert await whole(session, vertex) == (500, b"\x00\xff")
    vertex.fault = Fault(body="plain")
    assert await whole(session, vertex) == (200, b"plain")
    vertex.fault = Fault(status=204)
    assert await whole(session, vertex) == (204, b"")


async def test_an_error_event_of_a_whole_answer_is_an_error_in_its_body(
    session: ClientSession, vertex: SimulatedVertex
) -> None:
    vertex.fault = Fault(error_after_chunks=0)
    status, data = await whole(session, vertex)
    assert (status, json.loads(data)["error"]["code"]) == (200, 500)


async def test_a_redirect_leads_away(session: ClientSession, vertex: SimulatedVertex) -> None:
    vertex.fault = vertex.preset("redirect")
    async with session.post(vertex.url + RAW, json=BODY, headers=AUTHORIZED, allow_redirects=False) as response:
        assert (response.status, response.headers["location"]) == (307, "https://elsewhere.invalid/")


async def test_a_share_is_spread_evenly_and_times_run_out(session: ClientSession, vertex: SimulatedVertex) -> None:
    vertex.fault = Fault(status=503, share=0.25)
    statuses = [(await whole(session, vertex))[0] for _ in range(8)]
    assert statuses == [200, 200, 200, 503] * 2
    vertex.fault = Fault(status=503, share=0.1)
    assert [(await whole(session, vertex))[0] for _ in range(100)].count(503) == 10
    vertex.fault = Fault(status=503, times=2)
    statuses = [(await whole(session, vertex))[0] for _ in range(4)]
    assert statuses == [503, 503, 200, 200]
    assert vertex.fault is None


async def test_a_connection_survives_an_error_status(vertex: SimulatedVertex) -> None:
    opened: list[object] = []

    async def count(_: object, __: object, what: object) -> None:
        opened.append(what)

    trace = TraceConfig()
    trace.on_connection_create_end.append(count)
    async with ClientSession(trace_configs=[trace]) as session:
        for status in (503, 200, 429, 200):
            vertex.fault = Fault(status=status)
            assert (await whole(session, vertex))[0] == status
    assert len(opened) == 1
