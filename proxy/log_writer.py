"""Where log lines go, without ever being waited for: a thread writes them, in batches.

A pipe whose reader stalls would stop whoever writes into it; that must not be the event loop. So lines are put into a
bounded queue, and when it is full they are left out. They are counted with those that could not be written, and the
count is written as a line of its own.
"""

from __future__ import annotations

import atexit
import json
import threading
import weakref
from collections import deque
from datetime import UTC, datetime
from typing import TextIO

LINES_KEPT = 10_000
_TOGETHER_SECONDS = 0.02
"""What comes so soon after a write is written together: a thread woken for each line would cost more than the line."""
_LAST_WRITE_SECONDS = 1.0
_open: weakref.WeakSet[LogWriter] = weakref.WeakSet()


def close_all() -> None:
    """Write what is left in every queue, as far as that goes within a moment: for an end that runs no exit handlers."""
    for writer in list(_open):
        writer.close()


class LogWriter:
    """A text stream that never blocks; each text is a line. `close` writes what is left, as far as a moment allows."""

    def __init__(self, stream: TextIO, *, limit: int = LINES_KEPT) -> None:
        self._stream = stream
        self._limit = limit
        self._lines: deque[str] = deque()
        self._left_out = 0
        self._counting = threading.Lock()
        self._something_to_write = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()
        _open.add(self)
        atexit.register(self.close)

    def write(self, text: str) -> int:
        """Queue some text."""
        if len(self._lines) >= self._limit:
            self._leave_out(1)
        else:
            self._lines.append(text)
            if not self._something_to_write.is_set():
                self._something_to_write.set()
        return len(text)

    def flush(self) -> None:
        """Nothing: whoever flushes would wait."""

    def close(self) -> None:
        """Write what is left, and end the thread."""
        self._closing.set()
        self._something_to_write.set()
        self._thread.join(_LAST_WRITE_SECONDS)
        atexit.unregister(self.close)

    def _leave_out(self, lines: int) -> None:
        with self._counting:
            self._left_out += lines

    def _run(self) -> None:
        while not self._closing.is_set():
            self._something_to_write.wait()
            self._something_to_write.clear()
            self._write_all()
            self._closing.wait(_TOGETHER_SECONDS)
        self._write_all()

    def _write_all(self) -> None:
        texts = []
        while self._lines:
            texts.append(self._lines.popleft())
        with self._counting:
            # Not counted while this is written: what is added meanwhile is told next time.
            left_out, self._left_out = self._left_out, 0
        told = [_lines_left_out(left_out)] if left_out else []
        try:
            self._stream.write("".join(texts + told))
            self._stream.flush()
        except (OSError, ValueError):
            # Nobody reads, or there is no room. A proxy that cannot be heard serves on.
            self._leave_out(left_out + len(texts))


def _lines_left_out(number: int) -> str:
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({"event": "log_lines_left_out", "lines": number, "level": "error", "timestamp": now}) + "\n"
