"""The settings of the process: read once from the environment and one TOML file, checked as a whole, then frozen.

Whoever starts a proxy in an incident gets every error at once, each naming its variable, and never a secret in one.
The models say what a setting is, settings_types.py what a single value may be, settings_rules.py what must hold between
several; settings_groups.py holds those that share a prefix. The table of settings in the README is made from
`describe()`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from proxy.override import OverrideMode
from proxy.settings_groups import (
    BreakerSettings,
    ClaudeSettings,
    Group,
    ProbeSettings,
    TimeoutSettings,
    VertexSettings,
)
from proxy.settings_rules import broken_rules
from proxy.settings_types import (
    FALLBACK_KEY,
    PREFIX,
    AnyCase,
    CredentialsKind,
    Host,
    Port,
    ProbeTarget,
    SecondsOrZero,
    Secret,
    Secrets,
    StreamMode,
    is_loopback,
    variable,
)

__all__ = [
    "PREFIX",
    "BreakerSettings",
    "ClaudeSettings",
    "CredentialsKind",
    "ProbeSettings",
    "ProbeTarget",
    "SettingDoc",
    "Settings",
    "SettingsError",
    "StreamMode",
    "TimeoutSettings",
    "VertexSettings",
    "describe",
    "is_loopback",
    "load_settings",
    "variable",
]


class SettingsError(Exception):
    """The settings cannot be used. `problems` holds every error, each naming its variable; none holds a secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class SettingDoc:
    """One row of the settings table: the full variable, its default in words, and what it is."""

    variable: str
    default: str
    text: str


class Settings(BaseSettings):
    """Everything that can be set. `load_settings` fills it: made by hand, it reads nothing and checks single values."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        enable_decoding=False,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    host: Host = Field(default="127.0.0.1", description="Address of the data listener.")
    port: Port = Field(default=8080, description="Port of the data listener; 0 picks one.")
    admin_host: Host = Field(default="127.0.0.1", description="Address of the admin listener.")
    admin_port: Port = Field(default=8081, description="Port of the admin listener; 0 picks one.")
    tls_certificate: Path | None = Field(
        default=None, description="PEM file, with `TLS_KEY`: the data listener speaks TLS."
    )
    tls_key: Path | None = Field(default=None, description="PEM file with the private key of `TLS_CERTIFICATE`.")
    client_tokens: Secrets = Field(
        default=(),
        description="Comma-separated tokens, one of which callers must present; a non-loopback `HOST` without any is "
        "refused unless `ALLOW_ANONYMOUS=true`.",
    )
    allow_anonymous: bool = Field(default=False, description="Let callers in without a token on a non-loopback `HOST`.")
    admin_token: Secret | None = Field(
        default=None, description="Bearer token for changes; a non-loopback `ADMIN_HOST` without one is refused."
    )
    override: AnyCase[OverrideMode] = Field(
        default=OverrideMode.AUTO,
        description="`auto`, `vertex` or `claude`: pins the upstream for the life of the process.",
    )
    override_file: Path | None = Field(
        default=None,
        description="File watched while running: `auto`, `vertex` or `claude`, or TOML with `mode`, `reason`, `actor`, "
        "`expires_at`, `percent`.",
    )
    vertex: VertexSettings = VertexSettings()
    claude: ClaudeSettings = ClaudeSettings()
    timeouts: TimeoutSettings = TimeoutSettings()
    breaker: BreakerSettings = BreakerSettings()
    probes: ProbeSettings = ProbeSettings()
    stream_mode: AnyCase[StreamMode] = Field(
        default=StreamMode.LIVE,
        description="`live`: a stream is passed on as it comes; `atomic`: it is held until it is complete. A caller "
        "chooses per request with `x-completion-proxy-stream: live|atomic`.",
    )
    max_body_bytes: int = Field(
        default=4_194_304, gt=0, description="A larger request body is not held: it goes to Vertex alone."
    )
    drain_seconds: SecondsOrZero = Field(default=25.0, description="How long running requests may take after SIGTERM.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing is read behind the caller's back, least of all a .env file."""
        return (init_settings,)


def _fields(model: type[BaseModel] = Settings, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Group):
            yield from _fields(field.annotation, f"{above}{name}.")
        else:
            yield above + name, field


# Keyed as in TOML: "port", "vertex.token".
_SETTINGS = dict(_fields())
_DEFAULTS_IN_WORDS = {"vertex.base_url": "from the location in the path", "claude.api_key": FALLBACK_KEY}

# What Kubernetes puts into every pod for a Service called completion-proxy or completion-proxy-…: no typo of anybody's,
# and refusing it would keep the pods from restarting once the Service exists. A variable that the pod itself sets wins
# over these, so a PORT of this form was never meant as a setting.
_SERVICE_LINK = re.compile(r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_SERVICE_LINK_PORT = re.compile(r"(tcp|udp|sctp)://[^/\s]+:\d+")


def describe() -> list[SettingDoc]:
    """Every setting, in the order of the models."""
    return [
        SettingDoc(variable(key), _default_in_words(key, field.default), field.description)
        for key, field in _SETTINGS.items()
    ]


def _default_in_words(key: str, default: Any) -> str:
    if key in _DEFAULTS_IN_WORDS:
        return _DEFAULTS_IN_WORDS[key]
    match default:
        case None:
            return "none"
        case ():
            return "empty"
        case bool():
            return str(default).lower()
        case float():
            return f"{default:g}"
        case _:
            return str(default)


def load_settings(config: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment (that of the process by default) and the TOML file `config`.

    The environment wins; an empty value counts as not set. Raises SettingsError with every problem at once.
    """
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    tree = _tree(config, problems) if config is not None else {}
    in_file = dict(_from_file(config, tree, problems)) if config is not None and tree else {}
    in_environment = dict(_from_environment(environ, problems))
    values = in_file | in_environment
    fallback = environ.get(FALLBACK_KEY)
    if fallback and "claude.api_key" not in values:
        values["claude.api_key"] = fallback

    def name(key: str) -> str:
        if key in in_file and key not in in_environment:
            return f"{variable(key)} (in {config})"
        return f"{variable(key)} or {FALLBACK_KEY}" if key == "claude.api_key" else variable(key)

    settings, errors = _checked(values)
    problems += [f"{name(key)}: {text}" for key, text in errors]
    if tree is not None:  # else what is missing may well stand in the file that could not be read
        broken = {key for key, _ in errors}
        problems += [text for keys, text in broken_rules(settings, name) if broken.isdisjoint(keys)]
    if problems:
        raise SettingsError(problems)
    return settings


def _checked(values: Mapping[str, object]) -> tuple[Settings, list[tuple[str, str]]]:
    """The settings with the default in place of every value that is wrong; and which those are, and why."""
    errors: list[tuple[str, str]] = []
    try:
        return Settings(**_nested(values)), errors
    except ValidationError as error:
        for found in error.errors(include_url=False, include_input=False, include_context=False):
            group, *inner = found["loc"]
            key = str(group) if group in _SETTINGS else f"{group}.{inner.pop(0)}"
            item = f"item {inner[0] + 1}: " if inner and isinstance(inner[0], int) else ""
            errors.append((key, item + found["msg"].removeprefix("Value error, ")))
    broken = {key for key, _ in errors}
    return Settings(**_nested({key: value for key, value in values.items() if key not in broken})), errors


def _nested(values: Mapping[str, object]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in values.items():
        group, _, inner = key.rpartition(".")
        (nested.setdefault(group, {}) if group else nested)[inner] = value
    return nested


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> Iterator[tuple[str, object]]:
    keys = {variable(key): key for key in _SETTINGS}
    known: dict[str, str | None] = {}
    for name, value in environ.items():
        rest = name.upper().removeprefix(PREFIX)
        if rest == name.upper() or _SERVICE_LINK.fullmatch(rest):
            continue
        if rest.endswith("PORT") and _SERVICE_LINK_PORT.fullmatch(value):
            continue
        if name not in keys:
            problems.append(f"{name}: there is no such setting{_did_you_mean(name, keys)}")
        elif value.strip():
            known[name.lower()] = value
    source = EnvSettingsSource(Settings)
    source.env_vars = known
    yield from _flat(source())


def _tree(path: Path, problems: list[str]) -> dict[str, Any] | None:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror or type(error).__name__}")
    except ValueError as error:
        # The text of a decoding error quotes the file, and secrets stand in it.
        why = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        problems.append(f"{path}: is not valid TOML: {why}")
    return None


def _from_file(path: Path, tree: Mapping[str, Any], problems: list[str]) -> Iterator[tuple[str, object]]:
    for key, value in _flat(tree):
        if key not in _SETTINGS:
            hint = _did_you_mean(key, _SETTINGS)
            problems.append(f"{variable(key)} ({key} in {path}): there is no such setting{hint}")
        elif isinstance(value, bool) and _SETTINGS[key].annotation is not bool:
            # pydantic would take true for the number 1.
            problems.append(f"{variable(key)} (in {path}): must not be true or false")
        elif not (isinstance(value, str) and not value.strip()):
            yield key, value


def _flat(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and name not in _SETTINGS:
            yield from ((f"{name}.{inner}", item) for inner, item in value.items())
        else:
            yield name, value


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    # Compared without the prefix, which would make all of them alike.
    spellings = {other.removeprefix(PREFIX).lower(): other for other in known}
    close = get_close_matches(name.lower().removeprefix(PREFIX.lower()), spellings, 1)
    return f"; did you mean {spellings[close[0]]}?" if close else ""
