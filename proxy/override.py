"""The operator's word on which upstream serves, and which of those who may give it is heard.

It stands beside the circuits, not in them: probes and windows keep running under an override. No I/O; the wall clock is
an argument, aware and UTC. Where an override is read from and set by: override_file.py and override_desk.py.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from proxy.moments import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

WARNING_BEFORE = timedelta(minutes=5)
"""How long before its end an override in force is told of."""
LEAST_PERCENT = 0.01
"""The least share of callers that there is: one part in `_PARTS`."""
_PARTS = 10_000


class OverrideMode(StrEnum):
    """What the operator asks for. `AUTO` leaves the choice to the circuits."""

    AUTO = "auto"
    VERTEX = "vertex"
    CLAUDE = "claude"


class OverrideSource(StrEnum):
    """Who said so; the stronger first."""

    ENVIRONMENT = "environment"
    FILE = "file"
    API = "api"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Override:
    """One word of the operator's. `expires_at` is aware and UTC; `percent` is the share of callers, 0 to 100."""

    mode: OverrideMode
    source: OverrideSource
    reason: str | None = None
    actor: str | None = None
    expires_at: datetime | None = None
    percent: float = 100

    def in_force(self, wall_now: datetime) -> bool:
        """Whether it forces an upstream at this moment: not `AUTO`, and not expired."""
        return self.mode is not OverrideMode.AUTO and (self.expires_at is None or wall_now < self.expires_at)

    def applies_to(self, key: bytes) -> bool:
        """Whether the caller with this key is in the share.

        Sticky, and the same on every replica; a larger share contains the smaller one.
        """
        return zlib.crc32(key) % _PARTS < round(self.percent / 100 * _PARTS)


NO_OVERRIDE = Override(OverrideMode.AUTO, OverrideSource.NONE)


def entry(override: Override) -> dict[str, Any]:
    """An override in the words of the log, the status and the journal."""
    expires_at = override.expires_at
    return {
        "mode": override.mode,
        "source": override.source,
        "reason": override.reason,
        "actor": override.actor,
        "expires_at": rfc3339(expires_at) if expires_at is not None else None,
        "percent": override.percent,
    }


def _wall_clock() -> datetime:
    return datetime.now(UTC)


class OverrideBoard:
    """All sources in one place; the stronger beats the weaker, in the order of `OverrideSource`.

    Listeners hear of the override in effect each time that it becomes another one, expiry included, and once of one
    that ends soon. What sets an override reads `wall_clock`, since it is called from outside any request.
    """

    def __init__(
        self, pinned: OverrideMode = OverrideMode.AUTO, *, wall_clock: Callable[[], datetime] = _wall_clock
    ) -> None:
        self._by_source: dict[OverrideSource, Override] = {}
        if pinned is not OverrideMode.AUTO:
            self._by_source[OverrideSource.ENVIRONMENT] = Override(pinned, OverrideSource.ENVIRONMENT)
        self._wall_clock = wall_clock
        self._on_change: list[Callable[[Override, Override, str | None], None]] = []
        self._on_expiring: list[Callable[[Override], None]] = []
        self._announced = self._by_source.get(OverrideSource.ENVIRONMENT, NO_OVERRIDE)
        self._warned = False

    def current(self, wall_now: datetime) -> Override:
        """The override in effect; `NO_OVERRIDE` when nothing is forced. Tells nobody."""
        # Most of the time there is none, and every request asks.
        if self._by_source:
            for source in OverrideSource:
                if (override := self._by_source.get(source)) is not None and override.in_force(wall_now):
                    return override
        return NO_OVERRIDE

    def below(self, wall_now: datetime) -> list[Override]:
        """What would be in effect without those that are stronger, the stronger first; not the one in effect."""
        held = [self._by_source[source] for source in OverrideSource if source in self._by_source]
        return [override for override in held if override.in_force(wall_now)][1:]

    def set(self, source: OverrideSource, override: Override | None, actor: str | None = None) -> None:
        """Take what `source` says, or None when it says nothing any more; `actor` took it away, where that was said."""
        if override is None:
            self._by_source.pop(source, None)
        else:
            self._by_source[source] = override
        self.poll(self._wall_clock(), actor)

    def on_change(self, listener: Callable[[Override, Override, str | None], None]) -> None:
        """Call `listener` with the override in effect, the one before it, and who took that away, from now on.

        It must not raise.
        """
        self._on_change.append(listener)

    def on_expiring(self, listener: Callable[[Override], None]) -> None:
        """Call `listener` with the override in effect `WARNING_BEFORE` its end. It must not raise."""
        self._on_expiring.append(listener)

    def poll(self, wall_now: datetime, actor: str | None = None) -> None:
        """Notice what time alone changes. To be called about once a second."""
        current, before = self.current(wall_now), self._announced
        if current != before:
            self._announced = current
            # Whoever sets one for less time than that knows that it ends soon.
            self._warned = current.expires_at is None or current.expires_at - wall_now <= WARNING_BEFORE
            for listener in self._on_change:
                listener(current, before, actor)
        elif not self._warned and current.expires_at is not None and current.expires_at - wall_now <= WARNING_BEFORE:
            self._warned = True
            for warn in self._on_expiring:
                warn(current)
