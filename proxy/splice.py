"""A fill-in-the-middle stream that breaks off is finished by another upstream, in the same stream.

What the caller has got is text T, to the end of an event. The other upstream is asked for what follows the prefix and T
before the same suffix, and what it says goes on under the same id. Chat streams are not spliced: no model goes on from
the middle of another's sentence without a seam.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from health.outcome import FailureReason
from proxy.dialects.base import FinishReason, Hole, InvalidRequest, Usage
from proxy.events import FailedOver, RouteReason
from proxy.routing import Plan
from proxy.served import Failure, NothingServed
from proxy.stops import CHARACTERS_PER_TOKEN
from proxy.upstreams.base import AttemptFailed, Resumption

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from health.outcome import Outcome
    from proxy.events import Event
    from proxy.served import Served
    from proxy.upstreams.base import Call, Progress

_MOST_SPLICES = 3
"""In one stream; with each the chance that the next one holds gets smaller."""


class Splice:
    """One stream, whoever gives it. The first attempt is under way; the later ones are begun where one breaks off."""

    def __init__(
        self,
        call: Call,
        first: Served,
        order: Sequence[str],
        serve: Callable[[Call, Plan], Awaitable[Served]],
        emit: Callable[[Event], None],
    ) -> None:
        """`serve` asks the upstreams of a plan; it raises NothingServed. `order` is that of the first plan."""
        self._call = call
        self._current = first
        self._rest = first.reply.rest
        self._order = order
        self._serve = serve
        self._emit = emit
        reply = replace(first.reply, rest=self._pieced_together(), known=self._known)
        self.served = replace(first, reply=reply, on_end=self._end)
        """What the caller is sent."""

    def _known(self) -> Outcome | None:
        """As `Reply.known`, of the attempt that is under way; None between two."""
        return None if self._current.ended else self._current.reply.known()

    def _end(self, outcome: Outcome) -> None:
        self._current.end(outcome)

    async def _pieced_together(self) -> AsyncGenerator[bytes]:
        """The rest of the stream. Raises AttemptFailed where nobody can finish it."""
        for _ in range(_MOST_SPLICES):
            try:
                async with aclosing(self._pieces()) as pieces:
                    async for piece in pieces:
                        yield piece
            except AttemptFailed as broken:
                progress = self._current.reply.progress
                is_late = broken.reason is FailureReason.TOTAL_TIMEOUT
                if progress is None or is_late or not self._may_be_spliced():
                    raise
                self._current.end(broken.outcome)
                if (last := self._last_words(progress)) is not None:
                    yield last
                    return
                if not await self._goes_on(progress, broken):
                    raise
                yield self._current.reply.body
            else:
                return
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                yield piece

    async def _pieces(self) -> AsyncGenerator[bytes]:
        if self._rest is not None:
            async with aclosing(self._rest):
                async for piece in self._rest:
                    yield piece

    def _may_be_spliced(self) -> bool:
        try:
            completion = self._call.completion
        except InvalidRequest:
            return False
        return isinstance(completion.task, Hole) and not completion.others

    def _last_words(self, progress: Progress) -> bytes | None:
        """The end of the stream, where the caller's limit is used up and nothing is left to ask for."""
        limit, text = self._call.completion.max_tokens, progress.text()
        if limit is None or len(text) < limit * CHARACTERS_PER_TOKEN:
            return None
        return progress.writer().finish(FinishReason.LENGTH, Usage(0, len(text) // CHARACTERS_PER_TOKEN))

    async def _goes_on(self, progress: Progress, broken: AttemptFailed) -> bool:
        """Begin the next attempt; False where nobody can be asked."""
        failed = self._current.upstream
        others = [name for name in self._order if name != failed]
        call = replace(self._call, resumption=Resumption(progress.text(), progress.writer()))
        try:
            self._current = await self._serve(call, Plan((*others, failed), RouteReason.PRIMARY))
        except NothingServed:
            return False
        self._rest = self._current.reply.rest
        # Told with the request when it is over; the headers that name attempts are out by now.
        self.served.failures += [Failure(failed, broken), *self._current.failures]
        self.served.completed_by = self._current.upstream
        self._emit(FailedOver(call.route.model, broken.reason))
        return True
