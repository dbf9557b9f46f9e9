"""Each order in which four calls can begin, end and pause, on a circuit so small that they go through all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from health.breaker import TRANSITIONS, BreakerConfig, CallRefused, CircuitBreaker, CircuitState, Permit
from health.breaker import TransitionReason as R
from health.outcome import NEUTRAL, OK, Outcome
from tests.unit.scene import FAILED, Recorder

T = TypeVar("T")
CALLS, MOST_PAUSES = 4, 2
PAUSES = (0.0, 1.125)
"""No pause, or one past whatever takes a second: an opening, slowness, a trial's limit."""
ENDS = (OK, FAILED, NEUTRAL)
Move = tuple[int, Outcome] | None
"""Which of the calls in flight is settled, and how; None to acquire."""
SMALL = BreakerConfig(
    window_size=4,  # no result leaves it within two pauses, so that the books can be balanced
    minimum_calls=2,
    consecutive_failures=0,
    slow_call_seconds=1.0,
    open_seconds=1.0,
    trial_calls=2,
    ramp_seconds=0.0,
    jitter=0.0,
)
IN_ORDER = {R.FAILURE_RATE, R.OPEN_ELAPSED, R.TRIALS_FAILED, R.TRIALS_PASSED}
ON_TRIAL = IN_ORDER | {R.PROBE, R.PROBE_RECOVERED}


class Choices:
    """Every sequence of decisions, by odometer: play, `next`, play again from the start with the last one changed."""

    def __init__(self) -> None:
        self._options: list[Sequence[Any]] = []
        self._chosen: list[int] = []
        self._at = self._changed = 0

    def pick(self, options: Callable[[], Sequence[T]]) -> T:
        at = self._at
        if at == len(self._chosen):
            self._options.append(options())
            self._chosen.append(0)
        self._at += 1
        picked: T = self._options[at][self._chosen[at]]
        return picked

    @property
    def fresh(self) -> bool:
        """Whether the sequence has left the one before it: what came until then was checked there."""
        return self._at >= self._changed

    def next(self) -> bool:
        while self._chosen and self._chosen[-1] + 1 == len(self._options[-1]):
            self._chosen.pop()
            self._options.pop()
        if self._chosen:
            self._chosen[-1] += 1
        self._at, self._changed = 0, len(self._chosen)
        return bool(self._chosen)


class Run:
    """One sequence: four calls, each acquired and settled, and at most two pauses; from closed or from half-open."""

    def __init__(self, config: BreakerConfig, *, polled: bool, on_trial: bool) -> None:
        self.now, self.recorder = 1000.0, Recorder()
        self.breaker = CircuitBreaker("c", config, now=self.now, random=lambda: 0.0, listeners=[self.recorder])
        if on_trial:
            self.breaker.trip(self.now)
            self.breaker.begin_trials(self.now)
        self.polled = polled
        # A call that a poll finds slow is in flight and counted at once: such books do not balance by plain addition.
        self.balances = not polled or config.slow_call_seconds > max(PAUSES) * MOST_PAUSES
        self.waiting, self.in_flight = CALLS, list[Permit]()
        self.refused = self.returned = 0
        self.spent = Counter[int]()  # by generation: trials that are out or have a result

    def play(self, choices: Choices) -> None:
        paused = 0
        while self.waiting or self.in_flight:
            if paused < MOST_PAUSES and (pause := choices.pick(lambda: PAUSES)):
                paused += 1
                self.now += pause
                if self.polled:
                    self.breaker.poll(self.now)
            move = choices.pick(self.moves)
            if move is None:
                self.acquire()
            else:
                self.settle(*move, choices.fresh)
            if choices.fresh:
                self.check()

    def moves(self) -> list[Move]:
        """What may be done next, without what would be the same case twice.

        Two calls of one moment are the same call. Of those from before a transition, whose results are not looked at
        (test_breaker_exhaustive.py has each of them), the worst case stands for all.
        """
        current = self.breaker.generation
        alike = {call.started_at if call.generation == current else None: at for at, call in enumerate(self.in_flight)}
        ends: list[Move] = [(at, end) for key, at in alike.items() for end in ((FAILED,) if key is None else ENDS)]
        return [*ends, None] if self.waiting else ends

    def acquire(self) -> None:
        self.waiting -= 1
        try:
            permit = self.breaker.acquire(self.now)
        except CallRefused:
            self.refused += 1
        else:
            self.in_flight.append(permit)
            self.spent[permit.generation] += permit.trial

    def settle(self, position: int, outcome: Outcome, fresh: bool) -> None:
        permit, stale = self.in_flight.pop(position), self.breaker.stale_results
        assert permit.settle(outcome, self.now) is True
        if outcome is NEUTRAL and self.breaker.stale_results == stale:
            self.returned += 1
            self.spent[permit.generation] -= permit.trial
        if fresh:
            before = self.shown()
            assert [permit.settle(again, self.now) for again in ENDS] == [False] * len(ENDS)
            assert self.shown() == before

    def shown(self) -> tuple[object, ...]:
        breaker = self.breaker
        return breaker.generation, breaker.stale_results, breaker.in_flight_trials, breaker.counts(self.now)

    def check(self) -> None:
        breaker, counts, moved = self.breaker, self.breaker.counts(self.now), self.recorder.seen
        assert 0 <= counts.failed <= counts.calls
        assert 0 <= counts.slow <= counts.calls
        assert breaker.generation == len(moved)
        state = CircuitState.CLOSED
        for transition in moved:
            assert transition.from_state is state
            state = transition.to_state
            assert transition.reason in TRANSITIONS[transition.from_state, state]
        assert breaker.circuit_state is state
        trials = [permit for permit in self.in_flight if permit.trial and permit.generation == breaker.generation]
        assert breaker.in_flight_trials == len(trials)
        assert max(self.spent.values(), default=0) <= breaker.config.trial_calls
        for permit in self.in_flight:  # a generation's number is that of the transition that ended it
            cut_off = permit.trial and permit.generation < len(moved)
            assert not cut_off or moved[permit.generation].reason is not R.TRIALS_PASSED, (
                "closed with a trial still out"
            )
        if self.balances:
            counted = counts.calls + sum(transition.calls for transition in moved) + breaker.stale_results
            assert self.waiting + self.refused + len(self.in_flight) + self.returned + counted == CALLS
            if state is CircuitState.HALF_OPEN:
                assert len(trials) + counts.calls <= breaker.config.trial_calls


@pytest.mark.parametrize(
    ("config", "polled", "on_trial", "at_least", "reached"),
    [
        pytest.param(SMALL, False, False, 40_000, IN_ORDER | {R.SLOW_RATE}, id="slow"),
        pytest.param(
            # A call is counted as slow while it is in flight, and may fail after that.
            replace(SMALL, consecutive_failures=2, minimum_calls=3),
            True,
            False,
            40_000,
            IN_ORDER | {R.CONSECUTIVE_FAILURES, R.SLOW_RATE},
            id="slow in flight",
        ),
        pytest.param(
            # The calls are all there for the trials, and a slow one condemns nothing.
            replace(SMALL, slow_rate_threshold=1.0),
            True,
            True,
            8_000,
            ON_TRIAL | {R.SLOW_RATE},
            id="slow trials",
        ),
        pytest.param(
            replace(SMALL, slow_call_seconds=9.0, trial_seconds=1.0),
            True,
            True,
            3_000,
            ON_TRIAL | {R.TRIALS_TIMED_OUT},
            id="hung trials",
        ),
    ],
)
def test_an_order_of_four_calls_loses_a_permit_or_moves_illegally(
    config: BreakerConfig, polled: bool, on_trial: bool, at_least: int, reached: set[R]
) -> None:
    choices, played, seen = Choices(), 0, set[R]()
    while True:
        run = Run(config, polled=polled, on_trial=on_trial)
        run.play(choices)
        played += 1
        seen.update(transition.reason for transition in run.recorder.seen)
        if not choices.next():
            break
    assert played >= at_least, f"only {played} sequences"
    assert seen == reached
