"""The journal's file: what a kill, a full disk and a second process leave, and what is read of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from proxy.history.journal_file import JournalFile, lines_of


def entry(number: int) -> dict[str, object]:
    return {"at": "2026-11-24T12:00:00.000Z", "event": "switch", "number": number}


def lines(*numbers: int) -> list[bytes]:
    return lines_of(entry(number) for number in numbers)


def numbers(file: JournalFile, limit: int = 100) -> list[object]:
    return [found["number"] for found in file.read(limit).entries]


def incident(number: int, **fields: object) -> dict[str, object]:
    at = f"2026-11-24T11:{number // 60:02}:{number % 60:02}.000Z"
    return {
        "at": at, "event": "incident", "number": number, "id": at, "began_at": at, "ended_at": None, "ended_by": None,
        "models": ["codestral-2"], "from": "vertex", "to": "claude",
        "trigger": {"reason": "override", "evidence": {"calls": 1},
                    "override": {"mode": "claude", "source": "file", "reason": None, "actor": None}},
        "first_bad_answer_at": None, "seconds_to_detect": None, "seconds_away": 1, "seconds_to_return": 0.5,
        "switches": 1, "requests_repaired": 0, "requests_lost": 0, "requests_served_by_backup": 0,
        "tokens": {"input": 0, "output": 0}, **fields,
    }  # fmt: skip


def overridden(number: int, source: str = "api") -> dict[str, object]:
    said = {"mode": "claude", "source": source, "reason": "x", "actor": None, "expires_at": None, "percent": 100}
    return {**entry(number), "event": "override", "change": "set", "override": said}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_what_was_written_is_not_read(path: Path) -> None:
    file = JournalFile(path)
    assert (file.read(10).entries, file.read(10).broken) == ([], 0)
    assert file.append(lines(1, 2)) == 2
    assert file.append(lines(3)) == 1
    assert numbers(JournalFile(path)) == [1, 2, 3]
    assert numbers(file, 2) == [2, 3]
    assert path.stat().st_mode & 0o007 == 0, "others read who did what and why"


def test_half_a_line_is_read_or_spoils_the_next(path: Path) -> None:
    """For every byte at which a kill or a full disk can have cut the last line."""
    whole = b"".join(line + b"\n" for line in lines(1, 2))
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        file = JournalFile(path)
        kept = whole[:cut].count(b"\n")
        assert numbers(file) == [1, 2][:kept]
        file.append(lines(3))
        file.let_go()
        # A line that lacked its end alone has it now.
        assert [number for number in numbers(file) if number == 3] == [3]
        assert all(json.loads(line) for line in path.read_bytes().splitlines() if _is_json(line))


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    "rubbish",
    [
        b"{",
        b"[]",
        b"5",
        b'{"at": 5, "event": "x"}',
        b'{"event": "x"}',
        b"\xff\xfe",
        b"{}",
        b"[" * 100_000,
        b'{"at": "yesterday", "event": "x"}',
        b'{"at": "2026-11-24T12:00:00", "event": "x"}',
    ],
)
def test_a_line_that_is_no_entry_ends_the_reading_or_passes_in_silence(path: Path, rubbish: bytes) -> None:
    path.write_bytes(lines(1)[0] + b"\n" + rubbish + b"\n\n" + lines(2)[0] + b"\n")
    assert numbers(JournalFile(path)) == [1, 2]
    assert JournalFile(path).read(10).broken == 1


def test_an_incident_that_lasts_pushes_out_all_the_rest(path: Path) -> None:
    file = JournalFile(path)
    file.append(lines(1))
    file.append(lines_of({**entry(2), "id": "a", "lost": lost} for lost in range(50)))
    file.append(lines_of([{**entry(3), "id": "b"}, {**entry(2), "id": "a", "lost": 50}]))
    found = file.read(4).entries
    assert [(one["number"], one.get("lost")) for one in found] == [(1, None), (3, None), (2, 50)]


def test_the_file_grows_for_ever_or_forgets_everything_at_once(path: Path) -> None:
    size = len(lines(1)[0]) + 1
    file = JournalFile(path, largest_bytes=10 * size)
    for number in range(1, 26):
        file.append(lines(number % 10))
    older = path.with_name("journal.1")
    assert path.stat().st_size <= 10 * size
    assert older.stat().st_size <= 10 * size
    assert numbers(file) == [number % 10 for number in range(11, 26)]
    assert numbers(file, 7) == [number % 10 for number in range(19, 26)]
    assert sorted(os.listdir(path.parent)) == ["journal", "journal.1", "journal.lock"]


def test_no_room_for_a_line_writes_half_of_it_or_loses_those_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = JournalFile(path)
    write = os.write
    room = len(lines(1)[0]) + 1 + 5

    def full(descriptor: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(28, "No space left on device")
        written = write(descriptor, data[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", full)
    assert file.append(lines(1, 2, 3)) == 1, "the second was cut"
    with pytest.raises(OSError, match="No space"):
        file.append(lines(2, 3))
    monkeypatch.setattr(os, "write", write)
    assert file.append(lines(2, 3)) == 2
    assert numbers(file) == [1, 2, 3]


def test_a_write_that_fails_half_way_repeats_what_was_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, left = os.write, [1]

    def failing(descriptor: int, data: bytes) -> int:
        if not left:
            raise OSError(5, "Input/output error")
        left.pop()
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", failing)
    assert JournalFile(path).append(lines(1, 2)) == 1
    assert numbers(JournalFile(path)) == [1]


def test_a_line_that_lacks_its_end_alone_is_written_twice(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:-1]))
    file = JournalFile(path)
    assert file.append(lines(1)) == 1
    monkeypatch.setattr(os, "write", write)
    file.append(lines(2))
    assert numbers(file) == [1, 2]


def test_tries_on_a_full_disk_delete_what_was_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = JournalFile(path, largest_bytes=1_000)
    for number in range(8):
        file.append(lines(number))

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            file.append(lines(*range(50)))
    assert numbers(file) == list(range(8))


def test_an_override_of_long_ago_is_not_found(path: Path) -> None:
    file = JournalFile(path)
    file.append(lines_of([overridden(0), overridden(1), overridden(2, "file")]))
    file.append(lines(*range(3, 9)))
    assert numbers(file, 3) == [1, 6, 7, 8]
    last = file.read(3).last_override
    assert last is not None
    assert last["number"] == 1


def test_a_pipe_in_the_place_of_the_file_is_waited_for(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(OSError, match="no regular file"):
        JournalFile(path).read(10)
