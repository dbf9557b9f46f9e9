"""Where log lines go, without ever being waited for: a thread writes them, in batches.

A pipe whose reader stalls would stop whoever writes into it; that must not be the event loop. So lines are put into a
bounded queue, and when it is full they are left out, counted, and the count is written as a line of its own.
"""

from __future__ import annotations

import atexit
import json
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import TextIO

LINES_KEPT = 10_000
_TOGETHER_SECONDS = 0.02
"""What comes within so short a time is written together: a thread woken for each line would cost more than the line."""
_LAST_WRITE_SECONDS = 1.0


class LogWriter:
    """A text stream that never blocks. `close` writes what is left, as far as that goes within a moment."""

    def __init__(self, stream: TextIO, *, limit: int = LINES_KEPT) -> None:
        self._stream = stream
        self._limit = limit
        self._lines: deque[str] = deque()
        self._left_out = 0
        self._something_to_write = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def write(self, text: str) -> int:
        """Queue some text."""
        if len(self._lines) >= self._limit:
            self._left_out += 1
        else:
            self._lines.append(text)
            if not self._something_to_write.is_set():
                self._something_to_write.set()
        return len(text)

    def flush(self) -> None:
        """Nothing: whoever flushes would wait."""

    def close(self) -> None:
        """Write what is left, and end the thread."""
        self._closing = True
        self._something_to_write.set()
        self._thread.join(_LAST_WRITE_SECONDS)
        atexit.unregister(self.close)

    def _run(self) -> None:
        while not self._closing:
            self._something_to_write.wait()
            if not self._closing:
                time.sleep(_TOGETHER_SECONDS)
            self._something_to_write.clear()
            self._write_all()
        self._write_all()

    def _write_all(self) -> None:
        texts = []
        while self._lines:
            texts.append(self._lines.popleft())
        if self._left_out:
            # Not counted while this is written: what is added meanwhile is told next time.
            left_out, self._left_out = self._left_out, 0
            texts.append(_lines_left_out(left_out))
        try:
            self._stream.write("".join(texts))
            self._stream.flush()
        except (OSError, ValueError):
            # Nobody reads any more. A proxy that cannot be heard serves on.
            pass


def _lines_left_out(number: int) -> str:
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({"event": "log_lines_left_out", "lines": number, "level": "error", "timestamp": now}) + "\n"
