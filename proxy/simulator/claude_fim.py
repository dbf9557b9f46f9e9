"""How the simulated Claude reads a file with a hole in it.

Pure, and written from the description of the prompt alone, never from the proxy's code: it reads the names of the
marker and of the tags from the last line, as a model would, and is as confused as a model by names that also stand in
the code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PROMPT = re.compile(
    r"(?:File: [^\n]*\n)?"
    r"(?:Language: [^\n]*\n)?"
    r"<(?P<code>CODE(?:-\d+)?)>\n"
    r"(?P<text>.*)\n"
    r"</(?P=code)>\n\n"
    r"Write the code that belongs at (?P<marker><\|CURSOR(?:-\d+)?\|>)\. "
    r"Answer inside <(?P<answer>COMPLETION(?:-\d+)?)> and </(?P=answer)>\.",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Task:
    """What stands around the hole, and in which tag the answer is wanted."""

    prefix: str
    suffix: str
    tag: str

    def wrapped(self, completion: str) -> str:
        """The answer as the model writes it."""
        return f"<{self.tag}>{completion}</{self.tag}>"


def read_task(text: str) -> Task | None:
    """The task in the text of a message, or None if it is none or cannot be told from the code."""
    match = PROMPT.fullmatch(text.rstrip("\n"))
    if match is None:
        return None
    code, marker, tag = match["text"], match["marker"], match["answer"]
    forged = any(f"<{slash}{name}>" in code for name in (match["code"], tag) for slash in ("", "/"))
    if forged or code.count(marker) != 1:
        return None
    prefix, _, suffix = code.partition(marker)
    return Task(prefix, suffix, tag)
