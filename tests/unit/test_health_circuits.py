"""One circuit per upstream and model, and what keeps callers from making as many as they like."""

from __future__ import annotations

from health.breaker import BreakerConfig, CircuitBreaker, CircuitState
from health.circuits import Circuits


def make(upstream: str, model: str, now: float) -> CircuitBreaker:
    return CircuitBreaker(f"{upstream}/{model}", BreakerConfig(jitter=0.0), now=now)


def names(circuits: Circuits) -> list[str | None]:
    return [circuit.name for _, _, circuit in circuits]


def test_a_retired_model_trips_the_others() -> None:
    circuits = Circuits(make, limit=64)
    circuits.get("vertex", "retired", 1.0).trip(2.0)
    assert circuits.get("vertex", "retired", 3.0).circuit_state is CircuitState.OPEN
    assert circuits.get("vertex", "gemini", 3.0).circuit_state is CircuitState.CLOSED
    assert circuits.get("claude", "retired", 3.0).circuit_state is CircuitState.CLOSED


def test_invented_model_names_make_circuits_without_end() -> None:
    circuits = Circuits(make, limit=2)
    for number in range(100):
        circuits.get("vertex", f"model-{number}", 0.0)
    assert names(circuits) == ["vertex/model-0", "vertex/model-1", "vertex/other"]
    assert circuits.get("vertex", "model-7", 0.0) is circuits.get("vertex", "other", 0.0)


def test_a_crowd_of_models_evicts_an_outage() -> None:
    circuits = Circuits(make, limit=1)
    circuits.get("vertex", "gemini", 0.0).trip(0.0)
    for number in range(100):
        circuits.get("vertex", f"model-{number}", 0.0)
    assert circuits.get("vertex", "gemini", 0.0).circuit_state is CircuitState.OPEN


def test_a_crowd_at_one_upstream_takes_the_places_of_the_other() -> None:
    circuits = Circuits(make, limit=1)
    for number in range(3):
        circuits.get("vertex", f"model-{number}", 0.0)
    assert circuits.get("claude", "haiku", 0.0).name == "claude/haiku"


def test_openings_last_until_there_is_traffic() -> None:
    circuits = Circuits(make, limit=64)
    for model in ("a", "b"):
        circuits.get("vertex", model, 0.0).trip(0.0)
    circuits.poll(5.1)
    assert {circuit.circuit_state for _, _, circuit in circuits} == {CircuitState.HALF_OPEN}


def test_a_circuit_that_is_made_while_others_are_visited_ends_the_visit_early() -> None:
    circuits = Circuits(make, limit=64)
    circuits.get("vertex", "a", 0.0)
    for _, model, _ in circuits:
        circuits.get("vertex", model + "b", 0.0)
    assert names(circuits) == ["vertex/a", "vertex/ab"]
