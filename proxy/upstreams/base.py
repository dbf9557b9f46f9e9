"""The one interface of every upstream: an attempt takes a call and gives a reply that is fit to be sent, or fails.

"Fit to be sent" is the commit point: a whole answer is complete and well-formed, a stream has shown its first content.
Until then a failure is an `AttemptFailed` that the failover repairs; from then on `Reply.rest` raises it.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from health.lag import no_lag
from health.outcome import OK, FailureReason, Outcome
from proxy.dialects.base import InvalidRequest
from proxy.upstreams.codings import decode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine

    from multidict import CIMultiDict, MultiMapping

    from proxy.callers import Caller
    from proxy.dialects.base import Completion, Dialect, StreamWriter, Usage
    from proxy.paths import Route
    from proxy.trace import TraceContext


T = TypeVar("T")

LARGEST_ANSWER = 64 * 1024 * 1024
"""Bytes of a whole answer, or of a stream before its first content, that are held. Models that draw answer with some
tens of MiB."""

_STREAM = re.compile(rb'"stream"\s*:\s*true')

_CATCH_UP_SECONDS = 0.05
"""A loop that was away takes a few turns until it has read what lies in its sockets."""


@dataclass(slots=True)
class Limits:
    """How long an attempt may take: two moments on the event loop's clock, and an idle time in seconds.

    All but `total` are in time in which the event loop was awake: what may lie in a socket unread did not fail to come.
    """

    first_byte: float
    """No content by then: `patience` decides whether the attempt has failed."""
    total: float
    idle: float
    """Once content flows, the longest silence."""
    patience: Callable[[], float]
    """Asked once, when `first_byte` has passed: until when to wait instead. A moment that has passed gives up."""
    since: float
    """From when on the loop's absence puts `first_byte` off: at first the moment at which the attempt begins."""
    lag: Callable[[float, float], float] = no_lag
    """For how many seconds between two moments the event loop was away."""
    on_content: Callable[[float], None] = lambda _: None
    """Told when the first content came: of a whole answer, before the rest of it has."""
    extended: bool = False
    timer: asyncio.TimerHandle | None = None

    def put_off(self, deadline: float, since: float, now: float) -> float:
        """A `deadline` that has passed, later by the time for which the loop was away from `since` to `now`.

        Whoever waits on must ask from `now` on the next time, so that each lost second is given once.
        """
        lost = self.lag(since, now)
        return max(deadline + lost, now + _CATCH_UP_SECONDS) if lost > 0 else deadline

    async def before_content(self, awaited: Coroutine[Any, Any, T]) -> T:
        """Await what must come before the first content. Raises AttemptFailed when it does not."""
        timeout = asyncio.timeout_at(self.total)
        loop = asyncio.get_running_loop()
        self._set_timer(loop, timeout)
        try:
            async with timeout:
                return await awaited
        except TimeoutError as error:
            # With time left that only the caller's limit cuts off, whether an answer would have come is not known.
            unseen = not self.extended and self.put_off(self.first_byte, self.since, loop.time()) > self.total
            raise AttemptFailed.because(FailureReason.LAG if unseen else FailureReason.FIRST_BYTE_TIMEOUT) from error
        finally:
            if self.timer is not None:
                self.timer.cancel()

    def _set_timer(self, loop: asyncio.AbstractEventLoop, timeout: asyncio.Timeout) -> None:
        if self.first_byte < self.total:
            self.timer = loop.call_at(self.first_byte, self._late, loop, timeout)

    def _late(self, loop: asyncio.AbstractEventLoop, timeout: asyncio.Timeout) -> None:
        now = loop.time()
        passed = self.first_byte
        self.first_byte = self.put_off(passed, self.since, now)
        self.since = now
        if self.first_byte == passed and not self.extended:
            self.extended = True
            self.first_byte = max(passed, min(self.patience(), self.total))
        if self.first_byte > passed:
            self._set_timer(loop, timeout)
        elif not timeout.expired():
            timeout.reschedule(now)


class AttemptFailed(Exception):
    """An upstream did not serve a call.

    `reply` is the upstream's own answer where it gave one that may be shown to the caller; `detail` tells the operator
    more, and holds neither content nor a credential.
    """

    def __init__(
        self, outcome: Outcome, *, reply: Reply | None = None, detail: str = "", error_event: bytes = b""
    ) -> None:
        """`error_event` is how the upstream itself told of it within a stream, in the caller's dialect."""
        super().__init__(outcome, detail)
        self.outcome = outcome
        self.reply = reply
        self.detail = detail
        self.error_event = error_event

    @classmethod
    def because(cls, reason: FailureReason, detail: str = "") -> AttemptFailed:
        """A failure that is told by its reason."""
        return cls(Outcome.failure(reason), detail=detail)

    @property
    def reason(self) -> FailureReason:
        """Why; a failure always has a reason."""
        assert self.outcome.reason is not None
        return self.outcome.reason


def as_cut(failure: AttemptFailed) -> AttemptFailed:
    """How a failure of the connection is told of a stream: a stream has no length that could be truncated."""
    if failure.reason in {FailureReason.TRUNCATED, FailureReason.RESET}:
        return AttemptFailed.because(FailureReason.CUT, failure.detail)
    return failure


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stream has come, for another upstream to go on from there."""

    text: Callable[[], str]
    """What the caller has got of the answer."""
    writer: Callable[[], StreamWriter]
    """Goes on with the stream, under its id."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """A stream that another upstream began, to be finished: the text that it sent, and the writer that goes on."""

    text: str
    writer: StreamWriter


@dataclass(slots=True, kw_only=True)
class Reply:
    """An answer that is fit to be sent: `body`, and for a stream what comes after it."""

    status: int
    headers: CIMultiDict[str]
    body: bytes
    reason: str | None = None
    """The reason phrase of an answer that is passed on."""
    rest: AsyncGenerator[bytes] | None = None
    """Raises AttemptFailed when the stream breaks; it must then not be ended as if it were complete."""
    known: Callable[[], Outcome | None] = lambda: None
    """What came of a stream, as far as it has been read: its error or its proper end, if it has shown either.

    A caller who hangs up on seeing one leaves the rest unread, and has not left early.
    """
    close: Callable[[], None] = lambda: None
    """Lets go of the upstream's connection; must be called when `rest` is done with, begun or not."""
    outcome: Outcome = OK
    content_at: float | None = None
    """When the first content came, on the event loop's clock."""
    usage: Usage | None = None
    """What the upstream counted; of a stream, as far as it has been read."""
    progress: Progress | None = None
    """None where what was sent cannot be told apart, as in a compressed stream."""


class Tail:
    """What is still to come of a request too large to be held: it can be sent only once; remembers how that went."""

    def __init__(self, pieces: AsyncIterator[bytes], *, broken_by: type[Exception]) -> None:
        """`broken_by` is what `pieces` raises where the caller's framing is wrong."""
        self._pieces = pieces
        self._broken_by = broken_by
        self.complete = False
        """All of it has come."""
        self.broken = False
        """The rest of it will not come: its framing is wrong."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._pieces:
                yield piece
            self.complete = True
        except self._broken_by:
            self.broken = True
            raise


@dataclass(kw_only=True)
class Call:
    """One request of a caller on its way through the plan; `body` is untouched, and read only when it has to be."""

    route: Route
    target: str
    """The raw path and query, as they came."""
    headers: MultiMapping[str]
    body: bytes
    tail: Tail | None = None
    """What follows `body` of a request too large to be held."""
    caller: Caller
    dialect: Dialect
    deadline: float
    """When its whole time is used up, on the event loop's clock."""
    largest_body: int = field(default=0)
    """The limit that a body with a `tail` has passed, in bytes."""
    atomic: bool = False
    """A stream is held until it is complete."""
    resumption: Resumption | None = None
    trace: TraceContext | None = None
    """The trace that it belongs to; every attempt at Vertex carries it."""

    def is_over(self, now: float) -> bool:
        """Whether too little time is left for another attempt; timers may fire a little early."""
        return now >= self.deadline - 0.01

    @cached_property
    def completion(self) -> Completion:
        """What the caller asks for. Raises InvalidRequest that names the field."""
        if self.tail is not None:
            raise InvalidRequest("body", f"the body is larger than {self.largest_body} bytes (MAX_BODY_BYTES)")
        content_type = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if content_type and content_type != "application/json" and not content_type.endswith("+json"):
            raise InvalidRequest("content-type", "must be application/json")
        completion = self.dialect.read(
            self.plain_body, model=self.route.model, streaming_method=self.route.streaming_method
        )
        return completion if self.resumption is None else completion.resumed(self.resumption.text)

    @cached_property
    def may_stream(self) -> bool:
        """Whether the answer may be a stream; true for more than stream, for the body is not read for it."""
        return self.route.streaming_method or _STREAM.search(self.body) is not None

    @property
    def plain_body(self) -> bytes:
        """The body without its coding. Raises InvalidRequest."""
        return decode(self.body, self.headers.get("Content-Encoding", ""), limit=max(self.largest_body, len(self.body)))


class Upstream(Protocol):
    """A provider that completions can be asked of."""

    name: str

    def circuit_model(self, model: str) -> str:
        """The model whose circuit watches calls for `model` here."""

    def unable(self, call: Call) -> AttemptFailed | None:
        """Why this call cannot be asked of this upstream at all; None if it can. Costs no call."""

    async def enter(self, deadline: float) -> None:
        """Take one of the upstream's places; raises AttemptFailed(CONCURRENCY) if none gets free in time."""

    def leave(self) -> None:
        """Give the place back."""

    async def attempt(self, call: Call, limits: Limits) -> Reply:
        """Ask once. Raises AttemptFailed. When cancelled, the upstream's connection is closed at once."""
