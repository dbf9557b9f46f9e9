"""Shows what the tests of holes measured, in the output of every run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from tests.property.deviations import Deviation


class Share(NamedTuple):
    """How many holes a deviation was tried on, and in what share of them the code was recovered."""

    deviation: Deviation
    holes: int
    recovered: float


_SHARES = pytest.StashKey[list[Share]]()


@pytest.fixture(scope="session")
def shares(request: pytest.FixtureRequest) -> list[Share]:
    """Where the tests put down what they measured."""
    return request.config.stash.setdefault(_SHARES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not (shares := config.stash.get(_SHARES, [])):
        return
    width = max(len(share.deviation.name) for share in shares)
    terminalreporter.section("fill-in-the-middle: code recovered from answers that deviate")
    for deviation, holes, recovered in shares:
        why = f"  but for {deviation.why}" if deviation.why else ""
        terminalreporter.write_line(f"{deviation.name:{width}}  {recovered:7.2%} of {holes:5,}{why}")
