"""How calls to Vertex are authorised.

The token endpoint fails together with the rest (2025-06-12), so a token is renewed well ahead of its end, a valid one
outlives its server, and no request ever waits for a renewal while it has a token. google-auth is blocking and heavy: it
is imported and used in a thread of its own, never on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

from proxy.daemon_threads import in_daemon_thread
from proxy.settings_types import CredentialsKind

if TYPE_CHECKING:
    from pydantic import SecretStr

    from proxy.settings import VertexSettings

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
AHEAD_SECONDS = 600.0
"""How long before its end a token is renewed; a quarter of its life where that is shorter."""
REJECTED_SECONDS = 10.0
"""A token that Vertex refuses is renewed at most this often."""
_REQUEST_SECONDS = 10.0
_UNCHANGED_SECONDS = 30.0
_LONGEST_WAIT_SECONDS = 86_400.0
_LONGEST_BACKOFF_SECONDS = 30.0
_T = TypeVar("_T")


class CredentialsUnavailable(Exception):
    """No valid credential can be had now. The message says why and holds no secret."""


class Credentials(Protocol):
    """Where the `Authorization` of a call to Vertex comes from."""

    @property
    def own(self) -> bool:
        """Whether it is the proxy's own credential: a refusal is the operator's matter then, not the caller's."""

    async def start(self) -> None:
        """Begin to keep it fresh; does not wait for the first token."""

    async def stop(self) -> None:
        """Stop at once, a renewal on its way included."""

    async def authorization(self, incoming: str | None) -> str | None:
        """The value of the header, or None to send none. `incoming` is the caller's own.

        Waits while the first token is on its way, without a limit of its own: the caller's timeout is the limit.
        Raises CredentialsUnavailable when there is none and the last attempt failed.
        """

    def rejected(self) -> None:
        """Vertex answered 401 to it."""


class GoogleCredentials(Protocol):
    """What is needed of google.auth.credentials.Credentials. `expiry` is UTC without saying so."""

    token: str | None
    expiry: datetime | None

    def refresh(self, request: object) -> None:
        """Blocking; raises google.auth.exceptions.GoogleAuthError."""


class StaticCredentials:
    """One token from the settings."""

    own = True

    def __init__(self, token: SecretStr) -> None:
        self._token = token

    async def start(self) -> None:
        """Nothing to keep fresh."""

    async def stop(self) -> None:
        """Nothing to stop."""

    async def authorization(self, incoming: str | None) -> str | None:
        """The token, whatever the caller sent."""
        return f"Bearer {self._token.get_secret_value()}"

    def rejected(self) -> None:
        """There is no other one to be had."""


class PassthroughCredentials:
    """The caller's own."""

    own = False

    async def start(self) -> None:
        """Nothing to keep fresh."""

    async def stop(self) -> None:
        """Nothing to stop."""

    async def authorization(self, incoming: str | None) -> str | None:
        """What the caller sent."""
        return incoming

    def rejected(self) -> None:
        """The caller's to renew."""


@dataclass(frozen=True, slots=True, repr=False)
class _Token:
    value: str
    seconds: float


@dataclass(frozen=True, slots=True)
class _Failure:
    message: str


def load_adc() -> GoogleCredentials:
    """Google's application default credentials. Blocking, and the first call imports google-auth.

    Raises google.auth.exceptions.DefaultCredentialsError where there are none.
    """
    import google.auth

    credentials: GoogleCredentials
    credentials, _project = google.auth.default(scopes=[SCOPE])
    return credentials


class AdcCredentials:
    """The proxy's own credential through google-auth, kept fresh by one background task.

    `clock` is monotonic, in seconds. `on_event` is called on the event loop as `on_event(name, **fields)`:
    `credentials_refreshed` with expires_in_seconds, `credentials_refresh_failed` with error, retry_in_seconds and
    usable_seconds.
    """

    own = True

    def __init__(
        self,
        loader: Callable[[], GoogleCredentials] = load_adc,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_event: Callable[..., None] | None = None,
        request_seconds: float = _REQUEST_SECONDS,
    ) -> None:
        self._loader = loader
        self._clock = clock
        self._sleep = sleep
        self._on_event = on_event
        self._request_seconds = request_seconds
        self._google: GoogleCredentials | None = None
        self._header: str | None = None
        self._expires_at = 0.0
        self._failure: str | None = None
        self._attempted_at = float("-inf")
        self._attempted = asyncio.Event()
        self._renew = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to keep the token fresh; does not wait for the first one."""
        self._task = asyncio.create_task(self._run(), name="vertex-credentials")

    async def stop(self) -> None:
        """Stop at once; a thread that hangs in a renewal is left behind and keeps nothing from ending."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        self._attempted.set()

    async def authorization(self, incoming: str | None) -> str | None:
        """The current token, whatever the caller sent. See `Credentials.authorization`."""
        if self._usable_seconds() > 0:
            return self._header
        if self._failure is None and self._task is not None:
            await self._attempted.wait()  # an event of all waiters: one that is cancelled takes nothing with it
            if self._usable_seconds() > 0:
                return self._header
        raise CredentialsUnavailable(self._failure or "no token for Vertex: none has been obtained")

    def rejected(self) -> None:
        """Vertex answered 401: renew soon, unless that was tried within `REJECTED_SECONDS`."""
        if self._clock() - self._attempted_at >= REJECTED_SECONDS:
            self._renew.set()

    async def _run(self) -> None:
        failures = 0
        while True:
            self._attempted.clear()
            self._attempted_at = self._clock()
            try:
                outcome = await in_daemon_thread(self._fetch)
            except RuntimeError as error:  # no thread could be started
                outcome = _Failure(_why(error))
            if isinstance(outcome, _Token):
                failures = 0
                wait = self._take(outcome)
            else:
                failures += 1
                wait = self._fail(outcome, failures)
            self._attempted.set()
            await self._wait(wait)

    def _take(self, token: _Token) -> float:
        """Use the token; when to renew it, in seconds from now."""
        header = f"Bearer {token.value}"
        unchanged = header == self._header
        self._header = header
        # From the start of the attempt on, so that its duration errs on the safe side; and on the monotonic clock from
        # here on, so that a jump of the wall clock moves nothing.
        self._expires_at = self._attempted_at + token.seconds
        self._failure = None
        self._report("credentials_refreshed", expires_in_seconds=token.seconds)
        wait = token.seconds - min(AHEAD_SECONDS, token.seconds / 4)
        if unchanged and token.seconds <= AHEAD_SECONDS:
            # The metadata server hands out one token until 5 minutes before its end: ask again until it is the next.
            wait = min(wait, _UNCHANGED_SECONDS)
        return min(max(wait, 1.0), _LONGEST_WAIT_SECONDS)

    def _fail(self, failure: _Failure, failures: int) -> float:
        """Remember why; when to try again, in seconds from now."""
        self._google = None  # loaded afresh next time: a key file may have been replaced
        self._failure = f"no token for Vertex: {failure.message}"
        longest = min(_LONGEST_BACKOFF_SECONDS, 2.0 ** min(failures, 10))
        wait = random.uniform(longest / 2, longest)  # noqa: S311 - jitter, not a secret
        self._report(
            "credentials_refresh_failed",
            error=failure.message,
            retry_in_seconds=round(wait, 1),
            usable_seconds=max(0.0, round(self._usable_seconds(), 1)),
        )
        return wait

    async def _wait(self, seconds: float) -> None:
        self._renew.clear()
        waits = {asyncio.ensure_future(self._sleep(seconds)), asyncio.ensure_future(self._renew.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _usable_seconds(self) -> float:
        return self._expires_at - self._clock() if self._header is not None else 0.0

    def _report(self, event: str, **fields: object) -> None:
        if self._on_event is not None:
            with contextlib.suppress(Exception):
                self._on_event(event, **fields)

    def _fetch(self) -> _Token | _Failure:
        """One attempt, in a thread."""
        try:
            if self._google is None:
                self._google = self._loader()
            _refresh(self._google, self._request_seconds)
            token, expiry = self._google.token, self._google.expiry
        except Exception as error:  # noqa: BLE001 - the root of a thread: whatever went wrong, there is no token
            return _Failure(_why(error))
        if not token:
            return _Failure("google-auth returned no token")
        if expiry is None:
            return _Token(token, _LONGEST_WAIT_SECONDS)
        seconds = (expiry.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()
        return _Token(token, seconds) if seconds > 0 else _Failure("the token had expired when it came")


def _refresh(google: GoogleCredentials, seconds: float) -> None:
    from google.auth.transport.requests import Request

    class BoundedRequest(Request):  # a subclass, since some kinds of credentials look for its type and its session
        def __call__(self, *args: object, **kwargs: object) -> object:
            # google-auth's own default is 120 s for each of several tries.
            return super().__call__(*args, **{"timeout": seconds, **kwargs})  # type: ignore[no-untyped-call]

    request = BoundedRequest()
    try:
        google.refresh(request)
    finally:
        request.session.close()


def _why(error: Exception) -> str:
    # The first argument is the message; the others may be whole responses with tokens in them.
    text = " ".join(str(error.args[0] if error.args else "").split())
    text = re.sub(r"[\w.~+=-]{40,}", "…", text)[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def credentials_for(vertex: VertexSettings, *, on_event: Callable[..., None] | None = None) -> Credentials:
    """The credentials that the settings ask for, not started yet."""
    if vertex.credentials is CredentialsKind.PASSTHROUGH:
        return PassthroughCredentials()
    if vertex.credentials is CredentialsKind.STATIC and vertex.token is not None:
        return StaticCredentials(vertex.token)
    return AdcCredentials(on_event=on_event)
