"""Which headers cross, in both directions, and how failures are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from multidict import CIMultiDict

from health.outcome import FailureReason
from proxy import headers


def test_a_header_of_the_connection_crosses() -> None:
    sent: CIMultiDict[str] = CIMultiDict({"Connection": "x-one", "x-one": "1", "x-two": "2", "x-kept": "3"})
    sent.add("Connection", "close, X-Two")
    sent.update({"Transfer-Encoding": "chunked", "Keep-Alive": "1", "x-completion-proxy-upstream": "forged"})
    assert dict(headers.to_caller(sent)) == {"x-kept": "3"}
    assert dict(headers.to_vertex(sent, None)) == {"x-kept": "3", "Via": headers.VIA}


def test_what_names_the_hop_crosses_to_vertex() -> None:
    caller = CIMultiDict(
        {"Host": "proxy", "Content-Length": "5", "Expect": "100-continue", "Authorization": "Bearer caller"}
    )
    assert dict(headers.to_vertex(caller, None)) == {"Via": headers.VIA}
    assert headers.to_vertex(caller, "Bearer own")["Authorization"] == "Bearer own"


def test_a_repeated_header_is_folded_or_dropped() -> None:
    answer = CIMultiDict([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Vary", "X"), ("vary", "Y")])
    assert list(headers.to_caller(answer).items()) == list(answer.items())


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("gzip, deflate, br, zstd", "gzip, deflate"),
        ("br;q=1.0, gzip;q=0.5, *;q=0", "gzip;q=0.5"),
        ("br", "identity"),
        ("", "identity"),
        ("GZIP", "GZIP"),
    ],
)
def test_a_coding_is_asked_for_that_cannot_be_looked_into(asked: str, sent: str) -> None:
    assert headers.to_vertex(CIMultiDict({"Accept-Encoding": asked}), None)["Accept-Encoding"] == sent


def test_proxy_status_says_less_than_is_known() -> None:
    told = headers.proxy_status(
        [
            ("vertex", FailureReason.SERVER_ERROR, 503),
            ("claude", FailureReason.FIRST_BYTE_TIMEOUT, None),
        ]
    )
    assert told == (
        'completion-proxy; next-hop="vertex"; received-status=503; details="server_error", '
        'completion-proxy; next-hop="claude"; error=http_response_timeout; details="first_byte_timeout"'
    )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30.0),
        ("30.5", 30.5),
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("inf", None),
        ("1_000", None),
        ("٣٠", None),
        ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None),
        ("9" * 400, None),
    ],
)
def test_a_wait_is_misread(value: str | None, seconds: float | None) -> None:
    assert headers.retry_after(value) == seconds


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-5))])
def test_a_wait_until_a_date_is_not_understood(zone: timezone) -> None:
    date = format_datetime(datetime.now(zone) + timedelta(seconds=40))
    assert headers.retry_after(date) == pytest.approx(39.5, abs=0.6)
    assert headers.retry_after(date.removesuffix("+0000") + "GMT" if zone is UTC else date) is not None
    assert headers.retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert headers.retry_after("Wed, 21 Oct 2015 07:28:00 -0000") == 0.0
