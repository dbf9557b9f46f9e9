"""Each event in each state, at the moment when it can do the most: what comes of it stands in a table."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from health.breaker import (
    TRANSITIONS,
    BackoffReset,
    CallRefused,
    CircuitState,
    Permit,
    Transition,
    TransitionReason,
)
from health.outcome import NEUTRAL, OK, Outcome
from tests.unit.scene import CLIENT_LEFT, FAILED, MISCONFIGURED, THROTTLED, Recorder, Scene

EVERY = {(origin, target, reason) for (origin, target), reasons in TRANSITIONS.items() for reason in reasons}


class Verge(Scene):
    """A circuit that is one event away from whatever its state can lead to."""

    permit: Permit
    """In flight; of the present state, except when open, where none is. And so with `settled`."""
    settled: Permit
    stale: Permit

    def __init__(self) -> None:
        super().__init__(quiet=False, window_size=60, trial_calls=2, backoff_reset=BackoffReset.ON_CLOSE)
        self.stale = self.start()
        self.half_open()
        self.calls(OK, 2)
        assert self.state() is CircuitState.CLOSED

    def settled_call(self, outcome: Outcome) -> None:
        self.settled = self.start()
        self.end(self.settled, outcome)

    def settle(self, outcome: Outcome, after: float = 0.0) -> None:
        self.wait(after)
        assert self.end(self.permit, outcome) is True


Event = Callable[[Verge], object]


def busy() -> Verge:
    """Nine calls of ten; with the tenth, either rate may reach its half."""
    scene = Verge()
    scene.calls(OK, 4, seconds=1.6)
    scene.settled_call(OK)
    scene.calls(FAILED, 4)
    scene.permit = scene.start()
    return scene


def at_night() -> Verge:
    """Too few calls for a rate, and four failures in a row of five."""
    scene = Verge()
    scene.calls(FAILED, 3)
    scene.settled_call(FAILED)
    scene.permit = scene.start()
    return scene


def opened() -> Verge:
    """Opened just now, with calls of before still in flight."""
    scene = Verge()
    scene.settled_call(OK)
    scene.permit = scene.start()
    scene.trip()
    return scene


def on_trial() -> Verge:
    """One of two trials was good, the other is in flight."""
    scene = Verge()
    scene.half_open()
    scene.permit = scene.start()
    scene.settled_call(OK)
    return scene


# What may happen


def ends(outcome: Outcome, after: float = 0.0) -> Event:
    return lambda verge: verge.settle(outcome, after)


def streams(outcome: Outcome, after: float) -> Event:
    return go_by(after, ends(outcome))


def settled_call_ends(verge: Verge) -> None:
    assert verge.end(verge.settled, FAILED) is False


def old_call_ends(outcome: Outcome) -> Event:
    return lambda verge: verge.end(verge.stale, outcome)


def go_by(seconds: float, event: Event) -> Event:
    """The event after time in which nothing becomes slow, for content has come."""

    def later(verge: Verge) -> None:
        verge.permit.content(verge.now)
        verge.wait(seconds)
        event(verge)

    return later


def hang(seconds: float, event: Event) -> Event:
    """The event after time in which nothing comes."""

    def later(verge: Verge) -> None:
        verge.wait(seconds)
        event(verge)

    return later


def poll(verge: Verge) -> None:
    verge.breaker.poll(verge.now)


def acquire(verge: Verge) -> None:
    with contextlib.suppress(CallRefused):
        verge.breaker.acquire(verge.now)


def ask(verge: Verge) -> None:
    with contextlib.suppress(CallRefused):
        verge.breaker.check(verge.now)


def insist(verge: Verge) -> None:
    verge.breaker.insist(verge.now)


def read(verge: Verge) -> None:
    """Whatever changes nothing."""
    breaker = verge.breaker
    breaker.admits(verge.now)
    breaker.counts(verge.now)
    breaker.admitted_share(verge.now)


SITUATIONS = (busy, at_night, opened, on_trial)
SLOW_AT, SLOW, OPENING, OPENED, LIMIT, HUNG = 1.5, 1.6, 5.0, 5.1, 30.0, 30.1
R = TransitionReason
NONE = (None, None, None, None)
PASSED = (None, None, None, R.TRIALS_PASSED)
BAD = (R.FAILURE_RATE, R.CONSECUTIVE_FAILURES, None, R.TRIALS_FAILED)
LATE = (R.SLOW_RATE, None, None, R.TRIALS_FAILED)
ELAPSED = (None, None, R.OPEN_ELAPSED, None)

# Each event, and what comes of it in each situation.
TABLE: dict[str, tuple[Event, tuple[R | None, R | None, R | None, R | None]]] = {
    # A call's end. Open, it is the end of one from before.
    "ok": (ends(OK), PASSED),
    "failed": (ends(FAILED), BAD),
    "misconfigured": (ends(MISCONFIGURED), BAD),
    "slow ok": (ends(OK, SLOW), LATE),
    "slow and failed": (ends(FAILED, SLOW), BAD),
    "ok at the slow threshold": (ends(OK, SLOW_AT), PASSED),
    "long stream that began in time": (streams(OK, SLOW), PASSED),
    "long stream that fails": (streams(FAILED, SLOW), BAD),
    "throttled": (ends(THROTTLED), NONE),
    "throttled late": (ends(THROTTLED, SLOW), NONE),
    "neutral": (ends(NEUTRAL), NONE),
    "neutral late": (ends(NEUTRAL, SLOW), NONE),
    "caller left early": (ends(CLIENT_LEFT), NONE),
    "caller left late": (ends(CLIENT_LEFT, SLOW), LATE),
    "caller left a long stream": (streams(CLIENT_LEFT, SLOW), NONE),
    "second settling": (settled_call_ends, NONE),
    "stale ok": (old_call_ends(OK), NONE),
    "stale failure": (old_call_ends(FAILED), NONE),
    "stale failure past the opening": (go_by(OPENED, old_call_ends(FAILED)), NONE),
    "stale failure while a trial hangs": (hang(HUNG, old_call_ends(FAILED)), (None, None, None, R.TRIALS_TIMED_OUT)),
    "ok of a hung trial": (ends(OK, HUNG), (R.SLOW_RATE, None, None, R.TRIALS_TIMED_OUT)),
    # Time
    "poll": (poll, NONE),
    "poll at the opening's end": (go_by(OPENING, poll), NONE),
    "poll past the opening": (go_by(OPENED, poll), ELAPSED),
    "poll at the slow threshold": (hang(SLOW_AT, poll), NONE),
    "poll past the slow threshold": (hang(SLOW, poll), LATE),
    "poll at a trial's limit": (go_by(LIMIT, poll), ELAPSED),
    "poll past a trial's limit": (hang(HUNG, poll), (R.SLOW_RATE, None, R.OPEN_ELAPSED, R.TRIALS_TIMED_OUT)),
    # Questions
    "acquire": (acquire, NONE),
    "acquire at the opening's end": (go_by(OPENING, acquire), NONE),
    "acquire past the opening": (go_by(OPENED, acquire), ELAPSED),
    "acquire past a trial's limit": (hang(HUNG, acquire), (None, None, R.OPEN_ELAPSED, R.TRIALS_TIMED_OUT)),
    "check": (ask, NONE),
    "check past the opening": (go_by(OPENED, ask), ELAPSED),
    "insist": (insist, NONE),
    "insist past the opening": (go_by(OPENED, insist), ELAPSED),
    "reading": (read, NONE),
    "reading past the opening": (go_by(OPENED, read), NONE),
    "reading past a trial's limit": (hang(HUNG, read), NONE),
    # The probe
    "probe down": (lambda verge: verge.breaker.trip(verge.now), (R.PROBE, R.PROBE, None, R.PROBE)),
    "probe up": (lambda verge: verge.breaker.begin_trials(verge.now), (None, None, R.PROBE_RECOVERED, None)),
}


def happen(situation: Callable[[], Verge], event: Event) -> list[Transition]:
    """What comes of it, with everything that must hold whatever comes of it."""
    scene, recorder = situation(), Recorder()
    scene.breaker.add_listener(recorder)
    state, until, generation = scene.state(), scene.breaker.open_until, scene.breaker.generation
    event(scene)
    for transition in recorder.seen:
        assert transition.from_state is state
        assert transition.reason in TRANSITIONS[transition.from_state, transition.to_state]
        state = transition.to_state
    assert scene.state() is state
    assert scene.breaker.generation == generation + len(recorder.seen)
    assert recorder.seen or scene.breaker.open_until == until, "an opening was stamped again"
    return recorder.seen


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.__name__)
@pytest.mark.parametrize("name", TABLE)
def test_an_event_leads_elsewhere_than_the_table_says(name: str, situation: Callable[[], Verge]) -> None:
    event, expected = TABLE[name]
    reasons = [transition.reason for transition in happen(situation, event)]
    wanted = expected[SITUATIONS.index(situation)]
    assert reasons == ([] if wanted is None else [wanted])


def test_a_transition_that_no_event_brings_about_is_in_the_table() -> None:
    seen = [moved for event, _ in TABLE.values() for situation in SITUATIONS for moved in happen(situation, event)]
    assert {(moved.from_state, moved.to_state, moved.reason) for moved in seen} == EVERY
    assert {situation().state() for situation in SITUATIONS} == set(CircuitState)
