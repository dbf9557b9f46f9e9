"""The commands' way to a running proxy: its admin listener."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SECONDS = 5.0


class NoAnswer(Exception):
    """The admin listener cannot be asked, or said no. The message is for people and says what to change."""


def admin_token(file: Path | None) -> str | None:
    """The token for changes: in `file`, else where the proxy of this environment has it. Raises OSError, ValueError."""
    if file is not None:
        return file.read_text("utf-8-sig").strip() or None
    from proxy.settings import Settings
    from proxy.settings_sources import from_secrets
    from proxy.settings_types import variable

    if token := os.environ.get(variable("admin_token"), "").strip():
        return token
    if directory := os.environ.get(variable("secrets_dir"), "").strip():
        fields = {"admin_token": Settings.model_fields["admin_token"]}
        token = str(from_secrets(directory, variable("secrets_dir"), fields).values.get("admin_token", "")).strip()
    return token or None


async def ask(
    url: str, path: str, *, method: str = "GET", token: str | None = None, body: Mapping[str, Any] | None = None
) -> Any:
    """The JSON that the admin listener at `url` answers with. Raises NoAnswer."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    address = url if "://" in url else f"http://{url}"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS), headers=headers) as session,
            session.request(method, f"{address.rstrip('/')}{path}", json=body) as response,
        ):
            answer = json.loads(await response.read())
            status = response.status
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise NoAnswer(
            f"no proxy answers at {url} ({type(error).__name__}); is it running, and is --url its admin listener?"
        ) from error
    if status >= 400:
        raise NoAnswer(_refusal(status, answer))
    return answer


def _refusal(status: int, answer: Any) -> str:
    message = answer.get("error", {}).get("message", "") if isinstance(answer, dict) else ""
    hint = "; it is read from COMPLETION_PROXY_ADMIN_TOKEN or from --token-file" if status == 401 else ""
    return f"refused: {message or status}{hint}"
