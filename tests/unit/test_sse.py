"""Server-sent events: named by the event that would be lost, torn or made up."""

from __future__ import annotations

import pytest

from proxy.sse import Event, EventTooLarge, SSEReader, event


def read(*pieces: bytes, limit: int = 1 << 20) -> list[Event]:
    reader = SSEReader(limit=limit)
    return [found for piece in pieces for found in reader.feed(piece)]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_an_event_is_lost_because_its_lines_end_otherwise(end: bytes) -> None:
    stream = end.join([b"event: ping", b"data: 1", b"", b"data: 2", b"", b""])
    assert read(stream) == [Event("ping", b"1"), Event("", b"2")]


def test_an_event_waits_for_a_line_feed_that_may_never_come() -> None:
    reader = SSEReader()
    assert reader.feed(b"data: 1\r\r") == [Event("", b"1")]
    assert reader.feed(b"\ndata: 2\r\n\r") == [Event("", b"2")]
    assert reader.feed(b"\n") == []
    assert reader.feed(b"data: 3\n\n") == [Event("", b"3")]


def test_a_crlf_cut_in_two_ends_two_lines() -> None:
    assert read(b"data: 1\r", b"\ndata: 2\r", b"\n\r", b"\n") == [Event("", b"1\n2")]


def test_a_character_cut_in_two_is_broken() -> None:
    data = "data: é🙂\n\n".encode()
    assert read(*(data[at : at + 1] for at in range(len(data)))) == [Event("", "é🙂".encode())]


def test_several_data_lines_are_several_events() -> None:
    assert read(b"data: {\ndata:\ndata: }\n\n") == [Event("", b"{\n\n}")]


def test_only_one_space_belongs_to_the_colon() -> None:
    assert read(b"data:  a\n\ndata:b\n\n") == [Event("", b" a"), Event("", b"b")]


def test_comments_and_unknown_fields_become_data() -> None:
    assert read(b": keep-alive\nid: 1\nretry: 2\nfoo\ndatax: 1\ndata: 1\n\n") == [Event("", b"1")]


def test_an_event_without_data_is_dispatched() -> None:
    assert read(b"event: ping\n\ndata: 1\n\n\n\n") == [Event("", b"1")]


def test_empty_data_is_no_event() -> None:
    assert read(b"data\n\ndata:\n\n") == [Event("", b""), Event("", b"")]


@pytest.mark.parametrize("pieces", [(b"\xef\xbb\xbfdata: 1\n\n",), (b"\xef", b"\xbb\xbfda", b"ta: 1\n\n")])
def test_a_byte_order_mark_hides_the_first_event(pieces: tuple[bytes, ...]) -> None:
    assert read(*pieces) == [Event("", b"1")]


def test_an_event_that_the_end_leaves_open_is_given_out() -> None:
    assert read(b"data: 1\n\ndata: 2\n") == [Event("", b"1")]


def test_a_name_outlives_its_event() -> None:
    assert read(b"event: error\ndata: 1\n\ndata: 2\n\n") == [Event("error", b"1"), Event("", b"2")]


@pytest.mark.parametrize(
    "pieces",
    [
        (b"data: " + b"x" * 100,),
        (b"x" * 40, b"x" * 40),
        (b"data: " + b"x" * 100 + b"\n\n",),
        (b"data: " + b"x" * 20 + b"\n",) * 5,
        (b"data:\n",) * 70,
        (b": " + b"x" * 100 + b"\n",),
    ],
    ids=["open line", "open line in pieces", "line", "event of many lines", "event of empty lines", "comment"],
)
def test_a_broken_stream_fills_the_memory(pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(EventTooLarge):
        read(*pieces, limit=64)


def test_the_limit_adds_up_over_events() -> None:
    assert len(read(b"data: 0123456789\n\n" * 50, limit=64)) == 50


def test_a_client_that_looks_for_data_colon_space_finds_none() -> None:
    assert event(b"{}") == b"data: {}\n\n"
    assert event(b"{}", "ping") == b"event: ping\ndata: {}\n\n"
    assert event(b"") == b"data: \n\n"


def test_a_line_end_in_the_data_ends_the_event() -> None:
    assert read(event(b"a\n\nb\r\nc")) == [Event("", b"a\n\nb\nc")]
