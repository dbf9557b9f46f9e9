"""What a second signal cuts off."""

from __future__ import annotations

import asyncio
import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.commands import serve


async def test_a_second_signal_loses_the_lines_that_tell_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    ended = asyncio.Event()

    def end(code: int) -> None:
        done.append(f"exit {code}")
        ended.set()

    async def started() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    async def drain() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(ended.wait(), 5)

    async def stop() -> None:
        pass

    monkeypatch.setattr(serve, "App", lambda _: SimpleNamespace(start=started, drain=drain, stop=stop))
    monkeypatch.setattr(serve, "close_all", lambda: done.append("log written"))
    monkeypatch.setattr(os, "_exit", end)
    settings: Any = None
    assert await serve.serve(settings, None) == 0
    assert done == ["log written", "exit 1"]
