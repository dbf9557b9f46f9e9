"""Google's models behind `:predict`: code-gecko, which completes code, and text-embedding, which completes nothing.

Instances and parameters are protobuf values, so that every number may come as a float: 128.0 for 128.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from . import model, protobuf_json
from .protobuf_json import Message, Reader, anything, flag, integer, mapping, real, repeated, text
from .reply import Reply
from .vertex_errors import google, invalid_argument
from .vertex_limits import Limits, within

GECKO_TOKENS = 64
"""What code-gecko writes at most when `maxOutputTokens` does not say."""
DIMENSIONS = 768
INSTANCES = 250
"""The most texts that are embedded in one call."""

_REQUEST = Message("PredictRequest", {"instances": repeated(anything), "parameters": anything, "labels": mapping(text)})
_GECKO_PARAMETERS: dict[str, Reader] = {
    "temperature": real,
    "maxOutputTokens": integer,
    "candidateCount": integer,
    "stopSequences": repeated(text),
    "topP": real,
    "topK": integer,
    "logprobs": integer,
    "echo": flag,
    "seed": integer,
}
_GECKO_LIMITS: Limits = {
    "temperature": (0, 1.0001),
    "maxOutputTokens": (1, 2049),
    "candidateCount": (1, 5),
    "topP": (0, 1.0001),
    "topK": (1, 41),
    "logprobs": (0, 6),
}
_EMBEDDING_PARAMETERS: dict[str, Reader] = {"autoTruncate": flag, "outputDimensionality": integer}


def predict(body: dict[str, Any], name: str, author: model.Author) -> Reply:
    """What the model `name` predicts. Raises Rejected."""
    request = _REQUEST(body, "")
    instances = request.get("instances") or []
    if not instances:
        raise invalid_argument("Request contains an invalid argument: instances must not be empty.")
    parameters = _named(request.get("parameters") or {}, "parameters")
    answer = _gecko if "gecko" in name else _embedding
    return answer([_named(each, f"instances[{at}]") for at, each in enumerate(instances)], parameters, author)


def _gecko(instances: list[dict[str, Any]], parameters: dict[str, Any], author: model.Author) -> Reply:
    asked = _read(parameters, _GECKO_PARAMETERS, "parameters")
    within(_GECKO_LIMITS, asked)
    predictions, written = [], ""
    for at, each in enumerate(instances):
        instance = _read(each, {"prefix": text, "suffix": text}, f"instances[{at}]")
        if "prefix" not in instance:
            raise invalid_argument(f"Request contains an invalid argument: instances[{at}].prefix is required.")
        completion = author.complete(instance["prefix"], instance.get("suffix", ""))
        for index in range(asked.get("candidateCount", 1)):
            content = model.generate(
                model.alternative(completion, index),
                asked.get("stopSequences", ()),
                asked.get("maxOutputTokens", GECKO_TOKENS),
            ).text
            written += content
            predictions.append(_prediction(instance["prefix"], content, index, asked))
    read = "".join(each["prefix"] + each.get("suffix", "") for each in instances)
    counts = {"inputTokenCount": _count(read), "outputTokenCount": _count(written)}
    return google({"predictions": predictions, "metadata": {"tokenMetadata": counts}})


def _prediction(prefix: str, content: str, index: int, asked: dict[str, Any]) -> dict[str, Any]:
    tokens = model.chunks(content, model.CHARACTERS_PER_TOKEN)
    likelihood = -0.125 * (index + 1)
    prediction = {
        "content": prefix + content if asked.get("echo") else content,
        "score": likelihood,
        "citationMetadata": {"citations": []},
        "safetyAttributes": {"blocked": False, "categories": [], "scores": [], "errors": []},
    }
    if top := asked.get("logprobs"):
        prediction["logprobs"] = {
            "tokens": tokens,
            "tokenLogProbs": [likelihood] * len(tokens),
            "topLogProbs": [{token: likelihood} for token in tokens[:top]],
        }
    return prediction


def _count(read: str) -> dict[str, int]:
    return {"totalTokens": model.tokens(read), "totalBillableCharacters": len("".join(read.split()))}


def _embedding(instances: list[dict[str, Any]], parameters: dict[str, Any], author: model.Author) -> Reply:
    asked = _read(parameters, _EMBEDDING_PARAMETERS, "parameters")
    within({"outputDimensionality": (1, DIMENSIONS + 1)}, asked)
    if len(instances) > INSTANCES:
        raise invalid_argument(f"{len(instances)} instance(s) is over the limit of {INSTANCES} per prediction.")
    fields: dict[str, Callable[[Any, str], Any]] = {"content": text, "title": text, "task_type": text}
    contents = [_read(each, fields, f"instances[{at}]").get("content") for at, each in enumerate(instances)]
    if not all(contents):
        raise invalid_argument("The text content is empty.")
    return google(
        {
            "predictions": [
                _embedded(content, asked.get("outputDimensionality", DIMENSIONS)) for content in contents if content
            ],
            "metadata": {"billableCharacterCount": sum(len(content) for content in contents if content)},
        }
    )


def _embedded(content: str, dimensions: int) -> dict[str, Any]:
    seed = content.encode("utf-8", "surrogatepass")
    values = [zlib.crc32(seed, at) / 2**31 - 1 for at in range(dimensions)]
    return {"embeddings": {"values": values, "statistics": {"token_count": model.tokens(content), "truncated": False}}}


def _named(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid_argument(f"Request contains an invalid argument: {where} must be a struct.")
    return value


def _read(value: dict[str, Any], fields: dict[str, Reader], where: str) -> dict[str, Any]:
    """`value` by `fields`, whose names have one spelling: this is the model's own schema, not protobuf's."""
    read: dict[str, Any] = {}
    for name, each in value.items():
        if name not in fields:
            raise protobuf_json.unknown(name, where)
        if each is not None:
            read[name] = fields[name](each, f"{where}.{name}")
    return read
