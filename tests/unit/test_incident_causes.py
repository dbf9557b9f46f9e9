"""Why an incident began and why it ended, where several things happened at once."""

from __future__ import annotations

import pytest

from health.outcome import OK, FailureReason, Outcome
from health.transitions import CircuitState
from proxy import events
from proxy.events import RouteReason
from proxy.override import NO_OVERRIDE, Override, OverrideMode, OverrideSource
from tests.incident_story import BAD, Story

TO_CLAUDE = Override(OverrideMode.CLAUDE, OverrideSource.API, "a drill", "ann")
TO_VERTEX = Override(OverrideMode.VERTEX, OverrideSource.API, "INC-1", "bob")


@pytest.fixture
def story() -> Story:
    return Story()


def _outage(story: Story) -> None:
    story.switch("claude", cause=story.circuit(CircuitState.OPEN))


def test_an_override_in_the_middle_of_an_outage_leaves_no_trace(story: Story) -> None:
    _outage(story)
    story.at(10).override_changes(TO_CLAUDE)
    story.at(20).circuit(CircuitState.CLOSED)
    story.at(30).override_changes(NO_OVERRIDE)
    story.switch("vertex", reason=RouteReason.PRIMARY)
    assert story.only["trigger"]["reason"] == "circuit_open"
    assert [(one["at"][14:19], one["change"], one["override"]["actor"]) for one in story.only["overrides"]] == [
        ("00:10", "set", "ann"),
        ("00:30", "cleared", None),
    ]
    assert (story.only["ended_by"], story.only["seconds_away"]) == ("return", 30)


def test_the_one_that_began_it_is_told_twice(story: Story) -> None:
    story.override_changes(TO_CLAUDE)
    story.switch("claude", reason=RouteReason.OVERRIDE)
    assert (story.only["trigger"]["override"]["actor"], story.only["overrides"]) == ("ann", [])


def test_an_outage_under_a_drill_is_told_as_the_drill(story: Story) -> None:
    story.override_changes(TO_CLAUDE)
    story.switch("claude", reason=RouteReason.OVERRIDE)
    story.at(100).circuit(CircuitState.OPEN)
    story.at(200).override_changes(NO_OVERRIDE)
    story.at(250).circuit(CircuitState.CLOSED)
    story.switch("vertex", reason=RouteReason.PRIMARY)
    drill, outage = story.incidents.entries
    assert (drill["trigger"]["override"]["reason"], drill["ended_by"], drill["seconds_away"]) == (
        "a drill",
        "override",
        200,
    )
    assert (outage["trigger"]["reason"], outage["trigger"]["override"]) == ("circuit_open", None)
    assert outage["trigger"]["evidence"]["failed"] == 10
    assert (outage["ended_by"], outage["seconds_away"], outage["to"]) == ("return", 50, "claude")


def test_an_outage_soon_after_a_drill_is_part_of_it(story: Story) -> None:
    story.override_changes(TO_CLAUDE)
    story.switch("claude", reason=RouteReason.OVERRIDE)
    story.at(100).override_changes(NO_OVERRIDE)
    story.switch("vertex", reason=RouteReason.PRIMARY)
    story.at(120).answers(BAD)
    _outage(story.at(121))
    drill, outage = story.incidents.entries
    assert (drill["ended_by"], drill["seconds_away"]) == ("return", 100)
    assert (outage["trigger"]["reason"], outage["seconds_to_detect"]) == ("circuit_open", 1)


def test_a_primary_that_is_asked_by_order_and_dead_has_come_back(story: Story) -> None:
    """What it does not answer is repaired by the other all the time."""
    _outage(story)
    story.at(10).override_changes(TO_VERTEX)
    story.switch("vertex", reason=RouteReason.OVERRIDE)
    story.at(20).repairs()
    story.ended("claude")
    assert story.only["ended_at"] is None
    assert (story.only["requests_repaired"], story.only["requests_served_by_backup"]) == (1, 1)
    story.at(40).circuit(CircuitState.CLOSED)
    assert (story.only["ended_by"], story.only["seconds_away"]) == ("return", 40)


def test_an_order_to_a_dead_primary_that_is_taken_back_ends_it(story: Story) -> None:
    _outage(story)
    story.at(10).override_changes(TO_VERTEX)
    story.switch("vertex", reason=RouteReason.OVERRIDE)
    story.at(20).override_changes(NO_OVERRIDE)
    story.switch("claude")
    story.at(30).circuit(CircuitState.CLOSED)
    assert story.only["ended_at"] is None, "the switch is what ends it"
    story.switch("vertex", reason=RouteReason.PRIMARY)
    assert (story.only["seconds_away"], story.only["switches"]) == (30, 4)


def test_an_incident_that_began_with_a_loss_keeps_its_cause_to_itself(story: Story) -> None:
    story.loses()
    assert story.only["trigger"]["reason"] == "request_lost"
    story.at(1)
    _outage(story)
    assert (story.only["trigger"]["reason"], story.only["trigger"]["evidence"]["calls"]) == ("circuit_open", 20)
    assert story.only["requests_lost"] == 1


def test_with_both_down_the_backup_is_the_cause(story: Story) -> None:
    """Nobody takes over while both circuits are open; the backup that comes back first only gives the occasion."""
    story.circuit(CircuitState.OPEN)
    story.circuit(CircuitState.OPEN, upstream="claude", model="haiku")
    story.at(2).switch("claude", cause=story.circuit(CircuitState.CLOSED, upstream="claude", model="haiku"))
    assert story.only["trigger"]["evidence"]["upstream"] == "vertex"


def test_both_down_and_few_requests_are_an_incident_each_time(story: Story) -> None:
    story.circuit(CircuitState.OPEN)
    for second in (0, 300, 600):
        story.at(second).loses()
        story.incidents.poll()
        story.at(second + 200).incidents.poll()
    assert (story.only["ended_at"], story.only["requests_lost"]) == (None, 3)
    story.at(900).circuit(CircuitState.CLOSED)
    story.at(901 + 60).incidents.poll()
    assert (story.only["ended_by"], story.only["seconds_away"]) == ("quiet", 900)


def test_a_loss_after_the_return_moves_it(story: Story) -> None:
    _outage(story)
    story.at(10).circuit(CircuitState.CLOSED)
    story.switch("vertex", reason=RouteReason.PRIMARY)
    story.at(40).loses()
    story.at(200).incidents.poll()
    assert (story.only["seconds_away"], story.only["requests_lost"]) == (10, 1)
    assert story.written[-1]["requests_lost"] == 1


def test_another_model_s_requests_are_counted(story: Story) -> None:
    _outage(story)
    for model in ("m", "other"):
        story.repairs(model)
        story.incidents(events.RequestEnded("claude", 200, 0.1, model=model))
    assert (story.only["requests_repaired"], story.only["requests_served_by_backup"]) == (1, 1)
    story.at(1).repairs("other")
    story.switch("claude", "other")
    story.ended("claude")
    story.incidents(events.RequestEnded("claude", 200, 0.1, model="other"))
    assert (story.only["models"], story.only["requests_served_by_backup"]) == (["m", "other"], 3)


def test_what_came_before_a_model_s_first_bad_answer_is_counted_when_it_joins(story: Story) -> None:
    story.repairs("n")
    _outage(story)
    story.at(1).answers(BAD, model="n")
    story.repairs("n")
    story.at(2).switch("claude", "n")
    assert story.only["requests_repaired"] == 1


def test_calls_that_hang_tell_nothing_of_when_it_began(story: Story) -> None:
    """The circuit opens while they hang; that they were bad, and since when, is known when they end."""
    story.at(10)
    _outage(story)
    assert story.only["seconds_to_detect"] is None
    hung = Outcome.failure(FailureReason.FIRST_BYTE_TIMEOUT)
    story.at(12.5).incidents(events.AttemptEnded("vertex", "m", hung, None, seconds=5.0))
    assert story.only["seconds_to_detect"] == pytest.approx(10 - (12.5 - 5.0 + 1.5))
    late = Story()
    _outage(late.at(10))
    late.at(12.5).incidents(events.AttemptEnded("vertex", "m", hung, None, seconds=2.0))
    assert late.only["first_bad_answer_at"] is None, "it was good until after the switch"


def test_a_clock_that_is_set_back_makes_an_outage_of_no_length() -> None:
    story = Story()
    _outage(story.at(0))
    story.set_back(3_600)
    story.at(30).switch("vertex", reason=RouteReason.PRIMARY)
    assert (story.only["seconds_away"], story.only["ended_at"]) == (30, "2026-11-24T03:00:30.000Z")


def test_two_incidents_of_one_moment_are_one_in_the_list() -> None:
    story = Story()
    _outage(story.at(0))
    story.at(1).switch("vertex", reason=RouteReason.PRIMARY)
    story.set_back(100)
    _outage(story.at(100))
    assert [entry["id"] for entry in story.incidents.entries] == [
        "2026-11-24T03:00:00.000Z",
        "2026-11-24T03:00:00.001Z",
    ]


def test_names_without_end_are_kept(story: Story) -> None:
    for number in range(1_000):
        story.incidents(events.RequestEnded("claude", 200, 0.1, model=f"invented-{number}"))
        story.loses(f"invented-{number}")
    assert len(story.incidents._counts._by_model) <= 65
    assert story.only["requests_lost"] == 1_000
    assert len(story.only["models"]) <= 65


def test_a_good_answer_is_late_news(story: Story) -> None:
    _outage(story.at(10))
    story.at(11).incidents(events.AttemptEnded("vertex", "m", OK, 0.2, seconds=0.4))
    assert story.only["first_bad_answer_at"] is None
