"""`completion-proxy override`: the override of a running proxy, shown, set and taken away."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from proxy.commands.client import NoAnswer, ask
from proxy.moments import in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


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
    say(f"{in_a_line(override)}\n")
    if override.get("outlives_restart") is False:
        say("           this process only, and until it ends: it is in no journal's file (JOURNAL_FILE)\n")
    return 0


def in_a_line(override: Mapping[str, Any]) -> str:
    """An override as `GET /override` gives it, for people."""
    if override["mode"] == "auto":
        return "override   none: the circuits decide"
    share = f" for {override['percent']:g}% of the callers" if override["percent"] < 100 else ""
    who = f", by {override['actor']}" if override["actor"] else ""
    why = f": {override['reason']}" if override["reason"] else ""
    return f"override   {override['mode']}{share}, from {override['source']}{who}{why}{_until(override['expires_at'])}"


def _until(expires_at: str | None) -> str:
    if expires_at is None:
        return "; it has no end of its own"
    return f"; until {expires_at} (in {in_words(datetime.fromisoformat(expires_at) - datetime.now(UTC))})"
