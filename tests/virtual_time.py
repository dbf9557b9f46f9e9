"""An event loop on which waiting costs nothing, with real sockets.

Where the loop would sleep until its next timer, and nothing arrives on any socket, its clock jumps to that timer.
Bytes on loopback arrive at once, so what a test's servers and clients have to say to each other is said before time
moves.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple, Unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_SETTLE_SECONDS = 0.0003
"""Real time given to the kernel to deliver what was just sent, before the clock jumps."""
_STUCK_SECONDS = 20.0
"""Real time without any timer or event after which a test hangs for good."""


class _Selector(selectors.DefaultSelector):
    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.loop.threads:
            # A thread lives in real time: let it.
            return super().select(0.02 if timeout is None else min(timeout, 0.02))
        if timeout is None:
            if not (ready := super().select(_STUCK_SECONDS)):
                raise RuntimeError("the test waits for what will never happen")
            return ready
        if ready := super().select(_SETTLE_SECONDS):
            return ready
        self.loop.advance(timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Starts at a time of its own, so that nothing can take it for the wall clock's."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self._now = 1_000.0
        self.threads = 0
        super().__init__(selector)

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Jump."""
        self._now += seconds

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[_Ts]], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """As ever, and the clock stands still meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self.threads += 1

        def done(_: object) -> None:
            self.threads -= 1

        future.add_done_callback(done)
        return future
