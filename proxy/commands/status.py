"""`completion-proxy status`: what the admin listener knows, for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from proxy.commands.client import NoAnswer, ask
from proxy.commands.override import in_a_line
from proxy.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


async def show_status(url: str, say: Callable[[str], None], complain: Callable[[str], None], *, as_json: bool) -> int:
    """Write the status of the proxy whose admin listener is at `url`; returns 0, or 1 where it cannot be reached."""
    try:
        status = await ask(url, "/status.json")
    except NoAnswer as failure:
        complain(str(failure))
        return 1
    say(json.dumps(status, indent=2) + "\n" if as_json else "".join(f"{printable(line)}\n" for line in _lines(status)))
    return 0


def _share(circuit: dict[str, Any]) -> str:
    if circuit["would_be"] is not None:
        reason = f" ({circuit['reason']})" if circuit["reason"] else ""
        return f", observed only: would be {circuit['would_be']}{reason}"
    partial = circuit["state"] == "closed" and circuit["admitted_ratio"] < 1
    return f", lets {circuit['admitted_ratio']:.0%} pass" if partial else ""


def _lines(status: dict[str, Any]) -> Iterator[str]:
    yield f"completion-proxy {status['version']}, up since {status['started_at']}"
    yield in_a_line(status["override"])
    for entry in status.get("problems", ()):
        yield f"problem    {entry['event']} at {entry['at']}: {'; '.join(entry['problems'])}"
    for entry in status["active"]:
        yield f"serving    {entry['model']}: {entry['upstream']} ({entry['reason']}) since {entry['since']}"
    for entry in status["circuits"]:
        reason = f" ({entry['reason']})" if entry["reason"] and entry["would_be"] is None else ""
        yield (
            f"circuit    {entry['upstream']}/{entry['model']}: {entry['state']}{reason}, {entry['calls']} calls,"
            f" {entry['failure_rate']:.0%} failed, {entry['slow_rate']:.0%} slow" + _share(entry)
        )
    for entry in status["probes"]:
        up = {True: "up", False: "down", None: "unknown"}[entry["up"]]
        yield (
            f"probe      {entry['upstream']}/{entry['model']}: {up}, {entry['last_result']}"
            f" in {entry['duration_seconds']:.3f} s at {entry['last_at']},"
            f" waits {entry['interval_seconds']:.3g} s, {entry['budget_remaining']} left of the day's budget"
        )
    for entry in status["switches"][-10:]:
        yield f"switch     {entry['at']} {entry['model']}: {entry['from']} to {entry['to']} ({entry['reason']})"
