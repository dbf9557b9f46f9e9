"""What happens, as values.

The code that does something emits one event and knows nothing of what is made of it.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from health.breaker import CircuitBreaker
    from health.config import BreakerConfig
    from health.outcome import FailureReason, Outcome
    from health.pace import NextProbe
    from health.probe import ProbeResult
    from health.transitions import Transition
    from proxy.dialects.base import Usage
    from proxy.override import Override

NO_UPSTREAM = "none"
"""The `upstream` of requests that the proxy answered itself."""


class RouteReason(StrEnum):
    """Why an upstream serves, where no attempt failed first. Header value and label value."""

    PRIMARY = "primary"
    CIRCUIT_OPEN = "circuit_open"
    PROBE_DOWN = "probe_down"
    OVERRIDE = "override"
    THROTTLED = "throttled"


@dataclass(frozen=True, slots=True)
class Switch:
    """A model's traffic moved from one upstream to another. `at` is Unix time in seconds."""

    at: float
    model: str
    from_upstream: str
    to_upstream: str
    reason: RouteReason
    cause: CircuitMoved | None = None
    """The circuit's change that it followed from, with its evidence; None where it was an override."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A model was seen for the first time; `upstream` serves it. No switch: nothing served it before."""

    at: float
    model: str
    upstream: str
    reason: RouteReason
    available: Callable[[], int]
    """How many upstreams have a closed circuit for the model at the moment of the call."""


@dataclass(frozen=True, slots=True)
class ThresholdsSet:
    """What circuits judge by, from now on."""

    config: BreakerConfig


@dataclass(frozen=True, slots=True)
class CircuitCreated:
    """A circuit began to watch an upstream's model."""

    upstream: str
    model: str
    circuit: CircuitBreaker


@dataclass(frozen=True, slots=True)
class CircuitMoved:
    """A circuit changed its state. `at` is Unix time in seconds."""

    at: float
    upstream: str
    model: str
    transition: Transition


@dataclass(frozen=True, slots=True)
class WouldTrip:
    """A circuit that only observes would have opened. `at` is Unix time in seconds."""

    at: float
    upstream: str
    model: str
    transition: Transition


@dataclass(frozen=True, slots=True)
class CapacityRefused:
    """An upstream refused a call for capacity. `model` is the circuit's."""

    upstream: str
    model: str


@dataclass(frozen=True, slots=True)
class Spilled:
    """A call was not even tried at an upstream, whose throttle kept it back. `model` is the circuit's."""

    upstream: str
    model: str


@dataclass(frozen=True, slots=True)
class ThrottleChanged:
    """An upstream began to be throttled, or is not any more. Ratios 0 to 1."""

    upstream: str
    model: str
    throttled: bool
    spill_ratio: float
    accept_ratio: float


@dataclass(frozen=True, slots=True)
class StaleResult:
    """A call ended after its circuit had moved on; it changed nothing."""

    upstream: str
    model: str


@dataclass(frozen=True, slots=True)
class ProbeStarted:
    """An upstream's model is probed from now on."""

    upstream: str
    model: str


@dataclass(frozen=True, slots=True)
class ProbesEnded:
    """Nothing is probed any more; others may be started next."""


@dataclass(frozen=True, slots=True)
class Probed:
    """A background probe was answered, or not. `at` is Unix time in seconds."""

    at: float
    result: ProbeResult
    detail: str = ""
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class ProbeSkipped:
    """A background probe was not needed: fresh traffic had shown that the upstream is well."""

    upstream: str
    model: str
    next_probe: NextProbe


class OverrideChange(StrEnum):
    """How another override came to be in force. Label value."""

    SET = "set"
    CLEARED = "cleared"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class OverrideChanged:
    """An override was set, or came to its end. `at` is Unix time in seconds."""

    at: float
    override: Override
    """The one in force now: a stronger one may have been before, and stay."""
    before: Override
    """The one in force before; of an end, the one that ended."""
    change: OverrideChange
    actor: str | None = None
    """Who took the one before away, where that was said. Who set one stands in the override itself."""


@dataclass(frozen=True, slots=True)
class OverrideExpiring:
    """The override in force ends soon, by itself. `at` is Unix time in seconds."""

    at: float
    override: Override


@dataclass(frozen=True, slots=True)
class OverrideFileRead:
    """The override file says another thing that can be understood, or is gone: an `OverrideRejected` before is over."""


@dataclass(frozen=True, slots=True)
class OverrideRejected:
    """The override file could not be understood; what was in force before still is."""

    problem: str


class FlagFailure(StrEnum):
    """Why a feature flag could not be asked. Label value."""

    TIMEOUT = "timeout"
    ERROR = "error"
    INVALID = "invalid"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class FlagFailed:
    """A request's feature flag could not be asked, and was taken for `auto`. `detail` is the SDK's code of an error."""

    reason: FlagFailure
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ChangeRefused:
    """Somebody tried to change something through the admin listener who may not."""

    code: int
    why: str


@dataclass(frozen=True, slots=True)
class Started:
    """The process begins to serve. `at` is Unix time in seconds."""

    at: float
    version: str


@dataclass(frozen=True, slots=True)
class ConfigReloaded:
    """The settings were read anew. `problems` is empty where they are in force now; else the old ones still are."""

    at: float
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JournalFailed:
    """The journal's file could not be written or read; its lines are kept and tried again."""

    problem: str


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """One attempt of a request at an upstream is over. `detail` tells the operator more and holds no content."""

    upstream: str
    model: str
    outcome: Outcome
    seconds_to_first_byte: float | None
    detail: str = ""
    seconds: float = 0.0
    """From its start to its end."""


@dataclass(frozen=True, slots=True)
class FailedOver:
    """A request whose first attempt failed was served after all, within the request."""

    model: str
    reason: FailureReason


@dataclass(frozen=True, slots=True)
class RequestLost:
    """No upstream could serve a request, or one broke off in the middle of it."""

    model: str
    reason: str
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class RequestStarted:
    """A request came in."""


class NoAnswer(StrEnum):
    """Why no upstream's answer was sent."""

    REFUSED = "refused"
    """The request could not be served as it was: the caller's to change."""
    LOST = "lost"
    """No upstream could serve it."""
    CLIENT_LEFT = "client_left"
    INTERNAL = "internal"
    """The proxy failed on it."""


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """A request is over, however it ended. `upstream` is NO_UPSTREAM where the proxy answered.

    Names of models are the caller's words; everything else comes from fixed sets, and nothing tells who asked.
    """

    upstream: str
    code: int
    seconds: float
    _: KW_ONLY
    reason: str = ""
    """Why this upstream answered, as in `x-completion-proxy-reason`; else a `NoAnswer`."""
    model: str = ""
    dialect: str = ""
    """The format of the path; "" for a path that is not served."""
    stream: bool = False
    """The answer was sent as it came."""
    complete: bool = True
    """The caller was sent a whole answer; False where it broke off or the caller left."""
    broken: str = ""
    """Why an answer that had begun did not come to its end: a failure's reason."""
    completed_by: str = ""
    """The upstream that finished a stream that broke off at another."""
    first_byte_seconds: float | None = None
    """From the request's start to the first content of the answer; None where there was none."""
    failed: tuple[str, ...] = ()
    """The attempts that failed, in their order, as `vertex:server_error`."""
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class TokensUsed:
    """An upstream counted tokens for an answer."""

    upstream: str
    usage: Usage
    model: str = ""
    """The caller's; "" for a probe's answer."""


@dataclass(frozen=True, slots=True)
class LoopLagged:
    """The event loop was away: for `seconds` it ran nothing that was due."""

    seconds: float


Event = (
    Switch
    | Serving
    | ThresholdsSet
    | CircuitCreated
    | CircuitMoved
    | WouldTrip
    | CapacityRefused
    | Spilled
    | ThrottleChanged
    | StaleResult
    | ProbeStarted
    | ProbesEnded
    | Probed
    | ProbeSkipped
    | OverrideChanged
    | OverrideExpiring
    | OverrideFileRead
    | OverrideRejected
    | FlagFailed
    | ChangeRefused
    | Started
    | ConfigReloaded
    | JournalFailed
    | AttemptEnded
    | FailedOver
    | RequestLost
    | RequestStarted
    | RequestEnded
    | TokensUsed
    | LoopLagged
)
