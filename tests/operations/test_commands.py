"""The commands as an operator runs them: real processes, real signals, what they print and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme

from proxy.simulator import Fault, SimulatedClaude, SimulatedVertex
from tests.rig import CLAUDE_KEY, TARGET, VERTEX_TOKEN, environment, expected, fim, path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BASE = {name: value for name, value in os.environ.items() if not name.startswith(("COMPLETION_PROXY_", "ANTHROPIC_"))}


async def _command(*arguments: str, **environ: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", *arguments,
        env={**BASE, **environ}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


class Served:
    """A running `serve`."""

    def __init__(self, process: asyncio.subprocess.Process, ready: dict[str, Any], vertex: SimulatedVertex) -> None:
        self.process = process
        self.ready = ready
        self.vertex = vertex
        self.logs: list[dict[str, Any]] = []

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.logs.append(json.loads(line))
        return await self.process.wait()


@asynccontextmanager
async def serving(*options: str, **settings: str) -> AsyncIterator[Served]:
    async with SimulatedVertex() as vertex, SimulatedClaude() as claude:
        process = await _command("serve", *options, **environment(vertex.url, claude.url, **settings))
        assert process.stderr is not None
        try:
            line = await asyncio.wait_for(process.stderr.readline(), 20)
            ready = json.loads(line)
            assert ready["event"] == "ready", line
            yield Served(process, ready, vertex)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            # Read to the end, so that the pipes are closed before the loop is.
            await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_ends_with_requests_unanswered(number: signal.Signals) -> None:
    async with serving() as served, aiohttp.ClientSession() as session:
        served.vertex.latency = 0.5
        asking = asyncio.create_task(session.post(served.ready["address"] + path(), json=fim()))
        await served.vertex.received(1)
        ending = asyncio.create_task(served.end(number))
        async with await asking as response:
            assert response.status == 200
            assert (await response.json())["choices"][0]["message"]["content"] == expected("vertex")
        assert await ending == 0
        assert [line["event"] for line in served.logs] == ["draining", "request", "stopped"]


async def test_readyz_says_ready_while_draining() -> None:
    async with serving() as served, aiohttp.ClientSession() as session:
        served.vertex.latency = 1.0
        asking = asyncio.create_task(session.post(served.ready["address"] + path(), json=fim()))
        await served.vertex.received(1)
        ending = asyncio.create_task(served.end(signal.SIGTERM))
        codes = []
        while not asking.done():
            async with session.get(served.ready["admin_address"] + "/readyz") as response:
                codes.append(response.status)
        (await asking).close()
        assert 503 in codes
        assert await ending == 0


def _processor_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads a process's own accounting")
async def test_serve_is_slow_to_start() -> None:
    """Ready within a second, none of it waiting: measured as processor time, whatever else the machine does."""
    async with serving() as served:
        assert _processor_seconds(served.process.pid) < 1.0


def test_serve_imports_what_costs_seconds() -> None:
    script = (
        "import sys, proxy.commands.serve\n"
        "heavy = ['anthropic', 'google.auth', 'vertexai', 'grpc', 'requests', 'proxy.simulator', 'httpx']\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=BASE)
    assert printed.stdout.strip() == "[]"


async def test_settings_errors_come_one_at_a_time() -> None:
    process = await _command(
        "serve",
        COMPLETION_PROXY_PORT="eighty",
        COMPLETION_PROXY_TIMEOUTS__FIRST_BYTE="1",
        COMPLETION_PROXY_BREAKER__FAILURE_RATE_THRESHOLD="50",
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    text = errors.decode()
    for name in ("PORT", "TIMEOUTS__FIRST_BYTE", "BREAKER__FAILURE_RATE_THRESHOLD", "CLAUDE__API_KEY"):
        assert f"COMPLETION_PROXY_{name}" in text
    assert "TIMEOUTS__FIRST_BYTE_SECONDS" in text
    assert "Traceback" not in text


async def test_a_taken_port_ends_in_a_traceback() -> None:
    async with serving() as served, SimulatedVertex() as vertex:
        port = served.ready["address"].rpartition(":")[2]
        process = await _command("serve", **environment(vertex.url, vertex.url, PORT=port))
        _, errors = await process.communicate()
        assert process.returncode == 1
        (line,) = errors.decode().splitlines()
        assert json.loads(line)["event"] == "cannot_start"


async def test_a_secret_or_a_prompt_is_logged() -> None:
    settings = {"CLIENT_TOKENS": "token-of-a-caller", "PROBES__TARGETS": TARGET, "PROBES__INTERVAL_SECONDS": "1"}
    faults = [Fault(status=401), Fault(status=503), Fault(garbage_body=True), Fault(error_in_body=True), None]
    async with serving(**settings) as served:
        async with aiohttp.ClientSession(headers={"Authorization": "Bearer token-of-a-caller"}) as session:
            for fault in faults:
                served.vertex.fault = fault
                for body in (fim(), fim(stream=True), {"prompt": 5}):
                    async with session.post(served.ready["address"] + path(), json=body) as response:
                        await response.read()
        assert await served.end(signal.SIGTERM) == 0
        assert {"switch", "circuit", "attempt_failed"} <= {line["event"] for line in served.logs}
        everything = json.dumps(served.logs)
        for secret in (VERTEX_TOKEN, CLAUDE_KEY, "token-of-a-caller", "def add", "print(add", "vertex_", "claude_"):
            assert secret not in everything


@pytest.mark.parametrize(("fault", "code", "said"), [(None, 0, "ok"), (Fault(status=403), 1, "forbidden")])
async def test_check_does_not_find_what_a_failover_would(fault: Fault | None, code: int, said: str) -> None:
    async with SimulatedVertex() as vertex, SimulatedClaude() as claude:
        vertex.fault = fault
        process = await _command("check", **environment(vertex.url, claude.url, PROBES__TARGETS=TARGET))
        printed, errors = await process.communicate()
        assert process.returncode == code, errors
        (line_of_vertex, line_of_claude) = printed.decode().splitlines()
        assert said in line_of_vertex
        assert "claude-haiku-5-5" in line_of_claude
        assert line_of_claude.endswith("ok")
        process = await _command("check", "--offline", **environment(vertex.url, claude.url))
        printed, _ = await process.communicate()
        assert process.returncode == 0
        assert vertex.calls == 1


async def test_tls_to_vertex_is_not_verified(tmp_path: Path) -> None:
    authority = trustme.CA()
    (pem := tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with SimulatedVertex(ssl_context=context) as vertex, SimulatedClaude() as claude:
        environ = environment(vertex.url, claude.url, PROBES__TARGETS=TARGET)
        for trust, said in (({}, b"failed: tls (SSLCertVerificationError"), ({"SSL_CERT_FILE": str(pem)}, b" ok\n")):
            process = await _command("check", **environ, **trust)
            printed, _ = await process.communicate()
            assert said in printed.splitlines(keepends=True)[0]


async def test_status_says_nothing_of_the_running_proxy() -> None:
    async with serving(PROBES__TARGETS=TARGET) as served:
        url = served.ready["admin_address"]
        process = await _command("status", "--url", url)
        printed, _ = await process.communicate()
        assert process.returncode == 0
        assert "codestral-2: vertex (primary)" in printed.decode()
        process = await _command("status", "--json", COMPLETION_PROXY_ADMIN_PORT=url.rpartition(":")[2])
        printed, _ = await process.communicate()
        assert json.loads(printed)["active"][0]["upstream"] == "vertex"
    process = await _command("status", "--url", url)
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"no proxy answers" in errors


async def test_the_demo_loses_a_request_or_hides_that_it_did() -> None:
    process = await _command("demo", "--fast")
    printed, errors = await process.communicate()
    assert process.returncode == 0, errors
    text = printed.decode()
    assert "switch: vertex to claude" in text
    assert "switch: claude to vertex" in text
    (lost,) = [line for line in text.splitlines() if "lost" in line]
    assert lost.split("│")[2].strip() == "0"


async def test_simulate_does_not_say_how_it_is_used() -> None:
    process = await _command("simulate", "--vertex-port", "0", "--claude-port", "0")
    assert process.stdout is not None
    guide = b""
    while b"Ctrl-C" not in guide:
        guide += await asyncio.wait_for(process.stdout.readline(), 10)
    assert b"COMPLETION_PROXY_VERTEX__BASE_URL" in guide
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 0
