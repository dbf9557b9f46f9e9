"""The caller's stops and limit: named by what the caller would see of them."""

from __future__ import annotations

import pytest

from proxy.stops import Stops, overlap_start


def through(text: str, *stops: str, max_tokens: int | None = None) -> tuple[str, bool, bool]:
    stage = Stops(stops, max_tokens)
    passed = stage.feed(text) + stage.finish()
    return passed, stage.stopped, stage.capped


def test_a_stop_is_part_of_the_answer() -> None:
    assert through("a\n\nb", "\n\n") == ("a", True, False)


@pytest.mark.parametrize("stop", ["\n", "\n\n", "  ", "\t"])
def test_a_blank_stop_is_passed_over(stop: str) -> None:
    assert through(f"a{stop}b", stop) == ("a", True, False)


def test_an_empty_stop_stops_everything() -> None:
    assert through("abc", "") == ("abc", False, False)


def test_a_later_stop_goes_before_an_earlier_one() -> None:
    assert through("a]b)c", ")", "]") == ("a", True, False)


def test_of_two_stops_that_end_together_half_of_the_longer_is_sent() -> None:
    assert through("x\n+++++", "+++++", "\n+++++") == ("x", True, False)


def test_a_stop_that_ends_first_waits_for_a_longer_one() -> None:
    assert through("abcd", "abcd", "bc") == ("a", True, False)
    stage = Stops(["abcd", "bc"], None)
    assert (stage.feed("abc"), stage.stopped) == ("a", True)
    assert stage.feed("d") == stage.finish() == ""


def test_the_beginning_of_a_stop_is_sent_before_the_rest_of_it_comes() -> None:
    stage = Stops(["\n\n"], None)
    assert stage.feed("a\n") == "a"
    assert stage.feed("\nb") == ""
    assert stage.stopped


def test_what_was_no_stop_after_all_is_lost() -> None:
    stage = Stops(["\n\n"], None)
    assert stage.feed("a\n") + stage.feed("b\n") + stage.finish() == "a\nb\n"
    assert not stage.stopped


def test_a_limit_is_passed() -> None:
    assert through("x" * 9, max_tokens=2) == ("x" * 8, True, True)
    assert through("x" * 8, max_tokens=2) == ("x" * 8, False, False)
    assert through("x", max_tokens=0) == ("", True, True)


def test_held_back_text_passes_the_limit() -> None:
    stage = Stops(["abcdef"], 1)
    assert stage.feed("xyabcde") == "xy"
    assert stage.finish() == "ab"
    assert stage.capped


def test_an_answer_that_fits_counts_as_cut_because_more_was_written_after_the_stop() -> None:
    assert through("xxxx;yyyyyyyy", ";", max_tokens=1) == ("xxxx", True, False)


class TestAnAnswerThatGoesOn:
    """`already` is what another provider sent before it broke off."""

    def test_a_stop_that_began_before_the_break_is_passed_over(self) -> None:
        stage = Stops(["\n\n"], None, already="a\n")
        assert (stage.feed("\nb"), stage.stopped, stage.capped) == ("", True, False)

    def test_the_beginning_of_a_stop_is_sent_again(self) -> None:
        stage = Stops(["\n\n"], None, already="a\n")
        assert stage.feed("b") + stage.finish() == "b"
        stage = Stops(["abcd"], None, already="ab")
        assert (stage.feed("c"), stage.finish()) == ("", "c")

    def test_text_before_a_stop_is_lost(self) -> None:
        stage = Stops(["abcd", "cx"], None, already="ab")
        assert (stage.feed("c"), stage.feed("x"), stage.stopped) == ("", "", True)
        stage = Stops(["abcd", "x"], None, already="ab")
        assert (stage.feed("c"), stage.feed("x"), stage.stopped) == ("", "c", True)

    def test_an_answer_that_had_passed_its_stop_goes_on(self) -> None:
        stage = Stops(["\n\n"], None, already="a\n\nb")
        assert (stage.stopped, stage.feed("c"), stage.finish()) == (True, "", "")

    def test_the_limit_begins_anew(self) -> None:
        stage = Stops([], 1, already="abc")
        assert (stage.feed("de"), stage.stopped, stage.capped) == ("d", True, True)
        assert Stops([], 1, already="abcde").capped
        assert not Stops([], 1, already="abcd").stopped


@pytest.mark.parametrize(
    ("text", "target", "start"),
    [("abc", "cd", 2), ("abc", "bc", 1), ("aaa", "aab", 1), ("abc", "x", 3), ("abc", "", 3), ("", "a", 0)],
)
def test_an_overlap_is_not_the_longest(text: str, target: str, start: int) -> None:
    assert overlap_start(text, target) == start
