"""code-gecko's dialect, and the methods that only Vertex can answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from health.outcome import FailureReason
from proxy.dialects.base import Answer, Completion, FinishReason, Hole, InvalidRequest, Usage
from proxy.dialects.gecko import Gecko
from proxy.dialects.opaque import Opaque

DIALECT = Gecko()
OPAQUE = Opaque()
HOLE = {"prefix": "def f():", "suffix": "\nx"}
USAGE = Usage(31, 12)


def read(*instances: Any, **parameters: Any) -> Completion:
    body = {"instances": list(instances) or [HOLE], "parameters": parameters}
    return DIALECT.read(json.dumps(body).encode(), model="code-gecko@002", streaming_method=False)


def refused(body: Any) -> str:
    with pytest.raises(InvalidRequest) as refusal:
        DIALECT.read(json.dumps(body).encode(), model="code-gecko@002", streaming_method=False)
    return refusal.value.field


class TestRead:
    def test_aiplatforms_floats_are_refused(self) -> None:
        completion = read(
            temperature=0.2,
            maxOutputTokens=32.0,
            candidateCount=1.0,
            stopSequences=["\n\n"],
            topP=0.9,
            topK=40.0,
            seed=7.0,
            logprobs=0.0,
            echo=False,
        )
        assert completion == Completion(
            task=Hole("def f():", "\nx"),
            model="code-gecko@002",
            max_tokens=32,
            temperature=0.2,
            top_p=0.9,
            stops=("\n\n",),
        )

    def test_an_answer_is_longer_than_geckos(self) -> None:
        assert read().max_tokens == 64

    def test_an_instance_without_suffix_or_parameters_is_refused(self) -> None:
        for body in (b'{"instances": [{"prefix": "a"}]}', b'{"instances": {"prefix": "a", "suffix": null}}'):
            task = DIALECT.read(body, model="m", streaming_method=False).task
            assert task == Hole("a", "")

    def test_candidates_and_instances_are_asked_for_in_another_order(self) -> None:
        completion = read({"prefix": "a"}, {"prefix": "b"}, candidateCount=2)
        tasks = [each.task for each in (completion, *completion.others)]
        assert tasks == [Hole("a", ""), Hole("a", ""), Hole("b", ""), Hole("b", "")]
        assert all(other.others == () and other.max_tokens == 64 for other in completion.others)

    @pytest.mark.parametrize(
        ("field", "body"),
        [
            ("instances", {}),
            ("instances", {"instances": []}),
            ("instances", {"instances": "a"}),
            ("instances", {"instances": [HOLE] * 9}),
            ("instances[1]", {"instances": [HOLE, 1]}),
            ("instances[0].prefix", {"instances": [{"suffix": "a"}]}),
            ("instances[0].prefix", {"instances": [{"prefix": 1}]}),
            ("instances[1].suffix", {"instances": [HOLE, {"prefix": "", "suffix": 1}]}),
            ("parameters", {"instances": [HOLE], "parameters": []}),
            ("parameters.echo", {"instances": [HOLE], "parameters": {"echo": True}}),
            ("parameters.logprobs", {"instances": [HOLE], "parameters": {"logprobs": 1.0}}),
            ("parameters.candidateCount", {"instances": [HOLE] * 3, "parameters": {"candidateCount": 3}}),
            ("parameters.maxOutputTokens", {"instances": [HOLE], "parameters": {"maxOutputTokens": 1.5}}),
            ("parameters.temperature", {"instances": [HOLE], "parameters": {"temperature": "x"}}),
            ("parameters.topP", {"instances": [HOLE], "parameters": {"topP": 2}}),
            ("parameters.stopSequences", {"instances": [HOLE], "parameters": {"stopSequences": [1]}}),
            ("body", []),
        ],
    )
    def test_a_field_that_is_wrong_is_not_named(self, field: str, body: Any) -> None:
        assert refused(body) == field


def counts(tokens: int, characters: int) -> dict[str, int]:
    return {"totalTokens": tokens, "totalBillableCharacters": characters}


class TestWrite:
    def test_a_prediction_lacks_what_clients_read(self) -> None:
        assert json.loads(DIALECT.write([Answer("a b", FinishReason.STOP, USAGE)], read())) == {
            "predictions": [
                {
                    "content": "a b",
                    "score": 0.0,
                    "citationMetadata": {"citations": []},
                    "safetyAttributes": {"blocked": False, "categories": [], "scores": [], "errors": []},
                }
            ],
            "metadata": {"tokenMetadata": {"inputTokenCount": counts(31, 8), "outputTokenCount": counts(12, 2)}},
        }

    def test_an_instance_is_counted_for_each_candidate(self) -> None:
        completion = read({"prefix": "ab"}, {"prefix": "ab"}, candidateCount=2)
        answers = [Answer(text, FinishReason.STOP, Usage(10, 1)) for text in "wxyz"]
        body = json.loads(DIALECT.write(answers, completion))
        assert [prediction["content"] for prediction in body["predictions"]] == ["w", "x", "y", "z"]
        assert body["metadata"]["tokenMetadata"] == {
            "inputTokenCount": counts(20, 4),
            "outputTokenCount": counts(4, 4),
        }

    def test_its_own_answer_is_found_at_fault(self) -> None:
        body = DIALECT.write([Answer("é\ud83d", FinishReason.STOP, USAGE)], read())
        assert DIALECT.check(body) == USAGE
        assert DIALECT.text(body) == "é\ufffd"


class TestCheck:
    @pytest.mark.parametrize(
        "answer",
        [
            {},
            {"predictions": []},
            {"predictions": {}},
            {"predictions": ["a"]},
            {"predictions": [{}]},
            {"predictions": [{"content": "a"}, {"content": 1}]},
            [],
            None,
        ],
    )
    def test_an_answer_without_an_answer_is_sent(self, answer: Any) -> None:
        assert DIALECT.check(json.dumps(answer).encode()) is FailureReason.MALFORMED

    @pytest.mark.parametrize("metadata", [{}, {"tokenMetadata": 1}, {"tokenMetadata": {"inputTokenCount": {}}}, None])
    def test_an_answer_without_counts_is_vertexs_fault(self, metadata: Any) -> None:
        body = {"predictions": [{"content": "", "safetyAttributes": {"blocked": True}}], "metadata": metadata}
        assert DIALECT.check(json.dumps(body).encode()) == Usage()

    def test_an_error_is_sent_as_an_answer(self) -> None:
        assert DIALECT.check(b'{"error": {"code": 503}}') is FailureReason.STREAM_ERROR
        assert OPAQUE.check(b'[{"error": {"code": 429}}]') is FailureReason.THROTTLED


@pytest.mark.parametrize("dialect", [DIALECT, OPAQUE])
class TestUnstreamed:
    @pytest.mark.parametrize("stream", [b'data: {"predictions": [{"content": "a"}]}\n\n', b"[{}]", b"{}"])
    def test_a_stream_passes_for_an_answer(self, dialect: Gecko | Opaque, stream: bytes) -> None:
        monitor = dialect.monitor()
        assert monitor.feed(stream) == b""
        assert (monitor.started, monitor.failure) == (False, FailureReason.MALFORMED)
        assert dialect.stream_error(503, "broke off") == b""

    def test_an_error_is_not_googles(self, dialect: Gecko | Opaque) -> None:
        assert json.loads(dialect.error(503, "no"))["error"]["status"] == "UNAVAILABLE"


class TestOpaque:
    def test_claude_is_asked_for_an_embedding(self) -> None:
        with pytest.raises(InvalidRequest, match="text-embedding-005 cannot be answered") as refusal:
            OPAQUE.read(b'{"instances": []}', model="text-embedding-005", streaming_method=False)
        assert refusal.value.field == "method"

    def test_an_embedding_is_vertexs_fault(self) -> None:
        body = b'{"predictions": [{"embeddings": {"values": [0.1]}}]}'
        assert OPAQUE.check(body) == Usage()
        assert OPAQUE.text(body) == ""

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"1", b"null"])
    def test_garbage_is_sent(self, body: bytes) -> None:
        assert OPAQUE.check(body) is FailureReason.MALFORMED
