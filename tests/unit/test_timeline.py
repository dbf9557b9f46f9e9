"""The last quarter of an hour: named by what the page would show wrong."""

from __future__ import annotations

import random
import statistics
from collections import Counter

import pytest

from health.outcome import OK, FailureReason, Outcome
from proxy import events
from proxy.events import RouteReason
from proxy.history.timeline import BUCKET_SECONDS, BUCKETS, Point, Timeline, quantile

NOON = 1_795_521_600.0


class Scene:
    """A timeline on a clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = NOON
        self.timeline = Timeline(("vertex", "claude"), lambda: self.now)

    def served(self, upstream: str, times: int = 1) -> None:
        for _ in range(times):
            self.timeline(events.RequestEnded(upstream, 200, 1.0))

    def answered(self, *seconds: float) -> None:
        for each in seconds:
            self.timeline(events.AttemptEnded("vertex", "m", OK, each))

    @property
    def last(self) -> Point:
        return self.timeline.points()[-1]


def test_requests_stand_in_the_wrong_place_or_go_under() -> None:
    scene = Scene()
    scene.served("vertex", 3)
    scene.now += 4.9
    scene.served("claude")
    scene.now += 0.2
    scene.served("claude", 2)
    scene.timeline(events.RequestLost("m", "connect"))
    scene.served(events.NO_UPSTREAM)
    before, last = scene.timeline.points()[-2:]
    assert (before.at, before.served, before.lost) == (NOON, {"vertex": 3, "claude": 1}, 0)
    assert (last.at, last.served, last.lost) == (NOON + 5, {"vertex": 0, "claude": 2}, 1)


def test_time_without_traffic_is_left_out() -> None:
    scene = Scene()
    scene.served("vertex")
    scene.now += 60
    points = scene.timeline.points()
    assert len(points) == BUCKETS
    assert [point.at for point in points] == [
        NOON + 60 - BUCKET_SECONDS * number for number in range(BUCKETS - 1, -1, -1)
    ]
    assert [sum(point.served.values()) for point in points[-13:]] == [1] + [0] * 12
    assert points[-1].p50 is None


def test_the_past_never_ends_or_fills_the_memory() -> None:
    scene = Scene()
    for _ in range(500):
        scene.served("vertex")
        scene.timeline(events.Switch(scene.now, "m", "vertex", "claude", RouteReason.CIRCUIT_OPEN))
        scene.now += BUCKET_SECONDS
    assert sum(sum(point.served.values()) for point in scene.timeline.points()) == BUCKETS - 1
    assert len(scene.timeline._buckets) == BUCKETS
    assert {switch.at >= NOON + (500 - BUCKETS) * BUCKET_SECONDS for switch in scene.timeline.switches()} == {True}
    assert len(scene.timeline._switches) <= 200


@pytest.mark.parametrize("centre", [0.002, 0.05, 0.3, 1.4, 20.0])
def test_a_quantile_is_off_by_more_than_a_twentieth(centre: float) -> None:
    scene, draw = Scene(), random.Random(7)
    seconds = [centre * draw.lognormvariate(0, 0.4) for _ in range(2_000)]
    scene.answered(*seconds)
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    assert scene.last.p50 == pytest.approx(cuts[9], rel=0.06)
    assert scene.last.p95 == pytest.approx(cuts[18], rel=0.06)


@pytest.mark.parametrize("seconds", [0.0, 0.0005, 1e9])
def test_an_odd_latency_is_an_error(seconds: float) -> None:
    scene = Scene()
    scene.answered(seconds)
    assert scene.last.p50 is not None
    scene.timeline(events.AttemptEnded("vertex", "m", Outcome.failure(FailureReason.RESET), None))
    assert quantile(Counter(), 0.5) is None


def test_a_clock_that_is_set_back_breaks_the_order() -> None:
    scene = Scene()
    scene.served("vertex")
    scene.now -= 600
    scene.served("vertex")
    assert scene.last.served["vertex"] == 2
    scene.now += 600
    assert scene.last.served["vertex"] == 2


def test_a_stream_that_broke_off_counts_twice() -> None:
    scene = Scene()
    scene.timeline(events.RequestLost("m", "reset"))
    scene.timeline(events.RequestEnded("vertex", 200, 1.0, reason="primary", stream=True, complete=False))
    assert (scene.last.served, scene.last.lost) == ({"vertex": 0, "claude": 0}, 1)
    # One whose caller left is nobody's failure, and nobody's answer.
    scene.timeline(events.RequestEnded("vertex", 200, 1.0, reason="primary", stream=True, complete=False))
    assert (scene.last.served, scene.last.lost) == ({"vertex": 0, "claude": 0}, 1)


def test_a_lost_request_counts_as_served_by_whose_error_it_got() -> None:
    scene = Scene()
    scene.timeline(events.RequestLost("m", "server_error"))
    failed = ("vertex:server_error", "claude:connect")
    scene.timeline(events.RequestEnded("vertex", 503, 1.0, reason="server_error", failed=failed))
    assert (scene.last.served, scene.last.lost) == ({"vertex": 0, "claude": 0}, 1)
    # One that was repaired has the same reason, and an upstream's word on a caller's mistake is an answer.
    scene.timeline(events.RequestEnded("claude", 200, 1.0, reason="server_error", failed=failed[:1]))
    scene.timeline(events.RequestEnded("vertex", 400, 1.0, reason="primary"))
    assert scene.last.served == {"vertex": 1, "claude": 1}
