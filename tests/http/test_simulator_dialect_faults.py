"""A fault of a stream does in every dialect what it says, in the words of that dialect."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientSession
from yarl import URL

from proxy.simulator import Fault, SimulatedVertex, model

from .test_simulator_envelope import CLAUDE, enveloped
from .test_simulator_vertex import AUTHORIZED, FIM, path

CHAT = model.chunks(model.chat("vertex", "How?"))
CODE = model.chunks(model.complete("vertex", FIM["prompt"], FIM["suffix"]))
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "How?"}]}]}
GEMINI_PATH = path("gemini-2.5-flash", "streamGenerateContent", "google")
OPENAI = {"model": "google/gemini-2.5-flash", "messages": [{"role": "user", "content": "How?"}], "stream": True}
MALFORMED = object()


@dataclass(frozen=True)
class Dialect:
    """How one dialect asks for a stream, and how its stream is read."""

    name: str
    target: str
    body: object
    chunks: list[str]
    terminator: bytes
    """With which a complete stream ends."""
    array: bool = False

    def events(self, data: bytes) -> list[Any]:
        """What stands in the events, or in the elements of an array that may lack its end; MALFORMED for no JSON."""
        if self.array:
            pieces = data.removeprefix(b"[").removesuffix(b"\n]").split(b"\n,\r\n")
        else:
            ended = data.replace(b"\r\n", b"\n").split(b"\n\n")
            assert ended[-1] == b"", "an event has no blank line after it"
            pieces = [event.rpartition(b"data: ")[2] for event in ended[:-1]]
        return [_parsed(piece) for piece in pieces if piece and piece != b"[DONE]"]

    def texts(self, data: bytes) -> list[str]:
        return [text for event in self.events(data) if isinstance(event, dict) and (text := _text(event))]


def _parsed(piece: bytes) -> Any:
    try:
        return json.loads(piece)
    except ValueError:
        return MALFORMED


def _text(event: dict[str, Any]) -> str:
    if "data" in event:
        inner = base64.b64decode(event["data"]).rpartition(b"data: ")[2].strip()
        return "" if inner == b"[DONE]" else _text(json.loads(inner))
    if "candidates" in event:
        return str(event["candidates"][0]["content"]["parts"][0]["text"])
    if event.get("choices"):
        return str(event["choices"][0]["delta"].get("content", ""))
    delta = event.get("delta", {})
    return str(delta.get("text", ""))


MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
FIM_PATH, CLAUDE_PATH = path(method="streamRawPredict"), path("claude-haiku-5-5", "streamRawPredict", "anthropic")
ASKED_CLAUDE = {**CLAUDE, "stream": True}
DIALECTS = [
    Dialect("codestral", FIM_PATH, FIM, CODE, b"data: [DONE]\n\n"),
    Dialect("gemini sse", GEMINI_PATH + "?alt=sse", GEMINI, CHAT, b"\r\n\r\n"),
    Dialect("gemini array", GEMINI_PATH, GEMINI, CHAT, b"\n]", array=True),
    Dialect("claude", CLAUDE_PATH, ASKED_CLAUDE, CHAT, MESSAGE_STOP),
    Dialect(
        "openai", "/v1/projects/p/locations/l/endpoints/openapi/chat/completions", OPENAI, CHAT, b"data: [DONE]\n\n"
    ),
    Dialect("codestral in envelopes", FIM_PATH, enveloped(FIM), CODE, b"\n]", array=True),
    Dialect("claude in envelopes", CLAUDE_PATH, enveloped(ASKED_CLAUDE), CHAT, b"\n]", array=True),
]
ARRAYS = [dialect for dialect in DIALECTS if dialect.array]


pytestmark = pytest.mark.virtual_time
SECONDS = 60
"""How long a stream is waited for; nothing but a stall takes time."""


@pytest.fixture(params=DIALECTS, ids=lambda dialect: dialect.name)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    found = request.param
    assert isinstance(found, Dialect)
    return found


@pytest.fixture
async def vertex() -> AsyncIterator[SimulatedVertex]:
    async with SimulatedVertex() as provider:
        yield provider


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as client:
        yield client


async def receive(
    session: ClientSession, vertex: SimulatedVertex, dialect: Dialect
) -> tuple[bytes, BaseException | None]:
    """What of a stream arrives in time, and with what it ended before its time."""
    received = bytearray()
    url = URL(vertex.url + dialect.target, encoded=True)
    async with session.post(url, json=dialect.body, headers=AUTHORIZED) as response:
        assert response.status == 200, await response.read()
        try:
            async with asyncio.timeout(SECONDS):
                async for data in response.content.iter_any():
                    received += data
        except (ClientPayloadError, TimeoutError) as error:
            return bytes(received), error
    return bytes(received), None


async def test_a_healthy_stream_is_struck(session: ClientSession, vertex: SimulatedVertex, dialect: Dialect) -> None:
    data, error = await receive(session, vertex, dialect)
    assert (dialect.texts(data), error) == (dialect.chunks, None)
    assert data.endswith(dialect.terminator)
    assert MALFORMED not in dialect.events(data)


@pytest.mark.parametrize("chunks", [0, 2])
async def test_a_cut_stream_has_an_end(
    session: ClientSession, vertex: SimulatedVertex, dialect: Dialect, chunks: int
) -> None:
    vertex.fault = Fault(cut_after_chunks=chunks)
    data, error = await receive(session, vertex, dialect)
    assert isinstance(error, ClientPayloadError)
    assert dialect.texts(data) == dialect.chunks[:chunks]
    if dialect.array:
        assert not data.endswith(dialect.terminator)


@pytest.mark.parametrize("chunks", [0, 2])
async def test_a_stalled_stream_goes_on_or_ends(
    session: ClientSession, vertex: SimulatedVertex, dialect: Dialect, chunks: int
) -> None:
    vertex.fault = Fault(stall_after_chunks=chunks)
    data, error = await receive(session, vertex, dialect)
    assert isinstance(error, TimeoutError)
    assert dialect.texts(data) == dialect.chunks[:chunks]


@pytest.mark.parametrize("chunks", [0, 2])
async def test_a_stream_that_ends_early_breaks_or_says_that_it_finished(
    session: ClientSession, vertex: SimulatedVertex, dialect: Dialect, chunks: int
) -> None:
    vertex.fault = Fault(end_after_chunks=chunks)
    data, error = await receive(session, vertex, dialect)
    assert (dialect.texts(data), error) == (dialect.chunks[:chunks], None)
    assert b"STOP" not in data
    assert b'"stop"' not in data
    if dialect.array:
        json.loads(data)


async def test_a_malformed_chunk_can_be_read_or_costs_another(
    session: ClientSession, vertex: SimulatedVertex, dialect: Dialect
) -> None:
    vertex.fault = Fault(malformed_chunk=1)
    data, error = await receive(session, vertex, dialect)
    assert error is None
    assert dialect.events(data).count(MALFORMED) == 1
    assert dialect.texts(data) == [dialect.chunks[0], *dialect.chunks[2:]]
    assert data.endswith(dialect.terminator)


@pytest.mark.parametrize("chunks", [0, 2])
async def test_an_error_in_a_stream_is_in_another_dialects_words(
    session: ClientSession, vertex: SimulatedVertex, dialect: Dialect, chunks: int
) -> None:
    vertex.fault = Fault(error_after_chunks=chunks)
    data, error = await receive(session, vertex, dialect)
    assert error is None
    last = dialect.events(data)[-1]
    assert dialect.texts(data) == dialect.chunks[:chunks]
    if dialect.name == "claude":
        assert last == {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    else:
        assert last["error"]["status"] == "UNAVAILABLE"
    if dialect.array:
        json.loads(data)


async def test_an_unterminated_stream_says_that_it_is_over_or_loses_its_finish(
    session: ClientSession, vertex: SimulatedVertex, dialect: Dialect
) -> None:
    healthy, _ = await receive(session, vertex, dialect)
    vertex.fault = vertex.preset("unterminated")
    data, error = await receive(session, vertex, dialect)
    assert error is None
    assert dialect.texts(data) == dialect.chunks
    missing = len(dialect.events(healthy)) - len(dialect.events(data))
    match dialect.name:
        case "gemini sse":
            assert (missing, data.endswith(b"\r\n\r\n")) == (0, True)
        case "gemini array":
            assert (missing, data.endswith(b"}")) == (0, True)
        case "codestral" | "openai":
            assert (missing, b"[DONE]" in data) == (0, False)
        case _:
            assert missing == 1
    if "envelopes" in dialect.name:
        json.loads(data)
    assert _finish(dialect, data)


async def test_an_unterminated_stream_that_stalls_ends(
    session: ClientSession, vertex: SimulatedVertex, dialect: Dialect
) -> None:
    vertex.fault = vertex.preset("unterminated_stall")
    data, error = await receive(session, vertex, dialect)
    assert isinstance(error, TimeoutError)
    assert dialect.texts(data) == dialect.chunks
    assert _finish(dialect, data)
    assert not (dialect.array and data.endswith(b"]"))


async def test_a_stall_before_the_end_leaves_out_what_comes_before_it(
    session: ClientSession, vertex: SimulatedVertex, dialect: Dialect
) -> None:
    vertex.fault = Fault(stall_before_end=True)
    data, error = await receive(session, vertex, dialect)
    assert isinstance(error, TimeoutError)
    assert dialect.texts(data) == dialect.chunks
    assert data.endswith(dialect.terminator)


def _finish(dialect: Dialect, data: bytes) -> bool:
    """Whether a reason to finish was told."""
    events = dialect.events(data)
    if "envelopes" in dialect.name:
        data = b"".join(base64.b64decode(event["data"]) for event in events)
    return any(word in data for word in (b'"finish_reason":"stop"', b"STOP", b'"stop_reason":"end_turn"'))


@pytest.mark.parametrize("preset", ["garbage", "truncated", "error_in_body"])
async def test_a_fault_of_the_whole_answer_spares_a_dialect(
    session: ClientSession, vertex: SimulatedVertex, dialect: Dialect, preset: str
) -> None:
    vertex.fault = vertex.preset(preset)
    data, error = await receive(session, vertex, dialect)
    match preset:
        case "garbage":
            assert data.startswith(b"<!doctype html>")
        case "truncated":
            assert isinstance(error, ClientPayloadError)
        case _:
            found = json.loads(data)
            wrapped = dialect.name in ("gemini array", "openai")
            assert (found[0] if wrapped else found)["error"]["status"] == "INTERNAL"


async def test_a_truncated_array_is_longer_than_half(session: ClientSession, vertex: SimulatedVertex) -> None:
    whole, _ = await receive(session, vertex, DIALECTS[2])
    vertex.fault = Fault(truncated_body=True)
    half, _ = await receive(session, vertex, DIALECTS[2])
    assert abs(len(whole) // 2 - len(half)) <= 4
