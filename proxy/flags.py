"""Which upstream a feature flag asks for, a caller at a time: OpenFeature, an optional extra.

Weaker than every override: a flag is asked only for callers that none holds for. A provider of flags is another party's
code with a service behind it, and a completion waits for it: whatever is wrong with it, and whatever takes longer than
5 ms, means `auto`. So does one that is still being made: the start waits a second for it, and it is taken when it
comes. The SDK is imported only where a provider is set.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import threading
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from proxy.daemon_threads import on_daemon_thread
from proxy.events import FlagFailed, FlagFailure
from proxy.override import OverrideMode
from proxy.routing import preferring
from proxy.settings_types import variable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from concurrent.futures import Future

    from openfeature.client import OpenFeatureClient
    from openfeature.flag_evaluation import FlagEvaluationDetails

    from proxy.events import Event
    from proxy.routing import Plan
    from proxy.upstreams.base import Call

FLAG = "completion_proxy_upstream"
LIMIT_SECONDS = 0.005
THREADS = 4
"""Which a provider without async methods is asked in; one that hangs costs a thread each time, until all hang."""
ABANDONED_KEPT = 64
"""Calls of an async provider that outlast their cancellation; with so many nobody is asked any more."""
MAKING_SECONDS = 1.0
"""How long the start waits for the provider to be made."""
_DOMAIN = "completion-proxy"

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


class FlagsUnavailable(Exception):
    """The provider of flags cannot be had. The message names the setting and says what to change."""


class Flags:
    """The flags of one process."""

    def __init__(self, factory: str, order: Sequence[str], emit: Callable[[Event], None]) -> None:
        """`factory` is `package.module:callable`, which gives an OpenFeature provider. Raises FlagsUnavailable.

        Must be called on the loop that serves.
        """
        self._order = tuple(order)
        self._emit = emit
        self._where = f"{variable('openfeature_provider')}: {factory}"
        self._client: OpenFeatureClient | None = None
        self._threads: _Threads | None = None
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._stopped = False
        # A traceback for each request, with whatever the provider says in it; `flag_failed` tells of it, and seldom.
        logging.getLogger("openfeature").setLevel(logging.CRITICAL)
        loop = asyncio.get_running_loop()
        making = on_daemon_thread(partial(_made_by, factory, self._where))
        try:
            self._take(making.result(MAKING_SECONDS))
        except TimeoutError:
            _log.warning("%s has not returned within %g s: no flag is asked until it does", self._where, MAKING_SECONDS)
            making.add_done_callback(partial(_tell, loop, self._take_late))

    def _take(self, provider: Any) -> None:
        """Ask this provider from now on."""
        from openfeature import api
        from openfeature.provider import AbstractProvider

        own = getattr(type(provider), "resolve_string_details_async", None)
        answers_on_the_loop = own not in (None, AbstractProvider.resolve_string_details_async)
        self._threads = None if answers_on_the_loop else _Threads()
        # Its initialization runs in a thread of the SDK; until that is done the SDK says that it is not ready.
        api.set_provider(provider, _DOMAIN)
        self._client = api.get_client(_DOMAIN)

    def _take_late(self, making: Future[Any]) -> None:
        if self._stopped:
            return
        if (error := making.exception()) is not None:
            _log.error("%s; no flag is asked: mend it, and restart", error)
            return
        self._take(making.result())
        _log.warning("%s has returned: flags are asked from now on", self._where)

    def stop(self) -> None:
        """Let the provider go; its shutdown runs in a thread of the SDK."""
        from openfeature import api
        from openfeature.provider.no_op_provider import NoOpProvider

        self._stopped = True
        api.set_provider(NoOpProvider(), _DOMAIN)

    async def plan(self, call: Call, plan: Plan) -> Plan:
        """The plan of a call, with the upstream that its flag names in front; `plan` where it names none.

        The circuits still decide: nobody was asked whether this upstream is dead, as an operator is.
        """
        mode = await self._mode(call)
        return plan if mode is OverrideMode.AUTO else preferring(self._order, mode, pinned=False)

    async def _mode(self, call: Call) -> OverrideMode:
        if self._client is None:
            return OverrideMode.AUTO
        try:
            details = await self._in_time(self._details(self._client, call))
        except TimeoutError:
            return self._failed(FlagFailure.TIMEOUT)
        except _AllHang:
            return self._failed(FlagFailure.BUSY)
        except Exception as error:  # noqa: BLE001 (another party's code must never cost a request)
            return self._failed(FlagFailure.ERROR, type(error).__name__)
        if details.error_code is not None:
            return self._failed(FlagFailure.ERROR, str(details.error_code.value))
        try:
            return OverrideMode(details.value)
        except ValueError:
            return self._failed(FlagFailure.INVALID)

    async def _details(self, client: OpenFeatureClient, call: Call) -> FlagEvaluationDetails[str]:
        from openfeature.evaluation_context import EvaluationContext

        caller = call.caller
        # Who names no actor is still one and the same caller each time, and never shown by its token.
        actor = caller.actor or caller.key.hex()
        context = EvaluationContext(actor, {"actor": actor, "model": call.route.model})
        if self._threads is None:
            return await client.get_string_details_async(FLAG, OverrideMode.AUTO.value, context)
        return await self._threads.run(lambda: client.get_string_details(FLAG, OverrideMode.AUTO.value, context))

    async def _in_time(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What `work` gives within the limit. Raises TimeoutError, or _AllHang where too many did not even end.

        In a task of its own: the SDK turns a cancellation into an error of another kind, and one of the request's own
        must not be lost in it.
        """
        if len(self._abandoned) >= ABANDONED_KEPT:
            work.close()
            raise _AllHang
        task = asyncio.create_task(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=LIMIT_SECONDS)
        finally:
            if not task.done():
                task.cancel()
                self._abandoned.add(task)
                task.add_done_callback(self._has_ended)
        if not done:
            raise TimeoutError
        return task.result()

    def _has_ended(self, task: asyncio.Task[Any]) -> None:
        """See how it ended, so that nobody else complains of it."""
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()

    def _failed(self, reason: FlagFailure, detail: str = "") -> OverrideMode:
        self._emit(FlagFailed(reason, detail))
        return OverrideMode.AUTO


def _made_by(factory: str, where: str) -> Any:
    module, _, name = factory.partition(":")
    try:
        make = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise FlagsUnavailable(f"{where} cannot be imported: {error}") from error
    try:
        provider = make()
    except Exception as error:
        raise FlagsUnavailable(f"{where} failed: {type(error).__name__}: {error}") from error
    if not hasattr(provider, "resolve_string_details"):
        raise FlagsUnavailable(f"{where} gives no OpenFeature provider")
    return provider


def _tell(loop: asyncio.AbstractEventLoop, take: Callable[[Future[Any]], None], making: Future[Any]) -> None:
    # RuntimeError: the proxy has ended meanwhile.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(take, making)


class _AllHang(Exception):
    """Every thread is in a call that has outlasted its limit."""


class _Threads:
    """Runs what may block. Daemons: one that hangs must not keep the process from ending."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._since: dict[int, float] = {}
        for number in range(THREADS):
            threading.Thread(target=self._work, args=(number,), name=f"flags {number}", daemon=True).start()

    async def run(self, work: Callable[[], _T]) -> _T:
        """What `work` gives. Raises _AllHang at once where no thread will come to it."""
        now = self._loop.time()
        if len(self._since) == THREADS and all(now - since > LIMIT_SECONDS for since in list(self._since.values())):
            raise _AllHang
        future: asyncio.Future[_T] = self._loop.create_future()
        self._queue.put((future, work))
        return await future

    def _work(self, number: int) -> None:
        while True:
            future, work = self._queue.get()
            if future.cancelled():
                # Its caller has gone on without it.
                continue
            self._since[number] = self._loop.time()
            result, error = None, None
            try:
                result = work()
            except Exception as raised:  # noqa: BLE001 (told to whoever waits)
                error = raised
            del self._since[number]
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
