"""The settings table of the README, made from the settings themselves: `python -m tests.settings_table` rewrites it."""

from __future__ import annotations

import re
from pathlib import Path

from proxy.settings import PREFIX, describe

README = Path(__file__).parent.parent / "README.md"
_TABLE = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- /settings -->)", re.DOTALL)


def table() -> str:
    rows = [f"| `{doc.variable.removeprefix(PREFIX)}` | `{doc.default}` | {doc.text} |\n" for doc in describe()]
    return "".join(["| setting | default | |\n", "|---|---|---|\n", *rows])


def in_readme() -> str:
    found = _TABLE.search(README.read_text("utf-8"))
    assert found is not None
    return found.group()


if __name__ == "__main__":
    README.write_text(_TABLE.sub(lambda _: table(), README.read_text("utf-8")), "utf-8")
