"""Walks a plan until an upstream has an answer that is fit to be sent, and settles every permit on the way.

Before the commit point a failure costs the caller nothing but time: the next upstream is asked. A circuit that says no
is asked last, once, because a request that would be lost has nothing to lose. Nothing here knows the upstreams' names.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from health.breaker import CallRefused, Throttled
from health.lag import no_lag
from health.outcome import FailureReason, Outcome, OutcomeKind
from proxy.events import AttemptEnded, CapacityRefused, FailedOver, Spilled, StaleResult, TokensUsed
from proxy.routing import refusal_reason
from proxy.served import Failure, NothingServed, Served
from proxy.splice import Splice
from proxy.upstreams.base import LARGEST_ANSWER, AttemptFailed, Limits

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping

    from health.breaker import CircuitBreaker, Permit
    from health.circuits import Circuits
    from proxy.events import Event
    from proxy.routing import Plan
    from proxy.upstreams.base import Call, Reply, Upstream


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds; `first_byte` is to the first content, `idle` between pieces of a stream."""

    first_byte: float
    idle: float


# What more time, or another moment, may repair; an upstream that failed in any other way would fail again.
_MORE_TIME_MAY_HELP = frozenset(
    {FailureReason.FIRST_BYTE_TIMEOUT, FailureReason.CONCURRENCY, FailureReason.LAG, FailureReason.LOCAL}
)


@dataclass(slots=True)
class _Walk:
    """One request's way through its plan."""

    call: Call
    plan: Plan
    behind: list[Upstream]
    """Not asked yet."""
    refused: list[Upstream] = field(default_factory=list)
    """Those whose circuit said no: the last resorts."""
    given_up: list[Upstream] = field(default_factory=list)
    """Those that another one was asked instead of, though they might have answered with more time: the very last."""
    reason: str = ""
    failures: list[Failure] = field(default_factory=list)
    unable: list[Failure] = field(default_factory=list)
    retry_after: float = 1.0


class Failover:
    """Serves calls."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        circuits: Circuits,
        timeouts: Timeouts,
        emit: Callable[[Event], None],
        clock: Callable[[], float],
        lag: Callable[[float, float], float] = no_lag,
    ) -> None:
        """`lag` tells for how many seconds between two moments of `clock` the event loop was away."""
        self._upstreams = upstreams
        self._circuits = circuits
        self._timeouts = timeouts
        self._emit = emit
        self._clock = clock
        self._lag = lag

    async def serve(self, call: Call, plan: Plan) -> Served:
        """The first answer that is fit to be sent; a stream that breaks off later is finished where it can be.

        Raises NothingServed; never takes longer than the total time.
        """
        served = await self._first(call, plan)
        reply = served.reply
        if reply.rest is None or reply.progress is None:
            return served
        return Splice(call, served, plan.order, self._first, self._emit).served

    async def _first(self, call: Call, plan: Plan) -> Served:
        walk = _Walk(call, plan, [self._upstreams[name] for name in plan.order], reason=plan.reason)
        for upstream, forced in self._candidates(walk):
            try:
                return await self._ask(upstream, walk, forced=forced)
            except CallRefused as refusal:
                # One that is throttled is alive, and so the better last resort.
                walk.refused.insert(0 if isinstance(refusal, Throttled) else len(walk.refused), upstream)
                if not walk.failures:
                    walk.reason = refusal_reason(refusal)
                if isinstance(refusal, Throttled):
                    self._emit(Spilled(upstream.name, self._label(upstream, call)))
                walk.retry_after = max(walk.retry_after, refusal.retry_after)
            except AttemptFailed as failed:
                asked_before = any(failure.upstream == upstream.name for failure in walk.failures)
                if failed.reason in _MORE_TIME_MAY_HELP and not asked_before and call.tail is None:
                    walk.given_up.append(upstream)
                walk.failures.append(Failure(upstream.name, failed))
                walk.reason = failed.reason
                if call.is_over(self._clock()):
                    break
        raise NothingServed(walk.failures, walk.unable, walk.retry_after)

    def _candidates(self, walk: _Walk) -> Iterator[tuple[Upstream, bool]]:
        """Whom to ask next, decided when it comes to it: the plan's order, then those whose circuits said no."""
        pinned = walk.plan.pinned
        for group in (walk.behind, walk.refused, walk.given_up):
            while group:
                upstream = group.pop(0)
                if (unable := upstream.unable(walk.call)) is None:
                    yield upstream, pinned or group is not walk.behind
                else:
                    walk.unable.append(Failure(upstream.name, unable))
                    if pinned:
                        walk.reason = unable.reason
                pinned = False

    async def _ask(self, upstream: Upstream, walk: _Walk, *, forced: bool) -> Served:
        if not forced:
            self._circuit(upstream, walk.call).check(self._clock())
        # Waiting for a place is no latency of the upstream's; with nobody else to ask, it may take all the time.
        others = walk.behind or walk.refused or walk.given_up
        await upstream.enter(self._first_byte_by(walk.call) if others else walk.call.deadline)
        try:
            return await self._attempt(upstream, walk, self._permit(upstream, walk.call, forced=forced))
        except BaseException:
            upstream.leave()
            raise

    def _first_byte_by(self, call: Call) -> float:
        return min(self._clock() + self._timeouts.first_byte, call.deadline)

    def _permit(self, upstream: Upstream, call: Call, *, forced: bool) -> Permit | None:
        """A permit, whose result the circuit will count; None where it says no and is asked all the same."""
        circuit, now = self._circuit(upstream, call), self._clock()
        if call.tail is not None:
            # How long an upload takes, and whether it arrives, says more of the caller's line than of the upstream.
            if not forced:
                circuit.pass_uncounted(now)
            return None
        return circuit.insist(now) if forced else circuit.acquire(now)

    def _label(self, upstream: Upstream, call: Call) -> str:
        return self._circuits.label(upstream.name, upstream.circuit_model(call.route.model))

    def _circuit(self, upstream: Upstream, call: Call) -> CircuitBreaker:
        return self._circuits.get(upstream.name, upstream.circuit_model(call.route.model), self._clock())

    def _limits(self, walk: _Walk) -> Limits:
        uploading = walk.call.tail is not None
        return Limits(
            first_byte=walk.call.deadline if uploading else self._first_byte_by(walk.call),
            total=walk.call.deadline,
            idle=self._timeouts.idle,
            patience=lambda: self._patience(walk),
            since=self._clock(),
            lag=self._lag,
        )

    def _patience(self, walk: _Walk) -> float:
        """Until when to wait for an upstream that has shown no content within the first-byte time.

        Where another one is ready, no longer. Where none is, giving up would lose a request that this one may still
        answer, so what is left of the time is shared evenly with the last resorts.
        """
        now, total = self._clock(), walk.call.deadline
        able = [upstream for upstream in walk.behind if upstream.unable(walk.call) is None]
        for upstream in able:
            if self._circuit(upstream, walk.call).admits(now):
                return now
        last_resorts = len(able) + len(walk.refused)
        return now + (total - now) / (1 + last_resorts) if last_resorts else total

    async def _attempt(self, upstream: Upstream, walk: _Walk, permit: Permit | None) -> Served:
        model = upstream.circuit_model(walk.call.route.model)
        started = self._clock()
        limits = self._limits(walk)
        if permit is not None:
            limits.on_content = permit.content
        try:
            reply = await upstream.attempt(walk.call, limits)
            if walk.call.atomic and reply.rest is not None:
                await _hold(reply, reply.rest)
        except AttemptFailed as failed:
            self._settle(upstream.name, model, permit, failed.outcome, started, detail=failed.detail)
            raise
        except BaseException as error:
            left = isinstance(error, asyncio.CancelledError)
            reason = FailureReason.CLIENT_LEFT if left else FailureReason.LOCAL
            self._settle(upstream.name, model, permit, Outcome.failure(reason), started)
            raise
        content_at = reply.content_at if reply.content_at is not None else self._clock()
        if permit is not None:
            permit.content(content_at)
        if walk.failures and walk.call.resumption is None:
            self._emit(FailedOver(walk.call.route.model, walk.failures[0].failed.reason))

        def end(outcome: Outcome) -> None:
            reply.close()
            upstream.leave()
            self._settle(upstream.name, model, permit, outcome, started, content_at)
            if reply.usage is not None:
                self._emit(TokensUsed(upstream.name, reply.usage, walk.call.route.model))

        return Served(upstream.name, walk.call.dialect, walk.call.route.model, walk.reason, reply, walk.failures, end)

    def _settle(
        self,
        upstream: str,
        model: str,
        permit: Permit | None,
        outcome: Outcome,
        started: float,
        content_at: float | None = None,
        detail: str = "",
    ) -> None:
        now = self._clock()
        if permit is not None:
            label = self._circuits.label(upstream, model)
            if outcome.kind is OutcomeKind.THROTTLED:
                self._emit(CapacityRefused(upstream, label))
            stale = permit.circuit.stale_results
            permit.settle(outcome, now)
            if permit.circuit.stale_results > stale:
                self._emit(StaleResult(upstream, label))
        to_first_byte = None if content_at is None else content_at - started
        self._emit(AttemptEnded(upstream, model, outcome, to_first_byte, detail, now - started))


async def _hold(reply: Reply, rest: AsyncGenerator[bytes]) -> None:
    """Wait for all of a stream, so that whatever is wrong with it is found before any of it is sent.

    One that is larger than any answer should be goes on live. Raises AttemptFailed.
    """
    held = [reply.body]
    size = len(reply.body)
    try:
        async for piece in rest:
            held.append(piece)
            size += len(piece)
            if size > LARGEST_ANSWER:
                break
        else:
            reply.rest = None
    except BaseException:
        await rest.aclose()
        reply.close()
        raise
    reply.body = b"".join(held)
    if reply.rest is None:
        reply.close()
