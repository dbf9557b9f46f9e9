"""Settings read anew while the proxy serves: what is lost by it, what stays as it was, what half a file would do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme

from proxy import events
from proxy.reload import ReloadRefused
from proxy.settings import Settings, load_settings
from proxy.simulator import Fault
from tests.operations.test_commands import Served, serving
from tests.rig import CLAUDE_KEY, TARGET, VERTEX_TOKEN, circuit_is, environment, expected, fim, path, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.rig import Rig

SOON = {"BREAKER__CONSECUTIVE_FAILURES": "2", "BREAKER__OPEN_SECONDS": "60"}


def settings(proxy: Rig, **changed: str) -> Settings:
    return load_settings(environ=environment(proxy.vertex.url, proxy.claude.url, **changed))


@pytest.mark.virtual_time
async def test_a_circuit_that_is_open_forgets_the_outage() -> None:
    async with rig(**SOON) as proxy:
        proxy.vertex.fault = Fault(status=503)
        for _ in range(2):
            await proxy.ask()
        before = proxy.app.switchboard.circuit("vertex", "codestral-2")
        until = before.open_until
        await proxy.app.reload(settings(proxy, **{**SOON, "BREAKER__CONSECUTIVE_FAILURES": "3"}))
        assert proxy.app.switchboard.circuit("vertex", "codestral-2") is before
        assert before.open_until == until
        assert (await proxy.ask()).served_by == ("claude", "circuit_open")
        assert proxy.vertex.calls == 2
        assert len(proxy.seen(events.Switch)) == 1


@pytest.mark.virtual_time
async def test_new_settings_are_read_and_do_nothing() -> None:
    async with rig() as proxy:
        assert proxy.metric("breaker_slow_call_seconds") == 1.5
        await proxy.ask()
        new = {
            "BREAKER__SLOW_CALL_SECONDS": "0.7", "BREAKER__CONSECUTIVE_FAILURES": "1", "CLIENT_TOKENS": "new-token",
            "TIMEOUTS__FIRST_BYTE_SECONDS": "0.5", "STREAM_MODE": "atomic", "MAX_BODY_BYTES": "3000",
            "CLAUDE__MODEL": "claude-sonnet-5",
        }  # fmt: skip
        await proxy.app.reload(settings(proxy, **new))
        assert proxy.metric("breaker_slow_call_seconds") == 0.7
        assert (await proxy.ask()).status == 401
        known = {"Authorization": "Bearer new-token"}
        assert (await proxy.ask(headers=known)).served_by == ("vertex", "primary")
        proxy.vertex.latency = 1.0
        answer = await proxy.ask(headers=known)
        assert answer.served_by == ("claude", "first_byte_timeout")
        assert answer.seconds == pytest.approx(0.5, abs=0.1)
        assert circuit_is(proxy, "vertex", "open")()
        assert json.loads(proxy.claude.requests[-1].body)["model"] == "claude-sonnet-5"
        assert proxy.metric("breaker_state", upstream="claude", model="claude-sonnet-5", state="closed") == 1
        # Too large to be held: it goes to Vertex alone, whatever its circuit says.
        assert (await proxy.ask(fim(suffix="x" * 5_000), headers=known)).served_by[0] == "vertex"
        assert proxy.metric("config_last_reload_successful") == 1


@pytest.mark.virtual_time
async def test_a_refused_reload_changes_something() -> None:
    async with rig() as proxy:
        with pytest.raises(ReloadRefused):
            await proxy.app.reload(settings(proxy, ADMIN_PORT="1", CLIENT_TOKENS="a", BREAKER__SLOW_CALL_SECONDS="0.1"))
        assert (await proxy.ask()).served_by == ("vertex", "primary")
        assert proxy.metric("breaker_slow_call_seconds") == 1.5
        assert len(proxy.app._engines) == 1


@pytest.mark.virtual_time
@pytest.mark.parametrize("first", [{"TIMEOUTS__CONNECT_SECONDS": "0.9"}, {"BREAKER__OPEN_SECONDS": "7"}])
async def test_a_stream_breaks_off_at_a_reload(first: dict[str, str]) -> None:
    """Twice, while one stream and one whole answer are under way; the first need not bring other connections."""
    async with rig() as proxy:
        proxy.vertex.fault = Fault(delay_between_chunks=0.3)
        stream = asyncio.create_task(proxy.ask(fim(stream=True)))
        await proxy.vertex.received(1)
        proxy.vertex.fault = Fault(delay_before_headers=1.0)
        whole = asyncio.create_task(proxy.ask())
        await proxy.vertex.received(2)
        proxy.vertex.fault = None
        for changed in (first, {"TIMEOUTS__CONNECT_SECONDS": "0.8"}):
            await proxy.app.reload(settings(proxy, **changed))
        assert len(proxy.app._engines) == 3
        assert (await proxy.ask()).text == expected("vertex")
        answers = await asyncio.gather(stream, whole)
        assert [answer.text for answer in answers] == [expected("vertex")] * 2
        assert [answer.broken for answer in answers] == [False] * 2
        await proxy.until(lambda: len(proxy.app._engines) == 1)
        assert proxy.metric("requests_in_flight") == 0


@pytest.mark.virtual_time
async def test_an_end_in_the_middle_of_a_reload_hangs_or_leaks() -> None:
    async with rig(PROBES__TARGETS=TARGET, PROBES__INTERVAL_SECONDS="5") as proxy:
        proxy.vertex.fault = Fault(delay_before_headers=20)
        asking = asyncio.create_task(proxy.ask())
        await proxy.vertex.received(1)
        for connect in ("0.9", "0.8"):
            await proxy.app.reload(settings(proxy, TIMEOUTS__CONNECT_SECONDS=connect))
        assert len(proxy.app._engines) == 3
        await asyncio.wait_for(proxy.app.stop(), 5)
        await asyncio.gather(asking, return_exceptions=True)
        assert all(transport._session.closed for engine in proxy.app._engines for transport in _transports(engine))


def _transports(engine: Any) -> Any:
    return engine._providers._transports


@pytest.mark.virtual_time
async def test_connections_or_tasks_pile_up_with_each_reload() -> None:
    async with rig(PROBES__TARGETS=TARGET, PROBES__INTERVAL_SECONDS="5") as proxy:
        await proxy.until(lambda: len(proxy.seen(events.Probed)) >= 2)
        await proxy.ask()
        before = len(asyncio.all_tasks()), len(os.listdir("/dev/fd"))
        for number in range(20):
            changed = {"TIMEOUTS__CONNECT_SECONDS": f"0.{number + 10}"} if number % 2 else {}
            await proxy.app.reload(settings(proxy, PROBES__TARGETS=TARGET, PROBES__INTERVAL_SECONDS="5", **changed))
            await proxy.ask()
        await proxy.until(lambda: len(proxy.app._engines) == 1)
        await asyncio.sleep(6)
        assert len(asyncio.all_tasks()) <= before[0] + 2
        assert len(os.listdir("/dev/fd")) <= before[1] + 4


@pytest.mark.virtual_time
async def test_connections_that_could_stay_are_made_anew() -> None:
    async with rig() as proxy:
        await proxy.ask()
        upstreams = proxy.app.engine.upstreams
        await proxy.app.reload(settings(proxy, BREAKER__OPEN_SECONDS="7"))
        assert proxy.app.engine.upstreams is upstreams
        credentials = proxy.app.engine._credentials
        await proxy.app.reload(settings(proxy, CLAUDE__MAX_CONCURRENCY="3"))
        assert proxy.app.engine.upstreams is not upstreams
        assert proxy.app.engine._credentials is credentials, "a token that is still good is not thrown away"
        await proxy.until(lambda: len(proxy.app._engines) == 1)
        assert (await proxy.ask()).served_by == ("vertex", "primary")
        proxy.vertex.accepted_tokens = {"another"}
        await proxy.app.reload(settings(proxy, VERTEX__TOKEN="another"))
        assert (await proxy.ask()).served_by == ("vertex", "primary")


@pytest.mark.virtual_time
async def test_whom_vertex_let_pass_is_a_stranger_after_a_reload() -> None:
    passed = {
        "VERTEX__CREDENTIALS": "passthrough", "VERTEX__TOKEN": "", "HOST": "0.0.0.0", "ALLOW_ANONYMOUS": "true",
    }  # fmt: skip
    async with rig(**passed) as proxy:
        proxy.app.address = proxy.app.address.replace("0.0.0.0", "127.0.0.1")
        proxy.vertex.accepted_tokens = {"known"}
        headers = {"Authorization": "Bearer known"}
        assert (await proxy.ask(headers=headers)).status == 200
        await proxy.app.reload(settings(proxy, **passed, DRAIN_SECONDS="3"))
        await proxy.vertex.refuse()
        assert (await proxy.ask(headers=headers)).served_by[0] == "claude"


@pytest.mark.virtual_time
async def test_what_is_probed_no_more_is_shown_for_ever_or_probed_on() -> None:
    async with rig(PROBES__TARGETS=TARGET, PROBES__INTERVAL_SECONDS="5") as proxy:
        await proxy.until(lambda: len(proxy.seen(events.Probed)) >= 2)
        await proxy.app.reload(settings(proxy, PROBES__INTERVAL_SECONDS="6"))
        await proxy.until(lambda: proxy.claude.calls >= 2)
        asked = proxy.vertex.calls
        await asyncio.sleep(30)
        assert proxy.vertex.calls == asked
        assert [probe["upstream"] for probe in (await proxy.status())["probes"]] == ["claude"]
        labels = {"upstream": "vertex", "model": "codestral-2"}
        assert proxy.app.metrics.registry.get_sample_value("completion_proxy_probe_success", labels) is None
        assert proxy.metric("probes_total", result="ok", **labels) == asked


@pytest.mark.virtual_time
async def test_a_request_is_lost_to_reloads() -> None:
    async with rig() as proxy:
        answers: list[Any] = []

        async def ask(number: int) -> None:
            answers.append(await proxy.ask(fim(stream=number % 2 == 0)))

        tasks = []
        for number in range(200):
            tasks.append(asyncio.create_task(ask(number)))
            if number % 10 == 5:
                await proxy.app.reload(settings(proxy, TIMEOUTS__CONNECT_SECONDS=f"0.{number + 100}"))
            await asyncio.sleep(0.02)
        await asyncio.gather(*tasks)
        assert {(answer.status, answer.broken, answer.text) for answer in answers} == {(200, False, expected("vertex"))}


async def _told(served: Served, name: str) -> dict[str, Any]:
    """The next line of this name."""
    assert served.process.stderr is not None
    while True:
        line = json.loads(await asyncio.wait_for(served.process.stderr.readline(), 10))
        if line["event"] == name:
            return dict(line)


async def _status_of(served: Served, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    url = served.ready["address"] + path()
    async with aiohttp.ClientSession() as session, session.post(url, json=fim(), headers=headers) as response:
        return response.status


async def test_a_broken_file_is_half_in_force_or_ends_the_process(tmp_path: Path) -> None:
    """A real process, its file and its signal."""
    file = tmp_path / "proxy.toml"
    file.write_text('client_tokens = "one"\n')
    async with serving("--config", str(file)) as served:
        assert await _status_of(served, "one") == 200
        broken = (
            (
                'client_tokens = "two"\n[breaker]\nopen_seconds = -1\nfailure_rate = 0.5\n',
                ("OPEN_SECONDS", "FAILURE_RATE"),
            ),
            ('client_tokens = "two', ("not valid TOML",)),
            ('client_tokens = "two"\noverride = "claude"\n', ("COMPLETION_PROXY_OVERRIDE",)),
        )
        for text, named in broken:
            file.write_text(text)
            served.process.send_signal(signal.SIGHUP)
            problems = (await _told(served, "config_rejected"))["problems"]
            assert all(any(name in problem for problem in problems) for name in named)
            assert "two" not in json.dumps(problems).replace("two of", "")
            assert await _status_of(served, "one") == 200
            assert await _status_of(served, "two") == 401
        file.write_text('client_tokens = "two"\n')
        served.process.send_signal(signal.SIGHUP)
        await _told(served, "config_reloaded")
        assert await _status_of(served, "two") == 200
        assert await _status_of(served, "one") == 401
        assert await served.end(signal.SIGTERM) == 0


async def test_a_token_cannot_be_rotated_without_a_restart(tmp_path: Path) -> None:
    for name, value in (("admin_token", "old"), ("client_tokens", "old-client"), ("vertex__token", VERTEX_TOKEN),
                        ("claude__api_key", CLAUDE_KEY)):  # fmt: skip
        (tmp_path / name).write_text(value + "\n")
    unset = {"VERTEX__TOKEN": "", "CLAUDE__API_KEY": ""}
    async with serving(SECRETS_DIR=str(tmp_path), **unset) as served:
        served.vertex.accepted_tokens = {"new-vertex"}
        (tmp_path / "vertex__token").write_text("new-vertex")
        (tmp_path / "admin_token").write_text("new")
        (tmp_path / "client_tokens").write_text("new-client")
        served.process.send_signal(signal.SIGHUP)
        await _told(served, "config_reloaded")
        assert await _status_of(served, "old-client") == 401
        assert await _status_of(served, "new-client") == 200
        assert served.vertex.calls == 1, "served by Vertex, with the new token"
        async with aiohttp.ClientSession() as session:
            for token, code in (("old", 401), ("new", 204)):
                headers = {"Authorization": f"Bearer {token}"}
                async with session.post(served.ready["admin_address"] + "/login", headers=headers) as response:
                    assert response.status == code


async def test_a_certificate_cannot_be_renewed_or_a_wrong_one_takes_the_old_one_away(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    files = {"TLS_CERTIFICATE": str(tmp_path / "certificate.pem"), "TLS_KEY": str(tmp_path / "key.pem")}

    def issue() -> bytes:
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(files["TLS_KEY"])
        issued.cert_chain_pems[0].write_to_path(files["TLS_CERTIFICATE"])
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    def shown(address: str) -> Callable[[], bytes]:
        host, _, port = address.removeprefix("https://").rpartition(":")
        return lambda: ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port))))

    first = issue()
    async with serving(**files) as served:
        look = shown(served.ready["address"])
        assert await asyncio.to_thread(look) == first
        second = issue()
        served.process.send_signal(signal.SIGHUP)
        await _told(served, "config_reloaded")
        assert await asyncio.to_thread(look) == second
        authority.issue_cert("127.0.0.1").cert_chain_pems[0].write_to_path(files["TLS_CERTIFICATE"])
        served.process.send_signal(signal.SIGHUP)
        await _told(served, "config_rejected")
        assert await asyncio.to_thread(look) == second
