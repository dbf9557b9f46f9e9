"""google.api.HttpBody around another dialect: named by what a caller would miss, or what Vertex would be taken for."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from health.outcome import FailureReason
from proxy.dialects.anthropic_vertex import AnthropicVertex
from proxy.dialects.base import Answer, Chat, Completion, FinishReason, Hole, InvalidRequest, Message, Usage
from proxy.dialects.codestral import Codestral
from proxy.dialects.envelope import Envelope, is_enveloped

CODESTRAL = Codestral(new_id=lambda: "1", clock=lambda: 1764000000.9)
DIALECT = Envelope(CODESTRAL)
CLAUDE = Envelope(AnthropicVertex())
USAGE = Usage(31, 12)
FIM = Completion(task=Hole("a", "b"), model="codestral-2")
WHOLE = CODESTRAL.write([Answer("x", FinishReason.STOP, USAGE)], FIM)
CLAUDES_BODY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def asked(inner: Any, **http_body: Any) -> bytes:
    data = encoded(json.dumps(inner).encode())
    return json.dumps({"httpBody": {"contentType": "application/json", "data": data, **http_body}}).encode()


def read(body: bytes, streaming_method: bool = False, dialect: Envelope = DIALECT) -> Completion:
    return dialect.read(body, model="codestral-2", streaming_method=streaming_method)


class TestRecognition:
    @pytest.mark.parametrize(
        "body",
        [
            b'{"httpBody": {"data": ""}}',
            b'{\n  "http_body": {',
            b'{"endpoint": "projects/p/locations/l/publishers/mistralai/models/m", "httpBody": {',
            b'{"httpBody": {"data": "' + b"x" * 1_000_000,
        ],
    )
    def test_an_envelope_is_taken_for_what_is_inside(self, body: bytes) -> None:
        assert is_enveloped(body)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b'{"prompt": "\\"httpBody\\": {"}',
            b'{"prompt": "httpBody", "suffix": ""}',
            b'{"tools": [{"input_schema": {"properties": {"httpBody": {}}}}]}',
            b'{"model": "codestral-2", "prompt": "' + b" " * 200 + b'", "httpBody": 1}',
        ],
    )
    def test_code_that_speaks_of_envelopes_is_taken_for_one(self, body: bytes) -> None:
        assert not is_enveloped(body)


class TestRead:
    @pytest.mark.parametrize(
        "data", [b'{"prompt": "\xc3\xbf\xc3\xbf???>>>"}', b'{"prompt": "ab"}', b'{"prompt": "abc"}']
    )
    def test_an_alphabet_or_a_padding_of_base64_is_refused(self, data: bytes) -> None:
        wanted = CODESTRAL.read(data, model="codestral-2", streaming_method=False)
        for text in (base64.b64encode(data), base64.urlsafe_b64encode(data), base64.b64encode(data).rstrip(b"=")):
            assert read(asked({}, data=text.decode())) == wanted

    def test_a_field_is_read_in_one_spelling_alone(self) -> None:
        data = encoded(b'{"prompt": "a"}')
        for content_type in ({"content_type": "application/json"}, {}, {"content_type": "application/json; charset=x"}):
            body = json.dumps({"http_body": {"data": data, **content_type}}).encode()
            assert read(body).task == Hole("a", "")

    @pytest.mark.parametrize("streams", [True, False])
    def test_the_method_does_not_decide_whether_there_is_a_stream(self, streams: bool) -> None:
        assert read(asked({"prompt": ""}), streams).stream is streams
        with pytest.raises(InvalidRequest) as refused:
            read(asked({"prompt": "", "stream": not streams}), streams)
        assert refused.value.field == "stream"

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            (b"{", "body"),
            (b"{}", "httpBody"),
            (b'{"httpBody": 1}', "httpBody"),
            (b'{"httpBody": {"data": 1}}', "httpBody.data"),
            (b'{"httpBody": {"data": "a"}}', "httpBody.data"),
            (b'{"httpBody": {"data": "abcd!!!!"}}', "httpBody.data"),
            (b'{"httpBody": {"data": "\\u00e9"}}', "httpBody.data"),
            (b'{"httpBody": {}}', "body"),
            (asked({"prompt": ""}, contentType="text/plain"), "httpBody.contentType"),
            (asked({"prompt": "", "stop": 1}), "stop"),
        ],
    )
    def test_a_refusal_does_not_name_the_field(self, body: bytes, field: str) -> None:
        with pytest.raises(InvalidRequest) as refused:
            read(body)
        assert refused.value.field == field

    @pytest.mark.parametrize("name", ["httpBody", "http_body"])
    def test_the_rest_is_asked_for_without_an_envelope(self, name: str) -> None:
        data = encoded(b'{"prompt": "a", "max_tokens": 9}')
        rest = json.loads(DIALECT.resume(json.dumps({name: {"data": data, "x": 1}, "y": 2}).encode(), "b"))
        assert (rest["y"], rest[name]["x"]) == (2, 1)
        assert json.loads(base64.b64decode(rest[name]["data"]))["prompt"] == "ab"


def element(data: bytes) -> bytes:
    return json.dumps({"contentType": "text/event-stream", "data": encoded(data)}, indent=2).encode()


def array(*data: bytes) -> bytes:
    """A stream as Google prints it."""
    return b"[" + b"\n,\r\n".join(map(element, data)) + b"\n]\n"


def opened(stream: bytes) -> bytes:
    """What is within."""
    return b"".join(base64.b64decode(each["data"]) for each in json.loads(stream))


def chunks(*texts: str) -> list[bytes]:
    """The events of a stream of Codestral's; the last two are its end and the terminator."""
    writer = CODESTRAL.stream_writer(FIM)
    deltas = [writer.delta(text) for text in texts]
    last, done, _ = writer.finish(FinishReason.STOP, USAGE).split(b"\n\n")
    return [*deltas, last + b"\n\n", done + b"\n\n"]


class TestAnswers:
    def test_a_whole_answer_comes_without_an_envelope(self) -> None:
        answer = json.loads(DIALECT.write([Answer("x", FinishReason.STOP, USAGE)], FIM))
        assert answer == {"contentType": "application/json", "data": encoded(WHOLE)}

    def test_a_stream_is_no_array_of_envelopes(self) -> None:
        writer = DIALECT.stream_writer(FIM)
        stream = writer.delta("x") + writer.delta("y") + writer.finish(FinishReason.STOP, USAGE)
        assert opened(stream) == b"".join(chunks("x", "y"))
        assert {each["contentType"] for each in json.loads(stream)} == {"text/event-stream"}

    def test_vertexs_good_answer_fails_over(self) -> None:
        stream = b"".join(chunks("x", "y"))
        for data in (WHOLE, stream, b"".join(chunks("x", "y")[:-1]).rstrip()):
            assert DIALECT.check(element(data)) == USAGE
        assert (DIALECT.text(element(WHOLE)), DIALECT.text(element(stream))) == ("x", "xy")

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b'{"error": {"status": "UNAVAILABLE"}}', FailureReason.STREAM_ERROR),
            (b'[{"error": {"status": "RESOURCE_EXHAUSTED"}}]', FailureReason.THROTTLED),
            (element(b'{"error": {"code": "429"}}'), FailureReason.THROTTLED),
            (element(b"data: {}\n\n"), FailureReason.MALFORMED),
            (element(chunks("x")[0]), FailureReason.MALFORMED),
            (element(WHOLE[:-1]), FailureReason.MALFORMED),
            (element(WHOLE)[:-1], FailureReason.MALFORMED),
            (WHOLE, FailureReason.MALFORMED),
            (b'{"data": "x"}', FailureReason.MALFORMED),
            (b"[]", FailureReason.MALFORMED),
            (b"null", FailureReason.MALFORMED),
        ],
    )
    def test_garbage_or_an_error_passes_for_an_answer(self, body: bytes, reason: FailureReason) -> None:
        assert DIALECT.check(body) is reason

    def test_an_error_is_not_googles(self) -> None:
        assert json.loads(DIALECT.error(503, "gone"))["error"]["status"] == "UNAVAILABLE"

    def test_googles_library_takes_an_error_in_a_stream_for_an_end(self) -> None:
        from google.api import httpbody_pb2
        from google.protobuf.json_format import Parse, ParseError

        stream = b"[" + element(b"x") + DIALECT.stream_error(503, "gone")
        first, error = json.loads(stream)
        assert Parse(json.dumps(first), httpbody_pb2.HttpBody()).data == b"x"
        with pytest.raises(ParseError):
            Parse(json.dumps(error), httpbody_pb2.HttpBody())


class TestMonitor:
    @pytest.mark.parametrize("size", [1, 7, 100, 10_000])
    def test_a_good_stream_is_changed_on_its_way(self, size: int) -> None:
        stream = array(*chunks("x", "y"))
        monitor = DIALECT.monitor()
        passed = b"".join(monitor.feed(stream[at : at + size]) for at in range(0, len(stream), size)) + monitor.end()
        assert passed == stream
        assert (monitor.started, monitor.finished, monitor.terminated, monitor.failure) == (True, True, True, None)
        assert (monitor.usage, monitor.finish_reason, monitor.texts) == (USAGE, FinishReason.STOP, ["x", "y"])
        assert monitor.missing_end() == b""

    @pytest.mark.parametrize("size", range(1, 400, 13))
    def test_an_event_that_is_cut_between_two_elements_is_lost(self, size: int) -> None:
        within = b"".join(chunks("x", "y"))
        monitor = DIALECT.monitor()
        passed = monitor.feed(array(*(within[at : at + size] for at in range(0, len(within), size))))
        assert opened(passed) == within
        assert (monitor.terminated, monitor.texts) == (True, ["x", "y"])

    def test_half_an_event_goes_out_before_the_stream_breaks(self) -> None:
        first, second, *_ = chunks("x", "y")
        monitor = DIALECT.monitor()
        passed = monitor.feed(b"[" + element(first + second[:20])) + monitor.end()
        assert opened(passed + b"]") == first
        writer = DIALECT.stream_writer(FIM, after=monitor)
        whole = passed + writer.delta("z") + writer.finish(FinishReason.STOP, USAGE)
        assert monitor.texts == ["x"]
        again = CODESTRAL.monitor()
        again.feed(opened(whole))
        assert (again.texts, again.finished, again.failure) == (["x", "z"], True, None)
        assert opened(whole).count(b'"role"') == 1

    def test_an_array_that_is_closed_too_soon_cannot_be_gone_on_with(self) -> None:
        monitor = DIALECT.monitor()
        passed = monitor.feed(array(*chunks("x")[:1])) + monitor.feed(b"\n") + monitor.end()
        assert (monitor.started, monitor.finished, monitor.terminated) == (True, False, False)
        writer = DIALECT.stream_writer(FIM, after=monitor)
        assert opened(passed + writer.finish(FinishReason.STOP, USAGE)).endswith(b"data: [DONE]\n\n")

    def test_a_missing_end_is_missed(self) -> None:
        *events, _ = chunks("x")
        open_array = b"[" + b",".join(map(element, events))
        for stream in (open_array, open_array + b"]\n"):
            monitor = DIALECT.monitor()
            passed = monitor.feed(stream) + monitor.end() + monitor.missing_end()
            assert opened(passed) == b"".join(chunks("x"))

    def test_the_last_event_needs_a_blank_line(self) -> None:
        *events, last, _ = chunks("x")
        monitor = DIALECT.monitor()
        passed = monitor.feed(array(*events, last.rstrip(b"\n")))
        assert monitor.terminated
        assert monitor.texts == ["x"]
        assert last.rstrip(b"\n") in opened(passed)

    @pytest.mark.parametrize("cut", [1, 30])
    def test_a_whole_answer_to_a_streaming_method_fails_over(self, cut: int) -> None:
        stream = array(WHOLE[:cut], WHOLE[cut:])
        monitor = DIALECT.monitor()
        assert monitor.feed(stream) + monitor.end() == stream
        assert (monitor.started, monitor.terminated, monitor.usage, monitor.texts) == (True, True, USAGE, ["x"])

    @pytest.mark.parametrize(
        ("data", "reason"),
        [(WHOLE[:-1], FailureReason.MALFORMED), (b'{"error": {"code": "429"}}', FailureReason.THROTTLED)],
    )
    def test_half_a_whole_answer_passes(self, data: bytes, reason: FailureReason) -> None:
        monitor = DIALECT.monitor()
        monitor.feed(array(data))
        assert (monitor.failure, monitor.started) == (reason, False)

    def test_a_whole_answer_without_end_is_remembered_for_ever(self) -> None:
        monitor = DIALECT.monitor()
        monitor.feed(b"[" + element(b"{"))
        piece = b"," + element(b"x" * 5_000_000)
        for _ in range(14):
            monitor.feed(piece)
        assert monitor.failure is FailureReason.MALFORMED

    @pytest.mark.parametrize(
        ("stream", "reason"),
        [
            (b'[{"error": {"code": 503}}]', FailureReason.STREAM_ERROR),
            (b'[{"error": {"status": "RESOURCE_EXHAUSTED"}}]', FailureReason.THROTTLED),
            (array(b'data: {"error": {"code": 429}}\n\n'), FailureReason.THROTTLED),
            (b"data: x\n\n", FailureReason.MALFORMED),
            (b'[{"data": 1}]', FailureReason.MALFORMED),
            (b"[1]", FailureReason.MALFORMED),
            (array(b"<html>"), FailureReason.MALFORMED),
        ],
    )
    def test_garbage_or_an_error_is_sent_to_the_caller(self, stream: bytes, reason: FailureReason) -> None:
        monitor = DIALECT.monitor()
        assert monitor.feed(stream) == b""
        assert (monitor.failure, monitor.started) == (reason, False)

    def test_an_error_after_content_is_not_told_in_the_upstreams_words(self) -> None:
        first = b"[" + element(chunks("x")[0])
        outer = b',\r\n{"error": {"code": 503}}'
        monitor = DIALECT.monitor()
        assert monitor.feed(first + outer) == first
        assert (monitor.failure, monitor.error_event) == (FailureReason.STREAM_ERROR, outer)
        within = b'data: {"error": {"code": 503}}\n\n'
        monitor = DIALECT.monitor()
        passed = monitor.feed(first + b"," + element(chunks("y")[0] + within))
        assert opened(passed + b"]") == b"".join(chunks("x")[:1] + chunks("y")[:1])
        assert opened(b"[" + monitor.error_event.lstrip(b",\r\n") + b"]") == within

    def test_one_garbled_element_breaks_a_stream_that_goes_on(self) -> None:
        first, *rest = map(element, chunks("x", "y"))
        for garbled in (b'{"data": 1}', b'{"data": "_', element(b"data: {\n\n")):
            monitor = DIALECT.monitor()
            passed = monitor.feed(b"[" + b"\n,\r\n".join((first, garbled, *rest)) + b"]")
            assert opened(passed) == b"".join(chunks("x", "y"))
            assert (monitor.failure, monitor.terminated) == (None, True)

    def test_an_element_without_data_is_garbage(self) -> None:
        stream = b'[{"contentType": "text/event-stream"},' + array(*chunks("x"))[1:]
        monitor = DIALECT.monitor()
        assert monitor.feed(stream) == stream


class TestClaudesOwn:
    """Anthropic's own answers, for a caller who speaks to Claude on Vertex in envelopes."""

    ANSWER = b'{"type":"message","content":[{"type":"text","text":"x"}],"usage":{"input_tokens":31,"output_tokens":12}}'
    EVENTS = (
        b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":31}}}\n\n'
        b"event: content_block_start\n"
        b'data: {"type":"content_block_start","content_block":{"type":"text","text":"x"}}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
        b'"usage":{"output_tokens":12}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )

    def test_a_whole_answer_comes_without_an_envelope(self) -> None:
        passed = CLAUDE.pass_on(self.ANSWER)
        assert json.loads(passed) == {"contentType": "application/json", "data": encoded(self.ANSWER)}
        assert (CLAUDE.check(passed), CLAUDE.text(passed)) == (USAGE, "x")

    @pytest.mark.parametrize("size", [1, 50, 1000])
    def test_a_stream_comes_without_envelopes(self, size: int) -> None:
        monitor = CLAUDE.passing_monitor()
        pieces = [self.EVENTS[at : at + size] for at in range(0, len(self.EVENTS), size)]
        stream = b"".join(map(monitor.feed, pieces)) + monitor.end() + monitor.missing_end()
        assert opened(stream) == self.EVENTS
        assert (monitor.usage, monitor.texts, monitor.failure) == (USAGE, ["x"], None)

    def test_an_error_or_garbage_is_sent_to_the_caller(self) -> None:
        error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
        for data, reason in ((error, FailureReason.THROTTLED), (b"<html>", FailureReason.MALFORMED)):
            monitor = CLAUDE.passing_monitor()
            assert (monitor.feed(data), monitor.failure) == (b"", reason)

    def test_a_stream_that_its_method_does_not_give_is_asked_for(self) -> None:
        assert read(asked(CLAUDES_BODY), dialect=CLAUDE).stream is False
        with pytest.raises(InvalidRequest):
            read(asked(CLAUDES_BODY), True, CLAUDE)


def test_a_chat_is_not_read() -> None:
    task = read(asked({"messages": [{"role": "user", "content": "hi"}]})).task
    assert task == Chat((Message("user", "hi"),))
