"""A network cuts where it likes: nothing that is read, sent or judged may depend on it. And no code forges a marker."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy import fim, sse
from proxy.dialects import messages
from proxy.dialects.base import Chat, Completion, FinishReason, Hole, Message, Usage
from proxy.dialects.chat_completions import ChunkMonitor
from proxy.dialects.codestral import Codestral
from proxy.stops import CHARACTERS_PER_TOKEN, Stops

if TYPE_CHECKING:
    from collections.abc import Sequence

many = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

Text = TypeVar("Text", str, bytes)


def cut(whole: Text, places: Sequence[int]) -> list[Text]:
    """`whole` in the pieces that begin at `places`."""
    edges = [0, *sorted(place % (len(whole) + 1) for place in places), len(whole)]
    return [whole[start:end] for start, end in itertools.pairwise(edges)]


places = st.lists(st.integers(0, 10_000), max_size=30)


def made_of(*words: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(words), max_size=12).map("".join)


lines = made_of(
    "data: ", "data:", "event: error", "event:", ": x", "\n", "\n\n", "\r", "\r\n", "é🙂", "{}", "\ufeff", "id: 1"
)


class TestEvents:
    @many
    @given(stream=lines, places=places)
    def test_events_depend_on_the_pieces(self, stream: str, places: list[int]) -> None:
        data = stream.encode()
        whole = sse.SSEReader().feed(data)
        reader = sse.SSEReader()
        assert [event for piece in cut(data, places) for event in reader.feed(piece)] == whole
        reader = sse.SSEReader()
        assert [event for at in range(len(data)) for event in reader.feed(data[at : at + 1])] == whole

    @many
    @given(data=st.binary(max_size=40), name=st.sampled_from([None, "ping"]))
    def test_what_is_written_is_not_what_is_read(self, data: bytes, name: str | None) -> None:
        data = data.replace(b"\r", b"").strip(b"\n")
        assert sse.SSEReader().feed(sse.event(data, name)) == [sse.Event(name or "", data)]


choice = '"choices": [{"index": 0, "delta": {"content": '
vertex_stream = made_of(
    f'data: {{{choice}""}}, "finish_reason": null}}]}}\n\n',
    f'data: {{{choice}"x\\n"}}, "finish_reason" : null}}]}}\r\n\r\n',
    f'data: {{{choice}"[DONE] \\"error\\" é"}},"finish_reason":null}}]}}\n\n',
    f'data: {{{choice}""}}, "finish_reason":  "stop"}}], "usage": {{"prompt_tokens": 1, "completion_tokens": 2}}}}\n\n',
    f'data: {{{choice}"x"}}, "finish_reason": "error"}}]}}\n\n',
    'data: {"error": {"code": 503}}\n\n',
    'data: [{"error": {"code": 503}}]\n\n',
    "data: x\n\n",
    'data: {"choices": [1]}\n\n',
    "data: [DONE]\n\n",
    "event: ping\ndata: {}\n\n",
    "event: error\ndata: {}\n\n",
    ": comment\n\n",
    "<html>",
)


def verdict(*pieces: bytes) -> tuple[object, ...]:
    monitor = ChunkMonitor()
    for piece in pieces:
        monitor.feed(piece)
    return monitor.started, monitor.finished, monitor.failure, monitor.usage


class TestVerdict:
    @many
    @given(stream=vertex_stream, places=places)
    def test_the_verdict_depends_on_the_pieces(self, stream: str, places: list[int]) -> None:
        data = stream.encode()
        assert verdict(*cut(data, places)) == verdict(data)
        assert verdict(*(data[at : at + 1] for at in range(len(data)))) == verdict(data)

    @many
    @given(texts=st.lists(st.text(min_size=1, max_size=20), max_size=5), places=places)
    def test_the_proxys_own_stream_would_fail(self, texts: list[str], places: list[int]) -> None:
        writer = Codestral().stream_writer(Completion(task=Hole("", ""), model="m"))
        stream = b"".join(map(writer.delta, texts)) + writer.finish(FinishReason.STOP, Usage(1, 2))
        assert verdict(*cut(stream, places)) == (True, True, None, Usage(1, 2))
        *parts, last, done, rest = stream.decode().split("\n\n")
        contents = [json.loads(part[6:])["choices"][0]["delta"]["content"] for part in parts]
        assert contents == texts
        assert (json.loads(last[6:])["choices"][0]["finish_reason"], done, rest) == ("stop", "data: [DONE]", "")


fragments = (
    *("x", "return x", "foo(", ")", "}", '"', ";", " ", "    ", "\n", "\n\n", "\r\n", "def f():\n", "é", "\ud83d"),
    *("<", "</", "<COMPLETION>", "</COMPLETION>", "<COMPLETION-2>", "</COMPLETION-2>", "</COMPL"),
    *("<|CURSOR|>", "<|CURSOR-2|>", "<CODE>", "</CODE-2>", "```", "```python\n", "\n```\n", "\n```", "Sure, ", "I "),
)
code = made_of(*fragments)
holes = st.builds(Hole, code, code)
stop_lists = st.lists(st.sampled_from(["\n", "\n\n", "x", "return", "tu", "}\n", ")", "\n```", "foo(", ""]), max_size=3)
limits = st.none() | st.integers(0, 8)
answers = (
    code | code.map(lambda text: f"<COMPLETION>{text}") | code.map(lambda text: f"<COMPLETION>{text}</COMPLETION>")
)


@st.composite
def answers_to(draw: st.DrawFn, hole: Hole) -> str:
    """An answer that has more of the hole's own code in it than chance would bring."""
    prompt = fim.prompt(hole)
    repeated = draw(st.sampled_from(["", hole.prefix[-20:], hole.prefix.rpartition("\n")[2]]))
    following = draw(st.sampled_from(["", hole.suffix[:20], hole.suffix.partition("\n")[0]]))
    return prompt.opening_tag + repeated + draw(code) + following + draw(st.sampled_from(["", prompt.closing_tag]))


begun = st.just("") | code
"""What the caller has of an answer that broke off."""


def passed(stage: fim.Cleaner | Stops, pieces: Sequence[str]) -> tuple[str, bool, bool]:
    """What a stage lets through when it is left as soon as it wants no more."""
    text = ""
    for piece in pieces:
        text += stage.feed(piece)
        if stage.stopped:
            break
    return text + stage.finish(), stage.stopped, stage.capped


class TestText:
    @many
    @given(text=code, stops=stop_lists, limit=limits, places=places)
    def test_the_callers_stops_depend_on_the_pieces(
        self, text: str, stops: list[str], limit: int | None, places: list[int]
    ) -> None:
        whole = passed(Stops(stops, limit), [text])
        assert passed(Stops(stops, limit), cut(text, places)) == whole
        assert passed(Stops(stops, limit), list(text)) == whole
        sent = whole[0]
        assert text.startswith(sent)
        assert not any(stop in sent for stop in stops if stop)
        assert limit is None or len(sent) <= limit * CHARACTERS_PER_TOKEN

    @many
    @given(text=code, stops=stop_lists, limit=limits, places=places)
    def test_an_answer_that_goes_on_is_not_the_whole_one(
        self, text: str, stops: list[str], limit: int | None, places: list[int]
    ) -> None:
        whole = passed(Stops(stops, limit), [text])
        for at in range(len(text) + 1):
            had, rest = text[:at], text[at:]
            going_on = passed(Stops(stops, limit, already=had), [rest])
            assert going_on[1:] == whole[1:]
            # What the caller has cannot be taken back, be it the beginning of a stop or the whole of one.
            assert had + going_on[0] == max(had, whole[0], key=len)
            assert passed(Stops(stops, limit, already=had), cut(rest, places)) == going_on
            assert passed(Stops(stops, limit, already=had), list(rest)) == going_on

    @many
    @given(data=st.data(), hole=holes, stops=stop_lists, limit=limits, places=places, already=begun)
    def test_the_inserted_code_depends_on_the_pieces(
        self, data: st.DataObject, hole: Hole, stops: list[str], limit: int | None, places: list[int], already: str
    ) -> None:
        hole = Hole(hole.prefix + already, hole.suffix)
        answer = data.draw(answers | answers_to(hole))

        def inserted(pieces: Sequence[str]) -> tuple[str, bool, bool]:
            return passed(fim.Cleaner(hole, stops=stops, max_tokens=limit, already=already), pieces)

        whole = inserted([answer])
        assert inserted(cut(answer, places)) == whole
        assert inserted(list(answer)) == whole
        # Blanks may be put right; all else is Claude's.
        assert "".join(whole[0].split()) in "".join(answer.split())

    @many
    @given(
        data=st.data(),
        hole=holes | st.none(),
        stops=stop_lists,
        limit=limits,
        places=places,
        sizes=st.lists(st.integers(0, 100), max_size=8),
        reason=st.sampled_from(["end_turn", "max_tokens", "refusal", "stop_sequence"]),
    )
    def test_a_stream_and_a_whole_answer_differ(
        self,
        data: st.DataObject,
        hole: Hole | None,
        stops: list[str],
        limit: int | None,
        places: list[int],
        sizes: list[int],
        reason: str,
    ) -> None:
        task = Chat((Message("user", "a"),)) if hole is None else hole
        answer = data.draw(answers if hole is None else answers | answers_to(hole))
        completion = Completion(task=task, model="m", stops=tuple(stops), max_tokens=limit)
        blocks = cut(answer, sizes[:2])
        stream = claudes_stream([cut(block, sizes[2:]) for block in blocks], reason)
        body = {
            "type": "message",
            "content": [{"type": "text", "text": text} for text in blocks],
            "stop_reason": reason,
        }
        try:
            whole = messages.read_answer(json.dumps(body).encode(), completion)
        except messages.UnusableAnswer as problem:
            outcome: tuple[object, ...] = ("", None, problem.reason)
        else:
            outcome = (whole.text, whole.finish_reason, None)
        for pieces in ([stream], cut(stream, places)):
            reader = messages.AnswerReader(completion)
            text = "".join(map(reader.feed, pieces)) + reader.finish()
            assert reader.finished
            told = None if reader.failure else reader.finish_reason
            assert (text, told, reader.failure) == outcome


def claudes_stream(blocks: list[list[str]], reason: str) -> bytes:
    events: list[dict[str, object]] = [{"type": "message_start", "message": {"usage": {"input_tokens": 1}}}]
    for index, texts in enumerate(blocks):
        text: dict[str, object] = {"type": "text", "text": ""}
        events.append({"type": "content_block_start", "index": index, "content_block": text})
        events += (
            {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}
            for text in texts
        )
        events.append({"type": "content_block_stop", "index": index})
    events += [{"type": "message_delta", "delta": {"stop_reason": reason}}, {"type": "message_stop"}]
    return b"".join(sse.event(json.dumps(event).encode(), str(event["type"])) for event in events)


class TestMarker:
    @many
    @given(hole=holes)
    def test_code_forges_a_marker(self, hole: Hole) -> None:
        prompt = fim.prompt(hole)
        _, asked, question = prompt.text.rpartition("Write the code that belongs at ")
        assert asked
        marker = question.partition(". Answer")[0]
        opening = marker.replace("|", "").replace("CURSOR", "CODE")
        closing = opening.replace("<", "</")
        shown = prompt.text.removesuffix(f"\n\n{asked}{question}")
        assert shown.count(marker) == shown.count(opening) == shown.count(closing) == 1
        assert prompt.opening_tag not in shown
        assert prompt.closing_tag not in shown
        within = shown.partition(f"{opening}\n")[2].removesuffix(f"\n{closing}")
        assert within == f"{hole.prefix}{marker}{hole.suffix}"

    @many
    @given(hole=holes, stops=stop_lists, stream=st.booleans())
    def test_the_request_cannot_be_encoded(self, hole: Hole, stops: list[str], stream: bool) -> None:
        completion = Completion(task=hole, model="m", stops=tuple(stops))
        body = messages.write_request(completion, model="claude-haiku-5-5", stream=stream)
        json.dumps(body, ensure_ascii=False).encode()
        assert body["stop_sequences"][0] == fim.prompt(hole).closing_tag
