"""The golden files: what a caller asks, what Claude is asked, what the caller gets.

`python -m tests.golden_files` renews them. Each has what is given: `dialect`, `target` (the raw path and query),
`request` (the body), `anthropic_answer` (a body; the list of a stream's events; for several predictions
{"bodies": [...]}) and `vertex_answer` (a body, or the text of a stream). From these the rest is made:
`anthropic_request` (or `refused`, the field), `answer`, and `judged`, what the proxy makes of Vertex's answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from health.outcome import FailureReason
from proxy import fim, sse
from proxy.dialects.anthropic_vertex import AnthropicVertex
from proxy.dialects.base import Completion, Dialect, Framing, InvalidRequest, StreamedDialect, Verbatim
from proxy.dialects.catalog import dialect_of, model_in
from proxy.dialects.codestral import Codestral
from proxy.dialects.envelope import Envelope
from proxy.dialects.gecko import Gecko
from proxy.dialects.gemini import Gemini
from proxy.dialects.messages import AnswerReader, read_answer, write_request
from proxy.dialects.openai import OpenAI
from proxy.paths import Route, Wire, parse

FOLDER = Path(__file__).parent / "golden"
MODEL = "claude-haiku-5-5"

FIM_SYSTEM = "<fim.SYSTEM_PROMPT>"
"""Stands for the long text, which is the same in all."""

Golden = dict[str, Any]


def _clock() -> float:
    return 1764000000.0


def _codestral() -> Codestral:
    return Codestral(new_id=lambda: "golden-answer-id-0000000000000000", clock=_clock)


_DIALECTS: dict[str, Callable[[Route], Dialect]] = {
    "anthropic": lambda _: AnthropicVertex(),
    "codestral": lambda _: _codestral(),
    "envelope": lambda route: Envelope(AnthropicVertex() if route.wire is Wire.ANTHROPIC else _codestral()),
    "gecko": lambda _: Gecko(),
    "gemini": lambda route: Gemini(
        Framing.EVENTS if route.events else Framing.ARRAY, new_id=lambda: "golden-response-id-000", clock=_clock
    ),
    "openai": lambda _: OpenAI(new_id=lambda: "chatcmpl-golden", clock=_clock),
}
"""By their names, which are the folders', the dialects with ids and times that stay."""


def files() -> list[Path]:
    """All golden files."""
    return sorted(FOLDER.glob("*/*.json"))


def load(path: Path) -> Golden:
    """One file."""
    return cast("Golden", json.loads(path.read_text("utf-8")))


def encoded(value: Any) -> bytes:
    """A body as given: a text stands for itself."""
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


def dialect(golden: Golden) -> Dialect:
    """The file's dialect, which is also the one that its target has."""
    route = _route(golden)
    found = _DIALECTS[golden["dialect"]](route)
    chosen = dialect_of(route, encoded(golden["request"]))
    assert (type(chosen), chosen.framing) == (type(found), found.framing), f"{golden['target']} has another dialect"
    return found


def made(golden: Golden) -> Golden:
    """The whole file, what is made of the given parts made anew."""
    own = dialect(golden)
    given = {name: golden[name] for name in ("dialect", "target", "request")}
    return {**given, **_answered(own, golden), **_judged(own, golden)}


def _route(golden: Golden) -> Route:
    route = parse(golden["target"])
    assert route is not None
    return route


def _answered(own: Dialect, golden: Golden) -> Golden:
    route, body = _route(golden), encoded(golden["request"])
    try:
        completion = own.read(body, model=route.model or model_in(body), streaming_method=route.streaming_method)
    except InvalidRequest as refusal:
        error = own.error(400, refusal.message, field=refusal.field)
        return {"refused": refusal.field, "answer": json.loads(error)}
    requests = [_request(each, stream=completion.stream) for each in (completion, *completion.others)]
    given = golden["anthropic_answer"]
    return {
        "anthropic_request": requests if completion.others else requests[0],
        "anthropic_answer": given,
        "answer": _answer(own, completion, given),
    }


def _request(completion: Completion, *, stream: bool) -> Golden:
    request = cast("Golden", write_request(completion, model=MODEL, stream=stream))
    return {**request, "system": FIM_SYSTEM} if request.get("system") == fim.SYSTEM_PROMPT else request


def _answer(own: Dialect, completion: Completion, given: Any) -> Any:
    """What the caller gets of Claude's answer, which in Anthropic's own words is passed on as it is."""
    if isinstance(completion.task, Verbatim):
        assert isinstance(own, AnthropicVertex | Envelope)
        return _passed_on(own, given) if completion.stream else json.loads(own.pass_on(encoded(given)))
    translated = cast("StreamedDialect", own)
    if completion.stream:
        return _stream(translated, completion, given).decode()
    bodies = given["bodies"] if completion.others else [given]
    asked = (completion, *completion.others)
    answers = [read_answer(encoded(body), each) for body, each in zip(bodies, asked, strict=True)]
    return json.loads(translated.write(answers, completion))


def _stream(own: StreamedDialect, completion: Completion, events: list[Any]) -> bytes:
    reader, writer = AnswerReader(completion), own.stream_writer(completion)
    texts = [text for event in events if (text := reader.feed(_event(event)))]
    if rest := reader.finish():
        texts.append(rest)
    assert reader.finish_reason is not None
    return b"".join(map(writer.delta, texts)) + writer.finish(reader.finish_reason, reader.usage)


def _passed_on(own: AnthropicVertex | Envelope, events: list[Any]) -> str:
    monitor = own.passing_monitor()
    passed = b"".join(monitor.feed(_event(event)) for event in events) + monitor.end()
    return (passed + monitor.missing_end()).decode()


def _event(event: Any) -> bytes:
    return sse.event(encoded(event), event["type"])


def _judged(own: Dialect, golden: Golden) -> Golden:
    """What is made of Vertex's own answer to the request."""
    if (given := golden.get("vertex_answer")) is None:
        return {}
    if not isinstance(given, str):
        checked, text = own.check(encoded(given)), None
        if not isinstance(checked, FailureReason):
            text = own.text(encoded(given))
        return {"vertex_answer": given, "judged": {"checked": _plain(checked), "text": text}}
    monitor = own.monitor()
    passed = monitor.feed(given.encode()) + monitor.end()
    judged = {
        "started": monitor.started,
        "finished": monitor.finished,
        "failure": monitor.failure,
        "usage": _plain(monitor.usage),
        "text": "".join(monitor.texts),
        "passed": "whole" if passed == given.encode() else passed.decode(),
    }
    return {"vertex_answer": given, "judged": judged}


def _plain(found: Any) -> Any:
    return found if found is None or isinstance(found, str) else [found.input_tokens, found.output_tokens]


if __name__ == "__main__":
    for file in files():
        renewed = made(load(file))
        file.write_text(json.dumps(renewed, indent=2, ensure_ascii=False) + "\n", "utf-8")
