"""The hub: hands every event to whoever listens (logs, metrics, status)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from proxy.events import AttemptEnded, RequestEnded, RequestStarted, TokensUsed

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.events import Event

_log = logging.getLogger(__name__)

TRAFFIC: tuple[type[Event], ...] = (RequestStarted, AttemptEnded, TokensUsed, RequestEnded)
"""What every request brings. A listener that has no use for it should not be asked four times a request."""


class Hub:
    """Hands every event to every listener that wants it, in the order in which they joined."""

    def __init__(self) -> None:
        self._listeners: list[tuple[Callable[[Event], None], tuple[type[Event], ...]]] = []
        self._by_kind: dict[type[Event], list[Callable[[Event], None]]] = {}

    def listen(self, listener: Callable[[Event], None], *, but: tuple[type[Event], ...] = ()) -> None:
        """Let `listener` see every event from now on, but for some kinds. It must not block."""
        self._listeners.append((listener, but))
        self._by_kind.clear()

    def emit(self, event: Event) -> None:
        """Hand `event` on. A listener that raises is logged and keeps neither its kin nor the request from going on."""
        kind = type(event)
        if (listeners := self._by_kind.get(kind)) is None:
            listeners = self._by_kind[kind] = [listener for listener, but in self._listeners if kind not in but]
        for listener in listeners:
            try:
                listener(event)
            except Exception:  # noqa: BLE001 (a broken listener must never cost a request)
                _log.exception("a listener failed on %s", type(event).__name__)
