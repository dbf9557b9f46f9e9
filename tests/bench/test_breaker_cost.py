"""The breaker's cost by order of magnitude: what the bench prints is exact, this only runs it and cannot flake."""

from __future__ import annotations

from tests.bench.breaker import BENCHES, measure

GENEROUS = 5


def test_the_breaker_costs_many_times_what_it_should() -> None:
    figures = measure(times=500, repeats=10)
    assert len(figures) == len(BENCHES)
    for figure in figures:
        assert "ns" in str(figure)
        assert figure.target_ns is None or figure.ns < GENEROUS * figure.target_ns, str(figure)
