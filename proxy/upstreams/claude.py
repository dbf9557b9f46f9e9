"""Claude through Anthropic's Messages API: the caller's request translated, the answer in the caller's own dialect.

Nothing of the caller's headers is sent, and of Anthropic's answers but the text reaches the caller; a caller who speaks
Anthropic's own format gets them whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, cast

from multidict import CIMultiDict

from health.outcome import FailureReason
from proxy.dialects import messages
from proxy.dialects.anthropic_vertex import anthropic_model
from proxy.dialects.base import InvalidRequest, Usage, Verbatim
from proxy.upstreams.base import AttemptFailed, Call, Limits, Reply
from proxy.upstreams.relay import relay
from proxy.upstreams.translation import translate
from proxy.upstreams.transport import raw_url

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from proxy.dialects.base import Answer, Completion, StreamedDialect, TranslatedDialect, VerbatimDialect
    from proxy.upstreams.transport import Exchange, Transport

_JSON = "application/json"
_BETA = re.compile(r"[a-z0-9-]{1,64}")


class Claude:
    """The backup upstream."""

    name = "claude"

    def __init__(self, transport: Transport, *, base_url: str, api_key: str, model: str, max_concurrency: int) -> None:
        """`base_url` without a trailing slash; at most `max_concurrency` calls at a time."""
        self._transport = transport
        self._url = raw_url(base_url, "/v1/messages")
        self._headers = {
            "x-api-key": api_key,
            "anthropic-version": "2023-06-01",
            "content-type": _JSON,
            "user-agent": "completion-proxy",
        }
        self._model = model
        self._places = asyncio.Semaphore(max_concurrency)
        self._loop = asyncio.get_running_loop()

    def circuit_model(self, model: str) -> str:
        """Claude's own models answer for themselves, one model for all others."""
        return anthropic_model(model) if model.startswith("claude-") else self._model

    def unable(self, call: Call) -> AttemptFailed | None:
        """A caller who may not spend the key, and a request that cannot be translated, are never sent."""
        if not call.caller.may_use_claude:
            return AttemptFailed.because(FailureReason.NOT_ALLOWED)
        try:
            _ = call.completion
        except InvalidRequest as problem:
            failure = AttemptFailed.because(FailureReason.NOT_EXPRESSIBLE, problem.field)
            failure.__cause__ = problem
            return failure
        return None

    async def enter(self, deadline: float) -> None:
        """Take one of the places; in a failover everyone comes at once."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._places.acquire()
        except TimeoutError as error:
            raise AttemptFailed.because(FailureReason.CONCURRENCY) from error

    def leave(self) -> None:
        """Give the place to the next in line."""
        self._places.release()

    async def attempt(self, call: Call, limits: Limits) -> Reply:
        """Ask Claude; the reply is in the caller's dialect."""
        completion = call.completion
        if completion.others:
            return await self._several(call, limits)
        async with self._asked(completion, limits, _betas(call)) as asked:
            if completion.stream:
                reply = await self._stream(call, asked.exchange, limits)
                asked.keep()
                return reply
            body = await asked.exchange.read(limits)
        if isinstance(completion.task, Verbatim):
            passed = cast("VerbatimDialect", call.dialect).pass_on(body)
            checked = call.dialect.check(passed)
            if isinstance(checked, FailureReason):
                raise AttemptFailed.because(checked)
            return _whole(passed, asked.exchange.content_at, checked)
        answer = _read(body, completion)
        return _whole(
            cast("TranslatedDialect", call.dialect).write([answer], completion), asked.exchange.content_at, answer.usage
        )

    @contextlib.asynccontextmanager
    async def _asked(self, completion: Completion, limits: Limits, betas: Sequence[str] = ()) -> AsyncGenerator[_Asked]:
        """One exchange of status 200; it is closed at the end, unless it is kept."""
        body = json.dumps(messages.write_request(completion, model=self._model, stream=completion.stream)).encode()
        sent = self._headers if not betas else {**self._headers, "anthropic-beta": ",".join(betas)}
        asked = _Asked(await self._transport.post(self._url, sent, body, limits))
        try:
            if asked.exchange.status != 200:
                await self._refuse(asked.exchange, limits)
            yield asked
        except BaseException:
            asked.exchange.close()
            raise
        if not asked.kept:
            asked.exchange.close()

    async def _refuse(self, exchange: Exchange, limits: Limits) -> NoReturn:
        body = await exchange.read(limits)
        outcome = messages.read_error(exchange.status, exchange.headers, body)
        raise AttemptFailed(outcome, detail=f"{exchange.status} {messages.error_type(body) or ''}".rstrip())

    async def _several(self, call: Call, limits: Limits) -> Reply:
        """Several answers to one request: those after the first are asked for meanwhile, where places are free."""
        completion = call.completion
        patience = limits.first_byte - self._loop.time()
        tasks = [
            asyncio.create_task(self._another(other, replace(limits, on_content=lambda _: None)))
            for other in completion.others
        ]
        try:
            first, content_at = await self._answer(completion, limits)
            await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        answers, asked = [first], [first]
        for other, task in zip(completion.others, tasks, strict=True):
            answer = task.result()
            if isinstance(answer, AttemptFailed) and other.task == completion.task:
                # A further candidate for the same place: the one that there is again is better than none at all.
                answers.append(first)
                continue
            if isinstance(answer, AttemptFailed):
                if answer.reason is not FailureReason.CONCURRENCY:
                    raise answer
                # In this request's own place, now that it is free.
                answer, _ = await self._answer(other, self._anew(limits, patience))
            answers.append(answer)
            asked.append(answer)
        usage = Usage(
            sum(answer.usage.input_tokens for answer in asked), sum(answer.usage.output_tokens for answer in asked)
        )
        return _whole(cast("TranslatedDialect", call.dialect).write(answers, completion), content_at, usage)

    def _anew(self, limits: Limits, patience: float) -> Limits:
        """The limits of a call that begins only now, with as much time to its first byte as the first one had."""
        now = self._loop.time()
        first_byte = min(now + patience, limits.total)
        return replace(limits, first_byte=first_byte, since=now, extended=False, timer=None, on_content=lambda _: None)

    async def _another(self, completion: Completion, limits: Limits) -> Answer | AttemptFailed:
        if self._places.locked():
            return AttemptFailed.because(FailureReason.CONCURRENCY)
        async with self._places:
            try:
                return (await self._answer(completion, limits))[0]
            except AttemptFailed as failed:
                return failed

    async def _answer(self, completion: Completion, limits: Limits) -> tuple[Answer, float | None]:
        async with self._asked(completion, limits) as asked:
            body = await asked.exchange.read(limits)
        return _read(body, completion), asked.exchange.content_at

    async def _stream(self, call: Call, exchange: Exchange, limits: Limits) -> Reply:
        completion = call.completion
        if isinstance(completion.task, Verbatim):
            # Anthropic's events are the caller's own.
            headers = CIMultiDict({"Content-Type": str(call.dialect.framing)})
            monitor = cast("VerbatimDialect", call.dialect).passing_monitor()
            return await relay(exchange, monitor, limits, headers, None, shows_errors=False)
        if call.resumption is not None:
            writer = call.resumption.writer
        else:
            writer = cast("StreamedDialect", call.dialect).stream_writer(completion)
        return await translate(
            exchange,
            messages.AnswerReader(completion),
            writer,
            limits,
            content_type=call.dialect.framing,
            already=completion.already,
        )


class _Asked:
    """An exchange, and whether it outlives the asking."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.kept = False

    def keep(self) -> None:
        self.kept = True


def _betas(call: Call) -> list[str]:
    """The beta features that a caller who speaks Anthropic's format asks for, in the body or, as its SDK, in a header.

    The names alone cross, each held against its form: nothing else of a caller's headers is Anthropic's business.
    """
    task = call.completion.task
    if not isinstance(task, Verbatim):
        return []
    named = (name.strip() for name in ",".join(call.headers.getall("anthropic-beta", ())).split(","))
    return list(dict.fromkeys((*task.betas, *(name for name in named if _BETA.fullmatch(name)))))


def _read(body: bytes, completion: Completion) -> Answer:
    try:
        return messages.read_answer(body, completion)
    except messages.UnusableAnswer as problem:
        raise AttemptFailed.because(problem.reason) from problem


def _whole(body: bytes, content_at: float | None, usage: Usage) -> Reply:
    return Reply(
        status=200, headers=CIMultiDict({"Content-Type": _JSON}), body=body, content_at=content_at, usage=usage
    )
