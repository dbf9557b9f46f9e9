"""What happened, remembered: switches, transitions with their evidence, overrides and verdicts of probes.

A listener of the hub. The memory is bounded; with a file it outlives the process. The file is written in a thread, and
what cannot be written is kept, so that no disk is ever in the way of a request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from proxy.daemon_threads import in_daemon_thread
from proxy.events import JournalFailed, OverrideChange
from proxy.history.entries import entry_of, is_verdict
from proxy.history.journal_file import Found, JournalFile, lines_of
from proxy.override import LEAST_PERCENT, Override, OverrideMode, OverrideSource
from proxy.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from proxy.events import Event

KEPT = 2_000
"""Entries in memory, and as many are read from the file at the start."""
_UNWRITTEN_KEPT = 10_000
_RETRY_SECONDS = 5.0
_LAST_WRITE_SECONDS = 2.0
_READ_SECONDS = 5.0
_HANGING_SECONDS = 10.0


class Journal:
    """The journal of one process."""

    def __init__(self, path: Path | None, emit: Callable[[Event], None]) -> None:
        self._file = None if path is None else JournalFile(path)
        self._path = path
        self._emit = emit
        self._entries: deque[Mapping[str, Any]] = deque(maxlen=KEPT)
        self._unwritten: deque[Mapping[str, Any]] = deque(maxlen=_UNWRITTEN_KEPT)
        self._something_to_write = asyncio.Event()
        self._writing: asyncio.Task[bool] | None = None
        self._found = Found()

    def __call__(self, event: Event) -> None:
        """Remember an event that an operator would look for later."""
        if is_verdict(event) and (entry := entry_of(event)) is not None:
            self._entries.append(entry)
            self.append(entry)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write to the file alone; `at` and `event` must be in the entry."""
        if self._file is not None:
            self._unwritten.append(entry)
            self._something_to_write.set()

    @property
    def entries(self) -> list[Mapping[str, Any]]:
        """Everything remembered, the oldest first."""
        return list(self._entries)

    @property
    def earlier(self) -> list[dict[str, Any]]:
        """What the file held at the start, the oldest first."""
        return self._found.entries

    def last_override(self) -> Override | None:
        """The override of the API that the file's last word on it leaves; None where it was taken away.

        Nor is there one where that word cannot be read: an older one must never come back. The hub is told of it.
        """
        entry = self._found.last_override
        try:
            if not self._found.last_override_broken:
                return None if entry is None else _left_by(entry)
        except (KeyError, TypeError, ValueError, OverflowError):
            pass
        self._emit(JournalFailed(f"{self._path}: its last override cannot be read, and is not in force: set it anew"))
        return None

    async def start(self) -> None:
        """Read what the file holds. Never raises: a journal is no reason not to serve."""
        if self._file is None:
            return
        try:
            async with asyncio.timeout(_READ_SECONDS):
                self._found = await in_daemon_thread(partial(self._file.read, KEPT))
        except OSError as error:  # a TimeoutError, too
            self._emit(JournalFailed(f"{self._path} cannot be read: {error.strerror or type(error).__name__}"))
            return
        if broken := self._found.broken:
            self._emit(JournalFailed(f"{self._path}: {broken} lines are no entries and are passed over"))
        # What is remembered of this process already comes after it.
        now, self._entries = self._entries, deque(self.earlier, maxlen=KEPT)
        self._entries.extend(now)

    async def run(self) -> None:
        """Write to the file until cancelled."""
        while True:
            await self._something_to_write.wait()
            self._something_to_write.clear()
            if not await self._write_soon():
                await asyncio.sleep(_RETRY_SECONDS)
                self._something_to_write.set()

    async def _write_soon(self) -> bool:
        """Write; False where that has failed, or the disk has not answered for long."""
        try:
            async with asyncio.timeout(_HANGING_SECONDS):
                return await self._write()
        except TimeoutError:
            self._emit(JournalFailed(f"{self._path} cannot be written: the disk does not answer"))
            return False

    async def stop(self) -> None:
        """Write what is left, if that goes within a moment, and let the next process write."""
        await self.flush(_LAST_WRITE_SECONDS)
        if self._file is not None and (self._writing is None or self._writing.done()):
            self._file.let_go()

    async def flush(self, seconds: float) -> bool:
        """Write what is left; whether all of it is in the file after at most `seconds`. False where there is none."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # Once for what is being written, once for what came meanwhile.
                return self._file is not None and await self._write() and await self._write()
        return False

    async def _write(self) -> bool:
        """Write what there is, or wait for who does. A thread cannot be cancelled, and no line may be written twice."""
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all(), name="journal write")
        return await asyncio.shield(self._writing)

    async def _write_all(self) -> bool:
        if self._file is None or not self._unwritten:
            return True
        entries = list(self._unwritten)
        try:
            written = await in_daemon_thread(partial(self._file.append, lines_of(entries)))
        except OSError as error:
            written, problem = 0, error.strerror or type(error).__name__
        else:
            problem = "no space left"
        # By identity, since what came meanwhile may have pushed the first of them out.
        done = {id(entry) for entry in entries[:written]}
        while self._unwritten and id(self._unwritten[0]) in done:
            self._unwritten.popleft()
        if written < len(entries):
            self._emit(JournalFailed(f"{self._path} cannot be written: {problem}"))
        return written == len(entries)


def _left_by(entry: Mapping[str, Any]) -> Override | None:
    """The override of the API that a change left. Raises what a line brings about that somebody has edited."""
    if entry["override"]["source"] == OverrideSource.API:
        return _override(entry["override"])
    if entry["before"]["source"] == OverrideSource.API:
        # Under a stronger one that was set it is still there.
        return _override(entry["before"]) if entry["change"] == OverrideChange.SET else None
    raise ValueError("the API is named elsewhere")


def _override(said: Mapping[str, Any]) -> Override:
    percent = float(said["percent"])
    if not LEAST_PERCENT <= percent <= 100:
        raise ValueError("no share")
    ends = datetime.fromisoformat(said["expires_at"])
    return Override(
        mode=OverrideMode(said["mode"]),
        source=OverrideSource.API,
        reason=_text(said["reason"]),
        actor=_text(said["actor"]),
        # As in the override file: what names no zone is meant in UTC.
        expires_at=ends.replace(tzinfo=UTC) if ends.tzinfo is None else ends.astimezone(UTC),
        percent=percent,
    )


def _text(value: object) -> str | None:
    if not isinstance(value, str | None):
        raise TypeError("no text")
    return None if value is None else printable(value)
