"""Moments and lengths of time as text: RFC 3339 in UTC, everywhere that people or programs read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_PART = re.compile(r"([0-9]{1,8})([smhd])")
_LENGTH = re.compile(r"(?:[0-9]{1,8}[smhd])+")


def rfc3339(moment: datetime) -> str:
    """An aware moment, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339_of(unix_seconds: float) -> str:
    """The same of Unix time."""
    return rfc3339(datetime.fromtimestamp(unix_seconds, UTC))


def parse_length(text: str) -> timedelta:
    """A length of time as people write it: 90s, 30m, 2h, 1d, 1h30m, or seconds alone. Raises ValueError."""
    stripped = text.strip().lower().replace(" ", "")
    if stripped.isdecimal() and len(stripped) < 9:
        return timedelta(seconds=int(stripped))
    if not stripped or not _LENGTH.fullmatch(stripped):
        raise ValueError(f"{text[:20]!r} is no length of time: write it as 90s, 30m, 2h, 1d or 1h30m")
    return sum((int(number) * _UNITS[unit] for number, unit in _PART.findall(stripped)), timedelta())


def in_words(length: timedelta) -> str:
    """A length of time for people, in its two largest units."""
    seconds = max(0, round(length.total_seconds()))
    parts: list[str] = []
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if (number := seconds // size) or (name == "s" and not parts):
            parts.append(f"{number} {name}")
        seconds %= size
        if len(parts) == 2:
            break
    return " ".join(parts)
