"""What is remembered of an outage: in memory, in a file, after a kill, and as the draft of a post-mortem."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from proxy import events
from proxy.history.journal import Journal
from proxy.simulator import Fault
from tests.operations.test_commands import _command, serving
from tests.rig import TARGET, circuit_is, fim, path, rig

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rig import Rig

SOON = {"BREAKER__CONSECUTIVE_FAILURES": "3", "BREAKER__OPEN_SECONDS": "1", "BREAKER__RAMP_SECONDS": "0"}


async def outage(proxy: Rig) -> None:
    """Vertex fails, is replaced, and comes back."""
    await proxy.ask()
    proxy.vertex.fault = Fault(status=503)
    for _ in range(6):
        await proxy.ask()
        await asyncio.sleep(0.1)
    proxy.vertex.fault = None
    await proxy.until(circuit_is(proxy, "vertex", "half_open"))
    for _ in range(10):
        await proxy.ask()
    assert circuit_is(proxy, "vertex", "closed")()


async def shown(proxy: Rig, what: str) -> Any:
    return json.loads((await proxy.admin(f"/{what}"))[1])


@pytest.mark.virtual_time
async def test_an_outage_leaves_no_incident_or_one_without_its_story() -> None:
    async with rig(**SOON) as proxy:
        assert await shown(proxy, "incidents") == {"incidents": []}
        await outage(proxy)
        (incident,) = (await shown(proxy, "incidents"))["incidents"]
        assert (incident["from"], incident["to"], incident["models"]) == ("vertex", "claude", ["codestral-2"])
        assert incident["trigger"]["reason"] == "circuit_open"
        assert incident["trigger"]["evidence"]["consecutive_failures"] == 3
        assert (incident["requests_repaired"], incident["requests_lost"]) == (3, 0)
        assert incident["requests_served_by_backup"] == proxy.metric("requests_total", upstream="claude", code="200")
        assert incident["tokens"]["output"] == proxy.metric("tokens_total", upstream="claude", kind="output") > 0
        # Virtual seconds take no time on the wall's clock, which incidents live on.
        assert incident["ended_by"] == "return"
        story = [(entry["event"], entry.get("reason")) for entry in (await shown(proxy, "journal"))["entries"]]
        assert story[1:] == [
            ("switch", "circuit_open"), ("circuit", "consecutive_failures"), ("circuit", "open_elapsed"),
            ("switch", "primary"), ("circuit", "trials_passed"),
        ] or story[1:] == [
            ("circuit", "consecutive_failures"), ("switch", "circuit_open"), ("circuit", "open_elapsed"),
            ("circuit", "trials_passed"), ("switch", "primary"),
        ]  # fmt: skip


@pytest.mark.virtual_time
async def test_every_probe_fills_the_journal() -> None:
    async with rig(PROBES__TARGETS=TARGET, PROBES__INTERVAL_SECONDS="1") as proxy:
        await proxy.until(lambda: len(proxy.seen(events.Probed)) >= 10)
        await proxy.vertex.refuse()
        await proxy.until(circuit_is(proxy, "vertex", "open"))
        probes = [entry for entry in proxy.app.journal.entries if entry["event"] == "probe"]
        assert [(entry["upstream"], entry["verdict"]) for entry in probes if entry["upstream"] == "vertex"] == [
            ("vertex", "up"), ("vertex", "down"),
        ]  # fmt: skip
        assert probes[-1]["result"] == "connect"


@pytest.mark.virtual_time
async def test_events_without_end_fill_the_memory() -> None:
    journal = Journal(None, lambda _: None)
    for number in range(5_000):
        journal(events.ConfigReloaded(float(number)))
    assert len(journal.entries) == 2_000
    assert not journal._unwritten


async def test_a_kill_takes_the_journal_along(tmp_path: Path) -> None:
    """A real process, killed in the middle of an outage; the next one knows of it."""
    file = tmp_path / "journal"
    async with serving(JOURNAL_FILE=str(file), **SOON) as served:
        served.vertex.fault = Fault(status=503)
        async with aiohttp.ClientSession() as session:
            for _ in range(4):
                async with session.post(served.ready["address"] + path(), json=fim()) as response:
                    assert response.status == 200
        await _written(file, b'"incident"')
        served.process.send_signal(signal.SIGKILL)
        await served.process.wait()
    with file.open("ab") as torn:
        torn.write(b'{"at":"2026-11-24T12:00:00.000Z","event":"swi')
    async with serving(JOURNAL_FILE=str(file)) as served, aiohttp.ClientSession() as session:
        async with session.get(served.ready["admin_address"] + "/incidents") as response:
            (incident,) = (await response.json())["incidents"]
        assert (incident["to"], incident["ended_by"]) == ("claude", "restart")
        async with session.get(served.ready["admin_address"] + "/journal") as response:
            story = [entry["event"] for entry in (await response.json())["entries"]]
        assert {"switch", "circuit", "started"} <= set(story)
        assert await served.end(signal.SIGTERM) == 0
    lines = file.read_bytes().split(b"\n")
    assert lines[-1] == b""
    broken = [line for line in lines[:-1] if not line.endswith(b"}")]
    assert broken == [b'{"at":"2026-11-24T12:00:00.000Z","event":"swi'], "what comes after it stands on its own line"


async def test_a_second_process_on_one_file_overwrites_it_or_is_never_heard(tmp_path: Path) -> None:
    """Two real processes, as at a restart whose old one still drains, or of two replicas with one disk."""
    file = tmp_path / "journal"
    async with serving(JOURNAL_FILE=str(file)) as old, aiohttp.ClientSession() as session:
        await _written(file, b'"started"')
        async with serving(JOURNAL_FILE=str(file)) as new:
            url = new.ready["admin_address"] + "/override"
            async with session.put(url, json={"mode": "claude", "reason": "x"}) as response:
                assert (await response.json())["outlives_restart"] is False
            assert file.read_bytes().count(b"\n") == 1
            old.process.send_signal(signal.SIGKILL)
            await old.process.wait()
            async with session.delete(url) as response:
                assert (await response.json())["outlives_restart"] is True
            assert await new.end(signal.SIGTERM) == 0
    failed = [line for line in new.logs if line["event"] == "journal_failed"]
    assert "another process writes to it" in failed[0]["problem"]
    assert "COMPLETION_PROXY_JOURNAL_FILE" in failed[0]["problem"]
    story = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert [(entry["event"], entry.get("change")) for entry in story] == [
        ("started", None), ("started", None), ("override", "set"), ("override", "cleared"),
    ]  # fmt: skip


async def _written(file: Path, words: bytes) -> None:
    async with asyncio.timeout(5):
        # What another process does has no event.
        while not file.exists() or words not in file.read_bytes():  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.02)


async def test_a_journal_that_was_edited_keeps_the_proxy_from_starting_or_breaks_who_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    at = "2026-11-24T12:00:00.000Z"
    said = {"mode": "claude", "source": "api", "reason": "x", "actor": None, "percent": 100}
    lines: list[Any] = [
        {"at": at, "event": "incident", "id": at},
        {"at": at, "event": "incident", "id": at, "models": 5, "trigger": None, "ended_at": "soon"},
        {"at": "noon", "event": "circuit"},
        {"at": at, "event": "circuit"},
        {"at": at, "event": "override", "change": "set", "override": {**said, "expires_at": "9000-01-01T00:00:00"}},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + "[" * 50_000 + "\n")
    async with rig(JOURNAL_FILE=str(file), **SOON) as proxy:
        assert (await proxy.status())["override"]["expires_at"] == "9000-01-01T00:00:00.000Z"
        assert (await proxy.ask()).served_by == ("claude", "override")
        assert (await shown(proxy, "incidents"))["incidents"][-1]["trigger"]["reason"] == "override"
        for options in ((), ("--markdown",)):
            process = await _command("incidents", "--url", proxy.app.admin_address, *options)
            printed, complained = await process.communicate()
            assert (process.returncode, complained) == (0, b"")
            assert b"codestral-2" in printed
        (failed,) = proxy.seen(events.JournalFailed)
        assert "4 lines are no entries" in failed.problem


async def test_a_disk_that_cannot_be_written_stops_the_proxy_or_loses_what_happened(tmp_path: Path) -> None:
    file = tmp_path / "later" / "journal"
    async with rig(JOURNAL_FILE=str(file), **SOON) as proxy:
        await proxy.until(lambda: len(proxy.seen(events.JournalFailed)) >= 1, seconds=3)
        assert proxy.metric("journal_write_failures_total") >= 1
        assert (await proxy.ask()).status == 200
        file.parent.mkdir()
        proxy.app.journal._something_to_write.set()
    assert [json.loads(line)["event"] for line in file.read_text().splitlines()] == ["started"]


def test_a_call_that_hangs_keeps_the_process_from_ending() -> None:
    """A real process: what hangs in a pool's thread would be waited for at its end."""
    script = (
        "import asyncio, time\n"
        "from proxy.daemon_threads import in_daemon_thread\n"
        "async def main():\n"
        "    try:\n"
        "        async with asyncio.timeout(0.1):\n"
        "            await in_daemon_thread(lambda: time.sleep(30))\n"
        "    except TimeoutError:\n"
        "        print('gave up')\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=10, check=True)
    assert (ended.stdout, ended.stderr) == ("gave up\n", "")


async def test_incidents_cannot_be_read_by_people(tmp_path: Path) -> None:
    async with rig(**SOON) as proxy:
        url = proxy.app.admin_address

        async def said(*options: str) -> tuple[int, str]:
            process = await _command("incidents", "--url", url, *options)
            printed, complained = await process.communicate()
            return process.returncode or 0, (printed + complained).decode()

        assert await said() == (0, "no incidents\n")
        await outage(proxy)
        (incident,) = (await shown(proxy, "incidents"))["incidents"]
        proxy.app.incidents.restore([{**incident, "at": "", "event": "incident", "id": "2020-01-01T00:00:00.000Z"}])
        proxy.app.incidents._entries.move_to_end(incident["id"])
        code, text = await said()
        assert code == 0
        assert [line.split()[0] for line in text.splitlines()] == [incident["id"], "2020-01-01T00:00:00.000Z"]
        assert "vertex to claude (circuit_open), codestral-2: 3 repaired, 0 lost" in text
        for options in (("--markdown",), ("--markdown", "--id", incident["id"])):
            code, draft = await said(*options)
            assert code == 0
            for line in (
                f"# Completions moved from vertex to claude on {incident['began_at'][:10]}",
                "Vertex failed for codestral-2. Claude answered in its place. No request was lost.",
                f"| from the first bad answer to the switch | {incident['seconds_to_detect']:g} s |",
                "| requests repaired within the request | 3 |",
                "- consecutive failures: 3",
                "## Timeline (UTC)",
                "switch of codestral-2: vertex to claude (circuit\\_open)",
                "circuit of vertex/codestral-2: closed to open",
                "## Actions",
            ):
                assert line.replace("\\_", "_") in draft.replace("\\_", "_"), line
        assert (await said("--markdown", "--id", "another"))[0] == 1
        assert datetime.fromisoformat(incident["began_at"]).tzinfo is not None
    assert (await said())[0] == 1
