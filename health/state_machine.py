"""pybreaker's state machine and listener protocol, with everything closed off that would run code or judge.

pybreaker 1.4 counts failures in a row, by the wall clock. It has no window, rate, latency or neutral result, it never
sees an `async def` fail, and in half-open it admits everybody. A class with a metaclass (google.api_core's exceptions
have one) in `exclude` disables it without a word, and a listener that raises stops it from opening. So it holds the
state and names the protocol here, and never runs our code; the judgement is `breaker.py`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

import pybreaker

from health.transitions import CircuitState

if TYPE_CHECKING:
    from health.config import BreakerConfig

logger = logging.getLogger("health")

_STORED = {
    CircuitState.CLOSED: pybreaker.STATE_CLOSED,
    CircuitState.OPEN: pybreaker.STATE_OPEN,
    CircuitState.HALF_OPEN: pybreaker.STATE_HALF_OPEN,
}
"""pybreaker spells its states for itself: "half-open"."""


def refuse_to_run(*_: object, **__: object) -> NoReturn:
    """In the place of everything in pybreaker that would run code."""
    raise TypeError("this circuit breaker never runs code: acquire() a permit, make the call, settle() the permit")


def _refuse_to_move(*_: object) -> NoReturn:
    raise TypeError("this circuit breaker's rules decide its state: a probe's verdict goes to trip() or begin_trials()")


class _Inert(pybreaker.CircuitBreakerState):
    """pybreaker's state objects run code as well, by rules of their own; ours are names."""

    def call(self, *args: object, **kwargs: object) -> NoReturn:
        refuse_to_run()

    def call_async(self, *args: object, **kwargs: object) -> NoReturn:
        refuse_to_run()


class _Closed(_Inert, pybreaker.CircuitClosedState):
    pass


class _Open(_Inert, pybreaker.CircuitOpenState):
    pass


class _HalfOpen(_Inert, pybreaker.CircuitHalfOpenState):
    pass


class CircuitListener(pybreaker.CircuitBreakerListener):
    """pybreaker's listener, and one more thing to be told."""

    def would_trip(self, cb: pybreaker.CircuitBreaker) -> None:
        """A circuit that only observes would have opened; `cb.last_transition` is the evidence."""


class StateMachine(pybreaker.CircuitBreaker):
    """A pybreaker circuit breaker that can only be told its state."""

    def __init__(
        self,
        name: str,
        config: BreakerConfig,
        listeners: Sequence[pybreaker.CircuitBreakerListener],
    ) -> None:
        self._storage = pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
        super().__init__(listeners=listeners, state_storage=self._storage, name=name)
        self._show(config)

    def _show(self, config: BreakerConfig) -> None:
        """Let pybreaker's own settings say what the config says."""
        self.config = config
        self.fail_max = config.consecutive_failures
        self.reset_timeout = config.open_seconds
        self.success_threshold = config.trial_calls

    def _set_state(self, to_state: CircuitState) -> pybreaker.CircuitBreakerState:
        """Storage first, then the state object; tells nobody. Returns the state object of before."""
        self._storage.state = _STORED[to_state]
        old_state, self._state = self._state, self._create_new_state(_STORED[to_state])
        return old_state

    def _tell_change(self, old_state: pybreaker.CircuitBreakerState) -> None:
        self._tell(lambda listener: listener.state_change(self, old_state, self._state))

    def _tell_would_trip(self) -> None:
        def tell(listener: pybreaker.CircuitBreakerListener) -> None:
            if isinstance(listener, CircuitListener):
                listener.would_trip(self)

        self._tell(tell)

    def _tell(self, news: Callable[[pybreaker.CircuitBreakerListener], object]) -> None:
        for listener in self.listeners:
            try:
                news(listener)
            except Exception:
                logger.exception("a listener of circuit %s raised", self.name)

    def _create_new_state(
        self, new_state: str, prev_state: pybreaker.CircuitBreakerState | None = None, notify: bool = False
    ) -> pybreaker.CBStateType:
        """A state object that runs no code, needs no state of before and, whatever `notify` says, tells nobody."""
        if new_state == pybreaker.STATE_OPEN:
            return _Open(self)
        return _HalfOpen(self, None) if new_state == pybreaker.STATE_HALF_OPEN else _Closed(self)

    @property
    def state(self) -> pybreaker.CBStateType:
        """pybreaker's state object. Assigning to it is refused."""
        return self._state

    @state.setter
    def state(self, state_str: str) -> None:
        _refuse_to_move()

    call = calling = call_async = __call__ = refuse_to_run
    add_excluded_exception = add_excluded_exceptions = refuse_to_run
    open = half_open = close = _refuse_to_move
