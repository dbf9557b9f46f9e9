"""The journal between the hub and its file: what is written twice, late, or never."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxy import events
from proxy.history.journal import Journal
from proxy.history.journal_file import Found


class Disk:
    """In the place of a file: it can be slow, and it can be full."""

    def __init__(self) -> None:
        self.lines: list[float] = []
        self.may_write = threading.Event()
        self.may_write.set()
        self.entered = threading.Event()
        self.error: OSError | None = None
        self.room = 1_000
        self.let_go_of = 0

    def append(self, lines: Sequence[bytes]) -> int:
        self.entered.set()
        assert self.may_write.wait(10)
        if self.error is not None:
            raise self.error
        written = [json.loads(line)["at"] for line in lines[: self.room]]
        self.lines += written
        return len(written)

    def read(self, _limit: int) -> Found:
        raise PermissionError(13, "Permission denied")

    def let_go(self) -> None:
        self.let_go_of += 1


class Scene:
    """A journal on such a disk."""

    def __init__(self, path: Path) -> None:
        self.told: list[events.Event] = []
        self.journal = Journal(path, self.told.append)
        self.disk = Disk()
        self.journal._file = self.disk  # type: ignore[assignment]

    def note(self, number: int) -> None:
        self.journal.append({"at": number, "event": "x"})

    async def until(self, *lines: int) -> None:
        async with asyncio.timeout(5):
            while self.disk.lines != list(lines):  # noqa: ASYNC110 (what another thread does has no event)
                await asyncio.sleep(0)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "journal")


async def test_a_line_is_written_twice_when_the_end_comes_during_a_write(scene: Scene) -> None:
    scene.disk.may_write.clear()
    scene.note(1)
    task = asyncio.create_task(scene.journal.run())
    await asyncio.to_thread(scene.disk.entered.wait, 5)
    scene.note(2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    asyncio.get_running_loop().call_later(0.05, scene.disk.may_write.set)
    await scene.journal.stop()
    assert scene.disk.lines == [1, 2]
    assert scene.disk.let_go_of == 1


async def test_a_disk_that_hangs_keeps_the_process_from_ending(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.history.journal._LAST_WRITE_SECONDS", 0.05)
    scene.disk.may_write.clear()
    scene.note(1)
    await scene.journal.stop()
    assert not scene.disk.let_go_of, "while it may yet write, nobody else may"
    scene.disk.may_write.set()
    await scene.until(1)


async def test_a_disk_that_hangs_is_told_of_nowhere(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.history.journal._HANGING_SECONDS", 0.05)
    monkeypatch.setattr("proxy.history.journal._RETRY_SECONDS", 0.01)
    scene.disk.may_write.clear()
    scene.note(1)
    task = asyncio.create_task(scene.journal.run())
    async with asyncio.timeout(5):
        while len(scene.told) < 2:  # noqa: ASYNC110 (the hub of this scene has no event)
            await asyncio.sleep(0.01)
    assert "the disk does not answer" in str(scene.told)
    scene.disk.may_write.set()
    await scene.until(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await scene.journal.stop()


async def test_what_was_pushed_out_during_a_write_is_written_twice(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.journal._unwritten = deque(maxlen=3)
    scene.disk.may_write.clear()
    for number in (1, 2, 3):
        scene.note(number)
    task = asyncio.create_task(scene.journal.run())
    await asyncio.to_thread(scene.disk.entered.wait, 5)
    scene.note(4)
    scene.disk.may_write.set()
    await scene.until(1, 2, 3, 4)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await scene.journal.stop()
    assert scene.disk.lines == [1, 2, 3, 4]


@pytest.mark.virtual_time
async def test_what_cannot_be_written_is_lost_or_written_out_of_turn(scene: Scene) -> None:
    scene.disk.error = OSError(28, "No space left on device")
    task = asyncio.create_task(scene.journal.run())
    for number in (1, 2):
        scene.note(number)
        await asyncio.sleep(1)
    (failed,) = scene.told
    assert isinstance(failed, events.JournalFailed)
    assert "No space left on device" in failed.problem
    scene.disk.error, scene.disk.room = None, 1
    await asyncio.sleep(11)
    assert scene.disk.lines == [1, 2]
    assert len(scene.told) == 2, "the second time there was room for one alone"
    scene.note(3)
    await asyncio.sleep(0.1)
    assert scene.disk.lines == [1, 2, 3]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_journal_that_cannot_be_read_keeps_the_proxy_from_starting(scene: Scene) -> None:
    await scene.journal.start()
    (failed,) = scene.told
    assert isinstance(failed, events.JournalFailed)
    assert "cannot be read: Permission denied" in failed.problem


def _said(**fields: Any) -> dict[str, Any]:
    return {
        "mode": "claude", "source": "api", "reason": "INC-1", "actor": "ann", "expires_at": "2026-11-24T18:00:00.000Z",
        "percent": 40, **fields,
    }  # fmt: skip


NONE = _said(mode="auto", source="none", expires_at=None)


async def restarted(path: Path, *changes: dict[str, Any]) -> tuple[Any, list[str]]:
    """The override that the next process finds, and what it has to complain of."""
    lines = [{"at": "2026-11-24T12:00:00.000Z", "event": "override", "change": "set", **change} for change in changes]
    await asyncio.to_thread(path.write_text, "".join(json.dumps(line) + "\n" for line in lines))
    told: list[events.Event] = []
    journal = Journal(path, told.append)
    await journal.start()
    found = journal.last_override()
    return found, [event.problem for event in told if isinstance(event, events.JournalFailed)]


SET = {"override": _said(), "before": NONE}


@pytest.mark.parametrize("ends", ["2026-11-24T18:00:00", "2026-11-24T18:00:00+00:00", "2026-11-24T19:00:00+01:00"])
async def test_an_end_without_a_zone_keeps_the_proxy_from_starting(tmp_path: Path, ends: str) -> None:
    override, problems = await restarted(tmp_path / "journal", {"override": _said(expires_at=ends), "before": NONE})
    assert override.expires_at == datetime(2026, 11, 24, 18, tzinfo=UTC)
    assert override.in_force(datetime(2026, 11, 24, 17, tzinfo=UTC))
    assert (override.mode, override.reason, override.actor, override.percent) == ("claude", "INC-1", "ann", 40)
    assert problems == []


@pytest.mark.parametrize(
    "last",
    [
        {"override": _said(expires_at="soon"), "before": NONE},
        {"override": _said(expires_at=None), "before": NONE},
        {"override": _said(expires_at="9999-12-31T23:59:59-10:00"), "before": NONE},
        {"override": _said(mode="gemini"), "before": NONE},
        {"override": _said(percent="many"), "before": NONE},
        {"override": _said(percent=float("nan")), "before": NONE},
        {"override": _said(percent=0), "before": NONE},
        {"override": _said(percent=400), "before": NONE},
        {"override": _said(reason=["x"]), "before": NONE},
        {"override": _said(actor=5), "before": NONE},
        {"override": {"source": "api"}, "before": NONE},
        {"override": NONE, "before": {"of": _said()}},
        {"override": None, "before": _said()},
    ],
)
async def test_an_older_override_comes_back_for_one_that_cannot_be_read(tmp_path: Path, last: dict[str, Any]) -> None:
    override, problems = await restarted(tmp_path / "journal", SET, last)
    assert override is None
    (problem,) = problems
    assert "its last override cannot be read" in problem
    assert str(tmp_path / "journal") in problem


async def test_a_line_on_an_override_that_is_none_passes_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    await restarted(path, SET)
    torn = await asyncio.to_thread(path.read_text) + '{"at":"2026-11-24T12:00:00.000Z","event":"override","chan'
    await asyncio.to_thread(path.write_text, torn)
    told: list[Any] = []
    journal = Journal(path, told.append)
    await journal.start()
    assert journal.last_override() is None
    assert "its last override cannot be read" in told[-1].problem


async def test_an_override_that_was_cleared_under_a_stronger_one_comes_back(tmp_path: Path) -> None:
    file = _said(mode="vertex", source="file", expires_at=None)
    override, problems = await restarted(tmp_path / "journal", SET, {"override": file, "before": _said()})
    assert (override.mode, problems) == ("claude", [])
    cleared = {"override": file, "before": _said(), "change": "cleared"}
    assert await restarted(tmp_path / "journal", SET, {"override": file, "before": _said()}, cleared) == (None, [])


async def test_orders_to_a_terminal_are_restored(tmp_path: Path) -> None:
    said = _said(reason="a\x1b[2J\u202eb")
    override, _ = await restarted(tmp_path / "journal", {"override": said, "before": NONE})
    assert override.reason == "a\\x1b[2J\\u202eb"


async def test_a_second_process_writes_into_the_file_of_the_first_or_never(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    told: list[events.Event] = []
    one, other = Journal(path, told.append), Journal(path, told.append)
    one.append({"at": "2026-11-24T12:00:00.000Z", "event": "one"})
    assert await one.flush(5)
    other.append({"at": "2026-11-24T12:00:01.000Z", "event": "other"})
    assert not await other.flush(5), "a restart does not know of it"
    (failed,) = told
    assert isinstance(failed, events.JournalFailed)
    assert "another process writes to it" in failed.problem
    assert "COMPLETION_PROXY_JOURNAL_FILE" in failed.problem
    await one.stop()
    assert await other.flush(5)
    assert [json.loads(line)["event"] for line in path.read_bytes().splitlines()] == ["one", "other"]
    await other.stop()
