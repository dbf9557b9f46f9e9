"""Codestral's streams, as they pass by."""

from __future__ import annotations

import json
from typing import Any

import pytest

from health.outcome import FailureReason
from proxy.dialects.base import Answer, Completion, FinishReason, Hole
from proxy.dialects.chat_completions import ChunkMonitor
from proxy.sse import LARGEST_EVENT
from tests.unit.test_codestral import BUSY, COUNTS, DIALECT, USAGE


def chunk(content: Any = "", reason: str | None = None, *, separators: Any = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice], **fields}, separators=separators).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def watch(*pieces: bytes) -> ChunkMonitor:
    monitor = DIALECT.monitor()
    for piece in pieces:
        monitor.feed(piece)
    return monitor


def seen(*pieces: bytes) -> tuple[bool, bool, FailureReason | None]:
    monitor = watch(*pieces)
    return monitor.started, monitor.finished, monitor.failure


class TestMonitor:
    def test_a_stream_is_sent_before_it_has_content(self) -> None:
        assert seen(chunk(), chunk()) == (False, False, None)
        assert seen(b": comment\n\n", b"event: ping\ndata: {}\n\n") == (False, False, None)
        assert seen(chunk(choices=[])) == (False, False, None)

    @pytest.mark.parametrize("first", [chunk("x"), chunk([{"type": "text", "text": "x"}])])
    def test_content_is_not_seen(self, first: bytes) -> None:
        assert seen(chunk(), first) == (True, False, None)

    def test_a_tool_call_is_no_content(self) -> None:
        calls = [{"index": 0, "delta": {"tool_calls": [{}]}, "finish_reason": None}]
        assert seen(chunk(choices=calls)) == (True, False, None)

    def test_an_empty_completion_fails_over(self) -> None:
        assert seen(chunk(), chunk(reason="stop")) == (True, True, None)
        assert seen(chunk(), DONE) == (True, True, None)

    def test_a_stream_of_nothing_passes_for_a_completion(self) -> None:
        assert seen(DONE) == (False, False, FailureReason.MALFORMED)
        assert seen(chunk(choices=[]), DONE) == (False, False, FailureReason.MALFORMED)

    @pytest.mark.parametrize("separators", [None, (",", ":"), (" , ", " : "), (",\n ".replace("\n", "  "), ":\t")])
    def test_the_end_is_missed_for_its_spacing(self, separators: Any) -> None:
        first, last = chunk("x", separators=separators), chunk("", "length", separators=separators, usage=COUNTS)
        assert seen(first, first) == (True, False, None)
        monitor = watch(first, last)
        assert (monitor.started, monitor.finished, monitor.failure) == (True, True, None)
        assert monitor.usage == USAGE

    def test_counts_after_the_end_are_missed(self) -> None:
        assert watch(chunk("x"), chunk("", "stop"), chunk(choices=[], usage=COUNTS), DONE).usage == USAGE

    def test_done_alone_is_no_end(self) -> None:
        assert seen(chunk("x"), DONE) == (True, True, None)
        assert seen(chunk("x"), b"data:[DONE] \n\n") == (True, True, None)

    @pytest.mark.parametrize(
        "text", ["[DONE]", 'data: [DONE]\n\n"finish_reason": "stop"', '{"error": 1}', '"usage": {}']
    )
    def test_content_that_looks_like_an_end_ends_the_stream(self, text: str) -> None:
        assert seen(chunk("x"), chunk(text)) == (True, False, None)

    @pytest.mark.parametrize(
        "error",
        [
            b'data: {"error": {"code": 503}}\n\n',
            b'data: [{"error": {"code": 503}}]\n\n',
            b'data: {"object":"error","message":"x"}\n\n',
            b'event: error\ndata: {"message": "x"}\n\n',
            chunk("", "error"),
        ],
    )
    def test_an_error_in_the_stream_is_not_seen(self, error: bytes) -> None:
        assert seen(chunk(), error) == (False, False, FailureReason.STREAM_ERROR)
        assert seen(chunk("x"), error) == (True, False, FailureReason.STREAM_ERROR)
        assert seen(error) == (False, False, FailureReason.STREAM_ERROR)

    @pytest.mark.parametrize("body", BUSY)
    def test_a_refusal_for_capacity_is_any_error(self, body: bytes) -> None:
        for error in (b"data: " + body + b"\n\n", b"event: error\ndata: " + body + b"\n\n"):
            assert seen(chunk("x"), error) == (True, False, FailureReason.THROTTLED)

    def test_what_is_no_error_is_one(self) -> None:
        assert seen(chunk("x", error=None)) == (True, False, None)

    @pytest.mark.parametrize(
        "garbage",
        [
            b"<html>",
            b'{"error": {}}',
            b"data: x\n\n",
            b"data: {}\n\n",
            b"data: 1\n\n",
            b'data: {"choices": [1]}\n\n',
            b"data: \xff\n\n",
            b"data: " + b"[" * 100_000 + b"\n\n",
            b"data: " + b"x" * LARGEST_EVENT + b"\n\n",
        ],
    )
    def test_garbage_is_sent_to_the_caller(self, garbage: bytes) -> None:
        assert seen(garbage) == (False, False, FailureReason.MALFORMED)

    @pytest.mark.parametrize("garbage", [b'data: x"error"\n\n', b"data: \xff\n\n", b"data: 1\n\n", b"data: {\n\n"])
    def test_one_event_that_cannot_be_read_ends_a_stream_that_goes_on(self, garbage: bytes) -> None:
        monitor = DIALECT.monitor()
        pieces = [chunk("x"), garbage, chunk("y"), garbage, chunk("", "stop")]
        assert b"".join(map(monitor.feed, pieces)) == chunk("x") + chunk("y") + chunk("", "stop")
        assert (monitor.finished, monitor.failure, monitor.texts) == (True, None, ["x", "y"])

    @pytest.mark.parametrize("garbage", [b"data: x\n\n" * 2, b"data: " + b"x" * LARGEST_EVENT + b"\n\n"])
    def test_a_stream_that_has_turned_to_garbage_is_waited_for(self, garbage: bytes) -> None:
        assert seen(chunk("x"), garbage, chunk("", "stop")) == (True, False, FailureReason.MALFORMED)

    def test_news_of_a_later_version_is_taken_for_garbage(self) -> None:
        news = b'data: {"object": "weather"}\n\n' + b"event: weather\ndata: x\n\n" + b": comment\n\n"
        monitor = watch(chunk("x"))
        assert monitor.feed(news * 3) == news * 3

    def test_half_an_event_goes_out(self) -> None:
        monitor = watch(chunk("x"))
        assert monitor.feed(chunk("y")[:-20]) == b""
        assert monitor.end() == b""
        assert monitor.texts == ["x"]

    def test_the_last_event_is_lost_for_want_of_its_blank_line(self) -> None:
        monitor = watch(chunk("x"), chunk("", "stop"))
        assert monitor.feed(DONE[:-1]) == b""
        assert monitor.end() == DONE
        assert monitor.missing_end() == b""

    def test_an_end_without_the_terminator_leaves_the_client_waiting(self) -> None:
        assert watch(chunk("x"), chunk("", "stop")).missing_end() == DONE
        assert not watch(chunk("x", index=0), chunk("")).finished

    def test_the_first_of_two_choices_ends_both(self) -> None:
        def choice(index: int, reason: str | None = None) -> bytes:
            given = {"index": index, "delta": {"content": "x"}, "finish_reason": reason}
            return b"data: " + json.dumps({"choices": [given]}).encode() + b"\n\n"

        monitor = watch(choice(0), choice(1), choice(0, "stop"))
        assert not monitor.finished
        monitor.feed(choice(1, "length"))
        assert monitor.finished

    def test_an_error_event_is_sent_though_it_may_be_repaired(self) -> None:
        monitor = watch(chunk("x"))
        error = b'data: {"error": {"code": 503}}\n\n'
        assert monitor.feed(chunk("y") + error + chunk("z")) == chunk("y")
        assert monitor.error_event == error

    @pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "refusal"])
    def test_a_model_that_reasons_is_taken_for_one_that_hangs(self, field: str) -> None:
        delta = {"choices": [{"index": 0, "delta": {"role": "assistant", field: "x"}, "finish_reason": None}]}
        monitor = watch(b"data: " + json.dumps(delta).encode() + b"\n\n")
        assert (monitor.started, monitor.pausing) == (True, True)
        monitor.feed(chunk("x"))
        monitor.feed(chunk("x"))
        assert not monitor.pausing

    def test_a_finished_stream_is_finished_in_vain(self) -> None:
        monitor = watch(chunk("x"), DONE)
        monitor.feed(b"")
        assert monitor.finished


def test_half_a_surrogate_pair_goes_out_to_a_client_that_cannot_parse_it() -> None:
    completion = Completion(task=Hole("", ""), model="m\ud83d")
    writer = DIALECT.stream_writer(completion)
    out = writer.delta("x\ud83d") + writer.finish(FinishReason.STOP, USAGE)
    out += DIALECT.write([Answer("x\ud83d", FinishReason.STOP, USAGE)], completion)
    assert b"\\ud8" not in out
    assert out.count(b"\\ufffd") + out.decode().count("\ufffd") >= 3
