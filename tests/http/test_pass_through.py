"""While Vertex serves, the proxy is not there: bytes in, bytes out."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json

import pytest

from proxy.simulator import Fault
from tests.rig import PREFIX, SUFFIX, VERTEX_TOKEN, chat, expected, fim, path, rig

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "body_model"),
    [("codestral@2405", "codestral"), ("codestral%402405", "codestral"), ("codestral-2501", "codestral-2501")],
)
async def test_a_path_that_is_rewritten_on_its_way(version: str, stream: bool, model: str, body_model: str) -> None:
    url = path(model, stream=stream, version=version)
    async with rig() as proxy:
        answer = await proxy.ask(fim(model=body_model, stream=stream), url=url)
        assert (answer.status, answer.text) == (200, expected("vertex"))
        assert proxy.vertex.requests[0].raw_path == url


@pytest.mark.parametrize(
    "query", ["?$alt=json;enum-encoding=int", "?%24alt=json%3Benum-encoding%3Dint", "?alt=sse", "?a=b%20c+d&&=", "?"]
)
async def test_a_query_that_is_normalised_on_its_way(query: str) -> None:
    async with rig() as proxy:
        answer = await proxy.ask(url=path() + query)
        assert answer.status == 200
        assert proxy.vertex.requests[0].raw_path == path() + query


@pytest.mark.parametrize(
    "body",
    [
        b'{"suffix": "\\u00e9\\ud83d\\ude00",\n\t"prompt":"d\\u0065f f():",   "model":"codestral-2","max_tokens":64}',
        json.dumps(fim(), indent=4).encode(),
        json.dumps(fim(prompt="# ünïcödé\n" + PREFIX), ensure_ascii=False).encode(),
        json.dumps(chat()).encode(),
    ],
)
async def test_a_body_that_is_parsed_and_written_anew(body: bytes) -> None:
    async with rig() as proxy:
        answer = await proxy.ask(body)
        assert (answer.status, answer.served_by) == (200, ("vertex", "primary"))
        assert proxy.vertex.requests[0].body == body


async def test_a_body_of_many_pieces_that_is_cut() -> None:
    body = json.dumps(fim(prompt="x = 1\n" * 200_000)).encode()
    async with rig() as proxy:
        answer = await proxy.ask(body)
        assert answer.status == 200
        assert proxy.vertex.requests[0].body == body


async def test_an_answer_that_is_changed() -> None:
    """What Vertex sends is what comes through, byte for byte, with its own headers."""
    async with rig() as proxy:
        proxy.vertex.response_headers = {
            "x-vertex-ai-llm-request-type": "shared",
            "Server": "scaffolding",
        }
        raw = b'{"choices": [ {"index":0, "message":{"role":"assistant","content":"\\u0078" } } ] }  '
        proxy.vertex.fault = Fault(status=200, body=raw, headers={"Content-Type": "application/json; charset=UTF-8"})
        answer = await proxy.ask()
        assert answer.body == raw
        assert answer.headers["Content-Type"] == "application/json; charset=UTF-8"
        assert answer.headers["x-vertex-ai-llm-request-type"] == "shared"
        assert answer.headers["Server"] == "scaffolding"
        assert answer.headers["Content-Length"] == str(len(raw))


async def test_headers_that_the_library_would_add() -> None:
    async with rig() as proxy:
        await proxy.ask()
        sent = {name.lower() for name, _ in proxy.vertex.requests[0].headers}
        usual = {"host", "content-length", "authorization", "via", "traceparent"}
        assert sent == usual | {"accept", "accept-encoding", "user-agent", "content-type"}
        await proxy.session.post(
            proxy.app.address + path(),
            data=b"{}",
            skip_auto_headers=["User-Agent", "Accept", "Accept-Encoding", "Content-Type"],
        )
        sent = {name.lower() for name, _ in proxy.vertex.requests[1].headers}
        assert sent == usual


async def test_headers_that_belong_to_one_connection_or_to_the_proxy() -> None:
    headers = {
        "Connection": "keep-alive, x-hop",
        "x-hop": "1",
        "Keep-Alive": "timeout=5",
        "TE": "trailers",
        "Proxy-Authorization": "Basic x",
        "x-completion-proxy-actor": "someone",
        "x-custom": "kept",
    }
    async with rig() as proxy:
        await proxy.ask(headers=headers)
        sent = {name.lower(): value for name, value in proxy.vertex.requests[0].headers}
        assert sent["x-custom"] == "kept"
        assert sent["authorization"] == f"Bearer {VERTEX_TOKEN}"
        assert not {"x-hop", "keep-alive", "te", "proxy-authorization", "x-completion-proxy-actor"} & set(sent)


async def test_a_compressed_answer_that_is_unpacked_on_its_way() -> None:
    async with rig() as proxy:
        proxy.vertex.compress = True
        answer = await proxy.ask(headers={"Accept-Encoding": "gzip, deflate, br, zstd"})
        assert answer.headers["Content-Encoding"] == "gzip"
        plain = gzip.decompress(answer.body)
        assert expected("vertex")[:8].encode() in plain
        # What cannot be looked into is not asked for.
        assert dict(proxy.vertex.requests[0].headers)["Accept-Encoding"] == "gzip, deflate"
        assert answer.served_by == ("vertex", "primary")


async def test_a_stream_that_is_compressed_all_the_same_is_unpacked_on_its_way() -> None:
    """None is asked for, since another provider could not go on in the middle of one."""
    chunk = b'data: {"id": "x", "choices": [{"index": 0, "delta": {"content": "y"}, "finish_reason": "stop"}]}\n\n'
    body = gzip.compress(chunk + b"data: [DONE]\n\n")
    async with rig() as proxy:
        headers = {"Content-Encoding": "gzip", "Content-Type": "text/event-stream"}
        proxy.vertex.fault = Fault(status=200, body=body, headers=headers)
        answer = await proxy.ask(fim(stream=True), headers={"Accept-Encoding": "gzip"})
        assert dict(proxy.vertex.requests[0].headers)["Accept-Encoding"] == "identity"
        assert answer.body == body
        assert answer.served_by == ("vertex", "primary")


async def test_a_stream_that_is_collected_before_it_is_sent() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(delay_between_chunks=0.5)
        loop = asyncio.get_running_loop()
        started = loop.time()
        arrivals: list[float] = []
        async with proxy.session.post(
            proxy.app.address + path(stream=True), json=fim(stream=True), headers={"Authorization": "Bearer x"}
        ) as response:
            async for piece, _ in response.content.iter_chunks():
                if b'"content"' in piece:
                    arrivals.append(loop.time() - started)
        assert arrivals[0] < 0.1
        gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals)]
        assert len(gaps) >= 2
        assert all(0.4 < gap < 0.7 for gap in gaps[:-1]), gaps


@pytest.mark.parametrize("status", [400, 413, 422, 405, 415])
async def test_a_callers_own_mistake_is_held_against_vertex(status: int) -> None:
    async with rig(BREAKER__CONSECUTIVE_FAILURES="2", BREAKER__MINIMUM_CALLS="2") as proxy:
        proxy.vertex.fault = Fault(status=status)
        for _ in range(20):
            answer = await proxy.ask()
            assert (answer.status, answer.served_by) == (status, ("vertex", "primary"))
        assert not proxy.claude.requests
        (vertex, *_) = [entry for entry in (await proxy.status())["circuits"] if entry["upstream"] == "vertex"]
        counted = 20 if status in {400, 413, 422} else 0
        assert (vertex["state"], vertex["calls"], vertex["failure_rate"]) == ("closed", counted, 0)


async def test_a_path_that_is_not_served_reaches_vertex() -> None:
    wrong = [
        "/",
        "/v1/projects/p/locations/us-central1/publishers/mistralai/models/codestral-2:predict",
        "/v2/projects/p/locations/us-central1/publishers/mistralai/models/codestral-2:rawPredict",
        "/v1/projects/p/locations/evil.example.com%2f/publishers/mistralai/models/codestral-2:rawPredict",
        "/v1/projects/p/locations/a.b/publishers/mistralai/models/codestral-2:rawPredict",
        "/v1/projects/../locations/us-central1/publishers/mistralai/models/codestral-2:rawPredict",
        "/v1/projects/p/locations/us-central1/publishers/mistralai/models/..%2f..:rawPredict",
        "//v1/projects/p/locations/us-central1/publishers/mistralai/models/codestral-2:rawPredict",
    ]
    async with rig() as proxy:
        for url in wrong:
            answer = await proxy.ask(url=url)
            assert (answer.status, answer.json["error"]["status"]) == (404, "NOT_FOUND"), url
        async with proxy.session.get(proxy.app.address + path()) as response:
            assert response.status == 404
        assert not proxy.vertex.calls


async def test_a_kept_connection_that_vertex_has_closed_costs_a_request() -> None:
    """A server may close an idle connection at any moment; the next request must not pay for it."""
    async with rig() as proxy:
        assert (await proxy.ask()).served_by == ("vertex", "primary")
        proxy.vertex.fault = Fault(reset_before_headers=True, times=1)
        answer = await proxy.ask()
        assert answer.served_by == ("vertex", "primary")
        assert proxy.metric("upstream_failures_total", upstream="vertex", reason="reset") == 0


def test_the_prompt_of_these_tests_is_a_hole() -> None:
    assert PREFIX.endswith("return ")
    assert SUFFIX.startswith("\n")
