"""The trace of a request: named by what would break somebody's tree of spans."""

from __future__ import annotations

import re

import pytest
from multidict import CIMultiDict

from proxy.headers import to_vertex
from proxy.trace import trace_context

ID, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{ID}-{SPAN}-01"


@pytest.mark.parametrize("value", [VALID, f"00-{ID}-{SPAN}-00", f"00-{ID}-{SPAN}-ff"])
def test_a_valid_trace_is_changed_or_replaced(value: str) -> None:
    found = trace_context(CIMultiDict({"Traceparent": value}))
    assert (found.trace_id, found.traceparent, found.continued) == (ID, value, True)


def test_a_later_version_is_passed_on_as_if_it_were_understood() -> None:
    found = trace_context(CIMultiDict({"traceparent": f"cc-{ID}-{SPAN}-03-what-comes-later"}))
    assert (found.trace_id, found.traceparent) == (ID, f"00-{ID}-{SPAN}-01")
    assert trace_context(CIMultiDict({"traceparent": f"cc-{ID}-{SPAN}-01"})).continued


@pytest.mark.parametrize(
    "value",
    ["", "garbage", VALID.upper(), f"ff-{ID}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{ID}-{'0' * 16}-01",
     VALID + "-", VALID + "-more", " " + VALID, f"00-{ID[:-1]}-{SPAN}-01", f"00-{ID}-{SPAN}-1", f"cc-{ID}-{SPAN}-01x",
     f"00-{ID}-{SPAN}-01\n"],
)  # fmt: skip
def test_what_is_no_trace_is_taken_for_one(value: str) -> None:
    found = trace_context(CIMultiDict({"traceparent": value}))
    assert not found.continued
    assert re.fullmatch(rf"00-{found.trace_id}-[0-9a-f]{{16}}-00", found.traceparent)


def test_two_traces_are_one_or_two_requests_have_the_same() -> None:
    headers = CIMultiDict([("traceparent", VALID), ("traceparent", VALID)])
    assert not trace_context(headers).continued
    assert len({trace_context(CIMultiDict()).trace_id for _ in range(100)}) == 100


def test_the_state_of_a_trace_that_was_not_valid_goes_on() -> None:
    headers = CIMultiDict([("traceparent", "garbage"), ("Tracestate", "a=1"), ("traceparent", VALID), ("X-Other", "x")])
    trace = trace_context(headers)
    sent = to_vertex(headers, None, trace=trace)
    assert sent.getall("traceparent") == [trace.traceparent]
    assert "tracestate" not in sent
    assert sent["X-Other"] == "x"
    headers = CIMultiDict([("traceparent", VALID), ("tracestate", "a=1"), ("tracestate", "b=2")])
    sent = to_vertex(headers, None, trace=trace_context(headers))
    assert (sent.getall("traceparent"), sent.getall("tracestate")) == ([VALID], ["a=1", "b=2"])
