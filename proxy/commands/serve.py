"""`completion-proxy serve`: one proxy from start to a drained end."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import structlog

from proxy.app import App
from proxy.flags import FlagsUnavailable
from proxy.log_writer import close_all
from proxy.reload import ReloadRefused
from proxy.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.settings import Settings

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def serve(settings: Settings, config: Path | None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code: 0 after draining, 1 where an address cannot be had.

    A second signal ends the process at once, but for the log's last lines. SIGHUP reads `config` and the secrets anew.
    """
    log = structlog.get_logger()
    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()
    asked_to_reload = asyncio.Event()

    def stop() -> None:
        if asked_to_stop.is_set():
            close_all()
            os._exit(1)
        asked_to_stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    # Before the start: until it is set, the signal would end the process.
    loop.add_signal_handler(signal.SIGHUP, asked_to_reload.set)
    try:
        app = App(settings)
        await app.start()
    except OSError as error:
        log.error(  # noqa: TRY400 (the operator's to change; a traceback would hide it)
            "cannot_start", problem=str(error), change="HOST, PORT, ADMIN_HOST, ADMIN_PORT or the TLS files"
        )
        return 1
    except FlagsUnavailable as error:
        log.error("cannot_start", problem=str(error))  # noqa: TRY400 (as above)
        return 1
    reloading = asyncio.create_task(_reload_when_asked(app, config, asked_to_reload), name="reload")
    try:
        await asked_to_stop.wait()
        reloading.cancel()
        await app.drain()
    finally:
        await app.stop()
    log.info("stopped")
    return 0


async def _reload_when_asked(app: App, config: Path | None, asked: asyncio.Event) -> None:
    while True:
        await asked.wait()
        asked.clear()
        try:
            await app.reload(await asyncio.to_thread(load_settings, config))
        except (SettingsError, ReloadRefused) as error:
            app.reload_failed(tuple(error.problems))
        except Exception as error:  # noqa: BLE001 (the root of a task: the old settings serve on, whatever it was)
            app.reload_failed((f"{type(error).__name__}: {error}",))
