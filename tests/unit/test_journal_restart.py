"""What the next process must find in the journal's file: after its halves were turned over, beside another writer, and
where somebody has edited it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.history.entries import is_sound
from proxy.history.journal_file import INCIDENTS_KEPT, Found, JournalFile, lines_of
from tests.unit.test_journal_file import entry, incident, lines, overridden

SMALL = 20_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def fill(file: JournalFile, path: Path, times: int = 3) -> None:
    """Append until the file has been turned over so many times."""
    while times:
        before = path.stat().st_ino
        file.append(lines(*range(20)))
        times -= path.stat().st_ino != before


def incidents(found: Found) -> list[object]:
    return [one["number"] for one in found.entries if one["event"] == "incident"]


def override(found: Found) -> object:
    return found.last_override and found.last_override["number"]


def test_what_a_restart_needs_is_lost_when_the_file_is_turned_over(path: Path) -> None:
    file = JournalFile(path, largest_bytes=SMALL)
    file.append(lines_of([incident(1), incident(2), overridden(7), overridden(8), incident(1, requests_lost=5)]))
    fill(file, path)
    file.append(lines_of([incident(3)]))
    fill(file, path, 1)
    found = JournalFile(path).read(50)
    assert override(found) == 8
    assert incidents(found) == [2, 1, 3], "in the order in which they were last written"
    assert [one["requests_lost"] for one in found.entries if one["event"] == "incident"] == [0, 5, 0]
    assert not any("carried" in one for one in found.entries)
    assert sum(one["event"] == "override" for one in found.entries) == 1
    assert found.entries[-1]["event"] == "switch", "what was carried along is older than all the rest"
    assert max(path.stat().st_size, path.with_name("journal.1").stat().st_size) <= SMALL * 5 / 4


def test_an_override_that_was_cleared_comes_back_when_the_file_is_turned_over(path: Path) -> None:
    file = JournalFile(path, largest_bytes=SMALL)
    cleared = {**overridden(2), "change": "cleared"}
    file.append(lines_of([overridden(1)]))
    fill(file, path, 1)
    file.append(lines_of([cleared]))
    fill(file, path, 4)
    assert override(JournalFile(path).read(50)) == 2


def test_what_is_carried_along_fills_the_file(path: Path) -> None:
    file = JournalFile(path, largest_bytes=SMALL)
    file.append(lines_of([overridden(0)]))
    for number in range(INCIDENTS_KEPT):
        file.append(lines_of([incident(number)]))
        file.append(lines(1, 2))
    fill(file, path, 4)
    found = JournalFile(path).read(50)
    assert override(found) == 0, "before any incident"
    kept = incidents(found)
    assert 3 < len(kept) < 20
    assert kept == list(range(INCIDENTS_KEPT))[-len(kept) :], "the newest of them"
    assert path.with_name("journal.1").stat().st_size <= SMALL * 5 / 4


def test_incidents_beyond_the_last_entries_are_forgotten(path: Path) -> None:
    file = JournalFile(path)
    file.append(lines_of(incident(number) for number in range(INCIDENTS_KEPT + 20)))
    file.append(lines(*range(50)))
    assert incidents(file.read(10)) == list(range(20, INCIDENTS_KEPT + 20))
    assert len(file.read(10).entries) == INCIDENTS_KEPT + 10


class Killed(BaseException):
    """In the place of SIGKILL."""


def _killed(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """The process ends at the byte `at` of what it writes, or at a rename, which counts as one."""
    write, replace, left = os.write, os.replace, [at]

    def spend(wanted: int) -> int:
        if left[0] < 0:
            raise Killed
        passed = min(wanted, left[0])
        left[0] -= wanted
        return passed

    def cut(descriptor: int, data: bytes) -> int:
        passed = spend(len(data))
        write(descriptor, data[:passed])
        if passed < len(data):
            left[0] = -1
            raise Killed
        return passed

    def renamed(source: Path, target: Path) -> None:
        if not spend(1):
            left[0] = -1
            raise Killed
        replace(source, target)

    monkeypatch.setattr(os, "write", cut)
    monkeypatch.setattr(os, "replace", renamed)


@pytest.mark.parametrize("carried", [{}, {"carried": True}])
def test_a_kill_while_the_file_is_turned_over_loses_something_or_leaves_half_a_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, carried: dict[str, object]
) -> None:
    """At every byte that is written on the way, and at the rename; the first time, and when it was carried before."""
    older = path.with_name("journal.1")
    old = lines_of([carried | incident(1), carried | overridden(8), incident(1)])
    new = lines_of([incident(3), *({**entry(number), "padding": "x" * 400} for number in range(10))])
    for at in range(10_000):
        older.write_bytes(b"\n".join(old) + b"\n")
        path.write_bytes(b"\n".join(new) + b"\n")
        file = JournalFile(path, largest_bytes=4_800)
        with monkeypatch.context() as patch:
            _killed(patch, at)
            try:
                file.append(lines(99))
                ended = True
            except Killed:
                ended = False
        file.let_go()
        for _ in range(2):
            found = JournalFile(path).read(1_000)
            assert incidents(found) == [1, 3], at
            assert override(found) == 8, at
            assert not found.last_override_broken
            assert sum(one["event"] == "override" for one in found.entries) == 1
            written = [one["number"] for one in found.entries if one["event"] == "switch"]
            assert written[:10] == list(range(10)), at
            # The next process writes on.
            file = JournalFile(path, largest_bytes=4_800)
            file.append(lines(99))
            file.let_go()
        if ended:
            break
    assert 700 < at < 9_000, "the turn writes what is carried, the rename and the line"


def test_a_full_disk_turns_over_what_could_not_be_carried(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.with_name("journal.1").write_bytes(lines_of([overridden(8)])[0] + b"\n")
    path.write_bytes(b"\n".join(lines(*range(40))) + b"\n")
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[: len(data) // 2]))
        file = JournalFile(path, largest_bytes=2_000)
        for _ in range(3):
            with pytest.raises(OSError, match="No space"):
                file.append(lines(99))
    assert override(JournalFile(path).read(10)) == 8


def test_two_processes_write_to_one_file(path: Path) -> None:
    one, other = JournalFile(path), JournalFile(path)
    assert one.append(lines(1)) == 1
    for _ in range(2):
        with pytest.raises(
            BlockingIOError, match=r"another process writes .* COMPLETION_PROXY_JOURNAL_FILE of its own"
        ):
            other.append(lines(2))
    one.append(lines(3))
    one.let_go()
    one.let_go()
    assert other.append(lines(4)) == 1, "and takes over when the first one has ended"
    assert [found["number"] for found in other.read(10).entries] == [1, 3, 4]
    with pytest.raises(BlockingIOError):
        one.append(lines(5))


def test_a_lock_that_was_tidied_away_lets_two_write(path: Path) -> None:
    one, other = JournalFile(path), JournalFile(path)
    one.append(lines(1))
    path.with_name("journal.lock").unlink()
    other.append(lines(2))
    with pytest.raises(BlockingIOError):
        one.append(lines(3))


def test_descriptors_leak_where_another_process_writes(path: Path) -> None:
    one, other = JournalFile(path), JournalFile(path)
    one.append(lines(1))
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for _ in range(5):
        with pytest.raises(BlockingIOError):
            other.append(lines(2))
    assert (len(os.listdir("/proc/self/fd")) if before else 0) == before


@pytest.mark.parametrize(
    ("last", "broken"),
    [
        (b'{"at":"2026-11-24T12:00:00.000Z","event":"override","change":"cleared",', True),
        (b'{"at": "2026-11-24T12:00:00.000Z", "event" : "override", oops}', True),
        (b'{"at":"2026-11-24T12:00:00.000Z","event":"override","override":{"source":"file"}}', False),
        (b'{"at":"2026-11-24T12:00:00.000Z","event":"override_expiring","override":{"sou', False),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b""])
@pytest.mark.parametrize("after", [0, 30])
def test_an_override_under_a_line_that_cannot_be_read_comes_back(
    path: Path, last: bytes, broken: bool, end: bytes, after: int
) -> None:
    path.write_bytes(lines_of([overridden(1)])[0] + b"\n" + last + end)
    file = JournalFile(path)
    if after:
        file.append(lines(*range(after)))
    found = file.read(10)
    assert found.last_override_broken == broken
    assert override(found) == (None if broken else 1)


def test_a_later_override_is_doubted_for_a_line_before_it(path: Path) -> None:
    path.write_bytes(b'{"event":"override",\n' + lines_of([overridden(2)])[0] + b"\n")
    found = JournalFile(path).read(10)
    assert (override(found), found.last_override_broken) == (2, False)


def _without(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(one: dict[str, Any]) -> None:
        for key in keys[:-1]:
            one = one[key]
        del one[keys[-1]]

    return change


WRONG: dict[str, object] = {
    "id": 5, "began_at": "2026-11-24T12:00:00", "ended_at": "soon", "ended_by": 1, "models": "codestral-2",
    "from": None, "to": [], "trigger": {}, "first_bad_answer_at": 5, "seconds_to_detect": "1", "seconds_away": {},
    "switches": None, "seconds_to_return": [], "requests_repaired": "5", "requests_lost": 0.5,
    "requests_served_by_backup": None,
    "tokens": {"input": 1},
}  # fmt: skip


def test_an_incident_that_was_edited_reaches_who_shows_it(path: Path) -> None:
    assert is_sound(incident(1))
    whole = set(incident(1)) - {"number", "at", "event"}
    assert set(WRONG) == whole
    for key, value in WRONG.items():
        assert not is_sound(incident(1, **{key: value})), key
        changed = incident(1)
        del changed[key]
        assert not is_sound(changed), key
    for trigger in ("reason", "evidence", "override"):
        changed = json.loads(json.dumps(incident(1)))
        _without("trigger", trigger)(changed)
        assert not is_sound(changed), trigger
    for said in ("mode", "source", "reason", "actor"):
        changed = json.loads(json.dumps(incident(1)))
        _without("trigger", "override", said)(changed)
        assert not is_sound(changed), said
    assert not is_sound(incident(1, models=[5]))
    path.write_bytes(b"\n".join(lines_of([incident(1, models=None), incident(2)])) + b"\n")
    found = JournalFile(path).read(10)
    assert (incidents(found), found.broken) == ([2], 1)
