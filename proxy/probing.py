"""The background probes of one reading of the settings: which there are, and what they report to."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from health.pace import Pace, ProbeBudget
from health.probe import ProbeJudge, ProbeTracker
from health.prober import Prober
from proxy.dialects.codestral import Codestral
from proxy.events import Probed, ProbesEnded, ProbeSkipped, ProbeStarted
from proxy.probes import Check
from proxy.upstreams.providers import ORDER

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any

    from health.breaker import CircuitBreaker
    from health.pace import NextProbe
    from health.probe import ProbeResult
    from proxy.events import Event
    from proxy.settings import ProbeTarget, Settings
    from proxy.upstreams.base import Upstream


class Probing:
    """Probes the targets, and the backup always. `start` and `stop` once each."""

    def __init__(
        self,
        settings: Settings,
        upstreams: Mapping[str, Upstream],
        circuit: Callable[[str, str], CircuitBreaker],
        *,
        emit: Callable[[Event], None],
        clock: Callable[[], float],
        lag: Callable[[float, float], float],
        spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
        earlier: Probing | None = None,
    ) -> None:
        """`circuit(upstream, model)` is the one that a probe may act on; `spawn` runs a task and mourns it.

        What `earlier` has spent of a day's budget stays spent.
        """
        self._settings = settings.probes
        self._backup_model = settings.claude.model
        self._upstreams = upstreams
        self._circuit = circuit
        self._emit = emit
        self._clock = clock
        self._lag = lag
        self._spawn = spawn
        self._dialect = Codestral()
        self._tasks: list[asyncio.Task[None]] = []
        self._budgets: dict[ProbeTarget | None, ProbeBudget] = {} if earlier is None else dict(earlier._budgets)

    def start(self) -> None:
        """Begin to probe."""
        for target in self._settings.targets:
            self._probe(ORDER[0], target.model, target)
        self._probe(ORDER[1], self._backup_model, None)

    async def stop(self) -> None:
        """End every probe, those on their way too."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._emit(ProbesEnded())

    def _probe(self, upstream: str, model: str, target: ProbeTarget | None) -> None:
        # A circuit for each from the start: its place is kept, and its metrics exist before its first call.
        circuit = self._circuit(upstream, model)
        probes = self._settings
        if probes.interval_seconds <= 0:
            return
        check = Check(
            self._upstreams[upstream],
            target,
            self._dialect,
            timeout=probes.timeout_seconds,
            clock=self._clock,
            emit=self._emit,
            lag=self._lag,
        )

        def report(result: ProbeResult) -> None:
            self._emit(Probed(time.time(), result, check.detail, check.usage))

        def report_skip(next_probe: NextProbe) -> None:
            self._emit(ProbeSkipped(upstream, model, next_probe))

        prober = Prober(
            upstream,
            model,
            check,
            ProbeJudge(circuit, ProbeTracker(probes.fall, probes.rise)),
            Pace(probes.interval_seconds),
            self._budget(target),
            # The check keeps its own time; this is for what it cannot bound.
            timeout=2 * probes.timeout_seconds + 1,
            clock=self._clock,
            lag=self._lag,
            on_result=report,
            on_skip=report_skip,
        )
        self._emit(ProbeStarted(upstream, model))
        self._tasks.append(self._spawn(prober.run(), f"probe of {upstream}/{model}"))

    def _budget(self, target: ProbeTarget | None) -> ProbeBudget:
        daily = self._settings.daily_budget
        budget = self._budgets.get(target)
        if budget is None or budget.daily != daily:
            budget = self._budgets[target] = ProbeBudget(daily, now=self._clock())
        return budget
