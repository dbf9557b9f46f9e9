"""Every way in which the HTTP client can fail has a name, and the right one: a circuit judges by it."""

from __future__ import annotations

import asyncio
import ssl
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import pytest
from aioresponses import aioresponses

from health.outcome import FailureReason
from proxy.upstreams.base import AttemptFailed, Limits
from proxy.upstreams.transport import Transport, raw_url

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey

URL = "https://vertex.invalid/v1/x:rawPredict"
KEY = cast("ConnectionKey", SimpleNamespace(host="vertex.invalid", port=443, ssl=True, is_ssl=True))

ERRORS: dict[str, tuple[BaseException, FailureReason]] = {
    "no connection in time": (aiohttp.ConnectionTimeoutError(), FailureReason.CONNECT),
    "connection refused": (
        aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "refused")),
        FailureReason.CONNECT,
    ),
    "no such name": (aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "unknown")), FailureReason.DNS),
    "handshake": (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "bad")), FailureReason.TLS),
    "certificate": (
        aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError(1, "bad")),
        FailureReason.TLS,
    ),
    "disconnected": (aiohttp.ServerDisconnectedError(), FailureReason.RESET),
    "reset": (aiohttp.ClientOSError(104, "reset"), FailureReason.RESET),
    "not HTTP": (
        aiohttp.ClientResponseError(cast("Any", SimpleNamespace(real_url=URL)), (), status=400),
        FailureReason.MALFORMED,
    ),
}


def limits(seconds: float = 5.0) -> Limits:
    now = asyncio.get_running_loop().time()
    return Limits(first_byte=now + seconds, total=now + 30, idle=1, patience=lambda: now, since=now)


@pytest.mark.parametrize("name", ERRORS)
async def test_a_failure_has_the_wrong_name(name: str) -> None:
    error, reason = ERRORS[name]
    transport = Transport(connect_seconds=1)
    with aioresponses() as mocked:
        mocked.post(URL, exception=error)
        with pytest.raises(AttemptFailed) as caught:
            await transport.post(raw_url(URL, ""), {}, b"{}", limits())
    await transport.close()
    assert caught.value.reason is reason
    assert "vertex.invalid" not in caught.value.detail


@pytest.mark.virtual_time
async def test_a_wait_goes_on_after_its_patience_has_ended() -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    asked: list[float] = []

    def patience() -> float:
        asked.append(loop.time() - started)
        return started + 7

    waiting = limits()
    waiting.patience = patience
    with pytest.raises(AttemptFailed) as caught:
        await waiting.before_content(asyncio.sleep(60))
    assert caught.value.reason is FailureReason.FIRST_BYTE_TIMEOUT
    assert asked == [pytest.approx(5)]
    assert loop.time() - started == pytest.approx(7)
    # Asked once: the next wait of the same attempt ends at once.
    with pytest.raises(AttemptFailed):
        await waiting.before_content(asyncio.sleep(60))
    assert loop.time() - started == pytest.approx(7)
    assert len(asked) == 1


@pytest.mark.virtual_time
async def test_content_that_comes_late_is_thrown_away_with_nobody_else_to_ask() -> None:
    waiting = limits()
    started = asyncio.get_running_loop().time()
    waiting.patience = lambda: started + 20
    assert await waiting.before_content(asyncio.sleep(12, "late")) == "late"


def test_yarl_no_longer_keeps_the_request_target_where_raw_url_puts_it() -> None:
    for target in ("/a%40b?", "/a@b?$alt=json;x=1#f", "/a?b=%2F+%20", "/"):
        assert raw_url("https://host", target).raw_path_qs == target
