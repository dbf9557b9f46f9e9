"""The override that stands in a file: what the file may say, and how it is watched.

`OverrideFile` alone does I/O, in a thread, and it never raises: a broken file on the worst day must leave the last good
word in force and say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

from proxy.daemon_threads import in_daemon_thread
from proxy.override import LEAST_PERCENT, Override, OverrideMode, OverrideSource
from proxy.printable import unprintable

_MAX_FILE_BYTES = 65_536
_KEYS = ("mode", "reason", "actor", "expires_at", "percent")


class OverrideFileError(ValueError):
    """The content of an override file cannot be understood; the message says what to change."""


def parse_override_file(text: str) -> Override:
    """Understand an override file: one bare word, or TOML with a `mode`.

    Raises OverrideFileError that names what to change.
    """
    content = text.strip()
    if not content:
        raise OverrideFileError("the file is empty: write auto, vertex or claude, or delete the file")
    if (mode := _mode(content)) is not None:
        return Override(mode, OverrideSource.FILE)
    if len(content.split()) == 1 and "=" not in content:
        raise OverrideFileError(f"{content[:40]!r} is no mode: write auto, vertex or claude")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OverrideFileError(f"neither one word (auto, vertex, claude) nor TOML: {error}") from None
    return _override_of(table)


def _override_of(table: Mapping[str, object]) -> Override:
    if unknown := [key for key in table if key not in _KEYS]:
        raise OverrideFileError(f"unknown key {unknown[0]!r}: the keys are {', '.join(_KEYS)}")
    mode = _mode(table.get("mode"))
    if mode is None:
        raise OverrideFileError('mode must be "auto", "vertex" or "claude"')
    percent = table.get("percent", 100)
    if not isinstance(percent, int | float) or isinstance(percent, bool) or not 0 <= percent <= 100:
        raise OverrideFileError("percent must be a number from 0 to 100")
    if 0 < percent < LEAST_PERCENT:
        raise OverrideFileError(f"percent must be 0 or at least {LEAST_PERCENT:g}: a smaller share holds nobody")
    return Override(
        mode=mode,
        source=OverrideSource.FILE,
        reason=_text(table, "reason"),
        actor=_text(table, "actor"),
        expires_at=_moment(table["expires_at"]) if "expires_at" in table else None,
        percent=percent,
    )


def _mode(value: object) -> OverrideMode | None:
    try:
        return OverrideMode(value.strip().lower()) if isinstance(value, str) else None
    except ValueError:
        return None


def _text(table: Mapping[str, object], key: str) -> str | None:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise OverrideFileError(f"{key} must be a string")
    text = (value or "").strip()
    if (sign := unprintable(text)) is not None:
        raise OverrideFileError(f"{key} must be one line of text that shows; {sign} does not")
    return text or None


def _moment(value: object) -> datetime:
    moment = _iso(value.strip()) if isinstance(value, str) else value
    if not isinstance(moment, datetime):
        # A date alone is refused: whether its first or its last second is meant, nobody can tell.
        raise OverrideFileError("expires_at must be a date with a time, such as 2026-11-24T18:00:00Z")
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise OverrideFileError("expires_at is out of range") from None


def _iso(text: str) -> object:
    for parse in (date.fromisoformat, datetime.fromisoformat):
        with contextlib.suppress(ValueError):
            return parse(text)
    return None


@dataclass(frozen=True, slots=True)
class _Content:
    text: str


@dataclass(frozen=True, slots=True)
class _Missing:
    pass


@dataclass(frozen=True, slots=True)
class _Unreadable:
    why: str


_Sight = _Content | _Missing | _Unreadable


def _look(path: Path) -> _Sight:
    """What stands at `path` now. Blocking.

    It reads the content every time instead of trusting a stat: "vertex" and "claude" are equally long and the time
    of a change has the grain of a kernel tick, so two edits in quick succession can leave one and the same signature.
    """
    try:
        # Without O_NONBLOCK a FIFO put here by mistake would hold the thread for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return _Unreadable("it is not a regular file")
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(_MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return _Missing()
    except OSError as error:
        return _Unreadable(error.strerror or type(error).__name__)
    if len(data) > _MAX_FILE_BYTES:
        return _Unreadable(f"it is larger than {_MAX_FILE_BYTES} bytes")
    try:
        return _Content(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return _Unreadable("it is not UTF-8 text")


class OverrideFile:
    """Watches one file and reports what it says.

    `on_change` gets the override, or None when the file is gone. `on_error` gets one message for each content that
    cannot be used; the last good override stays in force then. `on_read` is called first for each that can be, and when
    the file is gone. None is called again for what has not changed.
    A change applies after at most two `interval`s, in seconds.
    """

    def __init__(
        self,
        path: Path,
        on_change: Callable[[Override | None], None],
        on_error: Callable[[str], None],
        *,
        on_read: Callable[[], None] = lambda: None,
        interval: float = 0.25,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._path = path
        self._on_change = on_change
        self._on_error = on_error
        self._on_read = on_read
        self._interval = interval
        self._sleep = sleep
        self._settled: _Sight | None = None
        self._override: Override | None = None

    async def load_now(self) -> None:
        """Look at the file and act on what it says; returns when that is settled.

        What is missing or broken must be seen twice, one interval apart, before it counts, since an editor truncates
        before it writes and a rename may leave a gap. The very first look counts at once.
        """
        sight = await self._sight()
        while self._settled is not None and sight != self._settled and _is_doubtful(sight):
            await self._sleep(self._interval)
            again = await self._sight()
            if again == sight:
                break
            sight = again
        self._settle(sight)

    async def _sight(self) -> _Sight:
        return await in_daemon_thread(partial(_look, self._path))

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self.load_now()
            except Exception as error:  # noqa: BLE001 - the root of a task: a listener's bug must not end the watch
                self._complain(f"{type(error).__name__} while applying it: {error}")
            await self._sleep(self._interval)

    def _settle(self, sight: _Sight) -> None:
        if sight == self._settled:
            return
        self._settled = sight
        match sight:
            case _Missing():
                self._take(None)
            case _Unreadable(why):
                self._complain(f"it cannot be read: {why}")
            case _Content(text):
                try:
                    override = parse_override_file(text)
                except OverrideFileError as error:
                    self._complain(str(error))
                else:
                    self._take(override)

    def _take(self, override: Override | None) -> None:
        self._on_read()
        if override != self._override:
            self._override = override
            self._on_change(override)

    def _complain(self, message: str) -> None:
        kept = (
            "it overrides nothing" if self._override is None else f"its last good mode, {self._override.mode}, is kept"
        )
        with contextlib.suppress(Exception):
            self._on_error(f"{self._path}: {message}; {kept}")


def _is_doubtful(sight: _Sight) -> bool:
    if not isinstance(sight, _Content):
        return True
    try:
        parse_override_file(sight.text)
    except OverrideFileError:
        return True
    return False
