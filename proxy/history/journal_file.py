"""The journal's file: whole lines of JSON, appended, so that a kill at any moment leaves none that is half read.

Blocking; called in a thread. A line counts only with its line end, and what follows a torn one begins on a line of its
own. The file never grows beyond a bound: the older half of what happened then stands beside it, under its name and
`.1`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

LARGEST_BYTES = 4 * 1024 * 1024
_MODE = 0o640
_OVERRIDE = b'"event":"override"'


class JournalFile:
    """One file. Its methods raise OSError."""

    def __init__(self, path: Path, *, largest_bytes: int = LARGEST_BYTES) -> None:
        self._path = path
        self._older = path.with_name(path.name + ".1")
        self._largest_bytes = largest_bytes

    def read(self, limit: int) -> tuple[list[dict[str, Any]], int]:
        """The last `limit` entries, the oldest first, and how many lines were none.

        Of the entries that share an `id` only the last counts: one incident that lasts must not push out all the rest.
        """
        newest_first: list[dict[str, Any]] = []
        seen: set[str] = set()
        broken, overridden = 0, False
        for path in (self._path, self._older):
            with contextlib.suppress(FileNotFoundError):
                if not path.is_file() and path.exists():
                    # A pipe would keep the start waiting for somebody to write into it.
                    raise OSError(errno.EINVAL, "it is no regular file")
                for line in reversed(path.read_bytes().split(b"\n")[:-1]):  # what follows the last line end is no line
                    if len(newest_first) >= limit and (overridden or _OVERRIDE not in line):
                        # The last override counts however long ago it was set: it may still be in force.
                        continue
                    if (entry := _entry(line)) is None:
                        broken += bool(line)
                    elif (same := str(entry.get("id", ""))) not in seen:
                        newest_first.append(entry)
                        overridden |= _OVERRIDE in line
                        if same:
                            seen.add(same)
        return newest_first[::-1], broken

    def append(self, lines: Sequence[bytes]) -> int:
        """Write lines, each without its end; returns how many are written whole. Fewer than all: there was no room."""
        self._turn_over(sum(map(len, lines)) + len(lines))
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
                os.replace(self._path, self._older)


def _is_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    ours = isinstance(entry, dict) and isinstance(entry.get("at"), str) and isinstance(entry.get("event"), str)
    return entry if ours else None


def lines_of(entries: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """Entries as lines without their ends."""
    return [json.dumps(entry, separators=(",", ":")).encode() for entry in entries]
