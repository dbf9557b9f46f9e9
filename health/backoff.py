"""How long a circuit stays open: growth, cap, jitter, the upstream's own wish, and how healthy time is counted off."""

from __future__ import annotations

import math
from collections.abc import Callable

from health.config import BackoffReset, BreakerConfig


class Backoff:
    """Remembers the openings of one circuit. `now` in seconds; `attempt` is how many of them still count."""

    def __init__(self, config: BreakerConfig, random: Callable[[], float]) -> None:
        """`random` gives 0 to 1."""
        self.attempt = 0
        self._config = config
        self._random = random
        self._healthy_since = math.inf
        self._not_before = -math.inf

    def reconfigure(self, config: BreakerConfig) -> None:
        """Take lengths from another config, from the next opening on."""
        self._config = config
        # Where its openings grow no more the count ends: beyond, the power may overflow and forgetting never end.
        attempt = 0
        while attempt < self.attempt and (following := config.next_attempt(attempt)) > attempt:
            attempt = following
        self.attempt = attempt

    def heed(self, retry_after: float | None, now: float) -> None:
        """Remember a Retry-After until the next transition: the trial that carried it need not be the last one."""
        if retry_after is not None:
            self._not_before = max(self._not_before, now + retry_after)

    def disregard(self) -> None:
        """Forget every Retry-After."""
        self._not_before = -math.inf

    def begin(self, now: float) -> float:
        """Count one more opening. Returns when it ends."""
        self.attempt = self._config.next_attempt(self.attempt)
        length = self._config.open_length(self.attempt) * (1 - self._config.jitter * self._random())
        asked = min(self._not_before - now, self._config.max_open_seconds)
        return now + max(length, asked)

    def close(self, now: float) -> None:
        """Healthy time begins."""
        self._healthy_since = now
        if self._config.backoff_reset is BackoffReset.ON_CLOSE:
            self.attempt = 0

    def forget(self, now: float) -> None:
        """Let healthy time until `now` count: each opening is forgotten after a closed interval of its length."""
        while self.attempt and now - self._healthy_since >= self._config.open_length(self.attempt):
            self._healthy_since += self._config.open_length(self.attempt)
            self.attempt -= 1
