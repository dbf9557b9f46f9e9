"""Feature flags, a caller at a time: what a provider that is not well would do to completions."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from openfeature.provider import ProviderStatus

from proxy import events, flags
from proxy.simulator import Fault
from tests import flag_providers
from tests.operations.test_commands import _command
from tests.rig import CLAUDE_KEY, environment, fim, path, rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.rig import Rig


def provided(name: str) -> dict[str, str]:
    return {"OPENFEATURE_PROVIDER": f"tests.flag_providers:{name}"}


LIMIT_SECONDS = flags.LIMIT_SECONDS


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A busy machine may take longer for a provider that is well; the limit itself is for those that are not."""
    monkeypatch.setattr(flags, "LIMIT_SECONDS", 5.0)
    flag_providers.contexts.clear()
    flag_providers.let_go.clear()
    flag_providers.ended.clear()
    flag_providers.cancelled.clear()
    yield
    flag_providers.let_go.set()


async def ready(proxy: Rig, asked: flags.Flags) -> None:
    await proxy.until(
        lambda: asked._client is not None and asked._client.get_provider_status() is ProviderStatus.READY, seconds=5
    )


@asynccontextmanager
async def flagged(name: str, **settings: str) -> AsyncIterator[Rig]:
    """A rig whose provider is ready."""
    async with rig(**settings, **provided(name)) as proxy:
        asked = proxy.app._flags
        assert asked is not None
        await ready(proxy, asked)
        yield proxy


async def served(proxy: Rig, actor: str = "", model: str = "codestral-2") -> tuple[str | None, str | None]:
    headers = {"x-completion-proxy-actor": actor} if actor else {}
    return (await proxy.ask(fim(), url=path(model), headers=headers)).served_by


def failures(proxy: Rig) -> list[str]:
    return [failed.reason for failed in proxy.seen(events.FlagFailed)]


async def test_a_flag_moves_nobody_or_the_wrong_one() -> None:
    async with flagged("in_memory") as proxy:
        assert await served(proxy, "ann") == ("claude", "override")
        assert await served(proxy, "bob") == ("vertex", "primary")
        assert await served(proxy, "ann", "codestral-2501") == ("vertex", "primary")
        context = flag_providers.contexts[0]
        assert context.targeting_key == "ann"
        assert dict(context.attributes) == {"actor": "ann", "model": "codestral-2"}
        assert failures(proxy) == []
        assert not proxy.seen(events.Switch), "one caller's flag is no switch of the model"


async def test_who_names_no_actor_is_told_by_the_token_or_as_another_each_time() -> None:
    async with flagged("in_memory", CLIENT_TOKENS="of-the-caller") as proxy:
        for _ in range(2):
            assert await served(proxy) == ("vertex", "primary")
        keys = {context.targeting_key for context in flag_providers.contexts}
        assert len(keys) == 1
        assert "of-the-caller" not in str([dict(context.attributes) for context in flag_providers.contexts]) + str(keys)


async def test_a_flag_beats_an_override() -> None:
    async with flagged("to_claude", OVERRIDE="vertex") as proxy:
        assert await served(proxy) == ("vertex", "override")
    async with flagged("to_claude") as proxy:
        url = proxy.app.admin_address + "/override"
        async with proxy.session.put(url, json={"mode": "vertex", "reason": "x", "percent": 50}) as response:
            assert response.status == 200
        answers = {await served(proxy, f"user-{number}") for number in range(20)}
        assert answers == {("vertex", "override"), ("claude", "override")}


async def test_a_flag_to_a_dead_upstream_loses_the_request_or_makes_each_wait() -> None:
    async with flagged("to_claude", BREAKER__CONSECUTIVE_FAILURES="2") as proxy:
        proxy.claude.fault = Fault(status=503)
        assert await served(proxy) == ("vertex", "server_error")
        assert await served(proxy) == ("vertex", "server_error")
        assert await served(proxy) == ("vertex", "circuit_open"), "its circuit spares the next ones the try"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("invalid", "invalid"), ("without_the_flag", "error"), ("Failing", "error"), ("SlowOnTheLoop", "timeout"),
     ("Hanging", "timeout")],
)  # fmt: skip
async def test_a_provider_that_is_not_well_moves_or_holds_a_request(
    name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason == "timeout":
        monkeypatch.setattr(flags, "LIMIT_SECONDS", LIMIT_SECONDS)
    async with flagged(name) as proxy:
        answer = await proxy.ask()
        assert answer.served_by == ("vertex", "primary")
        assert answer.seconds < 0.5
        assert failures(proxy) == [reason]
        assert proxy.metric("override_flag_failures_total", reason=reason) == 1


async def test_a_provider_without_async_methods_is_not_asked_or_blocks_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with flagged("Synchronous") as proxy:
        assert {await served(proxy) for _ in range(20)} == {("claude", "override")}
    monkeypatch.setattr(flags, "LIMIT_SECONDS", LIMIT_SECONDS)
    async with flagged("Hanging") as proxy:
        loop = asyncio.get_running_loop()
        for _ in range(8):
            await served(proxy)
        assert failures(proxy)[:4] == ["timeout"] * 4
        assert failures(proxy)[-4:] == ["busy"] * 4, "when every thread hangs nobody waits any more"
        started = loop.time()
        await served(proxy)
        assert loop.time() - started < 0.5
        flag_providers.let_go.set()
        await proxy.until(lambda: not proxy.app._flags._threads._since, seconds=5)  # type: ignore[union-attr]
        await served(proxy)
        assert failures(proxy).count("busy") == 5, "and when they come back they are asked again"


async def test_a_caller_that_leaves_while_a_flag_is_asked_is_served_to_the_end() -> None:
    async with flagged("SlowOnTheLoop") as proxy:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(proxy.ask(), 0.3)
        await proxy.until(lambda: proxy.metric("requests_in_flight") == 0, seconds=0.5)
        assert not proxy.vertex.calls
        assert failures(proxy) == []
        await proxy.until(flag_providers.cancelled.is_set, seconds=1)


async def test_a_provider_that_is_never_ready_keeps_the_proxy_from_starting() -> None:
    async with rig(**provided("NeverReady")) as proxy:
        assert await served(proxy) == ("vertex", "primary")
        assert failures(proxy) == ["error"]


async def test_a_provider_that_is_not_made_holds_the_start_or_is_never_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flags, "MAKING_SECONDS", 0.1)
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with rig(**provided("stuck")) as proxy:
        assert loop.time() - started < 5
        assert await served(proxy) == ("vertex", "primary")
        assert failures(proxy) == [], "nobody is asked"
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert "COMPLETION_PROXY_OPENFEATURE_PROVIDER: tests.flag_providers:stuck has not returned" in record.message
        flag_providers.let_go.set()
        await proxy.until(lambda: len(caplog.records) == 2, seconds=5)
        assert "flags are asked from now on" in caplog.records[1].message
        asked = proxy.app._flags
        assert asked is not None
        await ready(proxy, asked)
        assert await served(proxy) == ("claude", "override")


async def test_a_provider_that_cannot_be_made_after_all_passes_in_silence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flags, "MAKING_SECONDS", 0.1)
    async with rig(**provided("stuck_and_broken")) as proxy:
        flag_providers.let_go.set()
        await proxy.until(lambda: len(caplog.records) == 2, seconds=5)
        assert "failed: RuntimeError: no configuration; no flag is asked" in caplog.records[1].message
        assert await served(proxy) == ("vertex", "primary")


async def test_a_provider_that_comes_after_the_end_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flags, "MAKING_SECONDS", 0.1)
    async with rig(**provided("stuck")) as proxy:
        asked = proxy.app._flags
    flag_providers.let_go.set()
    for thread in threading.enumerate():
        if thread.name == "daemon call":
            await asyncio.to_thread(thread.join, 5)
    await asyncio.sleep(0)
    assert asked is not None
    assert asked._client is None
    assert len(caplog.records) == 1


async def test_a_provider_is_not_let_go() -> None:
    async with flagged("Synchronous"):
        pass
    assert await asyncio.to_thread(flag_providers.ended.wait, 5)


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ("tests.no_such_module:make", "cannot be imported"),
        ("tests.flag_providers:no_such_name", "cannot be imported"),
        ("tests.flag_providers:broken", "failed: RuntimeError: no configuration"),
        ("tests.flag_providers:nothing", "gives no OpenFeature provider"),
    ],
)
async def test_a_provider_that_cannot_be_had_ends_in_a_traceback(provider: str, words: str) -> None:
    environ = environment("http://127.0.0.1:1", "http://127.0.0.1:1", OPENFEATURE_PROVIDER=provider)
    process = await _command("serve", **environ)
    _, errors = await process.communicate()
    assert process.returncode == 1
    (line,) = errors.decode().splitlines()
    problem = json.loads(line)["problem"]
    assert "COMPLETION_PROXY_OPENFEATURE_PROVIDER" in problem
    assert words in problem
    assert CLAUDE_KEY not in line


def test_serve_imports_the_sdk_without_being_asked_to() -> None:
    script = "import sys, proxy.commands.serve; print('openfeature' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "False"
