"""Where the values of settings come from: the environment, a directory of secrets, one TOML file, in this order.

Nothing is kept between two readings, since the settings are read anew while the proxy runs; what a value must look like
is judged elsewhere. Problems name the place, and never what was found there.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from proxy.settings_types import FALLBACK_KEY, PREFIX, variable

Fields: TypeAlias = Mapping[str, FieldInfo]
"""Every setting by its key, which is written as in TOML: `vertex.token`."""

LARGEST_SECRET = 65_536
"""Bytes that a file in the directory of secrets may hold; what is larger was meant for something else."""

# What Kubernetes puts into every pod for a Service called completion-proxy or completion-proxy-…: no typo of anybody's,
# and refusing it would keep the pods from restarting once the Service exists. A variable that the pod itself sets wins
# over these, so a PORT of this form was never meant as a setting.
_SERVICE_LINK = re.compile(r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_SERVICE_LINK_PORT = re.compile(r"(tcp|udp|sctp)://[^/\s]+:\d+")


@dataclass(slots=True)
class Found:
    """What one place holds."""

    values: dict[str, object] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    """How the place of a value is told to the user; a value of the environment has none but its variable."""
    fallback: str | None = None
    """The key for Claude under the name that others use, too: weaker than every setting."""
    problems: list[str] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)
    """The settings that are there and could not be read."""
    whole: bool = True
    """False where the place could not be read at all: what is missing elsewhere may well stand there."""


def from_environment(environ: Mapping[str, str], model: type[BaseSettings], fields: Fields) -> Found:
    """What the environment holds. A variable with the prefix that names no setting is a problem."""
    found = Found(fallback=environ.get(FALLBACK_KEY) or None)
    names = {variable(key) for key in fields}
    known: dict[str, str | None] = {}
    for name, value in environ.items():
        rest = name.upper().removeprefix(PREFIX)
        if rest == name.upper() or _SERVICE_LINK.fullmatch(rest):
            continue
        if rest.endswith("PORT") and _SERVICE_LINK_PORT.fullmatch(value):
            continue
        if name not in names:
            found.problems.append(f"{name}: there is no such setting{_did_you_mean(name, names)}")
        elif value.strip():
            known[name.lower()] = value
    source = EnvSettingsSource(model)
    source.env_vars = known
    found.values = dict(_flat(source(), fields))
    return found


def from_file(path: Path, fields: Fields) -> Found:
    """What the TOML file at `path` holds."""
    found = Found()
    for key, value in _flat(_tree(path, found), fields):
        if key not in fields:
            hint = _did_you_mean(key, fields)
            found.problems.append(f"{variable(key)} ({key} in {path}): there is no such setting{hint}")
        elif isinstance(value, bool) and fields[key].annotation is not bool:
            # pydantic would take true for the number 1.
            found.problems.append(f"{variable(key)} (in {path}): must not be true or false")
        elif not (isinstance(value, str) and not value.strip()):
            found.values[key] = value
            found.places[key] = f"{variable(key)} (in {path})"
    return found


def _tree(path: Path, found: Found) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        found.problems.append(f"{path}: cannot be read: {error.strerror or type(error).__name__}")
    except ValueError as error:
        # The text of a decoding error quotes the file, and secrets stand in it.
        why = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        found.problems.append(f"{path}: is not valid TOML: {why}")
    found.whole = False
    return {}


def _flat(tree: Mapping[str, Any], fields: Fields) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and name not in fields:
            yield from ((f"{name}.{inner}", item) for inner, item in value.items())
        else:
            yield name, value


def from_secrets(directory: str, named: str, fields: Fields) -> Found:
    """What the files in `directory` hold, as Kubernetes, Docker and systemd mount secrets: each is one setting.

    `named` is how to speak of the setting that names the directory.
    """
    found = Found()
    variables = {variable(key): key for key in fields if key != "secrets_dir"}
    seen: dict[str, str] = {}
    for file in _files(directory, named, found):
        path = os.path.join(directory, file)
        name = file.upper()
        if name != FALLBACK_KEY:
            name = PREFIX + name.removeprefix(PREFIX)
        if name not in variables and name != FALLBACK_KEY:
            hint = _did_you_mean(file, [*variables, FALLBACK_KEY])
            found.problems.append(f"{path}: names no setting that can stand here{hint}")
        elif name in seen:
            found.problems.append(f"{name} (in {path}): stands in {seen[name]}, too")
        else:
            seen[name] = path
            _take_secret(path, name, variables.get(name), found)
    return found


def _files(directory: str, named: str, found: Found) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except (OSError, ValueError) as error:
        # The path is not shown: what stands there may be a secret itself.
        why = getattr(error, "strerror", None) or type(error).__name__
        found.problems.append(f"{named}: is no directory that can be read: {why}")
        found.whole = False
        return []
    # Kubernetes swaps the files by links to directories, whose names begin with two dots.
    return [name for name in names if not name.startswith(".") and not os.path.isdir(os.path.join(directory, name))]


def _take_secret(path: str, name: str, key: str | None, found: Found) -> None:
    place = f"{name} (in {path})"
    try:
        text = _text(path)
    except (OSError, ValueError) as error:
        found.problems.append(f"{place}: {error}")
        found.unread.add(key or "claude.api_key")
        return
    if not text.strip():
        return
    if key is None:
        found.fallback = text
        found.places[FALLBACK_KEY] = place
    else:
        found.values[key] = text
        found.places[key] = place


def _text(path: str) -> str:
    """The text of a small file. Raises ValueError with words that quote nothing of it."""
    try:
        # A pipe would otherwise keep the start waiting for somebody to write into it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError("is no regular file")
            content = file.read(LARGEST_SECRET + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or type(error).__name__}") from None
    if len(content) > LARGEST_SECRET:
        raise ValueError(f"is larger than {LARGEST_SECRET} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    if "\0" in text:
        raise ValueError("is not text")
    return text.rstrip("\r\n")


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    # Compared without the prefix, which would make all of them alike.
    spellings = {other.removeprefix(PREFIX).lower(): other for other in known}
    close = get_close_matches(name.lower().removeprefix(PREFIX.lower()), spellings, 1)
    return f"; did you mean {spellings[close[0]]}?" if close else ""
