"""What a reload may change: everything but what is bound, opened or built once for the life of the process. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.settings_types import variable

if TYPE_CHECKING:
    from proxy.settings import Settings

_NEEDS_A_RESTART = (
    "host",
    "port",
    "admin_host",
    "admin_port",
    "override",
    "override_file",
    "journal_file",
    "log_requests",
    "openfeature_provider",
    # A circuit's window holds results: one of another shape would have to begin empty, in the middle of an outage.
    "breaker.window_seconds",
    "breaker.window_calls",
    "breaker.observe_only",
)


class ReloadRefused(Exception):
    """The settings read anew cannot be put in force live; the old ones still are. `problems` names each of them."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def refuse_what_needs_a_restart(before: Settings, after: Settings) -> None:
    """Raise ReloadRefused where they differ in what cannot change live; every such setting at once."""
    changed = [key for key in _NEEDS_A_RESTART if _value(before, key) != _value(after, key)]
    if (before.tls_certificate is None) is not (after.tls_certificate is None):
        changed.append("tls_certificate")
    if changed:
        raise ReloadRefused(
            [f"{variable(key)}: cannot change while running; restart, or take the change back" for key in changed]
        )


def _value(settings: Settings, key: str) -> object:
    value: object = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value
