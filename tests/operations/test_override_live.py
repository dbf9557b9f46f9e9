"""The operator's word in an incident: pinned by the environment, or changed in a file while running."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from proxy import events
from proxy.simulator import Fault
from tests.rig import TARGET, circuit_is, expected, fim, rig

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rig import Rig


@pytest.mark.virtual_time
@pytest.mark.parametrize("stream", [False, True])
async def test_an_override_by_the_environment_is_ignored(stream: bool) -> None:
    async with rig(OVERRIDE="claude") as proxy:
        answer = await proxy.ask(fim(stream=stream))
        assert (answer.text, answer.served_by) == (expected("claude"), ("claude", "override"))
        assert not proxy.vertex.calls
        assert proxy.metric("override_mode", mode="claude") == 1
        assert proxy.metric("override_mode", mode="auto") == 0
        status = await proxy.status()
        assert (status["override"]["mode"], status["override"]["source"]) == ("claude", "environment")


@pytest.mark.virtual_time
async def test_an_override_to_vertex_gives_way_to_an_open_circuit() -> None:
    async with rig(OVERRIDE="vertex") as proxy:
        proxy.vertex.fault = Fault(status=503)
        for _ in range(10):
            # Pinned does not mean lost: the other one stays the safety net of each request.
            assert (await proxy.ask()).served_by == ("claude", "server_error")
        assert circuit_is(proxy, "vertex", "open")()
        assert proxy.vertex.calls == 10
        proxy.vertex.fault = None
        assert (await proxy.ask()).served_by == ("vertex", "override")
        assert proxy.metric("active_upstream", model="codestral-2", upstream="vertex") == 1


@pytest.mark.virtual_time
async def test_a_request_is_lost_because_the_pinned_upstream_is_dead() -> None:
    async with rig(OVERRIDE="claude") as proxy:
        await proxy.claude.refuse()
        assert (await proxy.ask()).served_by == ("vertex", "connect")


@pytest.mark.virtual_time
async def test_windows_stop_under_an_override() -> None:
    async with rig(OVERRIDE="vertex") as proxy:
        for _ in range(3):
            await proxy.ask()
        (vertex,) = [entry for entry in (await proxy.status())["circuits"] if entry["upstream"] == "vertex"]
        assert vertex["calls"] == 3


async def _said(proxy: Rig, kind: type[events.Event], count: int) -> float:
    """Real seconds until `count` events of a kind were seen; the file is watched by a thread."""
    return await proxy.until(lambda: len(proxy.seen(kind)) >= count, seconds=3)


async def test_an_override_by_file_needs_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "override"
    async with rig(OVERRIDE_FILE=str(file), PROBES__TARGETS=TARGET) as proxy:
        assert (await proxy.ask()).served_by == ("vertex", "primary")
        file.write_text("claude\n")
        assert await _said(proxy, events.OverrideChanged, 1) < 1
        assert (await proxy.ask()).served_by == ("claude", "override")
        (switch,) = proxy.seen(events.Switch)
        assert (switch.from_upstream, switch.to_upstream, switch.reason) == ("vertex", "claude", "override")
        file.unlink()
        assert await _said(proxy, events.OverrideChanged, 2) < 1
        assert (await proxy.ask()).served_by == ("vertex", "primary")
        assert len(proxy.seen(events.Switch)) == 2


async def test_an_override_that_was_there_before_the_start_comes_late(tmp_path: Path) -> None:
    file = tmp_path / "override"
    file.write_text('mode = "claude"\nreason = "INC-1"\nactor = "ann"\n')
    async with rig(OVERRIDE_FILE=str(file)) as proxy:
        assert (await proxy.ask()).served_by == ("claude", "override")
        override = (await proxy.status())["override"]
        assert (override["source"], override["reason"], override["actor"]) == ("file", "INC-1", "ann")


async def test_a_file_that_cannot_be_parsed_takes_the_override_away_or_passes_in_silence(tmp_path: Path) -> None:
    file = tmp_path / "override"
    file.write_text("claude")
    async with rig(OVERRIDE_FILE=str(file)) as proxy:
        file.write_text("cluade")
        await _said(proxy, events.OverrideRejected, 1)
        assert (await proxy.ask()).served_by == ("claude", "override")
        (rejected,) = proxy.seen(events.OverrideRejected)
        assert "claude, is kept" in rejected.problem
        file.write_text("auto")
        await _said(proxy, events.OverrideChanged, 2)
        assert (await proxy.ask()).served_by == ("vertex", "primary")


async def test_a_file_that_is_replaced_by_a_link_is_not_seen(tmp_path: Path) -> None:
    """As Kubernetes changes a ConfigMap: a link to a folder is swapped, and the file's own name never changes."""
    for name, mode in (("one", "auto"), ("two", "claude")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "override").write_text(mode)
    link = tmp_path / "data"
    link.symlink_to(tmp_path / "one")
    async with rig(OVERRIDE_FILE=str(link / "override")) as proxy:
        assert (await proxy.ask()).served_by == ("vertex", "primary")
        swapped = tmp_path / "new"
        swapped.symlink_to(tmp_path / "two")
        os.replace(swapped, link)
        assert await _said(proxy, events.OverrideChanged, 1) < 1
        assert (await proxy.ask()).served_by == ("claude", "override")


async def test_the_environment_gives_way_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "override"
    file.write_text("claude")
    async with rig(OVERRIDE_FILE=str(file), OVERRIDE="vertex") as proxy:
        assert (await proxy.ask()).served_by == ("vertex", "override")


async def test_an_override_outlives_its_end(tmp_path: Path) -> None:
    file = tmp_path / "override"
    until = datetime.now(UTC) + timedelta(seconds=1)
    file.write_text(f'mode = "claude"\nreason = "x"\nexpires_at = {until.isoformat()}\n')
    async with rig(OVERRIDE_FILE=str(file)) as proxy:
        assert (await proxy.ask()).served_by == ("claude", "override")
        assert proxy.metric("override_expires_timestamp_seconds") == pytest.approx(until.timestamp())
        await proxy.until(lambda: proxy.metric("override_mode", mode="auto") == 1, seconds=3)
        assert (await proxy.ask()).served_by == ("vertex", "primary")


@pytest.mark.virtual_time
async def test_a_share_moves_other_callers_each_time(tmp_path: Path) -> None:
    file = tmp_path / "override"
    file.write_text('mode = "claude"\npercent = 30\n')
    async with rig(OVERRIDE_FILE=str(file)) as proxy:
        rounds = []
        for _ in range(2):
            answers = await asyncio.gather(
                *(proxy.ask(headers={"x-completion-proxy-actor": f"user-{number}"}) for number in range(100))
            )
            rounds.append([answer.served_by[0] for answer in answers])
        assert rounds[0] == rounds[1]
        assert 15 < rounds[0].count("claude") < 45


async def test_an_override_that_had_ended_before_it_was_written_passes_in_silence(tmp_path: Path) -> None:
    file = tmp_path / "override"
    file.write_text('mode = "claude"\nexpires_at = 2020-01-01T00:00:00Z\n')
    async with rig(OVERRIDE_FILE=str(file)) as proxy:
        assert (await proxy.ask()).served_by == ("vertex", "primary")
        (rejected,) = proxy.seen(events.OverrideRejected)
        assert "expired at 2020-01-01" in rejected.problem
