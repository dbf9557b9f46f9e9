"""LiteLLM as GitLab's gateway uses it: Codestral on Vertex AI, by `api_base` alone."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import google.auth
import pytest
from google.auth.credentials import Credentials

from proxy.simulator import model
from tests.rig import PREFIX, SUFFIX, expected

if TYPE_CHECKING:
    from tests.rig import Rig

# Of LiteLLM's own making; the warnings are for its authors.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:litellm.*", "ignore:Inheritance class:DeprecationWarning"
)

NAMES = ["codestral@2405", "codestral-2"]
QUESTION = "Say something."
MESSAGES = [{"role": "user", "content": QUESTION}]
GITLABS = {"max_tokens": 64, "temperature": 0.7, "top_p": 0.95, "stop": ["\n\n", "\n+++++"]}


class StaticToken(Credentials):
    """Google credentials that need nobody to be had."""

    def refresh(self, request: object) -> None:
        """As if the token server had answered."""
        self.token = "of-the-caller"


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library, imported here for it takes seconds; it must not fetch its list of prices from the network."""
    monkeypatch.setitem(os.environ, "LITELLM_LOCAL_MODEL_COST_MAP", "True")
    credentials = StaticToken()  # type: ignore[no-untyped-call]
    monkeypatch.setattr(google.auth, "default", lambda *_, **__: (credentials, "project"))
    import litellm

    return litellm


def place(proxy: Rig, name: str) -> dict[str, str]:
    """Where the model is."""
    return {
        "model": f"vertex_ai/{name}",
        "api_base": proxy.app.address,
        "vertex_project": "project",
        "vertex_location": "us-central1",
    }


@pytest.mark.parametrize("name", NAMES)
async def test_fill_in_the_middle_is_not_read(proxy: Rig, provider: str, litellm: Any, name: str) -> None:
    asked = {"prompt": PREFIX, "suffix": SUFFIX, **GITLABS, **place(proxy, name)}
    answer = await litellm.atext_completion(**asked)
    assert isinstance(answer, litellm.TextCompletionResponse)
    assert (answer.object, answer.model) == ("text_completion", name.partition("@")[0])
    assert answer.id
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason, choice.text) == (0, "stop", expected(provider))
    assert answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert_pieces([chunk async for chunk in await litellm.atext_completion(**asked, stream=True)], expected(provider))


def assert_pieces(chunks: list[Any], text: str) -> None:
    choices = [chunk.choices[0] for chunk in chunks]
    assert "".join(choice.text or "" for choice in choices) == text
    assert [choice.finish_reason for choice in choices] == [None] * (len(choices) - 1) + ["stop"]


@pytest.mark.parametrize("name", NAMES)
async def test_a_chat_is_not_read(proxy: Rig, provider: str, litellm: Any, name: str) -> None:
    asked = {"messages": MESSAGES, "max_tokens": 64, **place(proxy, name)}
    answer = await litellm.acompletion(**asked)
    assert isinstance(answer, litellm.ModelResponse)
    (choice,) = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("stop", model.chat(provider, QUESTION))
    assert answer.usage.completion_tokens > 0
    chunks = [chunk async for chunk in await litellm.acompletion(**asked, stream=True)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == model.chat(provider, QUESTION)
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_the_blocking_client_is_not_served(proxy: Rig, provider: str, litellm: Any) -> None:
    asked = {"prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 64, **place(proxy, "codestral-2")}

    def ask() -> tuple[Any, list[Any]]:
        return litellm.text_completion(**asked), list(litellm.text_completion(**asked, stream=True))

    answer, chunks = await asyncio.to_thread(ask)
    assert answer.choices[0].text == expected(provider)
    assert_pieces(chunks, expected(provider))


async def test_an_outage_is_no_error_of_the_client_own(outage: Rig, litellm: Any) -> None:
    asked = {"prompt": PREFIX, **place(outage, "codestral-2")}
    with pytest.raises(litellm.ServiceUnavailableError, match=r"currently unavailable\.") as caught:
        await litellm.atext_completion(**asked)
    assert caught.value.status_code == 503
    stream = await litellm.atext_completion(**asked, stream=True)
    with pytest.raises(litellm.ServiceUnavailableError, match=r"currently unavailable\.") as caught:
        await anext(aiter(stream))
    assert caught.value.status_code == 503
