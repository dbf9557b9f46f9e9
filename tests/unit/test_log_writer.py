"""Log lines that nobody waits for: what is lost, and what is written late."""

from __future__ import annotations

import io
import json
import os
import threading
import time

from proxy.log_writer import LogWriter


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
