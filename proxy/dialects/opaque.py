"""Methods whose answers only Vertex can give: embeddings, and counts of its own tokens. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from health.outcome import FailureReason
from proxy.dialects.base import InvalidRequest, Usage
from proxy.dialects.stream import error_reason, parsed
from proxy.dialects.unstreamed import Unstreamed

if TYPE_CHECKING:
    from proxy.dialects.base import Completion


class Opaque(Unstreamed):
    """The dialect; see `Dialect` for the methods."""

    def read(self, body: bytes, *, model: str, streaming_method: bool) -> Completion:
        """Raises InvalidRequest, whatever is asked for: no other provider has the answer."""
        raise InvalidRequest("method", f"this method of {model} cannot be answered by the backup")

    def check(self, body: bytes) -> FailureReason | Usage:
        """Any object is an answer that is no error; STREAM_ERROR or THROTTLED for one that is, else MALFORMED."""
        answer = parsed(body)
        if (reason := error_reason(answer)) is not None:
            return reason
        return Usage() if isinstance(answer, dict) else FailureReason.MALFORMED

    def text(self, body: bytes) -> str:
        """These answers hold none."""
        return ""
