"""The circuit breaker: whether calls to one upstream may pass, judged by what came of the calls before.

A caller acquires a permit, makes the call itself, and settles the permit with what came of it. The rules are
resilience4j's, with what that leaves open decided in the docstrings below. There is no `await` between a check and its
change, so each method is atomic on one event loop. Nothing here reads a clock: `now` is seconds on a monotonic clock of
the caller's.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence

import pybreaker

from health.admission import Admission
from health.backoff import Backoff
from health.config import BackoffReset, BreakerConfig, WindowType
from health.lag import no_lag
from health.outcome import FailureReason, Outcome, OutcomeKind
from health.permit import Permit
from health.refusal import CallRefused, CircuitOpen, Throttled
from health.state_machine import CircuitListener, StateMachine, refuse_to_run
from health.transitions import TRANSITIONS, CircuitState, Transition, TransitionReason, ensure_legal
from health.window import Counts, Tally, Window

__all__ = [
    "TRANSITIONS", "BackoffReset", "BreakerConfig", "CallRefused", "CircuitBreaker", "CircuitListener", "CircuitOpen",
    "CircuitState", "Permit", "Throttled", "Transition", "TransitionReason", "WindowType",
]  # fmt: skip

# An enum's member costs a look-up by name each time, and these are asked for at every call.
_OK, _FAILED, _MISCONFIGURED = OutcomeKind.OK, OutcomeKind.FAILED, OutcomeKind.MISCONFIGURED
_THROTTLED, _NEUTRAL = OutcomeKind.THROTTLED, OutcomeKind.NEUTRAL
_RAN_ON = (FailureReason.CLIENT_LEFT, FailureReason.TOTAL_TIMEOUT)  # ended from this side, while all was well
_CLOSED, _OPEN, _HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN

_UNCOUNTED = -1  # the generation of a permit whose result counts nowhere


class CircuitBreaker(StateMachine):
    """The circuit of one upstream and model.

    The attributes are for reading: `since` is when the circuit came into its state, `trip_reason` why it is not closed,
    `open_until` when an opening ends (all times in seconds, on the caller's clock), `generation` the number of
    transitions, `stale_results` the number of results that came too late to count, `last_success_at` when a call was
    last answered well and in time. pybreaker's own settings (as `fail_max`) show the config and change nothing.

    A listener is pybreaker's: `state_change(cb, old_state, new_state)` comes when the change is complete, and
    `cb.last_transition` is its evidence. One that raises is reported to the log and stops nothing.

    With `config.observe_only` everything is judged as ever and nothing is refused: `circuit_state` stays closed, and
    instead of changes a `CircuitListener` is told once of each trip from closed. `judged_state` is what it would be;
    `since`, `trip_reason`, `open_until` and `counts` are that state's.
    """

    def __init__(
        self,
        name: str,
        config: BreakerConfig,
        *,
        now: float,
        random: Callable[[], float] = random.random,
        lag: Callable[[float, float], float] = no_lag,
        listeners: Sequence[pybreaker.CircuitBreakerListener] = (),
        exclude: object = None,
    ) -> None:
        """`lag(start, end)` is for how many seconds in between the caller itself was too busy to see an answer."""
        if exclude is not None:
            refuse_to_run()
        super().__init__(name, config, listeners)
        self.judged_state = CircuitState.CLOSED
        self.generation = 0
        self.stale_results = 0
        self.since = now
        self.trip_reason: TransitionReason | None = None
        self.open_until: float | None = None
        self.last_transition: Transition | None = None
        self.last_success_at = -math.inf
        self.admission = Admission(config.ramp_seconds)
        self._backoff = Backoff(config, random)
        self._lag = lag
        self._calls = config.window()
        self._trial_results = Tally()
        self._window: Window = self._calls
        self._not_slow_yet: OrderedDict[Permit, None] = OrderedDict()  # in flight, oldest first
        self._trials: OrderedDict[Permit, None] = OrderedDict()  # in flight, oldest first
        self._slow_trials = 0  # of those, how many have their result already
        self._last_trip = TransitionReason.FAILURE_RATE
        self._failed_probes = 0

    def reconfigure(self, config: BreakerConfig) -> None:
        """Judge by other thresholds from now on: state, opening, results and a ramp under way stay as they are.

        Raises ValueError where the window's kind or size or `observe_only` differ: results cannot be poured over.
        """
        if self.config.built_in != config.built_in:
            raise ValueError("the window and observe_only of a circuit are for its life")
        self._show(config)
        self._backoff.reconfigure(config)
        self.admission.ramp_seconds = config.ramp_seconds

    # Reading

    @property
    def circuit_state(self) -> CircuitState:
        """What the circuit does with calls; `current_state` is pybreaker's spelling of it."""
        return _CLOSED if self.config.observe_only else self.judged_state

    @property
    def attempt(self) -> int:
        """The number of openings that the backoff remembers, as of the last poll or transition."""
        return self._backoff.attempt

    @property
    def in_flight_trials(self) -> int:
        """How many trials are out and not settled."""
        return len(self._trials)

    def counts(self, now: float) -> Counts:
        """What the window holds at `now`: calls when closed, results of trials when half-open, nothing when open."""
        return self._window.counts(now)

    def admitted_share(self, now: float) -> float:
        """The share of calls that may pass: 1 when closed, less in the ramp or when throttled; 0 else, trials apart."""
        if self.config.observe_only:
            return 1.0
        return self.admission.share(now) if self.judged_state is _CLOSED else 0.0

    def spilled_share(self, now: float) -> float:
        """The share of calls that is not tried because of refusals for capacity."""
        return 0.0 if self.config.observe_only else self.admission.throttle.spill_share(now)

    # Calls

    def admits(self, now: float) -> bool:
        """Whether `acquire` would give a permit at `now`. Changes nothing."""
        if self.config.observe_only:
            return True
        if self.judged_state is _OPEN:
            return self._has_elapsed(now)
        return self._has_room(now) and self.admission.admits(now)

    def _has_room(self, now: float) -> bool:
        """Whether a call may pass if it is nobody's turn to be kept back."""
        return self.judged_state is _CLOSED or (self.judged_state is _HALF_OPEN and self._has_trial(now))

    def _has_trial(self, now: float) -> bool:
        # A trial that was given back without a result is counted nowhere, so its place is free again.
        taken = len(self._trials) - self._slow_trials + self._trial_results.calls
        return taken < self.config.trial_calls and not self._hangs(now)

    def check(self, now: float) -> None:
        """Raise the CallRefused that `acquire` would, and take no permit."""
        if self.config.observe_only or self._is_unrestricted(now):
            return
        if (refusal := self._refusal(now)) is not None:
            self._advance(now)
            raise refusal

    def acquire(self, now: float) -> Permit:
        """A permit for one call at `now`; raises CallRefused. An opening ends strictly after its time."""
        if not self._is_unrestricted(now):
            refusal = self._refusal(now)
            self._advance(now)
            if refusal is not None:
                if self.config.observe_only:
                    return Permit(self, now, _UNCOUNTED, False)
                raise refusal
        return self._permit(now)

    def pass_uncounted(self, now: float) -> None:
        """Let a call pass whose result counts nowhere; raises CallRefused as `acquire` does, in half-open always."""
        self.check(now)
        if self.circuit_state is _HALF_OPEN:
            raise CircuitOpen(self.name, self._last_trip, 0.0)
        self._advance(now)

    def insist(self, now: float) -> Permit | None:
        """A permit for a call that is made whatever the circuit says; None where its result could not be counted."""
        self._pass_time(now)
        return self._permit(now) if self._has_room(now) else None

    def _is_unrestricted(self, now: float) -> bool:
        return self.judged_state is _CLOSED and self.admission.is_whole(now)

    def _advance(self, now: float) -> None:
        if self.judged_state is not _OPEN and not self.admission.is_whole(now):
            self.admission.advance()

    def _refusal(self, now: float) -> CallRefused | None:
        self._pass_time(now)
        if self._has_room(now):
            # In half-open, too: a trial refused for capacity gives its permit back, and nothing else bounds them.
            if self.admission.admits(now):
                return None
            if self.admission.ramp_admits(now):
                return Throttled(self.name)
        return CircuitOpen(self.name, self._last_trip, 0.0 if self.open_until is None else self.open_until - now)

    def _permit(self, now: float) -> Permit:
        permit = Permit(self, now, self.generation, self.judged_state is _HALF_OPEN)
        self._not_slow_yet[permit] = None
        if permit.trial:
            self._trials[permit] = None
        return permit

    def settle(self, permit: Permit, outcome: Outcome, now: float, latency: float | None = None) -> bool:
        """Count what came of a call. Returns False, and does nothing, when the permit was settled before.

        `latency` is in seconds and takes the place of the permit's own (recorded traces have one). Throttled and
        neutral results say nothing: they neither dilute a rate nor break a row, and a trial gives its permit back. But
        a slow call that is ended from this side stays slow, for editors cancel on every keystroke and would hide a
        brown-out; a row stays as it is. Raises ValueError for a permit of another circuit.
        """
        if permit.circuit is not self:
            raise ValueError(f"a permit of circuit {permit.circuit.name} cannot be settled with circuit {self.name}")
        if permit.settled:
            return False
        permit.settled = True
        if self.judged_state is _HALF_OPEN:
            self._reopen_if_hung(now)
        if permit.generation != self.generation:
            self.stale_results += permit.generation != _UNCOUNTED
            return True
        self._not_slow_yet.pop(permit, None)
        if permit.trial:
            self._trials.pop(permit, None)
            self._slow_trials -= permit.place is not None
        answered_at = permit.answered_at(now)
        slow = permit.place is not None or self._is_slow(permit.started_at, answered_at, latency)
        kind = outcome.kind
        failed = kind is _FAILED or kind is _MISCONFIGURED
        ran_on = kind is _NEUTRAL and outcome.reason in _RAN_ON
        if kind is not _NEUTRAL or ran_on:
            # A refusal comes at once: what ran on had been accepted.
            self.admission.throttle.record(now, refused=kind is _THROTTLED)
        if failed:
            self._storage.increment_counter()
            self._backoff.heed(outcome.retry_after, now)
        elif kind is _OK:
            if self._storage.counter:
                self._storage.reset_counter()
            if answered_at > self.last_success_at and not slow:
                self.last_success_at = answered_at
        elif not (slow and ran_on):
            if permit.place is not None:
                self._window.take_back(permit.place, now)
            return True
        self._count(permit, now, failed, slow)
        return True

    def _is_slow(self, start: float, end: float, latency: float | None = None) -> bool:
        threshold = self.config.slow_call_seconds
        return self._outlasts(start, end, threshold) if latency is None else latency > threshold

    def _outlasts(self, start: float, end: float, limit: float) -> bool:
        # What the upstream said while nobody here was listening was not late.
        return end - start > limit and end - start - self._lag(start, end) > limit

    def _count(self, permit: Permit, now: float, failed: bool, slow: bool) -> None:
        if permit.place is None or (failed and not self._window.fail(permit.place, now)):
            self._window.record(now, failed=failed, slow=slow)
        elif not failed and not permit.trial:
            return  # it was counted when it became slow, and nothing more is known of it now
        self._judge(now)

    # Time and the probe

    def poll(self, now: float) -> None:
        """Make the changes that need no call's end: to be called some times a second.

        An opening ends, a trial hangs, healthy time shortens the backoff, and a call in flight becomes slow: calls that
        hang trip the circuit while they hang.
        """
        self._pass_time(now)
        self._count_slow(now)

    def _pass_time(self, now: float) -> None:
        if self.judged_state is _CLOSED:
            self._backoff.forget(now)
        elif self.judged_state is _HALF_OPEN:
            self._judge(now)  # more trials may have passed than are wanted since `reconfigure`: then no more will come
            self._reopen_if_hung(now)
        elif self._has_elapsed(now):
            self._move(_HALF_OPEN, TransitionReason.OPEN_ELAPSED, now)

    def _count_slow(self, now: float) -> None:
        """Count each call that has passed the threshold without content, in the order of their starts."""
        while self._not_slow_yet:
            permit = next(iter(self._not_slow_yet))
            slow = self._is_slow(permit.started_at, permit.answered_at(now))
            if permit.content_at is None and not slow:
                return  # nor is any that started after it
            if slow:
                permit.place = self._window.record(now, failed=False, slow=True)
                self._slow_trials += permit.trial
                self._judge(now)
            self._not_slow_yet.pop(permit, None)  # it is gone already where the judgement has moved the circuit

    def trip(self, now: float, retry_after: float | None = None, failed_probes: int = 0) -> None:
        """Open the circuit on the verdict of so many failed probes; nothing when open. `retry_after` in seconds."""
        self._backoff.heed(retry_after, now)
        self._failed_probes = failed_probes
        self._move(_OPEN, TransitionReason.PROBE, now)
        self._failed_probes = 0

    def begin_trials(self, now: float) -> None:
        """Let the trials begin before the opening is over, on the probe's verdict; nothing unless it is open."""
        if self.judged_state is _OPEN:
            self._move(_HALF_OPEN, TransitionReason.PROBE_RECOVERED, now)

    # Judgement

    def _judge(self, now: float) -> None:
        window, config = self._window, self.config
        if self.judged_state is _HALF_OPEN:
            if window.calls < config.trial_calls:
                return
            if config.exceeded(window):
                self._move(_OPEN, TransitionReason.TRIALS_FAILED, now)
            elif not self._trials:
                # One that is slow and still out may yet fail: it can condemn already, but nothing closes without it.
                self._move(_CLOSED, TransitionReason.TRIALS_PASSED, now)
            return
        reason = config.exceeded(window) if window.calls >= config.minimum_calls else None
        if reason is None and 0 < config.consecutive_failures <= self._storage.counter:
            reason = TransitionReason.CONSECUTIVE_FAILURES
        if reason is not None:
            self._move(_OPEN, reason, now)

    def _has_elapsed(self, now: float) -> bool:
        return self.open_until is not None and now > self.open_until

    def _hangs(self, now: float) -> bool:
        # The limit is each trial's, not the phase's: half-open without traffic has no reason to reopen.
        oldest = next(iter(self._trials), None)
        return oldest is not None and self._outlasts(oldest.started_at, now, self.config.trial_seconds)

    def _reopen_if_hung(self, now: float) -> None:
        if self._hangs(now):
            self._move(_OPEN, TransitionReason.TRIALS_TIMED_OUT, now)

    # Transitions

    def _move(self, to_state: CircuitState, reason: TransitionReason, now: float) -> None:
        """The one way from state to state: complete, in this order, before anybody hears of it."""
        from_state = self.judged_state
        if to_state is from_state:
            return
        ensure_legal(from_state, to_state, reason)
        evidence, row = self._window.counts(now), self._storage.counter
        if from_state is _CLOSED:
            self._backoff.forget(now)
        self.generation += 1
        old_state = self._set_state(to_state)
        self.judged_state = to_state
        self._clear(to_state)
        self._enter(to_state, reason, now)
        self.last_transition = Transition(
            at=now,
            from_state=from_state,
            to_state=to_state,
            reason=reason,
            calls=evidence.calls,
            failed=evidence.failed,
            slow=evidence.slow,
            consecutive_failures=row,
            failed_probes=self._failed_probes,
            config=self.config,
            open_until=self.open_until,
            attempt=self.attempt,
        )
        if not self.config.observe_only:
            self._tell_change(old_state)
        elif from_state is _CLOSED:
            self._tell_would_trip()

    def _clear(self, state: CircuitState) -> None:
        for held in (self._calls, self._trial_results, self._not_slow_yet, self._trials):
            held.clear()
        if state is _OPEN:
            self.admission.clear()
        self._slow_trials = 0
        self._storage.reset_counter()
        self._window = self._trial_results if state is _HALF_OPEN else self._calls

    def _enter(self, state: CircuitState, reason: TransitionReason, now: float) -> None:
        self.since, self.open_until = now, None
        if state is _OPEN:
            self.open_until = self._backoff.begin(now)
            self.trip_reason = self._last_trip = reason
        elif state is _CLOSED:
            self.trip_reason = None
            self._backoff.close(now)
            self.admission.begin_ramp(now)
        self._backoff.disregard()
