"""What one engine hands over to the next: what must outlive it, what must end with it, and when."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import google.auth
import pytest

from health.breaker import BreakerConfig, CircuitBreaker
from health.circuits import Circuits
from health.lag import no_lag
from proxy.engine import Engine, Surroundings
from proxy.events import RouteReason
from proxy.routing import Plan
from proxy.settings import Settings, load_settings
from proxy.upstreams.credentials import CredentialsUnavailable
from tests.rig import TARGET, environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from proxy.events import Event

ADC = {"VERTEX__CREDENTIALS": "adc", "VERTEX__TOKEN": ""}
PROBED = {"PROBES__TARGETS": TARGET, "PROBES__INTERVAL_SECONDS": "5"}


def settings(**changed: str) -> Settings:
    return load_settings(environ=environment("http://127.0.0.1:9", "http://127.0.0.1:9", **changed))


class Stage:
    """What engines stand in, and the events that they emit."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.events: list[Event] = []
        clock = asyncio.get_running_loop().time
        circuits = Circuits(lambda _, model, now: CircuitBreaker(model, BreakerConfig(), now=now), limit=9)
        self._around = Surroundings(
            circuits=circuits,
            circuit=lambda upstream, model: circuits.get(upstream, model, clock()),
            plan=lambda _model, _key: Plan(("vertex", "claude"), RouteReason.PRIMARY),
            flags=None,
            emit=self.events.append,
            on_credentials_event=lambda *_, **__: None,
            clock=clock,
            lag=no_lag,
            spawn=lambda coroutine, name: asyncio.create_task(coroutine, name=name),
        )

    async def engine(self, earlier: Engine | None = None, /, **changed: str) -> Engine:
        engine = Engine(settings(**changed), self._around, earlier)
        await engine.start()
        self._stack.push_async_callback(engine.stop)
        return engine


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        yield Stage(stack)


def closed(engine: Engine) -> list[bool]:
    return [transport._session.closed for transport in engine._providers._transports]


class Google:
    """Application default credentials, whose server may be down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.token: str | None = None
        self.expiry: datetime | None = None
        self.down = False
        monkeypatch.setattr(google.auth, "default", lambda **_: (self, "project"))

    def refresh(self, _request: object) -> None:
        if self.down:
            raise OSError("the token server is down")
        self.token = "a-token"
        self.expiry = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)


async def token(engine: Engine) -> str | None:
    async with asyncio.timeout(30):
        return await engine._credentials.authorization(None)


def renewing() -> int:
    return sum(task.get_name() == "vertex-credentials" for task in asyncio.all_tasks())


# In real time: a thread fetches the token, and virtual time knows only of the loop's own threads.
@pytest.mark.parametrize("changed", [{"CLAUDE__MAX_CONCURRENCY": "3"}, {"BREAKER__OPEN_SECONDS": "7"}])
async def test_a_token_is_thrown_away_while_its_server_is_down(
    changed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Google(monkeypatch)
    async with stage() as on:
        first = await on.engine(**ADC)
        assert await token(first) == "Bearer a-token"
        server.down = True
        second = await on.engine(first, **ADC, **changed)
        await first.hand_over(second)
        assert await token(second) == "Bearer a-token"
        assert renewing() == 1, "one goes on to renew it, and neither none nor two"
        third = await on.engine(second, VERTEX__TOKEN="static")
        await second.hand_over(third)
        assert await token(third) == "Bearer static"
        assert renewing() == 0
        with pytest.raises(CredentialsUnavailable):
            await token(await on.engine(third, **ADC))


@pytest.mark.virtual_time
async def test_an_engine_ends_before_its_last_request_or_takes_what_is_not_its_own_along() -> None:
    async with stage() as on:
        first = await on.engine()
        second = await on.engine(first, BREAKER__OPEN_SECONDS="7")
        third = await on.engine(second, CLAUDE__API_KEY="another")
        first.listener.in_flight = second.listener.in_flight = 1
        handing_over = asyncio.create_task(first.hand_over(second))
        await asyncio.sleep(5)
        assert not handing_over.done()
        first.listener.in_flight = 0
        await asyncio.wait_for(handing_over, 1)
        assert closed(first) == [False, False], "the second one's, too"
        handing_over = asyncio.create_task(second.hand_over(third))
        await asyncio.sleep(5)
        assert closed(second) == [False, False]
        second.listener.in_flight = 0
        await asyncio.wait_for(handing_over, 1)
        assert closed(second) == [True, True]
        assert closed(third) == [False, False]
        assert third._earlier is None, "or each reload would keep all the engines before"


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({}, True),
        ({"BREAKER__OPEN_SECONDS": "7"}, True),
        ({"CLIENT_TOKENS": "a"}, True),
        ({"CLAUDE__API_KEY": "another"}, False),
        ({"CLAUDE__MODEL": "claude-sonnet-5"}, False),
        ({"VERTEX__TOKEN": "another"}, False),
        ({"VERTEX__BASE_URL": "http://127.0.0.1:8"}, False),
        ({"TIMEOUTS__CONNECT_SECONDS": "0.9"}, False),
    ],
)
async def test_providers_are_those_of_the_settings_before(changed: dict[str, str], kept: bool) -> None:
    async with stage() as on:
        first = await on.engine()
        second = await on.engine(first, **changed)
        assert (second.upstreams is first.upstreams) is kept
        assert second.probes_as(first) is kept, "a probe asks the providers that it was made with"


@pytest.mark.parametrize("name", ["INTERVAL_SECONDS", "TIMEOUT_SECONDS", "FALL", "RISE", "TARGETS"])
async def test_probes_are_those_of_the_settings_before(name: str) -> None:
    async with stage() as on:
        first = await on.engine(**PROBED)
        assert (await on.engine(first, **PROBED)).probes_as(first)
        changed = f"{TARGET},p/l/mistralai/m" if name == "TARGETS" else "2.5" if name.endswith("SECONDS") else "4"
        assert not (await on.engine(first, **{**PROBED, f"PROBES__{name}": changed})).probes_as(first)


async def test_whom_vertex_let_pass_is_a_stranger_to_the_next_engine() -> None:
    passed = {"VERTEX__CREDENTIALS": "passthrough", "VERTEX__TOKEN": "", "HOST": "0.0.0.0", "ALLOW_ANONYMOUS": "true"}
    headers = {"Authorization": "Bearer known"}
    async with stage() as on:
        first = await on.engine(**passed)
        caller = first._callers.admit(headers)
        assert not caller.may_use_claude
        second = await on.engine(first, **passed, CLAUDE__API_KEY="another")
        # By a request that began before the reload, too.
        first._callers.accepted(caller, asyncio.get_running_loop().time())
        assert second._callers.admit(headers).may_use_claude
        assert not second._callers.admit({"Authorization": "Bearer unknown"}).may_use_claude


def budgets(engine: Engine) -> dict[Any, int]:
    now = asyncio.get_running_loop().time()
    return {target: budget.remaining(now) for target, budget in engine._probing._budgets.items()}


@pytest.mark.virtual_time
async def test_each_reload_begins_a_new_day_for_the_budget_of_probes() -> None:
    async with stage() as on:
        first = await on.engine(**PROBED)
        first.begin_probing()
        await asyncio.sleep(60)
        await first.end_probing()
        spent = budgets(first)
        assert len(spent) == 2
        assert all(left < 20_000 - 3 for left in spent.values())
        second = await on.engine(first, **{**PROBED, "PROBES__FALL": "4"})
        second.begin_probing()
        assert budgets(second) == spent
        await second.end_probing()
        third = await on.engine(second, **PROBED, PROBES__DAILY_BUDGET="5000")
        third.begin_probing()
        assert set(budgets(third).values()) == {5000}, "another budget is another day's"
        await third.end_probing()
