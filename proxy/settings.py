"""The settings of the process: read from the environment, files of secrets and one TOML file, checked as a whole, then
frozen.

Whoever starts a proxy in an incident gets every error at once, each naming its variable, and never a secret in one.
The models say what a setting is, settings_types.py what a single value may be, settings_rules.py what must hold between
several, settings_sources.py where values come from; settings_groups.py holds those that share a prefix. The table of
settings in the README is made from `describe()`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

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
from proxy.settings_sources import Found, from_environment, from_file, from_secrets
from proxy.settings_types import (
    FALLBACK_KEY,
    PREFIX,
    AnyCase,
    CredentialsKind,
    Host,
    ImportPath,
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
    openfeature_provider: ImportPath | None = Field(
        default=None,
        description="`package.module:callable`, called without arguments at the start, gives the OpenFeature provider "
        "that is asked for each caller's upstream; needs the extra `completion-proxy[openfeature]`.",
    )
    journal_file: Path | None = Field(
        default=None,
        description="File to which what happened is appended as JSON lines, and from which it is read at the start.",
    )
    log_requests: bool = Field(default=True, description="Write one log line a request.")
    secrets_dir: Path | None = Field(
        default=None,
        description="Directory in which a file can stand for each setting, named as its variable, with the prefix or "
        "without, in any case. It is stronger than the TOML file, and the environment is stronger still.",
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
    """Read the settings from the environment (that of the process by default), the directory of secrets that it or the
    TOML file `config` names, and that file.

    The environment is the strongest, the file the weakest; an empty value counts as not set. Everything is read anew.
    Raises SettingsError with every problem at once.
    """
    in_environment = from_environment(os.environ if environ is None else environ, Settings, _SETTINGS)
    in_file = from_file(config, _SETTINGS) if config is not None else Found()
    in_secrets = _from_secrets(in_environment, in_file)
    sources = (in_file, in_secrets, in_environment)
    values: dict[str, object] = {}
    places: dict[str, str] = {}
    for source in sources:
        values |= source.values
        places |= {key: source.places.get(key, variable(key)) for key in source.values}
    if "claude.api_key" not in values:
        values |= _fallback(in_environment, in_secrets, places)

    def name(key: str) -> str:
        return places.get(key, variable(key))

    settings, errors = _checked(values)
    problems = [problem for source in sources for problem in source.problems]
    problems += [f"{name(key)}: {text}" for key, text in errors]
    if all(source.whole for source in sources):
        broken = {key for key, _ in errors}.union(*(source.unread for source in sources))
        problems += [text for keys, text in broken_rules(settings, name) if broken.isdisjoint(keys)]
    if problems:
        raise SettingsError(problems)
    return settings


def _from_secrets(in_environment: Found, in_file: Found) -> Found:
    for source in (in_environment, in_file):
        directory = source.values.get("secrets_dir")
        if isinstance(directory, str):
            return from_secrets(directory, source.places.get("secrets_dir", variable("secrets_dir")), _SETTINGS)
    return Found()


def _fallback(in_environment: Found, in_secrets: Found, places: dict[str, str]) -> dict[str, str]:
    places["claude.api_key"] = f"{variable('claude.api_key')} or {FALLBACK_KEY}"
    if in_environment.fallback is not None:
        return {"claude.api_key": in_environment.fallback}
    if in_secrets.fallback is None:
        return {}
    places["claude.api_key"] = in_secrets.places[FALLBACK_KEY]
    return {"claude.api_key": in_secrets.fallback}


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
