"""The operator's word: what a file may say, how it is watched, and which source wins."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy.override import (
    LEAST_PERCENT,
    NO_OVERRIDE,
    Override,
    OverrideBoard,
    OverrideMode,
    OverrideSource,
)
from proxy.override_file import OverrideFile, OverrideFileError, parse_override_file

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
CLAUDE = Override(OverrideMode.CLAUDE, OverrideSource.FILE)
VERTEX = Override(OverrideMode.VERTEX, OverrideSource.FILE)


@pytest.mark.parametrize(
    "text", ["claude", "claude\n", "  Claude \r\n\n", "CLAUDE", 'mode="claude"', 'mode = " Claude "\n']
)
def test_a_hasty_spelling_refused(text: str) -> None:
    assert parse_override_file(text) == CLAUDE


def test_what_the_file_says_beside_the_mode_lost() -> None:
    text = 'mode = "vertex"\nreason = "drill"\nactor = "ann"\nexpires_at = 2026-11-24T13:00:00+01:00\npercent = 12.5'
    assert parse_override_file(text) == Override(
        OverrideMode.VERTEX, OverrideSource.FILE, reason="drill", actor="ann", expires_at=NOON, percent=12.5
    )


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-24T12:00:00Z",
        "2026-11-24 12:00:00",
        '"2026-11-24T12:00:00Z"',
        '"2026-11-24T12:00"',
        '"20261124T130000+0100"',
    ],
)
def test_an_end_in_another_spelling_or_zone(value: str) -> None:
    override = parse_override_file(f'mode = "claude"\nexpires_at = {value}')
    assert override.expires_at == NOON
    assert override.expires_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("claud", "no mode"),
        ("gemini", "auto, vertex or claude"),
        ("vertex claude", "TOML"),
        ("claude # because", "TOML"),
        ('reason = "x"', "mode must"),
        ('mode = "off"', "mode must"),
        ("mode = 1", "mode must"),
        ('mode = "claude"\nprecent = 5', "'precent'"),
        ('mode = "claude"\npercent = 101', "percent must"),
        ('mode = "claude"\npercent = -1', "percent must"),
        ('mode = "claude"\npercent = nan', "percent must"),
        ('mode = "claude"\npercent = true', "percent must"),
        ('mode = "claude"\npercent = "5"', "percent must"),
        ('mode = "claude"\npercent = 0.001', "percent must be 0 or at least 0.01"),
        ('mode = "claude"\nreason = 5', "reason must"),
        ('mode = "claude"\nreason = "a\\u001b[2J"', r"reason must be one line of text that shows; U\+001B does not"),
        ('mode = "claude"\nactor = "a\\u202eb"', "actor must be one line"),
        ('mode = "claude"\nreason = "a\\nb"', r"U\+000A"),
        ('mode = "claude"\nactor = []', "actor must"),
        ('mode = "claude"\nexpires_at = 2026-11-24', "expires_at must"),
        ('mode = "claude"\nexpires_at = "2026-11-24"', "expires_at must"),
        ('mode = "claude"\nexpires_at = 12:00:00', "expires_at must"),
        ('mode = "claude"\nexpires_at = "tomorrow"', "expires_at must"),
        ('mode = "claude"\nexpires_at = 1764000000', "expires_at must"),
        ('mode = "claude"\nexpires_at = 0001-01-01T00:00:00+02:00', "expires_at is out of range"),
    ],
)
def test_a_file_half_understood(text: str, names: str) -> None:
    with pytest.raises(OverrideFileError, match=names):
        parse_override_file(text)


def test_an_override_that_outlives_its_end() -> None:
    override = parse_override_file('mode = "claude"\nexpires_at = 2026-11-24T12:00:00Z')
    assert override.in_force(NOON - timedelta(microseconds=1))
    assert not override.in_force(NOON)
    assert not parse_override_file("auto").in_force(NOON)


def test_a_share_that_is_not_the_share_asked_for() -> None:
    keys = [str(number).encode() for number in range(20_000)]
    for percent in (0, 0.5, 10, 33.3, 100):
        override = Override(OverrideMode.CLAUDE, OverrideSource.FILE, percent=percent)
        assert sum(map(override.applies_to, keys)) / 200 == pytest.approx(percent, abs=1)


def test_a_caller_who_leaves_a_growing_share() -> None:
    shares = [Override(OverrideMode.CLAUDE, OverrideSource.FILE, percent=percent) for percent in (1, 5, 25, 60, 100)]
    for number in range(500):
        applied = [share.applies_to(str(number).encode()) for share in shares]
        assert applied == sorted(applied)


def test_a_share_that_differs_between_replicas() -> None:
    key = next(key for key in map(str, range(100_000)) if zlib.crc32(key.encode()) % 10_000 == 1234).encode()
    assert not Override(OverrideMode.CLAUDE, OverrideSource.FILE, percent=12.34).applies_to(key)
    assert Override(OverrideMode.CLAUDE, OverrideSource.FILE, percent=12.35).applies_to(key)


def test_an_override_that_has_ended_seems_to_wait_for_its_turn() -> None:
    board = OverrideBoard(OverrideMode.VERTEX, wall_clock=lambda: NOON)
    ended = Override(OverrideMode.CLAUDE, OverrideSource.API, expires_at=NOON)
    board.set(OverrideSource.API, ended)
    board.set(OverrideSource.FILE, Override(OverrideMode.AUTO, OverrideSource.FILE))
    assert board.below(NOON) == []
    assert board.below(NOON - timedelta(seconds=1)) == [ended]
    assert OverrideBoard().below(NOON) == []


def test_the_least_share_holds_nobody() -> None:
    first = next(key for key in map(str, range(100_000)) if zlib.crc32(key.encode()) % 10_000 == 0).encode()
    assert Override(OverrideMode.CLAUDE, OverrideSource.FILE, percent=LEAST_PERCENT).applies_to(first)


class Watch:
    """An `OverrideFile` on a real file, its reports, and its pauses: what happens during the next ones can be set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.changes: list[Override | None] = []
        self.errors: list[str] = []
        self.pauses: list[float] = []
        self.during_pauses: list[Callable[[], object]] = []
        self.file = OverrideFile(path, self.changes.append, self.errors.append, sleep=self.pause)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if self.during_pauses:
            self.during_pauses.pop(0)()
        await asyncio.sleep(0)

    async def says(self, text: str) -> None:
        self.path.write_text(text)
        await self.file.load_now()


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch(tmp_path / "override")


async def test_a_change_not_seen_or_seen_twice(watch: Watch) -> None:
    await watch.file.load_now()
    for text in ("claude", "claude", " claude\n", "vertex", "auto"):
        await watch.says(text)
        await watch.file.load_now()
    assert watch.changes == [CLAUDE, VERTEX, parse_override_file("auto")]
    watch.path.unlink()
    await watch.file.load_now()
    await watch.file.load_now()
    assert watch.changes[3:] == [None]
    assert watch.errors == []


async def test_an_edit_of_equal_length_within_one_tick_of_the_file_system(watch: Watch) -> None:
    await watch.says("vertex")
    before = watch.path.stat()
    watch.path.write_text("claude")
    os.utime(watch.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (watch.path.stat().st_ino, watch.path.stat().st_size) == (before.st_ino, before.st_size)
    await watch.file.load_now()
    assert watch.changes == [VERTEX, CLAUDE]


async def test_the_symlink_swap_of_a_config_map(tmp_path: Path) -> None:
    for number, text in enumerate(("vertex", "claude")):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "override").write_text(text)
    (tmp_path / "..data").symlink_to("..0")
    (tmp_path / "override").symlink_to("..data/override")
    watch = Watch(tmp_path / "override")
    await watch.file.load_now()
    (tmp_path / "..tmp").symlink_to("..1")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    await watch.file.load_now()
    assert watch.changes == [VERTEX, CLAUDE]


async def test_a_gap_between_two_files_releasing_the_override(watch: Watch) -> None:
    await watch.says("claude")
    watch.path.unlink()
    watch.during_pauses = [lambda: watch.path.write_text("claude")]
    await watch.file.load_now()
    assert watch.changes == [CLAUDE]
    watch.path.unlink()
    watch.during_pauses = [lambda: watch.path.write_text("vertex")]
    await watch.file.load_now()
    assert watch.changes == [CLAUDE, VERTEX]


async def test_an_editor_that_truncates_before_it_writes_called_an_error(watch: Watch) -> None:
    await watch.says("claude")
    watch.during_pauses = [
        lambda: watch.path.write_text('mode = "ver'),
        lambda: watch.path.write_text('mode = "vertex"'),
    ]
    await watch.says("")
    assert watch.changes == [CLAUDE, VERTEX]
    assert watch.errors == []


async def test_a_broken_file_that_drops_the_override_or_repeats_its_complaint(watch: Watch) -> None:
    await watch.says("claude")
    for _ in range(3):
        await watch.says("claud")
    assert watch.changes == [CLAUDE]
    assert len(watch.errors) == 1
    assert watch.errors[0].startswith(f"{watch.path}: 'claud' is no mode")
    assert watch.errors[0].endswith("; its last good mode, claude, is kept")
    await watch.says("veretx")
    await watch.says("claude")
    await watch.says("veretx")
    assert len(watch.errors) == 3
    assert watch.changes == [CLAUDE]


async def test_a_file_that_is_broken_at_the_start_passed_over(watch: Watch) -> None:
    await watch.says("claud")
    assert len(watch.errors) == 1
    assert watch.errors[0].endswith("; it overrides nothing")
    assert watch.pauses == []


def fifo(path: Path) -> None:
    os.mkfifo(path)


def binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")


def huge(path: Path) -> None:
    path.write_text(" " * 70_000)


def loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("make", [fifo, binary, huge, loop, Path.mkdir])
async def test_what_cannot_be_read_hanging_or_ending_the_watch(make: Callable[[Path], None], watch: Watch) -> None:
    await watch.says("claude")
    watch.path.unlink()
    make(watch.path)
    descriptors = len(os.listdir("/dev/fd"))
    async with asyncio.timeout(5):
        await watch.file.load_now()
        await watch.file.load_now()
    assert len(os.listdir("/dev/fd")) == descriptors
    assert watch.changes == [CLAUDE]
    assert len(watch.errors) == 1
    assert "cannot be read" in watch.errors[0]


async def test_a_byte_order_mark_taken_for_a_typo(watch: Watch) -> None:
    watch.path.write_bytes(b"\xef\xbb\xbfclaude\r\n")
    await watch.file.load_now()
    assert watch.changes == [CLAUDE]


async def test_a_missing_directory_ending_the_watch(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "none" / "override")
    await watch.file.load_now()
    (tmp_path / "none").write_text("a file where the directory was")
    await watch.file.load_now()
    assert (watch.changes, watch.errors) == ([], [])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what another thread does has no event
            await asyncio.sleep(0)


async def test_a_listener_s_bug_ending_the_watch(tmp_path: Path) -> None:
    path = tmp_path / "override"
    path.write_text("claude")
    changes: list[Override | None] = []

    def on_change(override: Override | None) -> None:
        changes.append(override)
        raise RuntimeError("a bug")

    def on_error(message: str) -> None:
        errors.append(message)
        raise RuntimeError("another bug")

    errors: list[str] = []
    pause: Callable[[float], Awaitable[None]] = lambda _: asyncio.sleep(0)  # noqa: E731
    task = asyncio.create_task(OverrideFile(path, on_change, on_error, sleep=pause).run())
    await until(lambda: len(changes) == 1)
    path.write_text("vertex")
    await until(lambda: len(changes) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "a bug" in errors[0]


async def test_a_change_that_takes_more_than_a_second(watch: Watch) -> None:
    task = asyncio.create_task(watch.file.run())
    await until(lambda: len(watch.pauses) >= 3)
    watch.path.write_text("claude")
    seen = len(watch.pauses)
    await until(lambda: watch.changes == [CLAUDE])
    assert sum(watch.pauses[seen + 1 :]) <= 0.5  # at most one poll was under way when the file was written
    watch.path.unlink()
    seen = len(watch.pauses)
    await until(lambda: watch.changes == [CLAUDE, None])
    assert sum(watch.pauses[seen + 1 :]) <= 0.75
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Board:
    def __init__(self, pinned: OverrideMode = OverrideMode.AUTO) -> None:
        self.now = NOON
        self.heard: list[Override] = []
        self.board = OverrideBoard(pinned, wall_clock=lambda: self.now)
        self.board.on_change(lambda override, _before, _actor: self.heard.append(override))


def test_a_file_that_beats_the_pin_of_the_environment() -> None:
    board = Board(OverrideMode.VERTEX)
    board.board.set(OverrideSource.FILE, CLAUDE)
    board.board.poll(NOON)
    assert board.board.current(NOON) == Override(OverrideMode.VERTEX, OverrideSource.ENVIRONMENT)
    assert board.heard == []


def test_a_change_that_nobody_hears_of_or_hears_of_twice() -> None:
    board = Board()
    assert board.board.current(NOON) is NO_OVERRIDE
    for override in (CLAUDE, CLAUDE, VERTEX, parse_override_file("auto"), None):
        board.board.set(OverrideSource.FILE, override)
        board.board.poll(NOON)
    assert board.heard == [CLAUDE, VERTEX, NO_OVERRIDE]


def test_an_end_that_passes_unnoticed() -> None:
    board = Board()
    override = Override(OverrideMode.CLAUDE, OverrideSource.FILE, expires_at=NOON + timedelta(hours=1))
    board.board.set(OverrideSource.FILE, override)
    board.board.poll(NOON + timedelta(minutes=59))
    assert board.heard == [override]
    end = NOON + timedelta(hours=1)
    assert board.board.current(end) is NO_OVERRIDE  # for requests at once, whether or not anybody polled
    board.board.poll(end)
    board.board.poll(end)
    assert board.heard == [override, NO_OVERRIDE]


def test_a_file_that_had_expired_when_it_came() -> None:
    board = Board()
    board.board.set(OverrideSource.FILE, Override(OverrideMode.CLAUDE, OverrideSource.FILE, expires_at=NOON))
    assert board.board.current(NOON) is NO_OVERRIDE
    assert board.heard == []
