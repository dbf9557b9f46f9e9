"""The throttle's formula beside a list of every answer. What it comes to in traffic is in `unit/test_throttle.py`."""

from __future__ import annotations

from math import floor

from hypothesis import given, settings
from hypothesis import strategies as st

from health.throttle import Throttle


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    answers=st.lists(
        st.tuples(st.sampled_from([0.0, 0.0, 0.125, 0.5, 1.0, 3.0, 9.875, 10.0, 11.0]), st.booleans()), max_size=60
    ),
    size=st.sampled_from([1, 3, 10]),
)
def test_the_share_is_not_the_formulas_over_the_answers_of_the_window(
    answers: list[tuple[float, bool]], size: int
) -> None:
    throttle, now, heard = Throttle(size), 1000.0, list[tuple[float, bool]]()
    for pause, refused in answers:
        now += pause
        held = [was_refused for at, was_refused in heard if floor(at) > floor(now) - size]
        assert throttle.spill_share(now) == sum(held) / (len(held) + 1)
        assert throttle.accept_ratio(now) == 1.0 - (sum(held) / len(held) if held else 0.0)
        throttle.record(now, refused=refused)
        heard.append((now, refused))
        assert throttle.active or not any(refused for at, refused in heard if floor(at) > floor(now) - size)
