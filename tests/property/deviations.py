"""What chat models do to an answer besides giving it: every usual deviation from the form that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy import fim

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.property.corpus import Cut


@dataclass(frozen=True, slots=True)
class Deviation:
    """`answer` decorates the code of a cut; None where there is nothing to decorate. `floor` is the share recovered."""

    name: str
    answer: Callable[[Cut], str | None]
    floor: float
    why: str = ""
    """What of it cannot be told from code that was meant so."""


Content = "Callable[[Cut], str | None]"


# What is written in the tags.


def plain(cut: Cut) -> str | None:
    return cut.middle


def with_begun_line(cut: Cut) -> str | None:
    return cut.begun + cut.middle if cut.begun.strip() else None


def with_begun_line_unindented(cut: Cut) -> str | None:
    unindented = cut.begun.lstrip()
    return unindented + cut.middle if "" != unindented != cut.begun else None


def with_indentation(cut: Cut) -> str | None:
    return cut.begun + cut.middle if cut.begun.isspace() else None


def _last_lines(cut: Cut, count: int) -> list[str]:
    return cut.hole.prefix[-1000:].split("\n")[1:][-count - 1 : -1]


def with_last_lines(cut: Cut, count: int = 3) -> str | None:
    lines = _last_lines(cut, count)
    return "\n".join([*lines, cut.begun]) + cut.middle if len(lines) == count and any(map(_has_word, lines)) else None


def with_last_line(cut: Cut) -> str | None:
    return with_last_lines(cut, 1)


def with_last_lines_unindented(cut: Cut) -> str | None:
    decorated = with_last_lines(cut, 2)
    return None if decorated is None or not decorated[0].isspace() else decorated.lstrip()


def _has_word(text: str) -> bool:
    return any(map(str.isalnum, text))


def with_rest_of_line(cut: Cut) -> str | None:
    rest = cut.hole.suffix.partition("\n")[0].rstrip("\r")
    return cut.middle + rest if rest.strip() else None


def with_next_lines(cut: Cut) -> str | None:
    lines = cut.hole.suffix.split("\n")[:3]
    following = "\n".join(lines).rstrip("\r")
    return cut.middle + following if any(map(_has_word, lines[1:])) else None


def with_spaces_at_the_end(cut: Cut) -> str | None:
    return f"{cut.middle}  "


def with_other_line_ends(cut: Cut) -> str | None:
    if "\n" not in cut.middle:
        return None
    return cut.middle.replace("\r\n", "\n") if cut.line_end == "\r\n" else cut.middle.replace("\n", "\r\n")


def after_a_line_end(cut: Cut) -> str | None:
    return f"\n{cut.middle}"


def before_a_line_end(cut: Cut) -> str | None:
    return cut.middle if cut.middle.endswith("\n") else f"{cut.middle}\n"


def on_lines_of_its_own(cut: Cut) -> str | None:
    return f"\n{before_a_line_end(cut)}"


def begun_line_on_lines_of_its_own(cut: Cut) -> str | None:
    return None if with_begun_line(cut) is None else f"\n{cut.begun}{before_a_line_end(cut)}"


def dedented(cut: Cut) -> str | None:
    """All lines, the first too, without the indentation of the first."""
    first, *lines = cut.middle.split("\n")
    if not cut.begun.isspace() or not lines or not all(line.startswith(cut.begun) or not line.strip() for line in lines):
        return None
    return "\n".join([first, *(line.removeprefix(cut.begun) for line in lines)])


# How it is wrapped.


def tagged(content: Callable[[Cut], str | None]) -> Callable[[Cut], str | None]:
    return wrapped(content, "{opening}{code}{closing}")


def wrapped(content: Callable[[Cut], str | None], form: str) -> Callable[[Cut], str | None]:
    def answer(cut: Cut) -> str | None:
        prompt = fim.prompt(cut.hole)
        code = content(cut)
        if code is None:
            return None
        line_end = "" if code.endswith("\n") else cut.line_end
        return form.format(
            code=code, line=code + line_end, opening=prompt.opening_tag, closing=prompt.closing_tag
        )

    return answer


NEVER_WORSE = Deviation("none", tagged(plain), 1.0)
FENCED = "```\n{line}```"
PYTHON = "```python\n{line}```"
PROSE_BEFORE = "Here is the code that belongs at the cursor:\n\n"
PROSE_AFTER = "\n\nThis completes the line. Let me know if you need anything else."

DEVIATIONS = [
    Deviation("code fence", wrapped(plain, "{opening}" + FENCED + "{closing}"), 0),
    Deviation("code fence with language", wrapped(plain, "{opening}" + PYTHON + "{closing}"), 0),
    Deviation("fence, tags on lines of their own", wrapped(plain, "{opening}\n" + PYTHON + "\n{closing}"), 0),
    Deviation("fence around the tags", wrapped(plain, "```python\n{opening}{code}{closing}\n```"), 0),
    Deviation("fence instead of tags", wrapped(plain, PYTHON), 0),
    Deviation("prose before", wrapped(plain, PROSE_BEFORE + "{opening}{code}{closing}"), 0),
    Deviation("prose after", wrapped(plain, "{opening}{code}{closing}" + PROSE_AFTER), 0),
    Deviation("prose before and after a fence, no tags", wrapped(plain, PROSE_BEFORE + PYTHON + PROSE_AFTER), 0),
    Deviation("prose and fence inside the tags", wrapped(plain, "{opening}" + PROSE_BEFORE + PYTHON + "{closing}"), 0),
    Deviation("prose before, no tags", wrapped(plain, PROSE_BEFORE + "{code}"), 0),
    Deviation("prose after, no tags", wrapped(plain, "{code}" + PROSE_AFTER), 0),
    Deviation("begun line repeated", tagged(with_begun_line), 0),
    Deviation("begun line repeated, without indentation", tagged(with_begun_line_unindented), 0),
    Deviation("indentation repeated", tagged(with_indentation), 0),
    Deviation("last line repeated", tagged(with_last_line), 0),
    Deviation("last lines repeated", tagged(with_last_lines), 0),
    Deviation("last lines repeated, without indentation", tagged(with_last_lines_unindented), 0),
    Deviation("rest of the line repeated", tagged(with_rest_of_line), 0),
    Deviation("next lines repeated", tagged(with_next_lines), 0),
    Deviation("closing tag missing", wrapped(plain, "{opening}{code}"), 0),
    Deviation("opening tag missing", wrapped(plain, "{code}{closing}"), 0),
    Deviation("both tags missing", wrapped(plain, "{code}"), 0),
    Deviation("line end after the opening tag", tagged(after_a_line_end), 0),
    Deviation("line end before the closing tag", tagged(before_a_line_end), 0),
    Deviation("tags on lines of their own", tagged(on_lines_of_its_own), 0),
    Deviation("tags on lines of their own, begun line repeated", tagged(begun_line_on_lines_of_its_own), 0),
    Deviation("spaces before the closing tag", tagged(with_spaces_at_the_end), 0),
    Deviation("the other line ends", tagged(with_other_line_ends), 0),
    Deviation("tags in lower case", wrapped(plain, "<completion>{code}</completion>"), 0),
    Deviation("dedented", tagged(dedented), 0),
    Deviation("fence, begun line repeated", wrapped(with_begun_line, "{opening}" + PYTHON + "{closing}"), 0),
    Deviation("prose, fence, next lines repeated", wrapped(with_next_lines, PROSE_BEFORE + "{opening}" + FENCED + "{closing}"), 0),
    Deviation("begun line repeated, closing tag missing", wrapped(with_begun_line, "{opening}{code}"), 0),
    Deviation("rest of the line repeated, line end", wrapped(with_rest_of_line, "{opening}{code}\n{closing}"), 0),
]
