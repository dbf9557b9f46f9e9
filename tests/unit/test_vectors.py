"""resilience4j's recorded answers, all of them; and that a breaker which answers otherwise would be seen."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from health.breaker import BackoffReset, BreakerConfig, CircuitBreaker
from health.outcome import OutcomeKind
from tests.replay_vectors import main, make_breaker, replay

VECTORS = Path(__file__).parent.parent / "breaker-vectors.txt.gz"


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return gzip.decompress(VECTORS.read_bytes()).decode().splitlines(keepends=True)


@pytest.fixture
def recording(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "vectors.txt.gz"
        path.write_bytes(gzip.compress(text.encode()))
        return str(path)

    return write


def test_the_breaker_answers_otherwise_than_resilience4j(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(VECTORS)]) == 0
    assert capsys.readouterr().out == "traces 300 steps 30521 differences 0\n"


# A replay that compares nothing would pass, too.


@pytest.mark.parametrize(("part", "other"), list(enumerate(["stale", "OPEN", "9", "9", "9"])))
def test_a_result_a_state_or_a_counter_that_differs_is_not_seen(
    part: int, other: str, lines: list[str], recording: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    number = next(at for at, line in enumerate(lines) if at > 9000 and "-> done CLOSED" in line)
    left, _, right = lines[number].partition(" -> ")
    answer = right.split()
    answer[part] = other
    assert main([recording("".join([*lines[:number], f"{left} -> {' '.join(answer)}\n", *lines[number + 1 :]]))]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert f"line {number + 1}: {left} -> expected {' '.join(answer[:2])}" in first
    assert first.startswith("trace ")
    assert first.endswith(f"got {right.strip()}") or part == 1
    assert last == "traces 300 steps 30521 differences 1"


def slow_at_the_threshold(config: BreakerConfig) -> CircuitBreaker:
    class Breaker(CircuitBreaker):
        def settle(self, permit: Any, outcome: Any, now: float, latency: float | None = None) -> bool:
            return super().settle(permit, outcome, now, None if latency is None else latency + 0.001)

    return Breaker("c", config, now=0.0)


def neutral_as_success(config: BreakerConfig) -> CircuitBreaker:
    class Breaker(CircuitBreaker):
        def settle(self, permit: Any, outcome: Any, now: float, latency: float | None = None) -> bool:
            if outcome.kind is OutcomeKind.NEUTRAL:
                outcome = replace(outcome, kind=OutcomeKind.OK)
            return super().settle(permit, outcome, now, latency)

    return Breaker("c", config, now=0.0)


@pytest.mark.parametrize(
    "broken",
    [
        slow_at_the_threshold,
        neutral_as_success,
        lambda config: make_breaker(replace(config, minimum_calls=config.minimum_calls - 1 or 2)),
        lambda config: make_breaker(replace(config, window_size=config.window_size + 1)),
        lambda config: make_breaker(replace(config, trial_calls=config.trial_calls + 1)),
        lambda config: make_breaker(replace(config, open_seconds=config.open_seconds - 0.5)),
        lambda config: make_breaker(replace(config, max_open_seconds=config.open_seconds)),
        lambda config: make_breaker(replace(config, backoff_reset=BackoffReset.GRADUAL)),
        lambda config: make_breaker(replace(config, ramp_seconds=1.0)),
        lambda config: make_breaker(replace(config, consecutive_failures=3)),
        lambda config: make_breaker(replace(config, trial_seconds=1.0)),
        lambda config: make_breaker(
            replace(config, failure_rate_threshold=min(1.0, config.failure_rate_threshold + 0.001))
        ),
        lambda config: make_breaker(replace(config, slow_rate_threshold=min(1.0, config.slow_rate_threshold + 0.001))),
    ],
    ids=[
        *("slow-at-threshold", "neutral-counts", "minimum", "window", "trials", "opening", "no-backoff", "gradual"),
        *("ramp", "row", "trial-limit", "failure-rate", "slow-rate"),
    ],
)
def test_a_breaker_that_keeps_other_rules_passes_the_replay(
    broken: Callable[[BreakerConfig], CircuitBreaker],
) -> None:
    report = replay(VECTORS, broken)
    assert report.differences
    assert (report.traces, report.steps) == (300, 30521)


# Files that cannot be replayed


CONFIG = "CFG type=TIME window=5 min=3 fail=20 slow=30 slowms=2000 open=3000 mult=1 max=20000 trials=1\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1 must begin"),
        ("108 acquire 1 -> ok CLOSED 0 0 0\n", "line 1: a step before any CFG"),
        (CONFIG.replace("min=3 ", ""), "line 1: 'min' is missing"),
        (CONFIG.replace("min=3", "min=x"), "line 1: invalid literal"),
        (CONFIG.replace("min=3", "min=0"), "line 1: minimum_calls must be at least 1"),
        (CONFIG + "108 acquire 1 ok CLOSED 0 0 0\n", "line 2: no step: '108 acquire 1 ok CLOSED 0 0 0'"),
        (CONFIG + "108 acquire 1 -> ok CLOSED 0 0\n", "line 2: no step"),
        (CONFIG + "108 acquire 1 -> done CLOSED 0 0 0\n", "line 2: unknown action, result or state"),
        (CONFIG + "108 acquire 1 -> ok SHUT 0 0 0\n", "line 2: unknown action, result or state"),
        (CONFIG + "108 hope 1 -> ok CLOSED 0 0 0\n", "line 2: unknown action, result or state"),
        (CONFIG + "x acquire 1 -> ok CLOSED 0 0 0\n", "line 2: invalid literal"),
        (CONFIG + "108 success 1 -> done CLOSED 0 0 0\n", "line 2: call 1 is not in flight"),
    ],
)
def test_a_recording_that_makes_no_sense_counts_as_no_difference(
    text: str, said: str, recording: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = recording(text)
    assert main([path]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"{path}: ")
    assert said in err


def test_a_file_that_is_missing_plain_or_cut_short_ends_in_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing, plain, cut = (tmp_path / name for name in ("missing", "plain", "cut"))
    plain.write_text(CONFIG)
    cut.write_bytes(VECTORS.read_bytes()[:100_000])
    for path, said in ((missing, "No such file"), (plain, "ot a gzipped file"), (cut, "breaks off")):
        assert main([str(path)]) == 2
        assert said in capsys.readouterr().err
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
