"""The commands' way to a running proxy: its admin listener."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import aiohttp

from proxy.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SECONDS = 5.0


class NoAnswer(Exception):
    """The admin listener cannot be asked, or said no. The message is for people and says what to change."""


class TokenUnusable(Exception):
    """The admin token cannot be had. The message is for people and names the place."""


def admin_token(file: Path | None) -> str | None:
    """The token for changes: in `file`, else where the proxy of this environment has it.

    Raises TokenUnusable where what stands there can be no token.
    """
    if file is None:
        return _token_of_the_environment()
    try:
        token = file.read_text("utf-8-sig").strip()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise TokenUnusable(f"{file} cannot be read: {why}") from error
    return _checked(token, f"{file}: the token file must hold one line")


def _token_of_the_environment() -> str | None:
    from proxy.settings import Settings
    from proxy.settings_sources import from_secrets
    from proxy.settings_types import variable

    name = variable("admin_token")
    if token := os.environ.get(name, "").strip():
        return _checked(token, f"{name} must be one line")
    if directory := os.environ.get(variable("secrets_dir"), "").strip():
        fields = {"admin_token": Settings.model_fields["admin_token"]}
        token = str(from_secrets(directory, variable("secrets_dir"), fields).values.get("admin_token", "")).strip()
    return _checked(token, f"{name} in {directory} must be one line")


def _checked(token: str, otherwise: str) -> str | None:
    """A token that can stand in a header. Its text is never shown."""
    if not token.isprintable():
        raise TokenUnusable(otherwise)
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
        raise NoAnswer(printable(_refusal(status, answer)))
    return answer


def _refusal(status: int, answer: Any) -> str:
    message = answer.get("error", {}).get("message", "") if isinstance(answer, dict) else ""
    hint = "; it is read from COMPLETION_PROXY_ADMIN_TOKEN or from --token-file" if status == 401 else ""
    return f"refused: {message or status}{hint}"
