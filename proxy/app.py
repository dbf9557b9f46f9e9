"""The composition root: what exists, how it is wired, and in what order it starts and stops."""

from __future__ import annotations

import asyncio
import platform
import ssl
import time
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from health.lag import LagMeter
from proxy import events
from proxy.admin.gate import Gate
from proxy.admin.listener import admin_application
from proxy.admin.override import add_override
from proxy.admin.page import Feed, add_page
from proxy.engine import Engine, Surroundings
from proxy.history.incidents import Incidents
from proxy.history.journal import Journal
from proxy.history.timeline import Timeline
from proxy.hub import TRAFFIC, Hub
from proxy.logs import EventLog
from proxy.metrics import Metrics
from proxy.override_desk import OverrideDesk
from proxy.reload import ReloadRefused, refuse_what_needs_a_restart
from proxy.settings_types import variable
from proxy.status import Status
from proxy.switchboard import Switchboard
from proxy.upstreams.providers import ORDER

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.web_request import BaseRequest

    from proxy.events import Event
    from proxy.flags import Flags
    from proxy.settings import Settings

VERSION = version("completion-proxy")

_POLL_SECONDS = 0.1
_STRAGGLER_SECONDS = 0.5


class App:
    """One proxy. `start` and `stop` once each, on the event loop that serves."""

    def __init__(
        self,
        settings: Settings,
        *,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        listeners: tuple[Callable[[Event], None], ...] = (),
    ) -> None:
        """`listeners` see every event besides the proxy's own. Must be made on a running loop.

        Raises FlagsUnavailable or OSError where a setting names what cannot be had.
        """
        self._settings = settings
        self._wall_clock = wall_clock
        self._clock = asyncio.get_running_loop().time
        self.log = structlog.get_logger()
        self._hub = Hub()
        self._lag = LagMeter(_POLL_SECONDS)
        self.desk = OverrideDesk(
            settings.override,
            settings.override_file,
            self._hub.emit,
            wall_clock,
            lambda upstream: self.switchboard.proven_dead(upstream),
        )
        self.switchboard = Switchboard(
            ORDER,
            settings,
            self._hub.emit,
            override=self.desk.current,
            clock=self._clock,
            lag=self._lag.between,
        )
        self.metrics = Metrics(ORDER, VERSION, self._clock)
        self.journal = Journal(settings.journal_file, self._hub.emit)
        self.incidents = Incidents(
            ORDER[0],
            write=self.journal.append,
            override=self.desk.current,
            clock=self._clock,
            wall_clock=wall_clock,
        )
        self.timeline = Timeline(ORDER, time.time)
        self._feed = Feed()
        self.status = Status(
            version=VERSION,
            circuits=self.switchboard.circuits,
            active=self.switchboard.active,
            override=self.desk.current,
            in_use=self.switchboard.in_use,
            clock=self._clock,
            wall_clock=wall_clock,
        )
        self._listen(listeners)
        self._flags = _flags(settings, self._hub.emit)
        self._background: list[asyncio.Task[Any]] = []
        self._runners: list[web.BaseRunner] = []
        self._engines: list[Engine] = []
        self._handing_over: asyncio.Task[None] | None = None
        self._draining = False
        self._tls = _tls(settings)
        self._reloading = asyncio.Lock()

    def _listen(self, listeners: tuple[Callable[[Event], None], ...]) -> None:
        self._hub.listen(self.metrics)
        self._hub.listen(self.status, but=TRAFFIC)
        self._hub.listen(
            EventLog(self.log, self._clock, log_requests=self._settings.log_requests),
            but=(events.RequestStarted, events.TokensUsed),
        )
        self._hub.listen(self.journal, but=TRAFFIC)
        self._hub.listen(self.incidents, but=(events.RequestStarted,))
        self._hub.listen(self.timeline, but=(events.RequestStarted, events.TokensUsed))
        self._hub.listen(self._feed, but=TRAFFIC)
        self._hub.listen(self.switchboard, but=TRAFFIC)
        for listener in listeners:
            self._hub.listen(listener)

    # --- start and stop

    async def start(self) -> None:
        """Bind both listeners and begin to serve and to probe. Raises OSError where an address cannot be had."""
        settings = self._settings
        engine = Engine(settings, self._surroundings())
        self._engines.append(engine)
        self.switchboard.use(settings, engine.upstreams)
        self._hub.emit(events.Started(time.time(), VERSION))
        try:
            await self.journal.start()
            self.incidents.restore(self.journal.earlier)
            await engine.start()
            # Before the first request: what the operator says is in force from the start.
            await self._begin_override()
            self.address = await self._bind(self._data_runner(), settings.host, settings.port, self._listening_tls())
            self.admin_address = await self._bind(self._admin_runner(), settings.admin_host, settings.admin_port, None)
        except BaseException:
            await self.stop()
            raise
        self._spawn(self._poll(), "poll")
        self._spawn(self.journal.run(), "journal")
        self._begin_probing(engine)
        self.log.info("ready", address=self.address, admin_address=self.admin_address, version=VERSION)

    async def reload(self, settings: Settings) -> None:
        """Serve by other settings from now on; requests on their way end as they began. Circuits are kept.

        Raises ReloadRefused, and changes nothing, where a setting cannot change live or cannot be used.
        """
        async with self._reloading:
            refuse_what_needs_a_restart(self._settings, settings)
            try:
                tls = None if self._tls is None else await asyncio.to_thread(_tls, settings)
            except OSError as error:
                raise ReloadRefused([f"{variable('tls_certificate')} and {variable('tls_key')}: {error}"]) from error
            old = self.engine
            engine = Engine(settings, self._surroundings(), old)
            await engine.start()
            engine.listener.draining = self._draining
            self._settings, self._tls = settings, tls
            self._engines.append(engine)
            self.switchboard.use(settings, engine.upstreams)
            self._handing_over = self._spawn(self._hand_over(old, engine, self._handing_over), "hand over")
            if not engine.probes_as(old):
                await old.end_probing()
                self._begin_probing(engine)
            self._hub.emit(events.ConfigReloaded(time.time()))

    def reload_failed(self, problems: tuple[str, ...]) -> None:
        """Tell that the settings last read are not in force, and why."""
        self._hub.emit(events.ConfigReloaded(time.time(), problems))

    async def _hand_over(self, old: Engine, engine: Engine, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            # In their order: an earlier one may still be using what this one would close.
            await before
        await old.hand_over(engine)
        self._engines.remove(old)

    async def drain(self) -> None:
        """Take no new connections, and let what is running finish within DRAIN_SECONDS."""
        self._draining = True
        for engine in self._engines:
            engine.listener.draining = True
        self.log.info("draining", in_flight=self._in_flight)
        data = self._runners[0]
        for site in list(data.sites):
            await site.stop()
        if data.server is not None:
            # Idle connections are closed, busy ones after the answer that they wait for.
            data.server.pre_shutdown()
        deadline = self._clock() + self._settings.drain_seconds
        while self._in_flight and self._clock() < deadline:  # noqa: ASYNC110 (an event would cost each request)
            await asyncio.sleep(0.02)

    @property
    def engine(self) -> Engine:
        """The one that serves what comes in now."""
        return self._engines[-1]

    @property
    def _in_flight(self) -> int:
        return sum(engine.listener.in_flight for engine in self._engines)

    async def stop(self) -> None:
        """End everything that `start` began; what is still running is cut off."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for runner in self._runners:
            await runner.cleanup()
        for engine in self._engines:
            await engine.stop()
        if self._flags is not None:
            self._flags.stop()
        self.incidents.save()
        await self.journal.stop()

    def _spawn(self, coroutine: Any, name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine, name=name)
        self._background.append(task)
        task.add_done_callback(self._mourn)
        return task

    def _mourn(self, task: asyncio.Task[Any]) -> None:
        self._background.remove(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("background_task_died", task=task.get_name(), exc_info=error)

    # --- what serves

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            circuits=self.switchboard.circuits,
            circuit=self.switchboard.circuit,
            plan=self.switchboard.plan,
            flags=self._flags,
            emit=self._hub.emit,
            on_credentials_event=self._credentials_event,
            clock=self._clock,
            lag=self._lag.between,
            spawn=self._spawn,
        )

    async def _serve(self, request: BaseRequest) -> web.StreamResponse:
        return await self.engine.listener(request)

    def _data_runner(self) -> web.ServerRunner:
        server = web.Server(
            self._serve,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            keepalive_timeout=75.0,
            max_field_size=32_768,
            max_line_size=16_384,
        )
        return web.ServerRunner(server, shutdown_timeout=_STRAGGLER_SECONDS)

    def _listening_tls(self) -> ssl.SSLContext | None:
        """What the listener has for as long as it lives; each handshake takes the certificate that is in force then.

        A new one loaded into a context in use would meet handshakes half-way, and leave them without a key.
        """
        if self._tls is not None:
            self._tls.sni_callback = self._take_certificate  # called for a caller who names no server, too
        return self._tls

    def _take_certificate(self, handshake: ssl.SSLObject, _name: str | None, _listening: ssl.SSLContext) -> None:
        assert self._tls is not None
        handshake.context = self._tls

    def _admin_runner(self) -> web.AppRunner:
        application = admin_application(self.metrics, self.status, self.journal, self.incidents, lambda: self._draining)
        gate = Gate(lambda: self._settings.admin_token, self._change_refused)
        written = None if self._settings.journal_file is None else self.journal.flush
        add_override(application, self.desk, gate, written, instance=platform.node())
        add_page(
            application,
            self.status,
            self.timeline,
            self._feed,
            needs_token=lambda: gate.needs_token,
            wall_clock=self._wall_clock,
            instance=platform.node(),
        )
        # A reader of the feed that has gone must free its place at once.
        return web.AppRunner(
            application,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            shutdown_timeout=_STRAGGLER_SECONDS,
        )

    async def _bind(self, runner: web.BaseRunner, host: str, port: int, tls: ssl.SSLContext | None) -> str:
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, host, port, ssl_context=tls, backlog=1024)
        await site.start()
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if tls else 'http'}://{shown}:{site.port}"

    # --- what happens beside the requests

    def _begin_probing(self, engine: Engine) -> None:
        for target in engine.settings.probes.targets:
            self.switchboard.watch(target.model)
        engine.begin_probing()

    async def _begin_override(self) -> None:
        watched = self.desk.begin()
        if (restored := self.journal.last_override()) is not None:
            self.desk.restore(restored)
        if watched is not None:
            await watched.load_now()
            self._spawn(watched.run(), "override file")

    def _change_refused(self, code: int, why: str) -> None:
        self._hub.emit(events.ChangeRefused(code, why))

    def _credentials_event(self, name: str, **fields: object) -> None:
        write = self.log.info if name == "credentials_refreshed" else self.log.error
        write(name, upstream=ORDER[0], **fields)

    async def _poll(self) -> None:
        """Let happen what only time makes happen."""
        try:
            while True:
                self.switchboard.poll()
                self.desk.poll()
                self.incidents.poll()
                if (lag := self._lag.tick(self._clock())) > 0:
                    self._hub.emit(events.LoopLagged(lag))
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            # Else every wait would seem to be the loop's own fault from here on.
            self._lag.stop()


def _flags(settings: Settings, emit: Callable[[Event], None]) -> Flags | None:
    if settings.openfeature_provider is None:
        return None
    # An optional extra, imported where it is asked for.
    from proxy.flags import Flags

    return Flags(settings.openfeature_provider, ORDER, emit)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    return context
