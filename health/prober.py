"""The background loop that probes one upstream: call, time, judge, report, wait, for ever.

It does no I/O itself and knows no upstream: the check, the clock and the sleep are given. It ends by cancellation
alone, for a prober that died of one odd answer would leave a circuit without its verdict, and nobody would see it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from health.outcome import FailureReason, Outcome
from health.probe import Pace, ProbeJudge, ProbeResult

logger = logging.getLogger("health")


class Prober:
    """Probes `model` at `upstream` with `check`, whose outcome is judged by `judge`.

    `timeout` is in seconds, on the event loop's time; `clock` is the monotonic clock of the circuit that is judged.
    """

    def __init__(
        self,
        upstream: str,
        model: str,
        check: Callable[[], Awaitable[Outcome]],
        judge: ProbeJudge,
        pace: Pace,
        *,
        timeout: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = random.random,
        on_result: Callable[[ProbeResult], object] = lambda _: None,
    ) -> None:
        self._upstream = upstream
        self._model = model
        self._check = check
        self._judge = judge
        self._pace = pace
        self._timeout = timeout
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._on_result = on_result

    async def run(self) -> None:
        """Probe at once, and then at the pace, until cancelled. Never raises anything else."""
        while True:
            self._report(await self._probe())
            await self._sleep(self._pace.delay(self._judge.tracker, self._random))

    async def _probe(self) -> ProbeResult:
        started_at = self._clock()
        outcome = await self._outcome()
        now = self._clock()
        verdict = self._judge.record(outcome, started_at, now)
        up = self._judge.tracker.up
        return ProbeResult(self._upstream, self._model, outcome, now, now - started_at, verdict, up)

    async def _outcome(self) -> Outcome:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._check()
        except TimeoutError:
            return Outcome.failure(FailureReason.FIRST_BYTE_TIMEOUT)
        except Exception:
            logger.exception("the probe of %s/%s raised", self._upstream, self._model)
            return Outcome.failure(FailureReason.MALFORMED)

    def _report(self, result: ProbeResult) -> None:
        try:
            self._on_result(result)
        except Exception:
            logger.exception("the listener to probes of %s/%s raised", self._upstream, self._model)
