"""`completion-proxy serve`: one proxy from start to a drained end."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import structlog

from proxy.app import App

if TYPE_CHECKING:
    from proxy.settings import Settings

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code: 0 after draining, 1 where an address cannot be had.

    A second signal ends the process at once.
    """
    log = structlog.get_logger()
    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()

    def stop() -> None:
        if asked_to_stop.is_set():
            os._exit(1)
        asked_to_stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    app = App(settings)
    try:
        await app.start()
    except OSError as error:
        log.error(  # noqa: TRY400 (the operator's to change; a traceback would hide it)
            "cannot_start", problem=str(error), change="HOST, PORT, ADMIN_HOST, ADMIN_PORT or the TLS files"
        )
        return 1
    try:
        await asked_to_stop.wait()
        await app.drain()
    finally:
        await app.stop()
    log.info("stopped")
    return 0
