"""The background loop that probes one upstream: call, time, judge, report, wait, for ever; no call that is not needed.

It does no I/O itself and knows no upstream: the check, the clock and the sleep are given. It ends by cancellation
alone, for a prober that died of one odd answer would leave a circuit without its verdict, and nobody would see it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from health.lag import no_lag
from health.outcome import FailureReason, Outcome
from health.pace import NextProbe, Pace, ProbeBudget
from health.probe import ProbeJudge, ProbeResult

logger = logging.getLogger("health")

_T = TypeVar("_T")


class Prober:
    """Probes `model` at `upstream` with `check`, whose outcome is judged by `judge`.

    `timeout` is in seconds, on the event loop's time; `clock` is the monotonic clock of the circuit that is judged.
    `lag(start, end)` is for how many seconds in between the event loop was away.
    `on_skip` is told instead of `on_result` where fresh traffic made a probe needless.
    """

    def __init__(
        self,
        upstream: str,
        model: str,
        check: Callable[[], Awaitable[Outcome]],
        judge: ProbeJudge,
        pace: Pace,
        budget: ProbeBudget,
        *,
        timeout: float,
        clock: Callable[[], float],
        lag: Callable[[float, float], float] = no_lag,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = random.random,
        on_result: Callable[[ProbeResult], object] = lambda _: None,
        on_skip: Callable[[NextProbe], object] = lambda _: None,
    ) -> None:
        self._upstream = upstream
        self._model = model
        self._check = check
        self._judge = judge
        self._pace = pace
        self._budget = budget
        self._timeout = timeout
        self._clock = clock
        self._lag = lag
        self._sleep = sleep
        self._random = random
        self._on_result = on_result
        self._on_skip = on_skip
        self._held_back = False

    async def run(self) -> None:
        """Probe at once, and then at the pace, until cancelled. Never raises anything else."""
        wait = await self._probe()
        while True:
            await self._sleep(wait)
            wait = self._skip() if self._judge.needless(self._clock(), self._pace.interval) else await self._probe()

    def _skip(self) -> float:
        next_probe = self._decide(self._clock())
        self._report(self._on_skip, next_probe)
        return next_probe.seconds

    async def _probe(self) -> float:
        started_at = self._clock()
        self._budget.spend(started_at)
        outcome = await self._outcome(started_at)
        now = self._clock()
        verdict = self._judge.record(outcome, started_at, now)
        up = self._judge.tracker.up
        next_probe = self._decide(now)
        result = ProbeResult(self._upstream, self._model, outcome, now, now - started_at, verdict, up, next_probe)
        self._report(self._on_result, result)
        return next_probe.seconds

    def _decide(self, now: float) -> NextProbe:
        wanted = self._pace.delay(doubt=self._judge.in_doubt, down=self._judge.is_down, random=self._random)
        least = self._budget.least_delay(now)
        # Once begun it lasts as long as the reserve does: the jitter would have it begin again at every other probe.
        self._held_back = least > wanted or (self._held_back and least > 0)
        return NextProbe(max(wanted, least), self._budget.remaining(now), self._held_back)

    async def _outcome(self, started_at: float) -> Outcome:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._check()
        except TimeoutError:
            unseen = self._lag(started_at, self._clock()) > 0
            return Outcome.failure(FailureReason.LAG if unseen else FailureReason.FIRST_BYTE_TIMEOUT)
        except Exception:
            logger.exception("the probe of %s/%s raised", self._upstream, self._model)
            return Outcome.failure(FailureReason.MALFORMED)

    def _report(self, listener: Callable[[_T], object], news: _T) -> None:
        try:
            listener(news)
        except Exception:
            logger.exception("the listener to probes of %s/%s raised", self._upstream, self._model)
