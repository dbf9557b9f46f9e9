"""How the demo looks: a live panel on a terminal, a line for each event elsewhere, and the table at the end."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from proxy.commands.demo import Tally

_COLOURS = {"vertex": "green", "claude": "magenta", "closed": "green", "open": "red", "half_open": "yellow"}
_LINES = 8


class Panels:
    """The live panel; `refresh` draws what is so now."""

    def __init__(self, tally: Tally, status: Callable[[], dict[str, Any]], live: Live) -> None:
        self._tally = tally
        self._status = status
        self._live = live

    def refresh(self) -> None:
        """Draw."""
        self._live.update(self._panel(), refresh=True)

    def _panel(self) -> Panel:
        tally, status = self._tally, self._status()
        (active,) = status["active"]
        circuit = next(entry for entry in status["circuits"] if entry["upstream"] == "vertex")
        state = circuit["state"] + (f" ({circuit['reason']})" if circuit["reason"] else "")
        now = Table.grid(padding=(0, 3))
        now.add_row("serving", Text(active["upstream"], f"bold {_COLOURS[active['upstream']]}"), active["reason"])
        now.add_row("circuit of Vertex", Text(state, f"bold {_COLOURS[circuit['state']]}"))
        now.add_row("failed in the window", _ratio(circuit["failure_rate"]), f"{circuit['failure_rate']:.0%}")
        now.add_row("slow in the window", _ratio(circuit["slow_rate"]), f"{circuit['slow_rate']:.0%}")
        now.add_row("last switch", _last_switch(tally))
        lost = Text(f"{len(tally.lost)} lost", "bold red" if tally.lost else "bold green")
        counts = f"{tally.served['vertex']} by Vertex, {tally.served['claude']} by Claude, "
        now.add_row("requests", Text.assemble(f"{tally.requests}: {counts}", lost))
        history = [Text(line, "dim") for line in _history(tally)[-_LINES:]]
        title = f"[bold]{tally.act}[/]  {tally.elapsed:4.1f} s"
        return Panel(Group(now, Text(), *history), title=title, title_align="left", padding=(1, 2))


class Plain:
    """Where nothing can be drawn: a line for each event as it comes."""

    def __init__(self, tally: Tally, console: Console) -> None:
        self._tally = tally
        self._console = console
        self._shown = 0

    def begin(self, act: str) -> None:
        """A new act begins."""
        self.refresh()
        self._console.print(f"{self._tally.elapsed:5.1f} s  {act}")

    def refresh(self) -> None:
        """Write the events that are new."""
        lines = _history(self._tally)
        for line in lines[self._shown :]:
            self._console.print(line, highlight=False)
        self._shown = len(lines)


View = Panels | Plain


@contextmanager
def view(tally: Tally, status: Callable[[], dict[str, Any]]) -> Iterator[View]:
    """Show the tally while the demo runs."""
    console = Console()
    if not console.is_terminal:
        yield Plain(tally, console)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield Panels(tally, status, live)


def show_summary(tally: Tally) -> None:
    """The table at the end."""
    console = Console()
    if console.is_terminal:
        for line in _history(tally):
            console.print(line, style="dim", highlight=False)
    table = Table(title="The outage, and what the callers had of it", title_justify="left", show_header=False)
    table.add_row("requests", str(tally.requests))
    table.add_row("lost", Text(str(len(tally.lost)), "bold red" if tally.lost else "bold green"))
    table.add_row("served by Vertex", str(tally.served["vertex"]))
    table.add_row("served by Claude", str(tally.served["claude"]))
    table.add_row("from the first bad answer to the trip", _span(tally.first_bad_at, tally.tripped_at))
    table.add_row("from recovery to the return to Vertex", _span(tally.recovered_at, tally.returned_at))
    added = tally.added_seconds()
    shown = "-" if added is None else f"median {added[0] * 1000:.0f} ms, at most {added[1] * 1000:.0f} ms"
    table.add_row("added to a request that failed over", shown)
    console.print(table)
    settings = ", ".join(f"{name}={value}" for name, value in tally.script.settings.items())
    console.print(f"shorter than the defaults here, as BREAKER__: {settings}", style="dim", highlight=False)
    for why in sorted(set(tally.lost)):
        console.print(f"lost {tally.lost.count(why)}: {why}", style="red", highlight=False)


def _history(tally: Tally) -> list[str]:
    lines = [
        (
            at,
            f"{at:5.1f} s  circuit of Vertex: {moved.transition.from_state} to {moved.transition.to_state}"
            f" ({moved.transition.reason})",
        )
        for at, moved in tally.transitions
    ]
    lines += [
        (at, f"{at:5.1f} s  switch: {switch.from_upstream} to {switch.to_upstream} ({switch.reason})")
        for at, switch in tally.switches
    ]
    return [line for _, line in sorted(lines, key=lambda entry: entry[0])]


def _last_switch(tally: Tally) -> str:
    if not tally.switches:
        return "none yet"
    at, switch = tally.switches[-1]
    return f"{switch.from_upstream} to {switch.to_upstream}, {tally.elapsed - at:.1f} s ago"


def _ratio(value: float) -> ProgressBar:
    return ProgressBar(total=1.0, completed=value, width=24, complete_style="red", finished_style="red")


def _span(begin: float | None, end: float | None) -> str:
    return "-" if begin is None or end is None else f"{end - begin:.2f} s"
