"""What a circuit's change rested on, in the words of the log, the status and the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from health.config import BreakerConfig
    from health.transitions import Transition


def evidence(transition: Transition) -> dict[str, Any]:
    """Counts and rates as they stood, and the thresholds that they were held against. Rates are 0 to 1."""
    return {
        "calls": transition.calls,
        "failed": transition.failed,
        "slow": transition.slow,
        "failure_rate": round(transition.failure_rate, 4),
        "slow_rate": round(transition.slow_rate, 4),
        "consecutive_failures": transition.consecutive_failures,
        "failed_probes": transition.failed_probes,
        "thresholds": thresholds(transition.config),
    }


def thresholds(config: BreakerConfig) -> dict[str, Any]:
    """What a circuit judges by."""
    return {
        "window_type": config.window_type,
        "window_size": config.window_size,
        "minimum_calls": config.minimum_calls,
        "failure_rate": config.failure_rate_threshold,
        "slow_rate": config.slow_rate_threshold,
        "slow_call_seconds": config.slow_call_seconds,
        "consecutive_failures": config.consecutive_failures,
        "trial_calls": config.trial_calls,
    }
