"""The table of models: named by the 400 that a wrong row would bring in an outage."""

from __future__ import annotations

from typing import get_args

import pytest
from anthropic.types import ModelParam

from proxy import capabilities as table
from proxy.capabilities import UNKNOWN, Sampling, Thinking, capabilities

MODELS = [name for part in get_args(ModelParam) for name in get_args(part)]


def test_the_models_of_the_sdk_are_found() -> None:
    assert "claude-haiku-5-5" in MODELS


@pytest.mark.parametrize("model", MODELS)
def test_a_model_of_the_sdk_has_no_row(model: str) -> None:
    assert table._DATE.sub("", model) in table._TABLE


@pytest.mark.parametrize("model", ["claude-haiku-4-5-20251001", "claude-haiku-4-5@20251001"])
def test_a_date_hides_the_row(model: str) -> None:
    assert capabilities(model) is capabilities("claude-haiku-4-5")


@pytest.mark.parametrize("model", ["claude-haiku-9", "gpt-4", "", "claude-haiku-5-5-latest"])
def test_an_unknown_model_is_sent_what_it_may_refuse(model: str) -> None:
    row = capabilities(model)
    assert row is UNKNOWN
    assert (row.sampling, row.thinking) == (Sampling.NONE, Thinking.OMIT)
    assert row.thinking_headroom > 0


@pytest.mark.parametrize("model", MODELS)
def test_a_model_that_thinks_has_no_room_for_the_answer(model: str) -> None:
    row = capabilities(model)
    thinks = row.thinking is Thinking.LOW_EFFORT or (row.thinking is Thinking.OMIT and "preview" in model)
    assert (row.thinking_headroom > 0) == thinks


@pytest.mark.parametrize(
    ("model", "sampling", "thinking"),
    [
        ("claude-haiku-5-5", Sampling.NONE, Thinking.DISABLED),
        ("claude-haiku-4-5-20251001", Sampling.EITHER, Thinking.OMIT),
        ("claude-sonnet-5-5", Sampling.NONE, Thinking.BETWEEN_TOOLS),
        ("claude-opus-5-5", Sampling.NONE, Thinking.LOW_EFFORT),
        ("claude-opus-4-7", Sampling.NONE, Thinking.OMIT),
        ("claude-opus-5", Sampling.NONE, Thinking.DISABLED),
    ],
)
def test_a_documented_trap_is_stepped_into(model: str, sampling: Sampling, thinking: Thinking) -> None:
    row = capabilities(model)
    assert (row.sampling, row.thinking) == (sampling, thinking)
