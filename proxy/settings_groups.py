"""The settings that come in groups, each with its own part of the variable's name; see settings.py. Values alone."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from health.pace import LEAST_DAILY
from proxy.settings_types import (
    BaseUrl,
    Count,
    CredentialsKind,
    PathSegment,
    ProbeTargets,
    Seconds,
    SecondsOrZero,
    Secret,
    Share,
)


class Group(BaseModel):
    """Settings that share the part of their names before `__`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class VertexSettings(Group):
    """How Vertex AI is reached."""

    base_url: BaseUrl | None = Field(default=None, description="For a private endpoint or a simulator.")
    credentials: CredentialsKind = Field(
        default=CredentialsKind.ADC,
        description="`adc` (google-auth), or `static` with `VERTEX__TOKEN`: callers present a client token as their "
        "bearer token. `passthrough`: the caller's own Authorization goes to Vertex, a client token stands in "
        "`x-completion-proxy-token`; a request without Authorization never reaches Claude; on a non-loopback `HOST` "
        "without `CLIENT_TOKENS` only callers whom Vertex accepted within the last hour do.",
    )
    token: Secret | None = Field(default=None, description="The access token for `static` credentials.")
    project: PathSegment | None = Field(
        default=None, description="With `VERTEX__LOCATION` and `VERTEX__MODEL`: serves Mistral's own paths, too."
    )
    location: PathSegment | None = Field(default=None, description="Where that model is, as `us-central1`.")
    model: PathSegment | None = Field(default=None, description="The model of Mistral's, as `codestral-2`.")

    @property
    def front(self) -> tuple[str, str, str, str] | None:
        """Project, location, publisher and model that serve Mistral's own paths; None where they are not set."""
        if self.project is None or self.location is None or self.model is None:
            return None
        return self.project, self.location, "mistralai", self.model


class ClaudeSettings(Group):
    """How Claude is reached."""

    api_key: Secret = Field(
        default=SecretStr(""), validate_default=False, description="The key for Anthropic's API; required."
    )
    base_url: BaseUrl = Field(default="https://api.anthropic.com", description="Where Anthropic's API is.")
    model: str = Field(
        default="claude-haiku-5-5", pattern=r"^[!-~]+$", description="The model that stands in for Vertex."
    )
    max_concurrency: Count = Field(default=200, description="Calls to Claude at a time.")


class TimeoutSettings(Group):
    """How long an upstream may take, in seconds."""

    connect_seconds: Seconds = Field(default=1.0, description="For a connection, TLS included.")
    first_byte_seconds: Seconds = Field(default=2.5, description="To the first byte of content; passing it fails over.")
    stream_idle_seconds: Seconds = Field(default=2.0, description="Between two pieces of a stream.")
    total_seconds: Seconds = Field(default=30.0, description="For the whole request, every attempt included.")


class BreakerSettings(Group):
    """When a circuit opens and how it closes again."""

    window_seconds: int = Field(default=10, ge=1, le=3_600, description="Whole seconds that rates are taken over.")
    window_calls: int = Field(
        default=0, ge=0, le=100_000, description="If above 0, rates are taken over so many of the latest calls instead."
    )
    minimum_calls: Count = Field(default=10, description="Fewer calls in the window never trip on a rate.")
    failure_rate_threshold: Share = Field(default=0.5, description="Share of failed calls that opens the circuit.")
    slow_call_seconds: Seconds = Field(default=1.5, description="A call is slow whose first content takes longer.")
    slow_rate_threshold: Share = Field(default=0.5, description="Share of slow calls that opens the circuit.")
    consecutive_failures: Count = Field(
        default=5, description="Failures in a row that open the circuit, however low the traffic."
    )
    open_seconds: Seconds = Field(default=5.0, description="How long a circuit stays open the first time.")
    open_multiplier: float = Field(
        default=2.0, ge=1, le=100, description="Each further time it stays open longer by this factor."
    )
    max_open_seconds: Seconds = Field(default=60.0, description="The longest that a circuit stays open.")
    trial_calls: int = Field(
        default=5, ge=1, le=1_000, description="Calls let through to find out whether it may close."
    )
    ramp_seconds: SecondsOrZero = Field(
        default=10.0, description="Time after closing in which the share let through grows from none to all."
    )
    observe_only: bool = Field(
        default=False, description="Judge and report `would_trip`, and refuse nothing: for trying thresholds."
    )


class ProbeSettings(Group):
    """The background checks of both upstreams."""

    targets: ProbeTargets = Field(
        default=(),
        description="Comma-separated `project/location/publisher/model`, the Vertex models to probe; "
        "not with `passthrough`, where the proxy has no credential of its own. Claude is probed always.",
    )
    interval_seconds: SecondsOrZero = Field(
        default=10.0,
        description="Between two probes; doubled while the upstream is down, at most 1 s while the last results speak "
        "against the verdict; skipped while traffic shows that it is well. 0 switches probing off.",
    )
    timeout_seconds: Seconds = Field(default=3.0, description="For one probe.")
    fall: int = Field(default=3, ge=1, le=1_000, description="Failed probes in a row that count as down.")
    rise: int = Field(default=2, ge=1, le=1_000, description="Good probes in a row that count as up.")
    daily_budget: int = Field(
        default=20_000,
        ge=LEAST_DAILY,
        description="Probes of one target in a day; towards its end they come more slowly, "
        "never less than one a minute.",
    )
