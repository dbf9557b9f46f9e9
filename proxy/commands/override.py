"""`completion-proxy override`: the override of a running proxy, shown, set and taken away."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from proxy.commands.client import NoAnswer, ask
from proxy.moments import in_words
from proxy.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


async def show_override(url: str, say: Callable[[str], None], complain: Callable[[str], None]) -> int:
    """Write the override in effect; returns 0, or 1 where the proxy cannot be asked."""
    return await _do(say, complain, url, method="GET")


async def set_override(
    url: str, wish: Mapping[str, Any], token: str | None, say: Callable[[str], None], complain: Callable[[str], None]
) -> int:
    """Set what `wish` says (the fields of `PUT /override`); returns 0, or 1 where it is refused."""
    return await _do(say, complain, url, method="PUT", token=token, body=wish)


async def clear_override(
    url: str, actor: str, token: str | None, say: Callable[[str], None], complain: Callable[[str], None]
) -> int:
    """Take away what was set; returns 0, or 1 where it is refused."""
    return await _do(say, complain, url, method="DELETE", token=token, body={"actor": actor})


async def _do(say: Callable[[str], None], complain: Callable[[str], None], url: str, **how: Any) -> int:
    try:
        override = await ask(url, "/override", **how)
    except NoAnswer as failure:
        complain(str(failure))
        return 1
    for line in _lines(override):
        say(f"{printable(line)}\n")
    if override.get("outlives_restart") is False:
        say(f"           {_undone(override)}\n")
    return 0


def _undone(override: Mapping[str, Any]) -> str:
    """What a restart does to a change that the journal has not in its file."""
    if override.get("cleared") is not None:
        return "the journal's file (JOURNAL_FILE) does not know of it: a restart may bring back what was cleared"
    return "this process only, and until it ends: it is in no journal's file (JOURNAL_FILE)"


def _lines(override: Mapping[str, Any]) -> Iterator[str]:
    """What a running proxy says of its override: the one in effect, those under it, and whose proxy it is."""
    yield in_a_line(override)
    if (cleared := override.get("cleared")) is not None and override["mode"] != "auto":
        yield f"{in_a_line(cleared, 'cleared')}; the one above is stronger and stays in force"
    for below in override.get("shadowed", ()):
        yield f"{in_a_line(below, 'below it')}; it comes to be in force when the one above ends"
    if instance := override.get("instance"):
        yield f"instance   {instance}"


def in_a_line(override: Mapping[str, Any], word: str = "override") -> str:
    """An override as `GET /override` gives it, for people."""
    if override["mode"] == "auto":
        return f"{word:<11}none: the circuits decide"
    share = f" for {override['percent']:g}% of the callers" if override["percent"] < 100 else ""
    who = f", by {override['actor']}" if override["actor"] else ""
    why = f": {override['reason']}" if override["reason"] else ""
    until = _until(override["expires_at"])
    return f"{word:<11}{override['mode']}{share}, from {override['source']}{who}{why}{until}"


def _until(expires_at: str | None) -> str:
    if expires_at is None:
        return "; it has no end of its own"
    return f"; until {expires_at} (in {in_words(datetime.fromisoformat(expires_at) - datetime.now(UTC))})"
