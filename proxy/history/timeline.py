"""The last quarter of an hour: who served how much, and how long the first content took. For the status page.

A request counts once: for the upstream whose whole answer it got, or as lost. A stream that broke off is lost, whoever
had begun it. One whose caller left, before the answer or in the middle of it, is neither.

A listener of the hub, and so in the way of every request: an event costs a few additions. Memory is bounded by the
number of buckets; latencies are counted in logarithmic steps, fine enough that a quantile is off by at most 5 %.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy import events

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.events import Event

BUCKET_SECONDS = 5
BUCKETS = 180
_STEP = math.log(1.1)
_SHORTEST = 0.001
_LONGEST_STEP = 120
"""Steps of 10 % from a millisecond on: the last one begins at a minute and a half."""
_SWITCHES_KEPT = 200


@dataclass(slots=True)
class Bucket:
    """What happened in five seconds."""

    number: int
    """Unix time in whole buckets."""
    served: Counter[str] = field(default_factory=Counter)
    """Whole answers by upstream."""
    lost: int = 0
    latencies: Counter[int] = field(default_factory=Counter)
    """Calls by the step of their time to first content."""


@dataclass(frozen=True, slots=True)
class Point:
    """One bucket, for a chart. Times in seconds; quantiles are None where nothing was measured."""

    at: float
    """Unix time of its beginning."""
    served: dict[str, int]
    lost: int
    p50: float | None
    p95: float | None


class Timeline:
    """Told every event; `points` is what it remembers, without gaps."""

    def __init__(self, upstreams: Sequence[str], wall_clock: Callable[[], float]) -> None:
        """`wall_clock` is Unix time in seconds."""
        self._upstreams = tuple(upstreams)
        self._wall_clock = wall_clock
        self._buckets: deque[Bucket] = deque(maxlen=BUCKETS)
        self._bucket_ends = 0.0
        self._switches: deque[events.Switch] = deque(maxlen=_SWITCHES_KEPT)
        self._handlers: dict[type[Event], Callable[..., None]] = {
            events.RequestEnded: self._on_request,
            events.AttemptEnded: self._on_attempt,
            events.RequestLost: self._on_lost,
            events.Switch: self._switches.append,
        }

    def __call__(self, event: Event) -> None:
        """Remember one event."""
        if (handler := self._handlers.get(type(event))) is not None:
            handler(event)

    @property
    def since(self) -> float:
        """The Unix time from which the points go: a quarter of an hour before the end of the present bucket."""
        return (self._number() + 1 - BUCKETS) * BUCKET_SECONDS

    def points(self) -> list[Point]:
        """All buckets of the last quarter of an hour, the oldest first; those in which nothing happened, too."""
        known = {bucket.number: bucket for bucket in self._buckets}
        last = self._number()
        return [self._point(known.get(number) or Bucket(number)) for number in range(last + 1 - BUCKETS, last + 1)]

    def switches(self) -> list[events.Switch]:
        """The switches of that time, the oldest first."""
        since = self.since
        return [switch for switch in self._switches if switch.at >= since]

    def _point(self, bucket: Bucket) -> Point:
        return Point(
            bucket.number * BUCKET_SECONDS,
            {name: bucket.served[name] for name in self._upstreams},
            bucket.lost,
            quantile(bucket.latencies, 0.5),
            quantile(bucket.latencies, 0.95),
        )

    def _number(self) -> int:
        """The present bucket's: after a wall clock was set back still the latest one, or what comes in is not seen."""
        number = int(self._wall_clock() // BUCKET_SECONDS)
        return max(number, self._buckets[-1].number) if self._buckets else number

    def _bucket(self) -> Bucket:
        if (now := self._wall_clock()) >= self._bucket_ends:
            number = int(now // BUCKET_SECONDS)
            self._buckets.append(Bucket(number))
            self._bucket_ends = (number + 1) * BUCKET_SECONDS
        return self._buckets[-1]

    def _on_request(self, event: events.RequestEnded) -> None:
        if event.upstream != events.NO_UPSTREAM and event.complete and not _is_its_failure(event):
            self._bucket().served[event.upstream] += 1

    def _on_attempt(self, event: events.AttemptEnded) -> None:
        if (seconds := event.seconds_to_first_byte) is not None:
            self._bucket().latencies[_step(seconds)] += 1

    def _on_lost(self, _: events.RequestLost) -> None:
        self._bucket().lost += 1


def _is_its_failure(event: events.RequestEnded) -> bool:
    """Whether the answer is the error of an attempt that failed, passed on because nobody served: it counts as lost."""
    return event.code >= 400 and f"{event.upstream}:{event.reason}" in event.failed


def _step(seconds: float) -> int:
    if seconds <= _SHORTEST:
        return 0
    return min(_LONGEST_STEP, 1 + int(math.log(seconds / _SHORTEST) / _STEP))


def quantile(counts: Counter[int], share: float) -> float | None:
    """The time in seconds below which `share` of the counted calls lie; None where none is counted."""
    total = sum(counts.values())
    if not total:
        return None
    rank, seen = share * total, 0
    for step in sorted(counts):
        seen += counts[step]
        if seen >= rank:
            break
    # The geometric middle of the step, which no value in it is further from than 5 %.
    return _SHORTEST if step == 0 else _SHORTEST * math.exp(_STEP * (step - 0.5))
