"""Who is asked first, who is said to serve, and that a change of it is told once."""

from __future__ import annotations

import pytest

from health.breaker import BreakerConfig, CircuitBreaker
from proxy import routing
from proxy.events import Event, RouteReason, Serving, Switch
from proxy.override import NO_OVERRIDE, Override, OverrideMode, OverrideSource

ORDER = ("vertex", "claude")
TO_CLAUDE = Override(OverrideMode.CLAUDE, OverrideSource.ENVIRONMENT)
A_SHARE_TO_CLAUDE = Override(OverrideMode.CLAUDE, OverrideSource.FILE, percent=40)


class Scene:
    """Two circuits of one model, and what was told of them."""

    def __init__(self) -> None:
        self.vertex, self.claude = (CircuitBreaker(name, BreakerConfig(jitter=0), now=0.0) for name in ORDER)
        self.told: list[Event] = []
        self.actives = routing.ActiveUpstreams(ORDER, lambda _: [self.vertex, self.claude], self.told.append)

    def review(self, at: float, override: Override = NO_OVERRIDE) -> routing.Active:
        self.actives.review(override, at, ["m"])
        (active,) = self.actives
        return active


def test_an_override_loses_the_safety_net() -> None:
    assert routing.plan(ORDER, NO_OVERRIDE, b"") == routing.Plan(ORDER, RouteReason.PRIMARY)
    plan = routing.plan(ORDER, TO_CLAUDE, b"")
    assert plan == routing.Plan(("claude", "vertex"), RouteReason.OVERRIDE, pinned=True)


def test_a_switch_is_told_twice_or_a_first_sight_as_one() -> None:
    scene = Scene()
    assert scene.review(1.0) == routing.Active("m", "vertex", RouteReason.PRIMARY, 1.0)
    assert scene.review(2.0).since == 1.0
    scene.vertex.trip(3.0)
    assert scene.review(3.0) == routing.Active("m", "claude", RouteReason.PROBE_DOWN, 3.0)
    scene.review(4.0)
    first, *others = scene.told
    assert isinstance(first, Serving)
    assert (first.at, first.model, first.upstream, first.reason) == (1.0, "m", "vertex", RouteReason.PRIMARY)
    assert others == [
        Switch(3.0, "m", "vertex", "claude", RouteReason.PROBE_DOWN),
    ]


def test_another_reason_for_the_same_upstream_is_told_as_a_switch_or_forgotten() -> None:
    scene = Scene()
    scene.review(1.0)
    scene.vertex.trip(2.0)
    scene.review(2.0)
    told = len(scene.told)
    assert scene.review(3.0, TO_CLAUDE) == routing.Active("m", "claude", RouteReason.OVERRIDE, 2.0)
    assert len(scene.told) == told


def test_with_every_circuit_open_somebody_is_said_to_have_taken_over() -> None:
    scene = Scene()
    scene.vertex.trip(1.0)
    scene.review(1.0)
    scene.claude.trip(2.0)
    assert scene.review(2.0).upstream == "claude"
    fresh = Scene()
    fresh.vertex.trip(1.0)
    fresh.claude.trip(1.0)
    assert fresh.review(1.0).upstream == "vertex"


@pytest.mark.parametrize(("override", "upstream"), [(A_SHARE_TO_CLAUDE, "vertex"), (TO_CLAUDE, "claude")])
def test_a_share_is_taken_for_the_whole(override: Override, upstream: str) -> None:
    assert Scene().review(1.0, override).upstream == upstream
