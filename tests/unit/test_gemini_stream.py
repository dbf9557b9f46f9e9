"""Gemini's streams, as they are written and as they pass by: as events and as one array."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from health.outcome import FailureReason
from proxy.dialects.base import Chat, Completion, FinishReason, Framing, Message, Usage
from proxy.dialects.gemini import Gemini
from proxy.json_array import ArrayReader
from proxy.sse import SSEReader
from tests.unit.test_gemini import BUSY, COUNTS, USAGE

if TYPE_CHECKING:
    from proxy.dialects.stream import StreamMonitor

EVENTS = Gemini(Framing.EVENTS, new_id=lambda: "r1", clock=lambda: 1764000000.5)
ARRAY = Gemini(Framing.ARRAY, new_id=lambda: "r1", clock=lambda: 1764000000.5)
BOTH = pytest.mark.parametrize("dialect", [EVENTS, ARRAY], ids=["events", "array"])
ASKED = Completion(task=Chat((Message("user", "hello"),)), model="gemini-2.5-flash", stream=True)


def chunk(*parts: Any, finish: Any = None, index: int | None = 0, **fields: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}}
    if finish is not None:
        candidate["finishReason"] = finish
    if index is not None:
        candidate["index"] = index
    return {"candidates": [candidate], **fields}


TEXT = chunk({"text": "a"})
LAST = chunk({"text": ""}, finish="STOP", usageMetadata=COUNTS)


def framed(dialect: Gemini, *chunks: Any, end: bytes = b"\n]") -> bytes:
    """What Vertex sends of a stream; a chunk in bytes goes in as it is."""
    bodies = [each if isinstance(each, bytes) else json.dumps(each, indent=2).encode() for each in chunks]
    if dialect.framing is Framing.ARRAY:
        return b"[" + b"\n,\r\n".join(bodies) + end
    return b"".join(b"data: " + body.replace(b"\n", b"") + b"\r\n\r\n" for body in bodies)


def watch(dialect: Gemini, *chunks: Any, end: bytes = b"") -> StreamMonitor:
    monitor = dialect.monitor()
    monitor.feed(framed(dialect, *chunks, end=end))
    return monitor


def seen(dialect: Gemini, *chunks: Any) -> tuple[bool, bool, FailureReason | None]:
    monitor = watch(dialect, *chunks)
    return monitor.started, monitor.finished, monitor.failure


@BOTH
class TestMonitor:
    def test_a_stream_is_sent_before_it_has_content(self, dialect: Gemini) -> None:
        nothing = [
            chunk(),
            chunk({"text": ""}),
            {"usageMetadata": {"trafficType": "ON_DEMAND"}},
            {"promptFeedback": {}},
        ]
        assert seen(dialect, *nothing) == (False, False, None)

    @pytest.mark.parametrize(
        "part", [{"text": "a"}, {"functionCall": {"name": "f"}}, {"text": "hm", "thought": True}, {"new": 1}]
    )
    def test_content_is_not_seen(self, dialect: Gemini, part: Any) -> None:
        assert seen(dialect, chunk(part)) == (True, False, None)

    @pytest.mark.parametrize("reason", ["STOP", 1, "SAFETY"])
    @pytest.mark.parametrize("index", [0, None])
    def test_the_end_is_missed(self, dialect: Gemini, reason: Any, index: int | None) -> None:
        assert seen(dialect, TEXT, chunk(finish=reason, index=index)) == (True, True, None)
        assert seen(dialect, chunk(finish=reason, index=index)) == (True, True, None)

    @pytest.mark.parametrize("reason", ["FINISH_REASON_UNSPECIFIED", 0, "", None])
    def test_a_reason_that_is_none_ends_the_stream(self, dialect: Gemini, reason: Any) -> None:
        assert seen(dialect, TEXT, chunk(finish=reason)) == (True, False, None)

    def test_one_candidate_ends_the_stream_for_all(self, dialect: Gemini) -> None:
        one, other = chunk({"text": "a"}, finish="STOP"), chunk({"text": "b"}, index=1)
        assert seen(dialect, one, other) == (True, False, None)
        assert seen(dialect, other, one, chunk(finish="STOP", index=1)) == (True, True, None)

    def test_a_prompt_that_was_blocked_fails_over(self, dialect: Gemini) -> None:
        blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 9}}
        assert seen(dialect, blocked) == (True, True, None)
        assert seen(dialect, blocked, {"usageMetadata": {}}) == (True, True, None)
        assert watch(dialect, blocked).usage == Usage(9, 0)

    def test_what_was_counted_is_lost(self, dialect: Gemini) -> None:
        monitor = watch(dialect, chunk({"text": "a"}, usageMetadata={"trafficType": "ON_DEMAND"}))
        assert monitor.usage is None
        assert watch(dialect, TEXT, LAST, chunk(usageMetadata={})).usage == USAGE

    def test_the_text_of_another_candidate_or_a_thought_is_taken_for_the_answers(self, dialect: Gemini) -> None:
        thought = chunk({"text": "hm", "thought": True})
        monitor = watch(dialect, thought, TEXT, chunk({"text": "x"}, index=1), chunk({"text": "b"}, index=None))
        assert monitor.texts == ["a", "b"]

    @pytest.mark.parametrize(("reason", "found"), [("MAX_TOKENS", "length"), (2, "length"), ("STOP", "stop")])
    def test_the_reason_is_lost(self, dialect: Gemini, reason: Any, found: str) -> None:
        assert watch(dialect, chunk(finish=reason)).finish_reason == FinishReason(found)

    @pytest.mark.parametrize("error", [{"error": {"code": 503}}, [{"error": {"code": 503}}]])
    def test_an_error_in_the_stream_is_not_seen(self, dialect: Gemini, error: Any) -> None:
        assert seen(dialect, error) == (False, False, FailureReason.STREAM_ERROR)
        assert seen(dialect, TEXT, error) == (True, False, FailureReason.STREAM_ERROR)
        assert seen(dialect, TEXT, BUSY) == (True, False, FailureReason.THROTTLED)

    @pytest.mark.parametrize(
        "garbage", [b"x", b"1", b'{"candidates": 1}', b'{"candidates": [1]}', b"\xff", b'"' + b"x" * (1 << 20)]
    )
    def test_garbage_is_sent_to_the_caller(self, dialect: Gemini, garbage: bytes) -> None:
        assert seen(dialect, garbage, TEXT) == (False, False, FailureReason.MALFORMED)

    @pytest.mark.parametrize("beginning", [b"<html>", b'{"error": {}}', b"\xff"])
    def test_what_is_no_stream_passes_for_one(self, dialect: Gemini, beginning: bytes) -> None:
        monitor = dialect.monitor()
        assert monitor.feed(beginning) == b""
        assert monitor.failure is FailureReason.MALFORMED

    @pytest.mark.parametrize("garbage", [b"x", b"1", b'{"candidates": [{"content": {"ro'])
    def test_garbage_after_content_breaks_a_stream_that_goes_on(self, dialect: Gemini, garbage: bytes) -> None:
        monitor = dialect.monitor()
        passed = monitor.feed(framed(dialect, TEXT, garbage, LAST))
        assert (monitor.started, monitor.finished, monitor.failure) == (True, True, None)
        assert b"".join(passed.split()) == b"".join(framed(dialect, TEXT, LAST).split())

    def test_an_object_that_this_version_does_not_know_breaks_the_stream(self, dialect: Gemini) -> None:
        assert seen(dialect, TEXT, {"news": 1}, {"news": 2}, LAST) == (True, True, None)

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
    def test_a_piece_tears_a_chunk(self, dialect: Gemini, size: int) -> None:
        stream = framed(dialect, TEXT, chunk({"text": "é]}🙂"}), LAST)
        monitor = dialect.monitor()
        passed = [monitor.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
        assert b"".join(passed) + monitor.end() == stream
        assert (monitor.texts, monitor.finished, monitor.usage) == (["a", "é]}🙂"], True, USAGE)


class TestArray:
    def test_the_end_of_the_array_is_awaited_for_ever(self) -> None:
        monitor = watch(ARRAY, TEXT, LAST)
        assert (monitor.terminated, monitor.missing_end()) == (False, b"]")
        assert monitor.feed(b"\n]") == b"\n]"
        assert (monitor.terminated, monitor.missing_end()) == (True, b"")

    def test_an_answer_that_broke_off_looks_complete(self) -> None:
        monitor = ARRAY.monitor()
        assert monitor.feed(framed(ARRAY, TEXT)) == framed(ARRAY, TEXT, end=b"\n")
        assert (monitor.started, monitor.finished, monitor.terminated) == (True, False, True)

    def test_an_array_of_nothing_passes_for_a_completion(self) -> None:
        monitor = watch(ARRAY, end=b"]")
        assert (monitor.started, monitor.finished) == (False, False)

    def test_an_error_goes_out_before_it_is_known_to_be_one(self) -> None:
        monitor = ARRAY.monitor()
        error = {"error": {"code": 503}}
        passed = monitor.feed(framed(ARRAY, TEXT, error))
        assert json.loads(passed + b"]") == [TEXT]
        assert json.loads(passed + monitor.error_event) == [TEXT, error]

    def test_an_error_is_written_as_no_element(self) -> None:
        assert ARRAY.stream_error(503, "broke off") == b""


@BOTH
def test_news_before_the_first_text_is_taken_for_garbage(dialect: Gemini) -> None:
    assert seen(dialect, {"responseId": "x", "modelVersion": "y"}) == (False, False, None)
    assert seen(dialect, {"modelStatus": {}}, TEXT, LAST) == (True, True, None)


@BOTH
def test_a_thought_is_taken_for_a_stall(dialect: Gemini) -> None:
    def pausing(part: Any) -> bool:
        return watch(dialect, {"candidates": [{"content": {"parts": [part]}}]}).pausing

    assert pausing({"text": "hm", "thought": True})
    assert pausing({"executableCode": {"code": "1"}})
    assert not pausing({"text": "x"})
    assert not pausing({"functionCall": {"name": "f"}})


@BOTH
def test_feedback_that_blocks_nothing_ends_the_stream(dialect: Gemini) -> None:
    assert seen(dialect, {"promptFeedback": {"safetyRatings": []}}) == (False, False, None)


class TestEvents:
    def test_events_need_an_end(self) -> None:
        monitor = watch(EVENTS, TEXT, LAST)
        assert (monitor.terminated, monitor.missing_end()) == (False, b"")

    def test_the_last_event_without_its_blank_line_is_lost(self) -> None:
        monitor = EVENTS.monitor()
        stream = framed(EVENTS, TEXT, LAST)
        passed = monitor.feed(stream.rstrip()) + monitor.end()
        assert passed.rstrip() == stream.rstrip()
        assert passed.endswith(b"\n\n")
        assert monitor.finished

    def test_an_error_is_written_as_no_event(self) -> None:
        (event,) = SSEReader().feed(EVENTS.stream_error(503, "broke off"))
        assert json.loads(event.data)["error"]["status"] == "UNAVAILABLE"


@BOTH
class TestWriter:
    def written(self, dialect: Gemini, *texts: str, reason: FinishReason = FinishReason.STOP) -> list[Any]:
        writer = dialect.stream_writer(ASKED)
        stream = b"".join(map(writer.delta, texts)) + writer.finish(reason, USAGE)
        reader = SSEReader() if dialect.framing is Framing.EVENTS else ArrayReader()
        chunks = [json.loads(event.data) for _, event in reader.blocks(stream) if event is not None]
        if dialect.framing is Framing.ARRAY:
            assert json.loads(stream) == chunks
        return chunks

    def test_a_stream_lacks_what_clients_read(self, dialect: Gemini) -> None:
        identity = {
            "modelVersion": "gemini-2.5-flash",
            "createTime": "2025-11-24T16:00:00.500000Z",
            "responseId": "r1",
        }
        assert self.written(dialect, "a", "\n") == [
            {"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": "a"}]}}], **identity},
            {"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": "\n"}]}}], **identity},
            {
                "candidates": [
                    {"index": 0, "content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP"}
                ],
                "usageMetadata": COUNTS,
                **identity,
            },
        ]

    @pytest.mark.parametrize(
        ("reason", "word"), [(FinishReason.LENGTH, "MAX_TOKENS"), (FinishReason.REFUSAL, "SAFETY")]
    )
    def test_the_reason_is_lost(self, dialect: Gemini, reason: FinishReason, word: str) -> None:
        (last,) = self.written(dialect, reason=reason)
        assert last["candidates"][0]["finishReason"] == word

    def test_its_own_stream_is_found_at_fault(self, dialect: Gemini) -> None:
        writer, monitor = dialect.stream_writer(ASKED), dialect.monitor()
        monitor.feed(writer.delta("a"))
        assert (monitor.started, monitor.finished) == (True, False)
        monitor.feed(writer.finish(FinishReason.LENGTH, USAGE))
        assert (monitor.finished, monitor.failure, monitor.usage) == (True, None, USAGE)
        assert monitor.terminated is (dialect.framing is Framing.ARRAY)
        assert monitor.finish_reason is FinishReason.LENGTH
