"""What an operator sets arrives where it works."""

from __future__ import annotations

from health.config import BreakerConfig, WindowType
from proxy.settings import BreakerSettings, load_settings
from proxy.switchboard import breaker_config
from tests.rig import environment

VALUES = {
    "WINDOW_SECONDS": 11, "MINIMUM_CALLS": 12, "FAILURE_RATE_THRESHOLD": 0.13, "SLOW_CALL_SECONDS": 0.14,
    "SLOW_RATE_THRESHOLD": 0.15, "CONSECUTIVE_FAILURES": 16, "OPEN_SECONDS": 17.0, "OPEN_MULTIPLIER": 1.8,
    "MAX_OPEN_SECONDS": 190.0, "TRIAL_CALLS": 2, "RAMP_SECONDS": 2.2, "OBSERVE_ONLY": True,
}  # fmt: skip


def _config(**values: object) -> BreakerConfig:
    settings = {f"BREAKER__{name}": str(value) for name, value in values.items()}
    environ = environment("http://v", "http://c", TIMEOUTS__TOTAL_SECONDS="21", **settings)
    return breaker_config(load_settings(environ=environ))


def test_a_setting_of_the_breaker_does_nothing() -> None:
    config = _config(**VALUES)
    for name, value in VALUES.items():
        assert getattr(config, "window_size" if name == "WINDOW_SECONDS" else name.lower()) == value, name
    assert config.trial_seconds == 22
    assert config.window_type is WindowType.TIME
    assert {name.lower() for name in VALUES} | {"window_calls"} == set(BreakerSettings.model_fields)


def test_a_window_of_calls_is_one_of_seconds() -> None:
    config = _config(**VALUES, WINDOW_CALLS=200)
    assert (config.window_type, config.window_size) == (WindowType.COUNT, 200)
