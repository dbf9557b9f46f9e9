"""Where the operator's word is given: the environment at the start, a file that is watched, the admin API.

It checks what is asked for, keeps the board, and tells the hub of every change. It decides nothing about a request.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from proxy.events import OverrideChange, OverrideChanged, OverrideExpiring, OverrideFileRead, OverrideRejected
from proxy.moments import parse_length
from proxy.override import NO_OVERRIDE, Override, OverrideBoard, OverrideMode, OverrideSource
from proxy.override_file import OverrideFile
from proxy.settings_types import variable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from proxy.events import Event

DEFAULT_LENGTH = timedelta(hours=2)
"""How long an override of the API holds where nothing is said: a forgotten one must end by itself."""
LONGEST = timedelta(days=7)


def length_of(text: str) -> timedelta:
    """For how long an override is to hold, as people write it. Raises ValueError that says what to write."""
    length = parse_length(text)
    if not timedelta() < length <= LONGEST:
        raise ValueError(f"{text.strip()[:20]!r} is not above 0 and at most {LONGEST.days}d")
    return length


class OverrideRefused(Exception):
    """An override is not taken; nothing has changed. The message says why, and what to do."""


class OverrideDesk:
    """The overrides of one process."""

    def __init__(
        self,
        pinned: OverrideMode,
        file: Path | None,
        emit: Callable[[Event], None],
        wall_clock: Callable[[], datetime],
        proven_dead: Callable[[str], Sequence[str]],
    ) -> None:
        """`proven_dead(upstream)` names those of its circuits that are open."""
        self._board = OverrideBoard(pinned, wall_clock=wall_clock)
        self._file = file
        self._emit = emit
        self._wall_clock = wall_clock
        self._proven_dead = proven_dead
        self._board.on_change(self._tell)
        self._board.on_expiring(lambda override: self._emit(OverrideExpiring(wall_clock().timestamp(), override)))

    def current(self) -> Override:
        """The override in effect now."""
        return self._board.current(self._wall_clock())

    def shadowed(self) -> list[Override]:
        """Those that would be in effect if it were not for a stronger one, the stronger first."""
        return self._board.below(self._wall_clock())

    def poll(self) -> None:
        """Notice what time alone changes."""
        self._board.poll(self._wall_clock())

    def begin(self) -> OverrideFile | None:
        """Tell of what the environment pins; returns the file to watch: call its `load_now`, then its `run`."""
        if self.current().mode is not OverrideMode.AUTO:
            self._tell(self.current(), NO_OVERRIDE, None)
        if self._file is None:
            return None
        return OverrideFile(
            self._file,
            self._take_file,
            lambda problem: self._emit(OverrideRejected(problem)),
            on_read=lambda: self._emit(OverrideFileRead()),
        )

    def set(
        self,
        mode: OverrideMode,
        *,
        reason: str,
        actor: str | None,
        length: timedelta,
        percent: float,
        force: bool,
    ) -> Override:
        """Put an override in force from now on, in place of an earlier one of the API.

        Raises OverrideRefused where a stronger source is in effect, or, unless `force`, where the upstream is proven
        dead.
        """
        self._refuse_the_weaker()
        if not force and (dead := self._proven_dead(mode)):
            raise OverrideRefused(
                f"{mode} is proven dead: {'; '.join(dead)}. Callers would wait for it in vain; "
                "with force (--force) it is set all the same"
            )
        override = Override(mode, OverrideSource.API, reason, actor, self._wall_clock() + length, percent)
        self._board.set(OverrideSource.API, override)
        return override

    def clear(self, actor: str | None) -> Override | None:
        """Take away the override of the API, one that a stronger one shadows too; returns it, None where there is none.

        Raises OverrideRefused where there is none and another source's is in effect, which the API cannot take away.
        """
        shadowed = next((one for one in self.shadowed() if one.source is OverrideSource.API), None)
        if shadowed is None:
            self._refuse_the_weaker()
        before = shadowed or self.current()
        self._board.set(OverrideSource.API, None, actor)
        if shadowed is not None:
            # Nothing else is in effect now, but a restart must know of it.
            now = self._wall_clock().timestamp()
            self._emit(OverrideChanged(now, self.current(), shadowed, OverrideChange.CLEARED, actor))
        return before if before.source is OverrideSource.API else None

    def restore(self, override: Override) -> None:
        """Put back what an earlier process held; one that has ended since is as none."""
        self._board.set(OverrideSource.API, override)

    def _refuse_the_weaker(self) -> None:
        current = self.current()
        if current.source is OverrideSource.ENVIRONMENT:
            raise OverrideRefused(
                f"{variable('override')}={current.mode} is stronger: it holds until the process is restarted without it"
            )
        if current.source is OverrideSource.FILE:
            raise OverrideRefused(
                f"the file {self._file} is stronger, and says {current.mode}: change it, or write auto into it"
            )

    def _tell(self, current: Override, before: Override, actor: str | None) -> None:
        now = self._wall_clock()
        change = OverrideChange.SET
        if current.mode is OverrideMode.AUTO:
            ended = before.expires_at is not None and before.expires_at <= now
            change = OverrideChange.EXPIRED if ended else OverrideChange.CLEARED
        self._emit(OverrideChanged(now.timestamp(), current, before, change, actor))

    def _take_file(self, override: Override | None) -> None:
        self._board.set(OverrideSource.FILE, override)
        if override is not None and override.expires_at is not None and override.expires_at <= self._wall_clock():
            # What an operator writes and nothing obeys must not pass in silence.
            self._emit(OverrideRejected(f"{self._file}: expired at {override.expires_at.astimezone(UTC).isoformat()}"))
