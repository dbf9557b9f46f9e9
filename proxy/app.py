"""The composition root: what exists, how it is wired, and in what order it starts and stops."""

from __future__ import annotations

import asyncio
import ssl
import time
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pybreaker
import structlog
from aiohttp import web

from health.breaker import CircuitBreaker, CircuitListener
from health.circuits import OVERFLOW, Circuits
from health.config import BreakerConfig, WindowType
from health.lag import LagMeter
from health.pace import Pace, ProbeBudget
from health.probe import ProbeJudge, ProbeTracker
from health.prober import Prober
from proxy import events, routing
from proxy.admin import admin_application
from proxy.callers import Callers
from proxy.dialects.codestral import Codestral
from proxy.failover import Failover, Timeouts
from proxy.front import MistralFront
from proxy.intake import Intake
from proxy.logs import EventLog
from proxy.metrics import Metrics
from proxy.override import OverrideBoard, OverrideFile, OverrideMode
from proxy.probes import Check
from proxy.server import DataListener
from proxy.status import Status
from proxy.upstreams.providers import ORDER, Providers

if TYPE_CHECKING:
    from collections.abc import Callable

    from health.pace import NextProbe
    from health.probe import ProbeResult
    from proxy.events import Event
    from proxy.override import Override
    from proxy.routing import Plan
    from proxy.settings import ProbeTarget, Settings

VERSION = version("completion-proxy")

_MODELS_KEPT = 64
_POLL_SECONDS = 0.1
_STRAGGLER_SECONDS = 0.5
_TRIAL_GRACE_SECONDS = 1.0
"""A trial that lasts as long as a request may is no hung one: it ends by its own limit, whatever timers are late by."""


class App:
    """One proxy. `start` and `stop` once each, on the event loop that serves."""

    def __init__(
        self,
        settings: Settings,
        *,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        listeners: tuple[Callable[[Event], None], ...] = (),
    ) -> None:
        """`listeners` see every event besides the metrics, the status and the log. Must be made on a running loop."""
        self._settings = settings
        self._clock = asyncio.get_running_loop().time
        self._wall_clock = wall_clock
        self.log = structlog.get_logger()
        self._hub = events.Hub()
        self._lag = LagMeter(_POLL_SECONDS)
        self._circuits = Circuits(self._make_circuit, limit=_MODELS_KEPT)
        self._board = OverrideBoard(settings.override, wall_clock=wall_clock)
        self._board.on_change(lambda override: self._hub.emit(events.OverrideChanged(override)))
        self._active = routing.ActiveUpstreams(ORDER, self._circuits_of, self._hub.emit)
        self.metrics = Metrics(ORDER, VERSION, self._clock)
        self.status = Status(
            version=VERSION,
            circuits=self._circuits,
            active=self._active,
            override=self._override,
            clock=self._clock,
            wall_clock=wall_clock,
        )
        every: tuple[Callable[[Event], None], ...] = (
            self.metrics,
            self.status,
            EventLog(self.log, self._clock),
            self._review,
            *listeners,
        )
        for listener in every:
            self._hub.listen(listener)
        self._dialect = Codestral()
        self._throttled: set[tuple[str, str]] = set()
        self._background: list[asyncio.Task[Any]] = []
        self._runners: list[web.BaseRunner] = []

    # --- start and stop

    async def start(self) -> None:
        """Bind both listeners and begin to serve and to probe. Raises OSError where an address cannot be had."""
        settings = self._settings
        self._providers = Providers(settings, self._credentials_event, self._lag.between)
        self._listener = self._make_listener()
        try:
            await self._providers.start()
            # Before the first request: what the operator says is in force from the start.
            await self._begin_override()
            self.address = await self._bind(self._data_runner(), settings.host, settings.port, _tls(settings))
            self.admin_address = await self._bind(self._admin_runner(), settings.admin_host, settings.admin_port, None)
        except BaseException:
            await self.stop()
            raise
        self._spawn(self._poll(), "poll")
        self._begin_probing()
        self.log.info("ready", address=self.address, admin_address=self.admin_address, version=VERSION)

    async def drain(self) -> None:
        """Take no new connections, and let what is running finish within DRAIN_SECONDS."""
        self._listener.draining = True
        self.log.info("draining", in_flight=self._listener.in_flight)
        data = self._runners[0]
        for site in list(data.sites):
            await site.stop()
        if data.server is not None:
            # Idle connections are closed, busy ones after the answer that they wait for.
            data.server.pre_shutdown()
        deadline = self._clock() + self._settings.drain_seconds
        while self._listener.in_flight and self._clock() < deadline:  # noqa: ASYNC110 (an event would cost each request)
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End everything that `start` began; what is still running is cut off."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for runner in self._runners:
            await runner.cleanup()
        await self._providers.stop()

    def _spawn(self, coroutine: Any, name: str) -> None:
        task = asyncio.create_task(coroutine, name=name)
        task.add_done_callback(self._mourn)
        self._background.append(task)

    def _mourn(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("background_task_died", task=task.get_name(), exc_info=error)

    # --- the data path

    def _make_listener(self) -> DataListener:
        timeouts, vertex = self._settings.timeouts, self._settings.vertex
        front = None if vertex.front is None else MistralFront(*vertex.front)
        callers = Callers(self._settings, clock=self._clock)
        return DataListener(
            intake=Intake(
                callers,
                front,
                stream_mode=self._settings.stream_mode,
                largest_body=self._settings.max_body_bytes,
                total_seconds=timeouts.total_seconds,
            ),
            callers=callers,
            plan=self._plan,
            failover=Failover(
                self._providers.upstreams,
                self._circuits,
                Timeouts(timeouts.first_byte_seconds, timeouts.stream_idle_seconds),
                self._hub.emit,
                self._clock,
                self._lag.between,
            ),
            emit=self._hub.emit,
            clock=self._clock,
            total_seconds=timeouts.total_seconds,
        )

    def _plan(self, model: str, key: bytes) -> Plan:
        override = self._override()
        if model not in self._active:
            # As the circuits, so that no caller can make time series without end.
            known = model if len(self._active) < _MODELS_KEPT else OVERFLOW
            if known not in self._active:
                self._active.review(override, time.time(), [known])
        return routing.plan(ORDER, override, key)

    def _override(self) -> Override:
        return self._board.current(self._wall_clock())

    def _data_runner(self) -> web.ServerRunner:
        server = web.Server(
            self._listener,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            keepalive_timeout=75.0,
            max_field_size=32_768,
            max_line_size=16_384,
        )
        return web.ServerRunner(server, shutdown_timeout=_STRAGGLER_SECONDS)

    def _admin_runner(self) -> web.AppRunner:
        application = admin_application(self.metrics, self.status, lambda: self._listener.draining)
        return web.AppRunner(application, access_log=None, shutdown_timeout=_STRAGGLER_SECONDS)

    async def _bind(self, runner: web.BaseRunner, host: str, port: int, tls: ssl.SSLContext | None) -> str:
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, host, port, ssl_context=tls, backlog=1024)
        await site.start()
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if tls else 'http'}://{shown}:{site.port}"

    # --- circuits, probes and the override

    def _make_circuit(self, upstream: str, model: str, now: float) -> CircuitBreaker:
        listener = _CircuitListener(upstream, model, self._hub.emit)
        circuit = CircuitBreaker(
            f"{upstream}/{model}",
            _breaker_config(self._settings),
            now=now,
            lag=self._lag.between,
            listeners=[listener],
        )
        self._hub.emit(events.CircuitCreated(upstream, model, circuit))
        return circuit

    def _circuit(self, upstream: str, model: str) -> CircuitBreaker:
        return self._circuits.get(upstream, model, self._clock())

    def _circuits_of(self, model: str) -> list[CircuitBreaker]:
        return [self._circuit(name, self._providers.upstreams[name].circuit_model(model)) for name in ORDER]

    def _review(self, event: Event) -> None:
        """Whatever may change who serves is a reason to look."""
        if isinstance(event, events.CircuitMoved | events.OverrideChanged):
            cause = event if isinstance(event, events.CircuitMoved) else None
            self._active.review(self._override(), time.time(), cause=cause)

    def _begin_probing(self) -> None:
        probes = self._settings.probes
        for target in probes.targets:
            self._probe(ORDER[0], target.model, target)
        self._probe(ORDER[1], self._settings.claude.model, None)

    def _probe(self, upstream: str, model: str, target: ProbeTarget | None) -> None:
        probes = self._settings.probes
        # A circuit for each from the start: its place is kept, and its metrics exist before its first call.
        circuit = self._circuit(upstream, model)
        if target is not None:
            self._active.review(self._override(), time.time(), [model])
        if probes.interval_seconds <= 0:
            return
        check = Check(
            self._providers.upstreams[upstream],
            target,
            self._dialect,
            timeout=probes.timeout_seconds,
            clock=self._clock,
            emit=self._hub.emit,
            lag=self._lag.between,
        )

        def report(result: ProbeResult) -> None:
            self._hub.emit(events.Probed(time.time(), result, check.detail, check.usage))

        def report_skip(next_probe: NextProbe) -> None:
            self._hub.emit(events.ProbeSkipped(upstream, model, next_probe))

        prober = Prober(
            upstream,
            model,
            check,
            ProbeJudge(circuit, ProbeTracker(probes.fall, probes.rise)),
            Pace(probes.interval_seconds),
            ProbeBudget(probes.daily_budget, now=self._clock()),
            # The check keeps its own time; this is for what it cannot bound.
            timeout=2 * probes.timeout_seconds + 1,
            clock=self._clock,
            lag=self._lag.between,
            on_result=report,
            on_skip=report_skip,
        )
        self._hub.emit(events.ProbeStarted(upstream, model))
        self._spawn(prober.run(), f"probe of {upstream}/{model}")

    async def _begin_override(self) -> None:
        if self._override().mode is not OverrideMode.AUTO:
            self._hub.emit(events.OverrideChanged(self._override()))
        if self._settings.override_file is not None:
            watched = OverrideFile(self._settings.override_file, self._take_override, self._override_rejected)
            await watched.load_now()
            self._spawn(watched.run(), "override file")

    def _take_override(self, override: Override | None) -> None:
        self._board.set_file(override)
        if override is not None and override.expires_at is not None and override.expires_at <= self._wall_clock():
            # What an operator writes and nothing obeys must not pass in silence.
            self._override_rejected(f"{self._settings.override_file}: expired at {override.expires_at.isoformat()}")

    def _override_rejected(self, problem: str) -> None:
        self._hub.emit(events.OverrideRejected(problem))

    def _credentials_event(self, name: str, **fields: object) -> None:
        write = self.log.info if name == "credentials_refreshed" else self.log.error
        write(name, upstream=ORDER[0], **fields)

    def _review_throttles(self) -> None:
        now = self._clock()
        for upstream, model, circuit in self._circuits:
            spilled = circuit.spilled_share(now)
            if (throttled := spilled > 0) is not ((upstream, model) in self._throttled):
                (self._throttled.add if throttled else self._throttled.discard)((upstream, model))
                accepted = circuit.admission.throttle.accept_ratio(now)
                self._hub.emit(events.ThrottleChanged(upstream, model, throttled, spilled, accepted))

    async def _poll(self) -> None:
        """Let happen what only time makes happen."""
        try:
            while True:
                self._circuits.poll(self._clock())
                self._review_throttles()
                self._board.poll(self._wall_clock())
                if (lag := self._lag.tick(self._clock())) > 0:
                    self._hub.emit(events.LoopLagged(lag))
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            # Else every wait would seem to be the loop's own fault from here on.
            self._lag.stop()


class _CircuitListener(CircuitListener):
    """Tells the hub of a circuit's transitions."""

    def __init__(self, upstream: str, model: str, emit: Callable[[Event], None]) -> None:
        self._upstream = upstream
        self._model = model
        self._emit = emit

    def state_change(self, cb: pybreaker.CircuitBreaker, old_state: object, new_state: object) -> None:
        assert isinstance(cb, CircuitBreaker)
        assert cb.last_transition is not None
        self._emit(events.CircuitMoved(time.time(), self._upstream, self._model, cb.last_transition))

    def would_trip(self, cb: pybreaker.CircuitBreaker) -> None:
        assert isinstance(cb, CircuitBreaker)
        assert cb.last_transition is not None
        self._emit(events.WouldTrip(time.time(), self._upstream, self._model, cb.last_transition))


def _breaker_config(settings: Settings) -> BreakerConfig:
    breaker = settings.breaker
    return BreakerConfig(
        window_type=WindowType.COUNT if breaker.window_calls else WindowType.TIME,
        window_size=breaker.window_calls or breaker.window_seconds,
        minimum_calls=breaker.minimum_calls,
        failure_rate_threshold=breaker.failure_rate_threshold,
        slow_call_seconds=breaker.slow_call_seconds,
        slow_rate_threshold=breaker.slow_rate_threshold,
        consecutive_failures=breaker.consecutive_failures,
        open_seconds=breaker.open_seconds,
        open_multiplier=breaker.open_multiplier,
        max_open_seconds=breaker.max_open_seconds,
        trial_calls=breaker.trial_calls,
        ramp_seconds=breaker.ramp_seconds,
        observe_only=breaker.observe_only,
        trial_seconds=settings.timeouts.total_seconds + _TRIAL_GRACE_SECONDS,
    )


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    return context
