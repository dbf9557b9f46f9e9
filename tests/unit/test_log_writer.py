"""Log lines that nobody waits for: what is lost, and what is written late."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from proxy import log_writer
from proxy.log_writer import LogWriter, close_all


class Slow(io.StringIO):
    """A stream whose reader stalls until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.may_go_on = threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        assert self.may_go_on.wait(10)
        return super().write(text)


def test_lines_are_lost_or_come_out_of_turn() -> None:
    stream = io.StringIO()
    writer = LogWriter(stream)
    lines = [f"line {number}\n" for number in range(500)]
    for line in lines:
        assert writer.write(line) == len(line)
    writer.flush()
    writer.close()
    assert stream.getvalue() == "".join(lines)


def test_a_reader_that_stalls_is_waited_for_or_fills_the_memory() -> None:
    stream = Slow()
    writer = LogWriter(stream, limit=10)
    writer.write("first\n")
    assert stream.entered.wait(5)
    started = time.perf_counter()
    for number in range(25):
        writer.write(f"{number}\n")
    assert time.perf_counter() - started < 0.1
    stream.may_go_on.set()
    writer.close()
    first, *others = stream.getvalue().splitlines()
    *kept, told = others
    assert (first, kept) == ("first", [str(number) for number in range(10)])
    assert (json.loads(told)["event"], json.loads(told)["lines"]) == ("log_lines_left_out", 15)


def test_the_first_line_waits_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process says last, before it is killed, has been said."""
    monkeypatch.setattr(log_writer, "_TOGETHER_SECONDS", 60.0)
    stream = Slow()
    stream.may_go_on.set()
    writer = LogWriter(stream)
    writer.write("first\n")
    assert stream.entered.wait(5)
    started = time.perf_counter()
    writer.write("second\n")
    close_all()
    assert time.perf_counter() - started < 5, "nor does the end wait for the time in which lines are gathered"
    assert stream.getvalue() == "first\nsecond\n"


class Full(io.StringIO):
    """A stream to a disk that has no room for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.full = True
        self.tries = 0

    def write(self, text: str) -> int:
        self.tries += 1
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_lines_that_could_not_be_written_are_missing_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "_TOGETHER_SECONDS", 0.0)
    stream = Full()
    writer = LogWriter(stream)
    for number in range(3):
        tries = stream.tries
        writer.write(f"{number}\n")
        while stream.tries == tries:
            time.sleep(0)
    stream.full = False
    writer.write("there is room\n")
    writer.close()
    there, told = stream.getvalue().splitlines()
    assert there == "there is room"
    assert (json.loads(told)["event"], json.loads(told)["lines"]) == ("log_lines_left_out", 3)


def test_an_end_without_exit_handlers_loses_the_last_lines_or_waits_for_a_reader_that_stalls() -> None:
    script = (
        "import os, sys\n"
        "from proxy.log_writer import LogWriter, close_all\n"
        "writer = LogWriter(sys.stderr)\n"
        "for number in range(1000):\n"
        "    writer.write(f'{number}\\n')\n"
        "close_all()\n"
        "os._exit(1)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=10, check=False)
    assert ended.stderr.split() == [str(number) for number in range(1000)]
    stalled = Slow()
    LogWriter(stalled).write("to nobody\n")
    started = time.perf_counter()
    close_all()
    assert 0.5 < time.perf_counter() - started < 5
    stalled.may_go_on.set()


def test_a_reader_that_has_gone_ends_the_writer() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        writer = LogWriter(stream)
        for _ in range(3):
            writer.write("to nobody\n")
            while writer._lines:
                time.sleep(0)
        assert writer._thread.is_alive()
        writer.close()
        assert not writer._thread.is_alive()
        # What Python's own buffer still holds must not be an error when it is closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
