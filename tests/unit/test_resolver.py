"""Looking up names: what it costs the others when a name server does not answer."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from health.outcome import FailureReason
from proxy.upstreams.base import AttemptFailed, Limits
from proxy.upstreams.resolver import Resolver
from proxy.upstreams.transport import Transport, raw_url

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names under `.invalid` are asked for without an answer; gives those that were."""
    asked: list[str] = []
    answer = threading.Event()
    look_up = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: Any, **keywords: Any) -> Any:
        if host.endswith(".invalid"):
            asked.append(host)
            answer.wait(10)
            raise socket.gaierror(socket.EAI_AGAIN, "no name server answers")
        return look_up(host, *arguments, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield asked
    answer.set()


def _limits(seconds: float) -> Limits:
    now = asyncio.get_running_loop().time()
    return Limits(now + seconds, now + seconds, seconds, lambda: now, now)


async def test_names_that_hang_at_one_provider_keep_the_others_from_being_looked_up(hanging: list[str]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b"here")

    application = web.Application()
    application.router.add_post("/", answer)
    one, other = Transport(connect_seconds=0.5), Transport(connect_seconds=5)
    async with TestServer(application, host="localhost") as server:
        lost = [
            asyncio.create_task(one.post(raw_url(f"http://location-{n}.invalid", "/"), {}, b"", _limits(5)))
            for n in range(100)
        ]
        while not hanging:  # noqa: ASYNC110 (a thread of the resolver's says so)
            await asyncio.sleep(0.001)
        exchange = await other.post(raw_url(f"http://localhost:{server.port}", "/"), {}, b"", _limits(5))
        assert await exchange.read(_limits(5)) == b"here"
        exchange.close()
        for failure in await asyncio.gather(*lost, return_exceptions=True):
            assert isinstance(failure, AttemptFailed)
            assert failure.outcome.reason is FailureReason.CONNECT
        # They are bounded: an outage of the name server makes no thread a location.
        assert len(hanging) == len(set(hanging)) == 16
        await one.close()
        await other.close()


async def test_a_name_without_an_address_is_told_as_something_else() -> None:
    transport = Transport(connect_seconds=5)
    with pytest.raises(AttemptFailed) as failure:
        await transport.post(raw_url("http://nobody.invalid", "/"), {}, b"", _limits(5))
    assert failure.value.outcome.reason is FailureReason.DNS
    await transport.close()


async def test_an_address_comes_without_what_a_socket_needs() -> None:
    found = await Resolver().resolve("127.0.0.1", 80)
    assert [(one["hostname"], one["host"], one["port"], one["family"]) for one in found] == [
        ("127.0.0.1", "127.0.0.1", 80, socket.AF_INET)
    ]


async def test_an_address_of_the_link_loses_its_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the system does not know through which one to connect."""
    (index, name), *_ = socket.if_nameindex()
    link = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 80, 0, index))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [link])
    (found,) = await Resolver().resolve("link", 80, socket.AF_INET6)
    assert found["host"] == f"fe80::1%{name}"
