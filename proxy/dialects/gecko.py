"""code-gecko as it speaks on Vertex: places in files to be filled in, several in one request, by `:predict`.

Pure. The shapes are those of the model's own schema inside of protobuf values: its fields have one spelling, and every
number may come as a float. The model is gone and its clients are not.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from health.outcome import FailureReason
from proxy.dialects.base import Completion, Hole, InvalidRequest, Usage, sendable
from proxy.dialects.requests import MOST_CHOICES, count, encode, json_object, number, stops, typed
from proxy.dialects.stream import error_reason, parsed
from proxy.dialects.unstreamed import Unstreamed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.dialects.base import Answer

_MAX_TOKENS = 64
"""What code-gecko writes at most, and does where the request does not say (its documentation of maxOutputTokens)."""

_SCORE = 0.0
"""A log-likelihood, of which Claude tells none. Clients drop low ones, and this is the best there is."""


class Gecko(Unstreamed):
    """The dialect; see `TranslatedDialect` for the methods, of which those for streams are missing."""

    def read(self, body: bytes, *, model: str, streaming_method: bool) -> Completion:
        """Understand a request body: instance by instance, and for each its candidates. `seed`, `topK` are passed over.

        Raises InvalidRequest that names the field.
        """
        request = json_object(body)
        given = typed(request, "parameters", dict, "an object") or {}
        parameters = {f"parameters.{name}": value for name, value in given.items()}
        for field in ("parameters.echo", "parameters.logprobs"):
            if parameters.get(field):
                raise InvalidRequest(field, f"{field} cannot be answered by the backup")
        holes = _holes(request)
        candidates = count(parameters, "parameters.candidateCount") or 1
        if len(holes) * candidates > MOST_CHOICES:
            field = "instances" if len(holes) > MOST_CHOICES else "parameters.candidateCount"
            raise InvalidRequest(field, f"more than {MOST_CHOICES} predictions cannot be answered by the backup")
        limit = count(parameters, "parameters.maxOutputTokens")
        first = Completion(
            task=holes[0],
            model=model,
            max_tokens=_MAX_TOKENS if limit is None else limit,
            temperature=number(parameters, "parameters.temperature"),
            top_p=number(parameters, "parameters.topP", at_most=1),
            stops=stops(parameters, "parameters.stopSequences"),
        )
        asked = [replace(first, task=hole) for hole in holes for _ in range(candidates)]
        return replace(first, others=tuple(asked[1:]))

    def write(self, answers: Sequence[Answer], completion: Completion) -> bytes:
        """The whole answer: the predictions in the order in which they were asked for."""
        predictions = [
            {
                "content": sendable(answer.text),
                "score": _SCORE,
                "citationMetadata": {"citations": []},
                "safetyAttributes": {"blocked": False, "categories": [], "scores": [], "errors": []},
            }
            for answer in answers
        ]
        # Each instance was read once, as the caller sees it, however many candidates it has.
        tasks = [each.task for each in (completion, *completion.others)]
        firsts = [at for at, task in enumerate(tasks) if at == 0 or task is not tasks[at - 1]]
        holes = [task for at in firsts if isinstance(task := tasks[at], Hole)]
        read = _counts(
            sum(answers[at].usage.input_tokens for at in firsts), "".join(hole.prefix + hole.suffix for hole in holes)
        )
        written = _counts(
            sum(answer.usage.output_tokens for answer in answers), "".join(answer.text for answer in answers)
        )
        counts = {"tokenMetadata": {"inputTokenCount": read, "outputTokenCount": written}}
        return encode({"predictions": predictions, "metadata": counts}).encode()

    def check(self, body: bytes) -> FailureReason | Usage:
        """What Vertex's whole answer counted; MALFORMED, or for an error object STREAM_ERROR or THROTTLED."""
        answer = parsed(body)
        if (reason := error_reason(answer)) is not None:
            return reason
        predictions = answer.get("predictions") if isinstance(answer, dict) else None
        if not isinstance(predictions, list) or not predictions or not all(map(_is_prediction, predictions)):
            return FailureReason.MALFORMED
        return Usage(_tokens(answer, "inputTokenCount"), _tokens(answer, "outputTokenCount"))

    def text(self, body: bytes) -> str:
        """The text of the first prediction."""
        content = json.loads(body)["predictions"][0]["content"]
        assert isinstance(content, str)
        return content


def _holes(request: dict[str, Any]) -> list[Hole]:
    given = request.get("instances")
    instances = [given] if isinstance(given, dict) else given
    if not isinstance(instances, list) or not instances:
        raise InvalidRequest("instances", "instances is not a list of at least one")
    return [_hole(instance, f"instances[{at}]") for at, instance in enumerate(instances)]


def _hole(instance: Any, where: str) -> Hole:
    if not isinstance(instance, dict):
        raise InvalidRequest(where, f"{where} is not an object")
    fields = {f"{where}.{name}": value for name, value in instance.items()}
    prefix = typed(fields, f"{where}.prefix", str, "a string")
    if prefix is None:
        raise InvalidRequest(f"{where}.prefix", f"{where}.prefix is not given")
    return Hole(prefix, typed(fields, f"{where}.suffix", str, "a string") or "")


def _counts(tokens: int, text: str) -> dict[str, int]:
    """Vertex bills characters without white space (its documentation of countTokens)."""
    return {"totalTokens": tokens, "totalBillableCharacters": len("".join(text.split()))}


def _is_prediction(prediction: Any) -> bool:
    return isinstance(prediction, dict) and isinstance(prediction.get("content"), str)


def _tokens(answer: dict[str, Any], name: str) -> int:
    """A count of `metadata.tokenMetadata`; 0 where it is none."""
    value: Any = answer
    for key in ("metadata", "tokenMetadata", name, "totalTokens"):
        value = value.get(key) if isinstance(value, dict) else None
    return value if type(value) is int and value > 0 else 0
