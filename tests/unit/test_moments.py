"""Lengths of time and moments as people write and read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from proxy.moments import in_words, parse_length, rfc3339, rfc3339_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1_800), ("2h", 7_200), (" 2 H ", 7_200), ("1d", 86_400), ("1h30m", 5_400), ("45", 45)],
)
def test_a_length_is_not_understood(text: str, seconds: int) -> None:
    assert parse_length(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "h", "2", "2x", "h2", "-2h", "1.5h", "2 hours", "9" * 20, "9" * 9 + "d", "٢h"])
def test_a_slip_is_taken_for_a_length(text: str) -> None:
    if text == "2":
        assert parse_length(text).total_seconds() == 2
        return
    with pytest.raises(ValueError, match="is no length of time"):
        parse_length(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (-5, "0 s"), (59.6, "1 min"), (3_600, "1 h"), (7_199, "1 h 59 min"), (90_000, "1 d 1 h"),
     (61, "1 min 1 s")],
)  # fmt: skip
def test_a_length_reads_as_another(seconds: float, words: str) -> None:
    assert in_words(timedelta(seconds=seconds)) == words


def test_a_moment_is_written_in_local_time() -> None:
    noon = datetime(2026, 11, 24, 13, 0, 0, 120_000, tzinfo=timezone(timedelta(hours=1)))
    assert rfc3339(noon) == "2026-11-24T12:00:00.120Z"
    assert rfc3339_of(noon.astimezone(UTC).timestamp()) == "2026-11-24T12:00:00.120Z"
