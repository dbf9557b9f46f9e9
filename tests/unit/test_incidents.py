"""What an incident is made of: named by what a post-mortem would have wrong."""

from __future__ import annotations

import pytest

from health.outcome import OK, FailureReason
from proxy import events
from proxy.dialects.base import Usage
from proxy.events import RouteReason
from proxy.history.incidents import KEPT, QUIET_SECONDS
from proxy.override import Override, OverrideMode, OverrideSource
from tests.incident_story import BAD, Story


@pytest.fixture
def story() -> Story:
    return Story()


def test_an_outage_is_not_told_from_its_first_bad_answer_to_its_return(story: Story) -> None:
    story.at(0).answers(OK, first_byte=0.1)
    for second in (10.0, 10.2):
        story.at(second).answers(BAD)
        story.incidents(events.FailedOver("m", FailureReason.SERVER_ERROR))
        story.ended("claude")
    story.at(10.5).switch("claude")
    assert (story.only["ended_at"], story.only["seconds_away"]) == (None, None)
    story.at(11).ended("claude")
    story.incidents(events.TokensUsed("claude", Usage(100, 20), "m"))
    story.incidents(events.TokensUsed("vertex", Usage(7, 7), "m"))
    story.incidents(events.RequestLost("m", "reset"))
    story.at(13).answers(OK, first_byte=0.1)
    story.at(15).answers(BAD)
    story.ended(events.NO_UPSTREAM)
    story.at(20).answers(OK, first_byte=0.1)
    story.at(21).answers(OK, first_byte=0.1)
    story.at(22.5).switch("vertex")
    story.at(30).ended("vertex")
    incident = story.only
    assert incident["began_at"] == "2026-11-24T03:00:10.500Z" == incident["id"]
    assert (incident["from"], incident["to"], incident["models"]) == ("vertex", "claude", ["m"])
    assert incident["trigger"] == {"reason": "circuit_open", "evidence": None, "override": None}
    assert incident["first_bad_answer_at"] == "2026-11-24T03:00:10.000Z"
    assert incident["seconds_to_detect"] == pytest.approx(0.5)
    assert incident["seconds_away"] == pytest.approx(12)
    assert incident["seconds_to_return"] == pytest.approx(2.5)
    assert (incident["ended_at"], incident["ended_by"]) == ("2026-11-24T03:00:22.500Z", "return")
    # The two that were repaired before the switch are of it, too.
    assert (incident["requests_repaired"], incident["requests_lost"], incident["requests_served_by_backup"]) == (
        2,
        1,
        3,
    )
    assert incident["tokens"] == {"input": 100, "output": 20}
    assert incident["switches"] == 2


def test_a_failure_of_long_before_is_taken_for_the_beginning(story: Story) -> None:
    story.at(0).answers(BAD)
    story.incidents(events.FailedOver("m", FailureReason.SERVER_ERROR))
    story.at(5).answers(OK, first_byte=0.1)
    story.at(11).answers(BAD)
    story.at(12).switch("claude")
    assert story.only["first_bad_answer_at"] == "2026-11-24T03:00:11.000Z"
    assert story.only["requests_repaired"] == 0


def test_failures_far_apart_that_no_good_answer_breaks_are_each_a_beginning(story: Story) -> None:
    for second in (0, 15, 30, 45, 60):
        story.at(second).answers(BAD)
    story.at(60).switch("claude")
    assert story.only["seconds_to_detect"] == 60


def test_one_failure_in_a_hundred_is_the_beginning_of_an_outage(story: Story) -> None:
    for second in range(0, 700, 7):
        story.at(second).answers(BAD)
        for _ in range(10):
            story.answers(OK, first_byte=0.1)
    story.at(700).answers(BAD)
    story.at(701).switch("claude")
    assert story.only["seconds_to_detect"] == 1


def test_the_outage_before_is_counted_again(story: Story) -> None:
    story.at(0).answers(BAD)
    story.incidents(events.FailedOver("m", FailureReason.SERVER_ERROR))
    story.at(1).switch("claude")
    story.at(2).switch("vertex")
    story.at(100).switch("claude")
    assert story.incidents.entries[-1]["first_bad_answer_at"] is None, "the circuit opened while calls were hanging"
    story.at(101).switch("vertex")
    story.override = Override(OverrideMode.CLAUDE, OverrideSource.API, "a drill", "ann")
    story.at(86_400).switch("claude", reason=RouteReason.OVERRIDE)
    assert story.incidents.entries[-1]["requests_repaired"] == 0
    story.at(86_500).switch("vertex")
    assert story.incidents.entries[-1]["seconds_to_return"] is None


def test_an_override_back_to_a_dead_primary_is_told_as_a_return(story: Story) -> None:
    story.at(0).switch("claude")
    story.at(60).switch("vertex", reason=RouteReason.OVERRIDE)
    assert story.only["ended_by"] == "override"


def test_what_a_model_finds_at_its_first_sight_is_in_no_incident(story: Story) -> None:
    story.override = Override(OverrideMode.CLAUDE, OverrideSource.FILE)
    story.at(0).incidents(events.Serving(story.unix, "m", "claude", RouteReason.OVERRIDE, lambda: 2))
    story.ended("claude")
    story.at(9).switch("vertex", "never-away")
    assert (story.only["ended_at"], story.only["switches"]) == (None, 0)
    story.at(10).switch("vertex")
    assert (story.only["requests_served_by_backup"], story.only["seconds_away"]) == (1, 10)


def test_the_last_seconds_of_a_process_are_not_written(story: Story) -> None:
    story.at(0).incidents(events.RequestLost("m", "connect"))
    assert story.written[-1]["requests_lost"] == 1
    story.at(1).incidents(events.RequestLost("n", "connect"))
    story.at(9).incidents.save()
    assert (story.written[-1]["requests_lost"], story.written[-1]["models"]) == (2, ["m", "n"])
    story.at(9).incidents.save()
    assert len(story.written) == 2, "what has not changed is not written again"


def test_slow_answers_failed_probes_or_those_of_another_model_begin_wrongly(story: Story) -> None:
    story.at(0).answers(BAD, model="other")
    story.answers(BAD, upstream="claude")
    story.at(1).answers(OK, first_byte=1.5)
    story.at(2).answers(OK, first_byte=1.6)
    story.at(3).switch("claude")
    assert story.only["seconds_to_detect"] == pytest.approx(1)
    probed = Story()
    probed.at(1).probe(BAD)
    probed.at(4).switch("claude", reason=RouteReason.PROBE_DOWN)
    assert probed.only["seconds_to_detect"] == pytest.approx(3)


def test_the_return_took_longer_than_the_outage(story: Story) -> None:
    story.at(0).answers(BAD)
    story.at(1).answers(OK, first_byte=0.1)
    story.at(5).switch("claude", reason=RouteReason.OVERRIDE)
    story.at(8).switch("vertex", reason=RouteReason.PRIMARY)
    assert story.only["seconds_to_return"] is None, "nothing that was bad has come back"


def test_calls_that_hang_have_a_first_bad_answer(story: Story) -> None:
    story.at(5).switch("claude")
    assert story.only["first_bad_answer_at"] is None
    assert story.only["seconds_to_detect"] is None


def test_probes_are_spent_on_the_incident(story: Story) -> None:
    story.at(1).switch("claude")
    story.incidents(events.TokensUsed("claude", Usage(5, 3)))
    story.probe(OK, Usage(5, 3), upstream="claude")
    assert story.only["tokens"] == {"input": 0, "output": 0}


def test_a_flapping_circuit_is_an_incident_each_time(story: Story) -> None:
    for start in (0, 40):
        story.at(start).switch("claude")
        assert story.only["ended_at"] is None
        story.at(start + 10).switch("vertex")
    assert story.only["switches"] == 4
    assert story.only["seconds_away"] == 50
    story.at(51 + QUIET_SECONDS).switch("claude")
    assert len(story.incidents.entries) == 2


def test_several_models_are_an_incident_each_or_end_with_the_first(story: Story) -> None:
    story.at(0).switch("claude", "m")
    story.at(1).switch("claude", "n")
    story.at(5).switch("vertex", "m")
    assert story.only["ended_at"] is None
    story.at(9).switch("vertex", "n")
    assert (story.only["models"], story.only["seconds_away"]) == (["m", "n"], 9)


def test_lost_requests_without_a_switch_are_no_incident_or_one_without_end(story: Story) -> None:
    story.at(0).incidents(events.RequestLost("m", "connect"))
    story.at(30).incidents(events.RequestLost("m", "connect"))
    assert (story.only["to"], story.only["trigger"]["reason"], story.only["requests_lost"]) == (None, "request_lost", 2)
    story.at(30 + QUIET_SECONDS).incidents.poll()
    assert story.only["ended_at"] is None
    story.at(31 + QUIET_SECONDS).incidents.poll()
    assert story.only["ended_at"] == "2026-11-24T03:00:30.000Z"


def test_a_switch_after_lost_requests_is_another_incident(story: Story) -> None:
    story.at(0).incidents(events.RequestLost("m", "connect"))
    story.at(2).switch("claude")
    assert (story.only["to"], story.only["requests_lost"]) == ("claude", 1)
    story.at(200).incidents.poll()
    assert story.only["ended_at"] is None, "it lasts while the traffic is away"
    story.at(201).switch("vertex")
    assert story.only["seconds_away"] == 201


def test_a_model_that_nobody_asks_for_any_more_is_an_incident_for_ever(story: Story) -> None:
    story.at(0).switch("claude", "a-typo")
    story.at(100).incidents(events.RequestEnded("claude", 200, 0.1, model="a-typo"))
    story.at(1_000).incidents.poll()
    assert story.only["ended_at"] is None
    story.at(1_001).incidents.poll()
    assert (story.only["ended_by"], story.only["seconds_away"]) == ("quiet", 100)
    story.at(5_000).switch("claude")
    assert [entry["models"] for entry in story.incidents.entries] == [["a-typo"], ["m"]]


def test_a_long_incident_turns_everything_else_out_of_the_file(story: Story) -> None:
    story.at(0).switch("claude")
    for second in range(7_200):
        story.at(second).ended("claude")
        story.incidents(events.RequestEnded("claude", 200, 0.1, model="m"))
        story.incidents.poll()
    assert len(story.written) < 180


def test_an_override_looks_like_a_failure(story: Story) -> None:
    story.override = Override(OverrideMode.CLAUDE, OverrideSource.API, "INC-1", "ann")
    story.at(0).answers(BAD)
    story.at(1).switch("claude", reason=RouteReason.OVERRIDE)
    assert story.only["trigger"]["override"]["actor"] == "ann"
    assert story.only["seconds_to_detect"] is None


def test_a_killed_process_takes_its_incident_along(story: Story) -> None:
    story.at(0).switch("claude")
    story.at(5).ended("claude")
    story.at(9.9).incidents.poll()
    assert len(story.written) == 1
    story.at(10).incidents.poll()
    assert len(story.written) == 2
    later = Story()
    later.incidents.restore(story.written)
    assert later.only["requests_served_by_backup"] == 1
    assert (later.only["ended_at"], later.only["ended_by"]) == ("2026-11-24T03:00:10.000Z", "restart")


def test_an_ended_incident_is_ended_by_the_restart(story: Story) -> None:
    story.at(0).switch("claude")
    story.at(5).switch("vertex")
    later = Story()
    later.incidents.restore(story.written)
    assert later.only == story.only


def test_incidents_fill_the_memory(story: Story) -> None:
    for number in range(KEPT + 50):
        story.at(number * 100.0).switch("claude")
        story.at(number * 100.0 + 1).switch("vertex")
    assert len(story.incidents.entries) == KEPT
    for number in range(5_000):
        story.answers(BAD, model=f"invented-{number}")
    assert len(story.incidents._streaks._by_model) <= 1_000
