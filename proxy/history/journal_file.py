"""The journal's file: whole lines of JSON, appended, so that a kill at any moment leaves none that is half read.

Blocking; called in a thread. A line counts only with its line end, and what follows a torn one begins on a line of its
own. One process writes: it holds a lock on the file that stands beside it under its name and `.lock`. The file never
grows beyond a bound: the older half of what happened then stands beside it, too, under its name and `.1`. What the next
process cannot do without is carried along from half to half: the last word on the API's override, and each incident's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.history.entries import is_sound
from proxy.settings_types import variable

LARGEST_BYTES = 4 * 1024 * 1024
INCIDENTS_KEPT = 100
"""So many are read, and carried along, however much has happened since."""
_MODE = 0o640
_OVERRIDE = re.compile(rb'"event"\s*:\s*"override"')
_OF_THE_API = re.compile(rb'"source"\s*:\s*"api"')
_ID = re.compile(rb'"id"\s*:')
_CARRIED = b'{"carried":true,'
"""How a line begins that was carried along: at its beginning, so that one that was torn on the way is known, too."""


@dataclass(slots=True)
class Found:
    """What the file held."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    """The oldest first."""
    broken: int = 0
    """Lines that are no entries."""
    last_override: dict[str, Any] | None = None
    """The last entry that speaks of an override of the API's."""
    last_override_broken: bool = False
    """A line that did, or may have done, came after that, and cannot be read."""


class JournalFile:
    """One file. Its methods raise OSError."""

    def __init__(self, path: Path, *, largest_bytes: int = LARGEST_BYTES) -> None:
        self._path = path
        self._older = path.with_name(path.name + ".1")
        self._lock_path = path.with_name(path.name + ".lock")
        self._lock: int | None = None
        self._largest_bytes = largest_bytes

    def read(self, limit: int) -> Found:
        """The last `limit` entries, and beyond them what is carried along.

        Of the entries that share an `id` only the last counts: one incident that lasts must not push out all the rest.
        """
        reading = _Reading(limit)
        for line in _newest_first(_lines(self._path), _lines(self._older)):
            reading.take(line)
        return reading.found()

    def append(self, lines: Sequence[bytes]) -> int:
        """Write lines, each without its end; returns how many are written whole. Fewer than all: there was no room."""
        self._hold()
        self._turn_over(sum(map(len, lines)) + len(lines))
        return self._write(lines)

    def let_go(self) -> None:
        """Let another process write; the next `append` asks for the file again."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _hold(self) -> None:
        """Be the one who writes. Raises BlockingIOError where another process is."""
        if self._lock is not None:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._lock), self._lock_path.stat()):
                    return
            # Somebody has tidied up, and another process may have made itself a new one.
            self.let_go()
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            own = f"each process needs a {variable('journal_file')} of its own"
            raise BlockingIOError(errno.EWOULDBLOCK, f"another process writes to it; {own}") from None
        except BaseException:
            os.close(descriptor)
            raise
        self._lock = descriptor

    def _write(self, lines: Sequence[bytes]) -> int:
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            torn = _is_torn(descriptor)
            for number, line in enumerate(lines):
                whole = (b"\n" if torn else b"") + line + b"\n"
                torn = False
                # One call a line: a kill comes before it or after it.
                try:
                    written = os.write(descriptor, whole)
                except OSError:
                    if number:
                        return number
                    raise
                if written < len(whole):
                    # One that lacks its end alone is whole: the next line begins with it.
                    return number + (written == len(whole) - 1)
        finally:
            os.close(descriptor)
        return len(lines)

    def _turn_over(self, more: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            size = self._path.stat().st_size
            # Never for what is to come alone: tried again on a full disk, that would turn everything over.
            if size + more > self._largest_bytes and 2 * size > self._largest_bytes:
                # Into the newer half first, and then one rename: at no moment is any of it nowhere.
                carried = self._to_be_carried()
                if carried and self._write(carried) < len(carried):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.replace(self._path, self._older)

    def _to_be_carried(self) -> list[bytes]:
        """The lines of the older half that a restart needs and the newer one has not; at most a quarter of the file."""
        reading = _Reading(0)
        for line in _lines(self._path):
            reading.note(line)
        lasting = [line for line in _newest_first([], _lines(self._older)) if reading.take(line)]
        # Where there is no room for all of them, the override and the newest.
        lasting.sort(key=lambda line: _OVERRIDE.search(line) is None)
        room = self._largest_bytes // 4
        carried = [line if line.startswith(_CARRIED) else _CARRIED + line.lstrip()[1:] for line in lasting]
        return [line for line in carried if (room := room - len(line) - 1) >= 0][::-1]


class _Reading:
    """Which lines count, told them from the newest to the oldest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._newest_first: list[dict[str, Any]] = []
        self._seen: set[str] = set()
        self._overridden = False
        self._found = Found()

    def found(self) -> Found:
        self._found.entries = self._newest_first[::-1]
        return self._found

    def take(self, line: bytes) -> bool:
        """Whether this one counts."""
        of_override = not self._overridden and _OVERRIDE.search(line) is not None
        lasts = of_override or (len(self._seen) < INCIDENTS_KEPT and _ID.search(line) is not None)
        if not line or (len(self._newest_first) >= self._limit and not lasts):
            return False
        if (entry := _entry(line)) is None:
            self._found.broken += 1
            if of_override and not line.startswith(_CARRIED):
                self._overridden = self._found.last_override_broken = True
            return False
        same = str(entry.get("id", ""))
        if same in self._seen or (line.startswith(_CARRIED) and self._overridden and not same):
            return False
        if same:
            self._seen.add(same)
        elif of_override and _OF_THE_API.search(line) is not None:
            self._overridden, self._found.last_override = True, entry
        elif len(self._newest_first) >= self._limit:
            # It speaks of a file's override or the environment's; the next process finds those where they are.
            return False
        self._newest_first.append(entry)
        return True

    def note(self, line: bytes) -> None:
        """Take one for known, without its counting."""
        if _ID.search(line) is not None and (entry := _entry(line)) is not None:
            self._seen.add(str(entry.get("id", "")))
        elif _OVERRIDE.search(line) is not None:
            broken = _entry(line) is None
            # One that was torn while it was carried along is carried again.
            self._overridden |= not line.startswith(_CARRIED) if broken else _OF_THE_API.search(line) is not None


def _lines(path: Path) -> list[bytes]:
    """The lines of a file, the oldest first; none where there is no file."""
    try:
        if not path.is_file() and path.exists():
            # A pipe would keep the start waiting for somebody to write into it.
            raise OSError(errno.EINVAL, "it is no regular file")
        *lines, rest = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    # What follows the last line end is no line. If it was to be one on an override, those before are no longer so.
    return [*lines, rest] if _OVERRIDE.search(rest) is not None else lines


def _newest_first(newer: Sequence[bytes], older: Sequence[bytes]) -> list[bytes]:
    """Lines in the order in which they came about: those that were carried along are the oldest."""
    lines = [*older, *newer]
    came = [line for line in reversed(lines) if not line.startswith(_CARRIED)]
    return [*came, *(line for line in reversed(lines) if line.startswith(_CARRIED))]


def _is_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not is_sound(entry):
        return None
    entry.pop("carried", None)
    return entry


def lines_of(entries: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """Entries as lines without their ends."""
    return [json.dumps(entry, separators=(",", ":")).encode() for entry in entries]
