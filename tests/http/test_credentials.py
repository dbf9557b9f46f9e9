"""Vertex's credentials against a real token server, through the real google-auth. Seconds are virtual."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr

from proxy.settings import VertexSettings
from proxy.upstreams.credentials import (
    AdcCredentials,
    CredentialsUnavailable,
    PassthroughCredentials,
    StaticCredentials,
    credentials_for,
)
from tests.http.token_server import LIFE, Bench, TokenServer


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
async def bench(private_key: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    tokens = TokenServer()
    app = web.Application()
    app.router.add_post("/token", tokens.handle)
    async with TestServer(app, host="127.0.0.1") as server:
        bench = Bench(
            {
                "type": "service_account",
                "client_email": "proxy@project.iam.gserviceaccount.com",
                "private_key_id": "1",
                "private_key": private_key,
                "token_uri": str(server.make_url("/token")),
            },
            tokens,
        )
        yield bench
        tokens.open.set()
        await bench.credentials.stop()


async def test_a_start_that_waits_for_the_token_server(bench: Bench) -> None:
    bench.server.open.clear()
    async with asyncio.timeout(1):
        await bench.credentials.start()
    waiting = asyncio.create_task(bench.token())
    await bench.server.request()
    assert not waiting.done()
    bench.server.open.set()
    assert await waiting == "Bearer token-1"
    assert bench.credentials.own


@pytest.mark.parametrize(("life", "wait"), [(3600, 3000), (43_200, 42_600), (1200, 900), (60, 45)])
async def test_a_token_renewed_too_late(bench: Bench, life: int, wait: int) -> None:
    bench.server.life = life
    await bench.credentials.start()
    assert await bench.time.settled() == pytest.approx(wait, abs=2)
    assert await bench.token() == "Bearer token-1"
    await bench.time.pass_by(wait)
    assert await bench.token() == "Bearer token-2"
    assert [name for name, _ in bench.events] == ["credentials_refreshed"] * 2


async def test_a_valid_token_dropped_because_its_server_is_down(bench: Bench) -> None:
    await bench.credentials.start()
    await bench.time.settled()
    bench.server.error = {"error": "temporary"}
    waits = [await bench.time.pass_by(3000)]
    assert await bench.token() == "Bearer token-1"
    waits += [await bench.time.pass_by(1) for _ in range(6)]
    assert await bench.token() == "Bearer token-1"
    for wait, longest in zip(waits, (2, 4, 8, 16, 30, 30, 30), strict=True):
        assert longest / 2 <= wait <= longest
    assert bench.events[-1][0] == "credentials_refresh_failed"
    assert bench.events[-1][1]["usable_seconds"] == pytest.approx(LIFE - 3006, abs=2)
    bench.server.error = None
    await bench.time.pass_by(30)
    assert await bench.token() == "Bearer token-9"
    assert bench.events[-1][0] == "credentials_refreshed"


async def test_an_expired_token_sent(bench: Bench) -> None:
    await bench.credentials.start()
    await bench.time.settled()
    bench.server.error = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    await bench.time.pass_by(LIFE - 5)
    assert await bench.token() == "Bearer token-1"
    bench.time.now += 5  # on the monotonic clock alone: the wall clock has not moved
    with pytest.raises(CredentialsUnavailable, match="RefreshError: invalid_grant: Invalid JWT Signature"):
        await bench.token()
    bench.server.error = None
    await bench.time.pass_by(1)
    assert await bench.token() == "Bearer token-3"


async def test_a_first_token_that_never_comes_holding_up_every_request(bench: Bench) -> None:
    bench.server.error = {"error": "invalid_grant"}
    await bench.credentials.start()
    with pytest.raises(CredentialsUnavailable):
        await bench.token()
    await bench.server.request()
    bench.server.open.clear()
    await bench.time.let_pass(2)
    await bench.server.request()  # while the next attempt hangs, requests fail over at once
    with pytest.raises(CredentialsUnavailable):
        await bench.token()


async def test_a_token_that_vertex_refuses_kept_until_its_end(bench: Bench) -> None:
    await bench.credentials.start()
    await bench.time.settled()
    bench.time.now += 10
    bench.time.asleep.clear()
    bench.credentials.rejected()
    await bench.time.settled()
    assert await bench.token() == "Bearer token-2"


async def test_a_storm_of_401_reaching_the_token_server(bench: Bench) -> None:
    await bench.credentials.start()
    await bench.time.settled()
    bench.time.now += 9.9
    for _ in range(100):
        bench.credentials.rejected()
    assert not bench.credentials._renew.is_set()
    await bench.server.request()
    bench.server.open.clear()
    bench.time.asleep.clear()
    bench.time.now += 0.1
    bench.credentials.rejected()
    await bench.server.request()
    bench.time.now += 10
    bench.credentials.rejected()  # of requests sent with the old token while the new one is on its way
    bench.server.open.set()
    await bench.time.settled()
    await asyncio.sleep(0)
    assert bench.server.requests == 2
    assert not bench.credentials._renew.is_set()


async def test_a_hanging_token_server_blocking_the_event_loop(bench: Bench) -> None:
    bench.server.open.clear()
    await bench.credentials.start()
    await bench.server.request()
    loop = asyncio.get_running_loop()
    pauses = []
    for _ in range(20):
        before = loop.time()
        await asyncio.sleep(0.001)
        pauses.append(loop.time() - before)
    assert max(pauses) < 0.5
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await bench.credentials.authorization(None)


async def test_a_caller_who_leaves_taking_the_shared_renewal_along(bench: Bench) -> None:
    bench.server.open.clear()
    await bench.credentials.start()
    waiting = [asyncio.create_task(bench.token()) for _ in range(3)]
    await bench.server.request()
    waiting[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    bench.server.open.set()
    assert [await task for task in waiting[1:]] == ["Bearer token-1"] * 2
    assert bench.server.requests == 1


async def test_a_hanging_token_server_keeping_the_process_from_ending(bench: Bench) -> None:
    bench.server.open.clear()
    await bench.credentials.start()
    waiting = asyncio.create_task(bench.token())
    await bench.server.request()
    threads = [thread for thread in threading.enumerate() if thread.name == "daemon call"]
    assert threads
    assert all(thread.daemon for thread in threads)
    async with asyncio.timeout(1):
        await bench.credentials.stop()
    with pytest.raises(CredentialsUnavailable):
        await waiting


async def test_an_attempt_without_an_end(bench: Bench) -> None:
    bench.credentials = bench.make(request_seconds=0.03)
    bench.server.open.clear()
    await bench.credentials.start()
    await bench.time.settled()
    assert bench.events[0][0] == "credentials_refresh_failed"
    assert "timed out" in bench.events[0][1]["error"]


async def test_a_replaced_key_file_that_needs_a_restart(bench: Bench) -> None:
    await bench.credentials.start()
    await bench.time.settled()
    await bench.time.pass_by(3000)
    assert bench.loads == 1
    bench.server.error = {"error": "invalid_grant"}
    await bench.time.pass_by(3000)
    bench.server.error = None
    await bench.time.pass_by(1)
    assert bench.loads == 2


async def test_application_default_credentials_not_found_where_google_documents_them(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    time, events = bench.time, bench.events
    bench.credentials = AdcCredentials(
        clock=time.clock, sleep=time.sleep, on_event=lambda name, **fields: events.append((name, fields))
    )
    await bench.credentials.start()
    with pytest.raises(CredentialsUnavailable, match="was not found"):
        await bench.token()
    path.write_text(json.dumps(bench.info))
    await bench.time.settled()
    await bench.time.pass_by(1)
    assert await bench.token() == "Bearer token-1"


async def test_a_secret_in_an_error_or_a_repr(bench: Bench) -> None:
    secret = "ya29." + "aB3_-" * 20
    bench.server.error = {"error": "odd", "error_description": f"for {secret} no"}
    await bench.credentials.start()
    with pytest.raises(CredentialsUnavailable) as caught:
        await bench.token()
    assert "odd: for … no" in str(caught.value)
    assert secret not in f"{caught.value!r} {bench.events} {bench.credentials!r}"
    static = StaticCredentials(SecretStr(secret))
    assert secret not in f"{static!r} {vars(static)}"


class Scripted:
    """Stands for the kinds of credentials that need a cloud: each refresh does the next step."""

    def __init__(self, *steps: Callable[[Scripted], None]) -> None:
        self.token: str | None = None
        self.expiry: datetime | None = None
        self.steps = list(steps)

    def refresh(self, request: object) -> None:
        self.steps.pop(0)(self)


def gets(token: str, seconds: float | None) -> Callable[[Scripted], None]:
    def step(credentials: Scripted) -> None:
        credentials.token = token
        now = datetime.now(UTC).replace(tzinfo=None)
        credentials.expiry = None if seconds is None else now + timedelta(seconds=seconds)

    return step


async def test_the_metadata_server_s_cached_token_used_to_its_last_seconds(bench: Bench) -> None:
    steps = [gets("a", 3600), gets("a", 590), gets("a", 560), gets("b", 3600)]
    bench.credentials = bench.make(loader=lambda: Scripted(*steps))
    await bench.credentials.start()
    waits = [await bench.time.settled()] + [await bench.time.pass_by(1) for _ in range(3)]
    assert waits == pytest.approx([3000, 30, 30, 3000], abs=2)
    assert await bench.token() == "Bearer b"


@pytest.mark.parametrize(
    ("step", "message"),
    [(gets("a", -1), "had expired when it came"), (gets("", 3600), "no token"), (lambda _: 1 / 0, "ZeroDivisionError")],
)
async def test_an_odd_answer_ending_the_renewals(bench: Bench, step: Callable[[Scripted], None], message: str) -> None:
    made = iter([Scripted(step), Scripted(gets("a", None))])
    bench.credentials = bench.make(loader=lambda: next(made))
    await bench.credentials.start()
    with pytest.raises(CredentialsUnavailable, match=message):
        await bench.token()
    await bench.time.settled()
    await bench.time.pass_by(1)
    assert await bench.token() == "Bearer a"


async def test_a_listener_s_bug_ending_the_renewals(bench: Bench) -> None:
    def broken(_name: str, **_fields: object) -> None:
        raise RuntimeError("a bug")

    bench.credentials = bench.make(on_event=broken)
    await bench.credentials.start()
    assert await bench.token() == "Bearer token-1"


async def test_a_request_waiting_for_ever_before_the_start_or_after_the_stop(bench: Bench) -> None:
    with pytest.raises(CredentialsUnavailable):
        await bench.token()
    await bench.credentials.start()
    await bench.credentials.stop()
    with pytest.raises(CredentialsUnavailable):
        await bench.token()
    await bench.credentials.stop()


async def test_somebody_else_s_credential_sent() -> None:
    static, passthrough = StaticCredentials(SecretStr("own")), PassthroughCredentials()
    for credentials in (static, passthrough):
        await credentials.start()
        credentials.rejected()
    assert await static.authorization("Bearer caller") == "Bearer own"
    assert await passthrough.authorization("Bearer caller") == "Bearer caller"
    assert await passthrough.authorization(None) is None
    assert (static.own, passthrough.own) == (True, False)
    await static.stop()
    await passthrough.stop()


def test_a_kind_of_credentials_that_the_settings_did_not_ask_for() -> None:
    assert isinstance(credentials_for(VertexSettings()), AdcCredentials)
    assert isinstance(
        credentials_for(VertexSettings.model_validate({"credentials": "passthrough"})), PassthroughCredentials
    )
    static = VertexSettings.model_validate({"credentials": "static", "token": "t"})
    assert isinstance(credentials_for(static), StaticCredentials)


def test_google_auth_imported_on_the_way_to_serving() -> None:
    code = "import sys, proxy.upstreams.credentials; sys.exit(bool({'google.auth', 'requests'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
