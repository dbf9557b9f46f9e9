"""Who may come in, and who may spend the proxy's Claude key.

While Vertex answers, Vertex itself checks a caller whose token is passed through. With Vertex down nobody else has: who
is served by Claude is the proxy's own decision, and it falls here. No I/O.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from proxy.headers import ACTOR, CLIENT_TOKEN
from proxy.settings import CredentialsKind, Settings, is_loopback

ACCEPTED_SECONDS = 3600.0
"""How long Vertex's word on a caller holds: as long as the access token that it was given for may live."""
REMEMBERED_CALLERS = 10_000


class NotAdmitted(Exception):
    """The caller presented no known client token. The message is for the caller and repeats nothing of the caller's."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `key` decides whether a shared override applies: the same for all requests of one caller."""

    key: bytes = field(repr=False)
    may_use_claude: bool
    actor: str | None = field(default=None, repr=False)
    """The user, where the request names one."""
    credential: bytes | None = field(default=None, repr=False)
    """What `Callers.accepted` remembers the caller by; None where there is nothing to remember."""


class Callers:
    """The rules of one process. `clock` is monotonic, in seconds, and the one that `accepted` is told the time by."""

    def __init__(
        self, settings: Settings, *, clock: Callable[[], float] = time.monotonic, earlier: Callers | None = None
    ) -> None:
        """`earlier` held other settings of the same process; whom Vertex let pass is remembered from it."""
        self._passthrough = settings.vertex.credentials is CredentialsKind.PASSTHROUGH
        self._tokens = tuple(_digest(token.get_secret_value()) for token in settings.client_tokens)
        # Behind a loopback address or a client token the callers are known; else only Vertex can vouch for one.
        self._vouching = self._passthrough and not self._tokens and not is_loopback(settings.host)
        self._clock = clock
        self._salt: bytes = os.urandom(16) if earlier is None else earlier._salt
        self._accepted: OrderedDict[bytes, float] = OrderedDict() if earlier is None else earlier._accepted

    def admit(self, headers: Mapping[str, str]) -> Caller:
        """Let a request in. `headers` is a case-insensitive mapping.

        Raises NotAdmitted where client tokens are set and the request presents none of them.
        """
        bearer = _bearer(headers.get("Authorization", ""))
        client_token = headers.get(CLIENT_TOKEN, "").strip() if self._passthrough else bearer
        if self._tokens and not self._is_known(client_token):
            raise NotAdmitted(self._how_to(client_token))
        actor = headers.get(ACTOR, "").strip() or None
        identity = actor or (client_token if self._tokens else bearer)
        # Salted by a constant, so that a share means the same callers on every replica; a caller without any identity
        # draws anew each time, so that at least the size of the share is right.
        key = _digest("key " + identity)[:16] if identity else os.urandom(16)
        if not self._passthrough:
            return Caller(key, may_use_claude=True, actor=actor)
        if not bearer or not self._vouching:
            return Caller(key, may_use_claude=bool(bearer), actor=actor)
        credential = hashlib.sha256(self._salt + _bytes(bearer)).digest()
        return Caller(key, self._is_vouched_for(credential), actor, credential)

    def accepted(self, caller: Caller, now: float) -> None:
        """Vertex let this caller's own credential pass at `now`."""
        if caller.credential is None:
            return
        self._accepted[caller.credential] = now
        self._accepted.move_to_end(caller.credential)
        if len(self._accepted) > REMEMBERED_CALLERS:
            self._accepted.popitem(last=False)

    def _is_vouched_for(self, credential: bytes) -> bool:
        accepted_at = self._accepted.get(credential)
        return accepted_at is not None and self._clock() - accepted_at <= ACCEPTED_SECONDS

    def _is_known(self, token: str) -> bool:
        # Digests are of equal length and all of them are compared: neither the length of a token nor its place shows.
        presented = _digest(token)
        known = False
        for digest in self._tokens:
            known |= hmac.compare_digest(presented, digest)
        return known

    def _how_to(self, presented: str) -> str:
        where = f"the header {CLIENT_TOKEN}" if self._passthrough else "the header Authorization as a bearer token"
        return (
            f"a client token is required in {where}" if not presented else f"the client token in {where} is not known"
        )


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")  # aiohttp keeps a header's stray bytes as surrogates


def _digest(value: str) -> bytes:
    return hashlib.sha256(b"completion-proxy\0" + _bytes(value)).digest()
