"""A simulated provider listens, records, refuses and stops as a server does."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import zlib
from collections.abc import AsyncIterator

import pytest
import trustme
from aiohttp import ClientConnectionError, ClientSession, ServerDisconnectedError
from yarl import URL

from proxy.simulator import (
    FOREVER,
    Fault,
    RecordedRequest,
    SimulatedClaude,
    SimulatedVertex,
)

from .test_simulator_faults import (
    ANSWER,
    AUTHORIZED,
    BODY,
    CHUNKS,
    RAW,
    SHORTLY,
    STREAM,
    contents,
    exchange,
    text,
    until_it_breaks,
    whole,
)


@pytest.fixture
async def vertex() -> AsyncIterator[SimulatedVertex]:
    async with SimulatedVertex() as provider:
        yield provider


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as client:
        yield client


async def test_refusing_closes_socket_and_connections_and_accepting_reopens_them(
    session: ClientSession, vertex: SimulatedVertex
) -> None:
    await text(session, vertex)
    reader, writer = await asyncio.open_connection("127.0.0.1", vertex.port)
    port = vertex.port
    refusing = [vertex.refusing]
    await vertex.refuse()
    refusing.append(vertex.refusing)
    async with asyncio.timeout(1):
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises(ClientConnectionError):
        await text(session, vertex)
    await vertex.refuse()
    await vertex.accept()
    await vertex.accept()
    refusing.append(vertex.refusing)
    assert refusing == [False, True, False]
    assert vertex.port == port
    assert await text(session, vertex) == ANSWER


async def test_refusing_lets_the_calls_in_flight_end(session: ClientSession, vertex: SimulatedVertex) -> None:
    vertex.fault = Fault(delay_before_content=0.03)
    async with session.post(vertex.url + STREAM, json=BODY, headers=AUTHORIZED) as response:
        await vertex.refuse()
        assert contents(await response.read()) == CHUNKS


async def test_refusing_for_a_time(session: ClientSession, vertex: SimulatedVertex) -> None:
    await vertex.refuse(seconds=0.02)
    with pytest.raises(ClientConnectionError):
        await text(session, vertex)
    async with asyncio.timeout(1):
        await vertex.accepting()
    assert await text(session, vertex) == ANSWER
    await vertex.refuse(seconds=1000)
    await vertex.accept()
    assert (await exchange(vertex)).startswith(b"HTTP/1.1 200")
    await vertex.refuse(seconds=1000)


async def test_a_request_is_recorded_as_it_was_sent(session: ClientSession, vertex: SimulatedVertex) -> None:
    before = asyncio.get_running_loop().time()
    data = json.dumps(BODY, indent=4).encode()
    url = URL(vertex.url + RAW + "?a=%2F&b", encoded=True)
    async with session.post(url, data=data, headers={**AUTHORIZED, "X-Odd": "ü"}):
        pass
    record = vertex.requests[-1]
    assert (record.method, record.body, record.json) == ("POST", data, BODY)
    assert record.raw_path == RAW + "?a=%2F&b"
    assert ("Authorization", "Bearer token") in record.headers
    assert record.header("x-odd") == "ü".encode().decode("latin-1")
    assert record.header("x-none") is None
    assert before <= record.started_at <= asyncio.get_running_loop().time()
    assert (record.status, record.finished, record.aborted_at, record.fault) == (200, True, None, None)


async def test_a_compressed_request_is_recorded_as_sent_and_understood(
    session: ClientSession, vertex: SimulatedVertex
) -> None:
    data = gzip.compress(json.dumps(BODY).encode())
    headers = {**AUTHORIZED, "Content-Encoding": "gzip"}
    async with session.post(vertex.url + RAW, data=data, headers=headers) as response:
        assert response.status == 200
    assert (vertex.requests[-1].body, vertex.requests[-1].json) == (data, BODY)
    async with session.post(vertex.url + RAW, data=b"no gzip", headers=headers) as response:
        assert response.status == 400
    assert vertex.requests[-1].json is None


@pytest.mark.parametrize("target", [RAW, STREAM])
async def test_a_caller_that_leaves_is_noticed_at_once(
    session: ClientSession, vertex: SimulatedVertex, target: str
) -> None:
    loop = asyncio.get_running_loop()
    vertex.fault = vertex.preset("hang_before_content")
    call = asyncio.create_task(until_it_breaks(session, vertex.url + target))
    await vertex.received(1)
    record = vertex.requests[-1]
    assert (vertex.in_flight, record.aborted_at) == (1, None)
    left_at = loop.time()
    call.cancel()
    await record.ended.wait()
    assert record.aborted_at is not None
    assert record.aborted_at - left_at < 0.1
    assert vertex.in_flight == 0


async def test_a_caller_that_leaves_in_mid_stream_is_noticed(session: ClientSession, vertex: SimulatedVertex) -> None:
    vertex.fault = Fault(delay_between_chunks=0.01)
    async with session.post(vertex.url + STREAM, json=BODY, headers=AUTHORIZED) as response:
        await response.content.readany()
        response.close()
    record = vertex.requests[-1]
    await record.ended.wait()
    assert record.aborted_at is not None
    assert not record.finished


async def test_stopping_is_no_abort_by_the_caller(session: ClientSession) -> None:
    async with SimulatedVertex() as vertex:
        vertex.fault = vertex.preset("hang")
        call = asyncio.create_task(until_it_breaks(session, vertex.url + RAW))
        await vertex.received(1)
    with pytest.raises(ServerDisconnectedError):
        await call
    assert vertex.requests[-1].ended.is_set()
    assert vertex.requests[-1].aborted_at is None


async def test_calls_in_flight_are_counted(session: ClientSession, vertex: SimulatedVertex) -> None:
    vertex.fault = vertex.preset("hang")
    calls = [asyncio.create_task(whole(session, vertex)) for _ in range(5)]
    await vertex.received(5)
    assert (vertex.in_flight, vertex.max_in_flight, vertex.calls, len(vertex.requests)) == (5, 5, 5, 5)
    for call in calls:
        call.cancel()
    await asyncio.gather(*(record.ended.wait() for record in vertex.requests))
    vertex.fault = None
    await text(session, vertex)
    assert (vertex.in_flight, vertex.max_in_flight) == (0, 5)


@pytest.mark.parametrize("target", [RAW, STREAM])
async def test_answers_are_compressed_for_callers_that_accept_it(
    session: ClientSession, vertex: SimulatedVertex, target: str
) -> None:
    vertex.compress = True
    async with session.post(vertex.url + target, json=BODY, headers={**AUTHORIZED, "Accept-Encoding": "gzip"}) as got:
        assert got.headers["content-encoding"] == "gzip"
        decompressed = await got.read()
    async with session.post(
        vertex.url + target, json=BODY, headers={**AUTHORIZED, "Accept-Encoding": "gzip;q=0"}
    ) as got:
        assert "content-encoding" not in got.headers
        plain = await got.read()
    assert len(plain) == len(decompressed)
    assert contents(decompressed) if target == STREAM else ANSWER.encode()[:20] in decompressed


async def test_each_chunk_of_a_compressed_stream_can_be_read_when_it_comes(vertex: SimulatedVertex) -> None:
    vertex.compress = True
    vertex.fault = Fault(stall_after_chunks=1)
    async with (
        ClientSession(auto_decompress=False) as session,
        session.post(vertex.url + STREAM, json=BODY, headers={**AUTHORIZED, "Accept-Encoding": "gzip"}) as response,
    ):
        decompressor = zlib.decompressobj(wbits=31)
        received = b""
        while not contents(received):
            received += decompressor.decompress(await response.content.readany())
    assert contents(received) == CHUNKS[:1]


async def test_extra_headers_are_sent_with_every_answer(session: ClientSession, vertex: SimulatedVertex) -> None:
    vertex.response_headers = {"X-Vertex-AI-LLM-Request-Type": "shared"}
    for status in (200, 503):
        vertex.fault = Fault(status=status)
        async with session.post(vertex.url + RAW, json=BODY, headers=AUTHORIZED) as response:
            assert (response.status, response.headers["x-vertex-ai-llm-request-type"]) == (status, "shared")


async def test_tls_with_faults(session: ClientSession) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    async with SimulatedVertex(ssl_context=context) as vertex:
        assert vertex.url.startswith("https://")
        received, error = await until_it_breaks(session, vertex.url + STREAM, ssl=trust)
        assert (contents(received), error) == (CHUNKS, None)
        vertex.fault = Fault(cut_after_chunks=1)
        received, error = await until_it_breaks(session, vertex.url + STREAM, ssl=trust)
        assert contents(received) == CHUNKS[:1]
        assert error is not None
        vertex.fault = vertex.preset("reset")
        with pytest.raises(ClientConnectionError):
            await until_it_breaks(session, vertex.url + STREAM, ssl=trust)
        await vertex.refuse()
        with pytest.raises(ClientConnectionError):
            await until_it_breaks(session, vertex.url + STREAM, ssl=trust)


async def test_a_port_that_is_taken_is_an_error(vertex: SimulatedVertex) -> None:
    with pytest.raises(OSError, match="in use"):
        await SimulatedClaude().start(port=vertex.port)


async def test_a_provider_can_be_started_again(session: ClientSession) -> None:
    vertex = SimulatedVertex()
    for _ in range(2):
        await vertex.start()
        assert await text(session, vertex) == ANSWER
        await vertex.refuse()
        await vertex.stop()
        await vertex.stop()


def test_resets_and_refusals_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def scenario() -> RecordedRequest:
        async with SimulatedVertex() as vertex, ClientSession() as session:
            assert await text(session, vertex) == ANSWER
            vertex.fault = Fault(reset_before_headers=True)
            with pytest.raises(ConnectionResetError):
                await exchange(vertex)
            vertex.fault = Fault(cut_after_chunks=1)
            received, error = await until_it_breaks(session, vertex.url + STREAM)
            assert contents(received) == CHUNKS[:1]
            assert error is not None
            vertex.fault = None
            await vertex.refuse()
            with pytest.raises(ClientConnectionError):
                await text(session, vertex)
            await vertex.accept()
            assert await text(session, vertex) == ANSWER
            vertex.fault = Fault(delay_before_content=FOREVER)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(SHORTLY):
                    await text(session, vertex)
            await vertex.requests[-1].ended.wait()
            return vertex.requests[-1]

    assert uvloop.run(scenario()).aborted_at is not None
