"""The shapes of the timeline: paths for an SVG, in units of the chart. Pure.

Axis labels are no part of the SVG: it is stretched to the width of the page, and letters must not be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.history.timeline import BUCKET_SECONDS, BUCKETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from proxy.history.timeline import Point

WIDTH = BUCKETS
HEIGHT = 100
"""Units of the chart: one a bucket, and a hundred from bottom to top."""


@dataclass(frozen=True, slots=True)
class Area:
    """One upstream's share of the requests; `path` is its outline."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything that the two charts draw."""

    areas: list[Area]
    p50: str
    p95: str
    top_seconds: float
    """What the upper edge of the latency chart stands for."""
    slow_y: float
    """Where the slow threshold is."""
    marks: list[float]
    """Where the switches are, from left to right."""


def chart(
    points: Sequence[Point], upstreams: Sequence[str], slow_seconds: float, switched_at: Iterable[float]
) -> Chart:
    """The charts of `points`; `switched_at` is Unix time."""
    longest = max((point.p95 for point in points if point.p95 is not None), default=0.0)
    top = _rounded_up(max(longest, slow_seconds * 1.2))
    start = points[0].at
    return Chart(
        areas=_areas(points, [*upstreams, "lost"]),
        p50=_line(points, lambda point: point.p50, top),
        p95=_line(points, lambda point: point.p95, top),
        top_seconds=top,
        slow_y=_y(slow_seconds / top),
        marks=[round((at - start) / BUCKET_SECONDS, 2) for at in switched_at],
    )


def _areas(points: Sequence[Point], names: Sequence[str]) -> list[Area]:
    """Stacked from the bottom, in the order of `names`; nothing where there was no traffic."""
    blocks: dict[str, list[_Block]] = {name: [] for name in names}
    for x, point in enumerate(points):
        counts = {**point.served, "lost": point.lost}
        total, below = sum(counts.values()), 0
        for name in names:
            if counts[name]:
                bottom, top = _y(below / total), _y((below + counts[name]) / total)
                _lengthen(blocks[name], _Block(x, x + 1, bottom, top))
                below += counts[name]
    return [Area(name, "".join(map(str, blocks[name]))) for name in names]


@dataclass(slots=True)
class _Block:
    """A share that stayed the same for a while."""

    left: int
    right: int
    bottom: float
    top: float

    def __str__(self) -> str:
        return f"M{self.left} {self.bottom:g}H{self.right}V{self.top:g}H{self.left}Z"


def _lengthen(blocks: list[_Block], block: _Block) -> None:
    """Add a block, or lengthen the last one, which saves most of the path where little changes."""
    last = blocks[-1] if blocks else None
    if last is not None and (last.right, last.bottom, last.top) == (block.left, block.bottom, block.top):
        last.right = block.right
    else:
        blocks.append(block)


def _line(points: Sequence[Point], value: Callable[[Point], float | None], top: float) -> str:
    """A line of steps, with gaps where nothing was measured."""
    pieces, drawing = [], False
    for x, point in enumerate(points):
        seconds = value(point)
        if seconds is not None:
            y = _y(seconds / top)
            pieces.append(f"{f'V{y:g}' if drawing else f'M{x} {y:g}'}H{x + 1}")
        drawing = seconds is not None
    return "".join(pieces)


def _y(share: float) -> float:
    return round(HEIGHT * (1 - min(share, 1.0)), 1)


def _rounded_up(seconds: float) -> float:
    """The next round number of seconds, for the axis."""
    for step in (0.5, 1, 2, 3, 5, 10, 15, 20, 30, 60):
        if seconds <= step:
            return step
    return float(round(seconds + 0.5))
