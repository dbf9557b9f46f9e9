"""The circuit breaker: pybreaker's state machine and listener protocol, with a judgement of its own.

pybreaker 1.4 counts failures in a row, by the wall clock. It has no window, rate, latency or neutral result, it never
sees an `async def` fail, and in half-open it admits everybody. So it holds the state and names the protocol, and never
runs our code: a caller acquires a permit, makes the call itself, and settles the permit with what came of it.

The rules are resilience4j's, with what that leaves open decided in the docstrings below. There is no `await` between a
check and its change, so each method is atomic on one event loop. Nothing here reads a clock: `now` is seconds on a
monotonic clock of the caller's.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Sequence
from typing import NoReturn

import pybreaker

from health.config import BackoffReset, BreakerConfig, WindowType
from health.outcome import FailureReason, Outcome, OutcomeKind
from health.permit import Permit
from health.transitions import (
    TRANSITIONS,
    CircuitState,
    IllegalTransitionError,
    Transition,
    TransitionReason,
    check,
)
from health.window import Counts, CountWindow, Window

__all__ = [
    "TRANSITIONS",
    "BackoffReset",
    "BreakerConfig",
    "CircuitBreaker",
    "CircuitOpen",
    "CircuitState",
    "IllegalTransitionError",
    "Permit",
    "Transition",
    "TransitionReason",
    "WindowType",
]

logger = logging.getLogger("health")

_STORED = {
    CircuitState.CLOSED: pybreaker.STATE_CLOSED,
    CircuitState.OPEN: pybreaker.STATE_OPEN,
    CircuitState.HALF_OPEN: pybreaker.STATE_HALF_OPEN,
}
"""pybreaker spells its states for itself: "half-open"."""
_FROM_STORED = {stored: state for state, stored in _STORED.items()}

_FAILURES = frozenset({OutcomeKind.FAILED, OutcomeKind.MISCONFIGURED})


class CircuitOpen(pybreaker.CircuitBreakerError):
    """The circuit refuses this call: it is open, or its trials are all taken.

    `reason` is what opened it. `retry_after` is the least number of seconds until a call may pass; 0.0 in half-open,
    where any trial's end may make room.
    """

    def __init__(self, circuit: str | None, reason: TransitionReason, retry_after: float) -> None:
        super().__init__(f"circuit {circuit} refuses calls ({reason}) for {retry_after:.3f} s or more")
        self.reason = reason
        self.retry_after = retry_after


def _refuse_to_run(*_: object, **__: object) -> NoReturn:
    raise TypeError("this circuit breaker never runs code: acquire() a permit, make the call, settle() the permit")


def _refuse_to_move(*_: object) -> NoReturn:
    raise TypeError("this circuit breaker's rules decide its state: a probe's verdict goes to trip() or begin_trials()")


class _Inert(pybreaker.CircuitBreakerState):
    """pybreaker's state objects run code as well, by rules of their own; ours are names."""

    def call(self, *args: object, **kwargs: object) -> NoReturn:
        _refuse_to_run()

    def call_async(self, *args: object, **kwargs: object) -> NoReturn:
        _refuse_to_run()


class _Closed(_Inert, pybreaker.CircuitClosedState):
    pass


class _Open(_Inert, pybreaker.CircuitOpenState):
    pass


class _HalfOpen(_Inert, pybreaker.CircuitHalfOpenState):
    pass


class CircuitBreaker(pybreaker.CircuitBreaker):
    """Whether calls to one upstream may pass, judged by what came of the calls before.

    The attributes are for reading: `since` is when the circuit came into its state, `trip_reason` why it is not closed,
    `open_until` when an opening ends (all times in seconds, on the caller's clock), `attempt` the number of openings
    that the backoff remembers as of the last poll or transition, `generation` the number of transitions,
    `stale_results` the number of results that came after a transition and changed nothing. pybreaker's own settings
    (`fail_max` and its like) show the config, and setting them changes nothing.

    A listener is pybreaker's: `state_change(cb, old_state, new_state)` comes when the change is complete, and
    `cb.last_transition` is its evidence. One that raises is reported to the log and stops nothing.
    """

    def __init__(
        self,
        name: str,
        config: BreakerConfig,
        *,
        now: float,
        random: Callable[[], float] = random.random,
        listeners: Sequence[pybreaker.CircuitBreakerListener] = (),
        exclude: object = None,
    ) -> None:
        if exclude is not None:
            # pybreaker calls a class with a metaclass as a predicate, and is then disabled without a word.
            _refuse_to_run()
        self._storage = pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
        super().__init__(
            fail_max=config.consecutive_failures,
            reset_timeout=config.open_seconds,
            success_threshold=config.trial_calls,
            listeners=listeners,
            state_storage=self._storage,
            name=name,
        )
        self.config = config
        self.generation = 0
        self.stale_results = 0
        self.attempt = 0
        self.since = now
        self.trip_reason: TransitionReason | None = None
        self.open_until: float | None = None
        self.last_transition: Transition | None = None
        self._random = random
        self._calls = config.window()
        self._trial_results = CountWindow(config.trial_calls)
        self._trials: dict[Permit, None] = {}  # in flight, the oldest first
        self._healthy_since = now
        self._not_before = -math.inf  # when the upstream asked to be left alone until

    # Reading

    @property
    def circuit_state(self) -> CircuitState:
        """What the circuit does with calls; `current_state` is pybreaker's spelling of it."""
        return _FROM_STORED[self._storage.state]

    @property
    def in_flight_trials(self) -> int:
        """How many trials are out and not settled."""
        return len(self._trials)

    def counts(self, now: float) -> Counts:
        """What the window holds at `now`: calls when closed, results of trials when half-open, nothing when open."""
        return self._window.counts(now)

    @property
    def _window(self) -> Window:
        return self._trial_results if self.circuit_state is CircuitState.HALF_OPEN else self._calls

    # Calls

    def admits(self, now: float) -> bool:
        """Whether `acquire` would give a permit at `now`. Changes nothing."""
        match self.circuit_state:
            case CircuitState.CLOSED:
                return True
            case CircuitState.OPEN:
                return self._has_elapsed(now)
            case CircuitState.HALF_OPEN:
                # A permit that came back without a result is in neither number, and so is free again.
                taken = len(self._trials) + self._trial_results.counts(now).calls
                return taken < self.config.trial_calls and not self._hangs(now)

    def check(self, now: float) -> None:
        """Raise the CircuitOpen that `acquire` would, and take no permit."""
        self.poll(now)
        if not self.admits(now):
            assert self.trip_reason is not None
            raise CircuitOpen(self.name, self.trip_reason, 0.0 if self.open_until is None else self.open_until - now)

    def acquire(self, now: float) -> Permit:
        """Leave to make one call at `now`; raises CircuitOpen. An opening ends strictly after its time."""
        self.check(now)
        permit = Permit(self, now, self.generation, trial=self.circuit_state is CircuitState.HALF_OPEN)
        if permit.trial:
            self._trials[permit] = None
        return permit

    def settle(self, permit: Permit, outcome: Outcome, now: float, latency: float | None = None) -> bool:
        """Count what came of a call. Returns False, and does nothing, when the permit was settled before.

        `latency` is in seconds and takes the place of the permit's own. Throttled and neutral results say nothing: they
        neither dilute a rate nor break a row, and a trial gives its permit back. But a caller who leaves after the slow
        threshold leaves a slow call, for editors cancel on every keystroke and would hide a brown-out. That is no
        failure and no success: it leaves a row as it is. Raises ValueError for a permit of another circuit.
        """
        if permit.circuit is not self:
            raise ValueError(f"a permit of circuit {permit.circuit.name} cannot be settled with circuit {self.name}")
        if permit.settled:
            return False
        permit.settled = True
        self._reopen_if_hung(now)
        if permit.generation != self.generation:
            self.stale_results += 1
            return True
        self._trials.pop(permit, None)
        slow = (permit.latency(now) if latency is None else latency) > self.config.slow_call_seconds
        failed = outcome.kind in _FAILURES
        if failed:
            self._storage.increment_counter()
            self._heed(outcome.retry_after, now)
        elif outcome.kind is OutcomeKind.OK:
            self._storage.reset_counter()
        elif not (slow and outcome.reason is FailureReason.CANCELLED):
            return True
        self._window.record(now, failed=failed, slow=slow)
        self._judge(now)
        return True

    # Time and the probe

    def poll(self, now: float) -> None:
        """Make the changes that need no call: an opening ends, a trial hangs, healthy time shortens the backoff."""
        if self._has_elapsed(now):
            self._move(CircuitState.HALF_OPEN, TransitionReason.OPEN_ELAPSED, now)
        self._reopen_if_hung(now)
        self._forget(now)

    def trip(self, now: float, retry_after: float | None = None) -> None:
        """Open the circuit on the probe's verdict; nothing when it is open. `retry_after` is in seconds."""
        self._heed(retry_after, now)
        self._move(CircuitState.OPEN, TransitionReason.PROBE, now)

    def begin_trials(self, now: float) -> None:
        """Let the trials begin before the opening is over, on the probe's verdict; nothing unless it is open."""
        if self.circuit_state is CircuitState.OPEN:
            self._move(CircuitState.HALF_OPEN, TransitionReason.PROBE_RECOVERED, now)

    # Judgement

    def _judge(self, now: float) -> None:
        counts = self._window.counts(now)
        if self.circuit_state is CircuitState.HALF_OPEN:
            if counts.calls < self.config.trial_calls:
                return
            if self._exceeded(counts):
                self._move(CircuitState.OPEN, TransitionReason.TRIALS_FAILED, now)
            else:
                self._move(CircuitState.CLOSED, TransitionReason.TRIALS_PASSED, now)
            return
        reason = self._exceeded(counts) if counts.calls >= self.config.minimum_calls else None
        if reason is None and 0 < self.config.consecutive_failures <= self.fail_counter:
            reason = TransitionReason.CONSECUTIVE_FAILURES
        if reason is not None:
            self._move(CircuitState.OPEN, reason, now)

    def _exceeded(self, counts: Counts) -> TransitionReason | None:
        if counts.failure_rate >= self.config.failure_rate_threshold:
            return TransitionReason.FAILURE_RATE
        if counts.slow_rate >= self.config.slow_rate_threshold:
            return TransitionReason.SLOW_RATE
        return None

    def _has_elapsed(self, now: float) -> bool:
        return self.open_until is not None and now > self.open_until

    def _hangs(self, now: float) -> bool:
        # The limit is each trial's and not the phase's: half-open without traffic is idle and has no reason to reopen.
        oldest = next(iter(self._trials), None)
        return oldest is not None and now - oldest.started_at > self.config.trial_seconds

    def _reopen_if_hung(self, now: float) -> None:
        if self._hangs(now):
            self._move(CircuitState.OPEN, TransitionReason.TRIALS_TIMED_OUT, now)

    def _heed(self, retry_after: float | None, now: float) -> None:
        """Remember a Retry-After until the next transition: the trial that carried it need not be the last one."""
        if retry_after is not None:
            self._not_before = max(self._not_before, now + retry_after)

    # Transitions

    def _move(self, to_state: CircuitState, reason: TransitionReason, now: float) -> None:
        """The one way from state to state: complete, in this order, before anybody hears of it."""
        from_state = self.circuit_state
        if to_state is from_state:
            return
        check(from_state, to_state, reason)
        evidence = self._window.counts(now)
        self._forget(now)
        self.generation += 1
        self._storage.state = _STORED[to_state]
        old_state, self._state = self._state, self._create_new_state(_STORED[to_state], prev_state=self._state)
        self._calls.clear()
        self._trial_results.clear()
        self._trials.clear()
        self._storage.reset_counter()
        self._enter(to_state, reason, now)
        self.last_transition = Transition(
            at=now,
            from_state=from_state,
            to_state=to_state,
            reason=reason,
            calls=evidence.calls,
            failure_rate=evidence.failure_rate,
            slow_rate=evidence.slow_rate,
            open_until=self.open_until,
            attempt=self.attempt,
        )
        self._notify(old_state)

    def _enter(self, state: CircuitState, reason: TransitionReason, now: float) -> None:
        self.since = now
        self.open_until = None
        if state is CircuitState.OPEN:
            self.attempt = self.config.next_attempt(self.attempt)
            length = self.config.open_length(self.attempt) * (1 - self.config.jitter * self._random())
            asked = min(self._not_before - now, self.config.max_open_seconds)
            self.open_until = now + max(length, asked)
            self.trip_reason = reason
        elif state is CircuitState.CLOSED:
            self.trip_reason = None
            self._healthy_since = now
            if self.config.backoff_reset is BackoffReset.ON_CLOSE:
                self.attempt = 0
        self._not_before = -math.inf

    def _forget(self, now: float) -> None:
        """Let healthy time count against earlier openings: each is forgotten after a closed interval of its length."""
        if self.circuit_state is not CircuitState.CLOSED:
            return
        while self.attempt and now - self._healthy_since >= self.config.open_length(self.attempt):
            self._healthy_since += self.config.open_length(self.attempt)
            self.attempt -= 1

    def _notify(self, old_state: pybreaker.CircuitBreakerState) -> None:
        for listener in self.listeners:
            try:
                listener.state_change(self, old_state, self._state)
            except Exception:
                logger.exception("a listener of circuit %s raised", self.name)

    # pybreaker's own ways to run code and to change the state, closed

    def _create_new_state(
        self, new_state: str, prev_state: pybreaker.CircuitBreakerState | None = None, notify: bool = False
    ) -> pybreaker.CBStateType:
        """A state object that runs no code and, whatever `notify` says, tells nobody."""
        if new_state == pybreaker.STATE_OPEN:
            return _Open(self, prev_state)
        return _HalfOpen(self, prev_state) if new_state == pybreaker.STATE_HALF_OPEN else _Closed(self, prev_state)

    @property
    def state(self) -> pybreaker.CBStateType:
        """pybreaker's state object. Assigning to it is refused."""
        return self._state

    @state.setter
    def state(self, state_str: str) -> None:
        _refuse_to_move()

    call = calling = call_async = __call__ = _refuse_to_run
    add_excluded_exception = add_excluded_exceptions = _refuse_to_run
    open = half_open = close = _refuse_to_move
