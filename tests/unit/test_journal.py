"""The journal between the hub and its file: what is written twice, late, or never."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from proxy import events
from proxy.history.journal import Journal


class Disk:
    """In the place of a file: it can be slow, and it can be full."""

    def __init__(self) -> None:
        self.lines: list[float] = []
        self.may_write = threading.Event()
        self.may_write.set()
        self.entered = threading.Event()
        self.error: OSError | None = None
        self.room = 1_000

    def append(self, lines: Sequence[bytes]) -> int:
        self.entered.set()
        assert self.may_write.wait(10)
        if self.error is not None:
            raise self.error
        written = [json.loads(line)["at"] for line in lines[: self.room]]
        self.lines += written
        return len(written)

    def read(self, _limit: int) -> tuple[list[dict[str, Any]], int]:
        raise PermissionError(13, "Permission denied")


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


async def test_a_disk_that_hangs_keeps_the_process_from_ending(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.history.journal._LAST_WRITE_SECONDS", 0.05)
    scene.disk.may_write.clear()
    scene.note(1)
    await scene.journal.stop()
    scene.disk.may_write.set()
    await scene.until(1)


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
