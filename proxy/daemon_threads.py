"""A daemon thread a call, for what may hang on something of others: a disk, a name server, a token server.

asyncio.to_thread's pool is waited for at the end of the process, and is everybody's.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _DaemonThreads(Executor):
    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        future: Future[_T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 (told to whoever waits)
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=run, name="daemon call", daemon=True).start()
        return future


_THREADS = _DaemonThreads()


def on_daemon_thread(call: Callable[[], _T]) -> Future[_T]:
    """Begin `call` on a daemon thread of its own; whoever has no event loop yet may wait for what comes of it."""
    return _THREADS.submit(call)


async def in_daemon_thread(call: Callable[[], _T]) -> _T:
    """Like asyncio.to_thread, on a daemon thread of its own."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, call)
