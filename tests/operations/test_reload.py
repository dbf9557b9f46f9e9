"""Settings read anew while the proxy serves: what is lost by it, what stays as it was, what half a file would do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme

from proxy import events
from proxy.reload import ReloadRefused
from proxy.settings import Settings, SettingsError, load_settings
from proxy.simulator import Fault, SimulatedClaude
from tests.operations import test_commands
from tests.operations.test_commands import BASE, Served, serving
from tests.rig import CLAUDE_KEY, TARGET, circuit_is, environment, expected, fim, path, rig

if TYPE_CHECKING:
    from tests.rig import Rig

SOON = {"BREAKER__CONSECUTIVE_FAILURES": "2", "BREAKER__OPEN_SECONDS": "60"}
AUTHORITY = trustme.CA()


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
async def test_another_backup_model_inherits_the_circuit_of_the_one_before() -> None:
    async with rig() as proxy:
        await proxy.ask()
        for upstream, model in (("claude", "claude-haiku-5-5"), ("vertex", "codestral-2")):
            proxy.app.switchboard.circuit(upstream, model).trip(asyncio.get_running_loop().time())
        await proxy.app.reload(settings(proxy, CLAUDE__MODEL="claude-sonnet-5"))
        assert [switch.to_upstream for switch in proxy.seen(events.Switch)] == ["claude"]
        assert [active["available"] for active in (await proxy.status())["active"]] == [1]


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
        pools = [transport._session for engine in proxy.app._engines for transport in engine._providers._transports]
        assert all(pool.closed for pool in pools)


@pytest.mark.virtual_time
async def test_a_reload_while_draining_keeps_the_process_or_cuts_off() -> None:
    async with rig() as proxy:
        proxy.vertex.fault = Fault(delay_before_headers=2)
        asking = asyncio.create_task(proxy.ask())
        await proxy.vertex.received(1)
        draining = asyncio.create_task(proxy.app.drain())
        await asyncio.sleep(0.1)
        await proxy.app.reload(settings(proxy, TIMEOUTS__CONNECT_SECONDS="0.9"))
        assert proxy.app.engine.listener.draining
        assert not draining.done()
        assert (await asking).text == expected("vertex")
        await asyncio.wait_for(draining, 1)


@pytest.mark.virtual_time
async def test_of_two_reloads_at_once_the_first_goes_on_probing() -> None:
    probed = {"PROBES__TARGETS": TARGET}
    async with rig(**probed, PROBES__INTERVAL_SECONDS="5") as proxy:
        changes = [settings(proxy, **probed, PROBES__INTERVAL_SECONDS=seconds) for seconds in ("6", "7")]
        await asyncio.gather(*map(proxy.app.reload, changes))
        probes = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("probe of")]
        assert sorted(probes) == ["probe of claude/claude-haiku-5-5", "probe of vertex/codestral-2"]


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
async def test_what_probes_have_found_out_is_lost_where_nothing_of_theirs_changed() -> None:
    probed = {"PROBES__TARGETS": TARGET, "PROBES__INTERVAL_SECONDS": "5"}
    async with rig(**probed) as proxy:
        await proxy.vertex.refuse()
        await proxy.until(circuit_is(proxy, "vertex", "open"))
        before, calls = await proxy.status(), proxy.claude.calls
        await proxy.app.reload(settings(proxy, **probed, CLIENT_TOKENS="a"))
        assert (await proxy.status())["probes"] == before["probes"]
        assert proxy.metric("probe_success", upstream="vertex", model="codestral-2") == 0
        await proxy.until(lambda: proxy.claude.calls > calls)
        assert len(proxy.seen(events.ProbeStarted)) == 2


@pytest.mark.virtual_time
async def test_a_key_put_right_waits_for_the_end_of_an_opening() -> None:
    probed = {"PROBES__TARGETS": TARGET, "PROBES__INTERVAL_SECONDS": "5", "BREAKER__OPEN_SECONDS": "60"}
    async with rig(**probed, CLAUDE__API_KEY="revoked") as proxy:
        backup = {"upstream": "claude", "model": "claude-haiku-5-5"}
        await proxy.until(circuit_is(proxy, **backup, state="open"))
        await proxy.app.reload(settings(proxy, **probed, CLAUDE__API_KEY=CLAUDE_KEY))
        assert await proxy.until(circuit_is(proxy, **backup, state="half_open")) < 7, "two probes that are well"


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


async def _reloaded(served: Served) -> str:
    """What Prometheus is told of the last reload."""
    async with aiohttp.ClientSession() as session, session.get(served.ready["admin_address"] + "/metrics") as response:
        return (await response.text()).partition("\ncompletion_proxy_config_last_reload_successful ")[2].split()[0]


async def test_a_broken_file_is_half_in_force_or_ends_the_process(tmp_path: Path) -> None:
    """A real process, its file and its signal."""
    file = tmp_path / "proxy.toml"
    file.write_text('client_tokens = "one"\n')
    async with serving("--config", str(file)) as served:
        assert await _status_of(served, "one") == 200
        for text, named in (
            ('client_tokens = "two', ["not valid TOML"]),
            ('client_tokens = "two"\noverride = "claude"\n', ["COMPLETION_PROXY_OVERRIDE"]),
            ('client_tokens = "two"\n[breaker]\nopen_seconds = -1\nrate = 0.5\n', ["BREAKER__OPEN_SECONDS", "__RATE"]),
        ):
            file.write_text(text)
            served.process.send_signal(signal.SIGHUP)
            problems = (await _told(served, "config_rejected"))["problems"]
            assert len(problems) == len(named)
            assert all(any(name in problem for problem in problems) for name in named)
            assert "two" not in json.dumps(problems).replace("two of", "")
            assert await _status_of(served, "one") == 200
            assert await _status_of(served, "two") == 401
            assert await _reloaded(served) == "0.0"
        file.write_text('client_tokens = "two"\n')
        served.process.send_signal(signal.SIGHUP)
        await _told(served, "config_reloaded")
        assert await _status_of(served, "two") == 200
        assert await _status_of(served, "one") == 401
        assert await _reloaded(served) == "1.0"
        assert await served.end(signal.SIGTERM) == 0


async def test_a_token_cannot_be_rotated_without_a_restart(tmp_path: Path) -> None:
    def write(age: str) -> None:
        for name in ("vertex__token", "claude__api_key", "client_tokens", "admin_token"):
            (tmp_path / name).write_text(f"{age}-{name}\n")

    write("old")
    unset = {"VERTEX__TOKEN": "", "CLAUDE__API_KEY": "", "SECRETS_DIR": str(tmp_path)}
    async with SimulatedClaude() as claude, serving(CLAUDE__BASE_URL=claude.url, **unset) as served:
        served.vertex.accepted_tokens, claude.accepted_keys = {"new-vertex__token"}, {"new-claude__api_key"}
        write("new")
        served.process.send_signal(signal.SIGHUP)
        await _told(served, "config_reloaded")
        assert await _status_of(served, "old-client_tokens") == 401
        assert await _status_of(served, "new-client_tokens") == 200
        assert (served.vertex.calls, claude.calls) == (1, 0), "served by Vertex, with the new token"
        await served.vertex.refuse()
        assert await _status_of(served, "new-client_tokens") == 200
        assert claude.calls == 1, "served by Claude, with the new key"
        async with aiohttp.ClientSession() as session:
            for token, code in (("old-admin_token", 401), ("new-admin_token", 204)):
                headers = {"Authorization": f"Bearer {token}"}
                async with session.post(served.ready["admin_address"] + "/login", headers=headers) as response:
                    assert response.status == code


SIGNALLED = """
import asyncio, os, pathlib, signal
from proxy.app import App
start, reload = App.start, App.reload
def write(token):
    pathlib.Path(os.environ["TEST_FILE"]).write_text(f'client_tokens = "{token}"')
    os.kill(os.getpid(), signal.SIGHUP)
async def signalled_start(app):
    write("two")
    await start(app)
async def signalled_reload(app, settings):
    if settings.client_tokens[0].get_secret_value() == "two":
        write("three")
        await asyncio.sleep(0.05)
    await reload(app, settings)
App.start, App.reload = signalled_start, signalled_reload
"""


async def test_a_signal_before_ready_or_during_a_reload_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SIGNALLED)
    (file := tmp_path / "proxy.toml").write_text('client_tokens = "one"')
    modules = f"{tmp_path}{os.pathsep}{Path(test_commands.__file__).parents[2]}"
    monkeypatch.setattr(test_commands, "BASE", {**BASE, "PYTHONPATH": modules, "TEST_FILE": str(file)})
    async with serving("--config", str(file)) as served:
        for _ in range(2):
            await _told(served, "config_reloaded")
        assert [await _status_of(served, token) for token in ("one", "two", "three")] == [401, 401, 200]
        assert await served.end(signal.SIGTERM) == 0
        assert "config_reloaded" not in [line["event"] for line in served.logs]


def _issue(folder: Path) -> dict[str, str]:
    issued = AUTHORITY.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "certificate.pem"))
    return {"TLS_CERTIFICATE": str(folder / "certificate.pem"), "TLS_KEY": str(folder / "key.pem")}


async def _connect(proxy: Rig) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    """A new connection, after the certificate that it was shown."""
    AUTHORITY.configure_trust(context := ssl.create_default_context())
    host, _, port = proxy.app.address.removeprefix("https://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    return writer.get_extra_info("ssl_object").getpeercert(binary_form=True), reader, writer


async def test_a_certificate_cannot_be_renewed_or_a_wrong_one_takes_the_old_one_away(tmp_path: Path) -> None:
    files = _issue(tmp_path)
    async with rig(**files) as proxy:
        first, reader, writer = await _connect(proxy)
        _issue(tmp_path)
        await proxy.app.reload(settings(proxy, **files))
        second, _, later = await _connect(proxy)
        assert second != first
        writer.write(b"GET / HTTP/1.1\r\nHost: proxy\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 404 Not Found\r\n", "the connection of before lives on"
        AUTHORITY.issue_cert("127.0.0.1").cert_chain_pems[0].write_to_path(files["TLS_CERTIFICATE"])
        with pytest.raises(ReloadRefused, match=r"_TLS_CERTIFICATE and COMPLETION_PROXY_TLS_KEY: .*MISMATCH"):
            await proxy.app.reload(settings(proxy, **files))
        os.remove(files["TLS_KEY"])
        with pytest.raises(SettingsError, match="COMPLETION_PROXY_TLS_KEY"):
            settings(proxy, **files)
        third, _, last = await _connect(proxy)
        assert third == second
        for connection in (writer, later, last):
            connection.close()


async def test_a_handshake_fails_while_the_certificate_is_renewed(tmp_path: Path) -> None:
    files = _issue(tmp_path)
    async with rig(**files) as proxy:

        async def connect(until: asyncio.Event) -> None:
            while not until.is_set():
                (await _connect(proxy))[2].close()

        renewed = asyncio.Event()
        connecting = [asyncio.create_task(connect(renewed)) for _ in range(4)]
        for _ in range(30):
            _issue(tmp_path)
            await proxy.app.reload(settings(proxy, **files))
        renewed.set()
        await asyncio.gather(*connecting)
