"""What serves by one reading of the settings: the providers, the way of a request to them, and the probes.

When the settings are read anew, another engine takes over for the requests that come from then on, and this one ends
with its last request. The circuits are nobody's: both engines judge by the same ones.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.callers import Callers
from proxy.failover import Failover, Timeouts
from proxy.front import MistralFront
from proxy.intake import Intake
from proxy.probing import Probing
from proxy.server import DataListener
from proxy.upstreams.credentials import credentials_for
from proxy.upstreams.providers import Providers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any

    from health.breaker import CircuitBreaker
    from health.circuits import Circuits
    from proxy.events import Event
    from proxy.flags import Flags
    from proxy.routing import Plan
    from proxy.settings import Settings
    from proxy.upstreams.base import Upstream
    from proxy.upstreams.credentials import Credentials

_LAST_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What outlives an engine."""

    circuits: Circuits
    circuit: Callable[[str, str], CircuitBreaker]
    """Upstream and model to the circuit of a probe."""
    plan: Callable[[str, bytes], Plan]
    """Model and caller's key to the plan of one request."""
    flags: Flags | None
    emit: Callable[[Event], None]
    on_credentials_event: Callable[..., None]
    clock: Callable[[], float]
    lag: Callable[[float, float], float]
    spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]


class Engine:
    """One of them. `start` and `stop` once each. Must be made on a running loop."""

    def __init__(self, settings: Settings, around: Surroundings, earlier: Engine | None = None) -> None:
        """`earlier` hands over what takes time to win back: connections, tokens, whom Vertex let pass, probes."""
        self.settings = settings
        self._around = around
        self._credentials: Credentials
        self._providers: Providers
        if earlier is not None and _same_credentials(settings, earlier.settings):
            self._credentials = earlier._credentials
        else:
            self._credentials = credentials_for(settings.vertex, on_event=around.on_credentials_event)
        if earlier is not None and _same_providers(settings, earlier.settings):
            self._providers = earlier._providers
        else:
            self._providers = Providers(settings, self._credentials, around.lag)
        self._earlier: Engine | None = earlier
        # Whom another server let pass, this one may not know.
        knows = earlier is not None and settings.vertex.base_url == earlier.settings.vertex.base_url
        self._callers: Callers = Callers(
            settings, clock=around.clock, earlier=earlier._callers if earlier is not None and knows else None
        )
        self.listener = self._make_listener(settings)
        self._probing: Probing
        if earlier is not None and self._providers is earlier._providers and settings.probes == earlier.settings.probes:
            self._probing = earlier._probing
        else:
            self._probing = self._make_probing(settings, None if earlier is None else earlier._probing)

    @property
    def upstreams(self) -> Mapping[str, Upstream]:
        """By name."""
        return self._providers.upstreams

    def _make_listener(self, settings: Settings) -> DataListener:
        around, timeouts, vertex = self._around, settings.timeouts, settings.vertex
        return DataListener(
            intake=Intake(
                self._callers,
                None if vertex.front is None else MistralFront(*vertex.front),
                stream_mode=settings.stream_mode,
                largest_body=settings.max_body_bytes,
                total_seconds=timeouts.total_seconds,
            ),
            callers=self._callers,
            plan=around.plan,
            flags=around.flags,
            failover=Failover(
                self._providers.upstreams,
                around.circuits,
                Timeouts(timeouts.first_byte_seconds, timeouts.stream_idle_seconds),
                around.emit,
                around.clock,
                around.lag,
            ),
            emit=around.emit,
            clock=around.clock,
            total_seconds=timeouts.total_seconds,
        )

    def _make_probing(self, settings: Settings, earlier: Probing | None) -> Probing:
        around = self._around
        return Probing(
            settings,
            self._providers.upstreams,
            around.circuit,
            emit=around.emit,
            clock=around.clock,
            lag=around.lag,
            spawn=around.spawn,
            earlier=earlier,
        )

    async def start(self) -> None:
        """Begin to fetch credentials; waits for none."""
        if self._earlier is None or self._earlier._credentials is not self._credentials:
            await self._credentials.start()

    def begin_probing(self) -> None:
        """Probe from now on."""
        self._probing.start()

    def probes_as(self, other: Engine) -> bool:
        """Whether both have the same probes: they go on, with what they have found out."""
        return self._probing is other._probing

    async def end_probing(self) -> None:
        """Probe no more."""
        await self._probing.stop()

    async def hand_over(self, successor: Engine) -> None:
        """Wait for the last request, and close what `successor` does not go on with."""
        while self.listener.in_flight:  # noqa: ASYNC110 (an event would cost each request)
            await asyncio.sleep(_LAST_LOOK_SECONDS)
        successor._earlier = None
        if successor._providers is not self._providers:
            await self._providers.stop()
        if successor._credentials is not self._credentials:
            await self._credentials.stop()

    async def stop(self) -> None:
        """End everything; what is still running is cut off."""
        await self._credentials.stop()
        await self._providers.stop()


def _same_credentials(settings: Settings, earlier: Settings) -> bool:
    """A token that is still good is not thrown away: its server may be down just now."""
    now, before = settings.vertex, earlier.vertex
    return (now.credentials, now.token) == (before.credentials, before.token)


def _same_providers(settings: Settings, earlier: Settings) -> bool:
    return (
        settings.vertex == earlier.vertex
        and settings.claude == earlier.claude
        and settings.timeouts.connect_seconds == earlier.timeouts.connect_seconds
    )
