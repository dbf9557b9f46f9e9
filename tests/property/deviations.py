"""What chat models do to an answer besides giving it: every usual deviation from the form that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from proxy import fim
from tests.property.corpus import Cut

Answer = Callable[[Cut], str | None]
"""An answer to a cut, or the code in it; None where there is nothing to decorate."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """One way to decorate the code of a cut, and the share of all cuts in which it must be taken off again."""

    name: str
    answer: Answer
    floor: float = 1.0
    why: str = ""
    """What cannot be told from code that is meant so, where the floor is below 1."""
    cut: Callable[[Cut], Cut] = lambda cut: cut
    """What is done to the file first."""


@cache
def tags(cut: Cut) -> tuple[str, str]:
    """Those that are asked for."""
    prompt = fim.prompt(cut.hole)
    return prompt.opening_tag, prompt.closing_tag


def with_tags_in_the_file(cut: Cut) -> Cut:
    """The same in a file that has all that could be taken for a marker, in the code that is missing, too."""
    before, line_end, begun = cut.hole.prefix.rpartition("\n")
    forged = "# <COMPLETION></COMPLETION> <|CURSOR|></CODE>"
    prefix = f"{before}{line_end}{forged}{cut.line_end}{begun}"
    return replace(cut, hole=replace(cut.hole, prefix=prefix), middle=f"{cut.middle}{forged}" if cut.middle else "")


def with_a_tag_in_the_file(cut: Cut) -> Cut:
    """The same in a file that has a tag, so that numbered ones are asked for."""
    before, line_end, begun = cut.hole.prefix.rpartition("\n")
    prefix = f"{before}{line_end}# <COMPLETION>{cut.line_end}{begun}"
    return replace(cut, hole=replace(cut.hole, prefix=prefix))


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


def rest_of_line_and_line_end(cut: Cut) -> str | None:
    code = with_rest_of_line(cut)
    return None if code is None else f"{code}\n"


def with_next_lines_and_other_line_ends(cut: Cut) -> str | None:
    code = with_next_lines(cut)
    if code is None:
        return None
    return code.replace("\r\n", "\n") if cut.line_end == "\r\n" else code.replace("\n", "\r\n")


def dedented(cut: Cut) -> str | None:
    """All lines, the first too, without the indentation of the first."""
    first, *lines = cut.middle.split("\n")
    if (
        not cut.begun.isspace()
        or not lines
        or not all(line.startswith(cut.begun) or not line.strip() for line in lines)
    ):
        return None
    return "\n".join([first, *(line.removeprefix(cut.begun) for line in lines)])


# How it is wrapped.


def tagged(content: Answer) -> Answer:
    return wrapped(content, "{opening}{code}{closing}")


def wrapped(content: Answer, form: str) -> Answer:
    def answer(cut: Cut) -> str | None:
        code = content(cut)
        if code is None:
            return None
        line_end = "" if code.endswith("\n") else cut.line_end
        opening, closing = tags(cut)
        return form.format(code=code, line=code + line_end, opening=opening, closing=closing)

    return answer


FENCED = "```\n{line}```"
PYTHON = "```python\n{line}```"
BEFORE = "Here is the code that belongs at the cursor:\n\n"
AFTER = "\n\nThis completes the line. Let me know if you need anything else."
_TALK = "code without tags that begins as talk does, in a docstring"
_SIGNS = "a begun line of signs alone"
_TWICE = "lines that the code has twice before the hole"
_LINE_END = "a line end that may be meant, where a line can end"

DEVIATIONS = [
    Deviation("none", tagged(plain)),
    Deviation("fence", wrapped(plain, "{opening}" + FENCED + "{closing}")),
    Deviation("fence with language", wrapped(plain, "{opening}" + PYTHON + "{closing}")),
    Deviation("fence, tags on lines of their own", wrapped(plain, "{opening}\n" + PYTHON + "\n{closing}")),
    Deviation("fence around the tags", wrapped(plain, "```python\n{opening}{code}{closing}\n```")),
    Deviation("fence instead of tags", wrapped(plain, PYTHON)),
    Deviation("fence instead of tags, prose before and after", wrapped(plain, BEFORE + PYTHON + AFTER)),
    Deviation(
        "fence in tags, prose before and after", wrapped(plain, "{opening}" + BEFORE + PYTHON + AFTER + "{closing}")
    ),
    Deviation("prose before", wrapped(plain, BEFORE + "{opening}{code}{closing}")),
    Deviation("prose after", wrapped(plain, "{opening}{code}{closing}" + AFTER)),
    Deviation("prose before, no tags", wrapped(plain, BEFORE + "{code}"), 0.9, "a line end between talk and code"),
    Deviation("prose after, no tags", wrapped(plain, "{code}" + AFTER), 0.99, _TALK),
    Deviation("closing tag missing", wrapped(plain, "{opening}{code}")),
    Deviation("opening tag missing", wrapped(plain, "{code}{closing}"), 0.99, _TALK),
    Deviation("both tags missing", wrapped(plain, "{code}"), 0.99, _TALK),
    Deviation("tags in lower case", wrapped(plain, "<completion>{code}</completion>")),
    Deviation("tags in the code", tagged(plain), cut=with_tags_in_the_file),
    Deviation(
        "plain tags for numbered ones", wrapped(plain, "<COMPLETION>{code}</COMPLETION>"), cut=with_a_tag_in_the_file
    ),
    Deviation("begun line repeated", tagged(with_begun_line), 0.99, _SIGNS),
    Deviation("begun line repeated, not indented", tagged(with_begun_line_unindented), 0.96, _SIGNS),
    Deviation("begun line repeated, fence", wrapped(with_begun_line, "{opening}" + PYTHON + "{closing}"), 0.99, _SIGNS),
    Deviation("begun line repeated, closing tag missing", wrapped(with_begun_line, "{opening}{code}"), 0.99, _SIGNS),
    Deviation("indentation repeated", tagged(with_indentation)),
    Deviation("last line repeated", tagged(with_last_line), 0.97, _TWICE),
    Deviation("last lines repeated", tagged(with_last_lines), 0.99, _TWICE),
    Deviation("last lines repeated, first not indented", tagged(with_last_lines_unindented), 0.97, _TWICE),
    Deviation(
        "rest of the line repeated", tagged(with_rest_of_line), 0.94, "brackets that the answer opens and closes"
    ),
    Deviation("rest of the line repeated, line end", tagged(rest_of_line_and_line_end), 0.94, "as the one before"),
    Deviation("next lines repeated", tagged(with_next_lines), 0.99, "lines that the code has twice after the hole"),
    Deviation(
        "next lines repeated, prose, fence",
        wrapped(with_next_lines, BEFORE + "{opening}" + FENCED + "{closing}"),
        0.99,
        "as the one before",
    ),
    Deviation("line end after the opening tag", tagged(after_a_line_end), 0.45, _LINE_END),
    Deviation("line end before the closing tag", tagged(before_a_line_end), 0.97, _LINE_END),
    Deviation("tags on lines of their own", tagged(on_lines_of_its_own), 0.35, _LINE_END),
    Deviation(
        "tags on lines of their own, begun line repeated", tagged(begun_line_on_lines_of_its_own), 0.6, _LINE_END
    ),
    Deviation("spaces before the closing tag", tagged(with_spaces_at_the_end), 0.9, "spaces before a word of the line"),
    Deviation("the other line ends", tagged(with_other_line_ends)),
    Deviation(
        "the other line ends, next lines repeated",
        tagged(with_next_lines_and_other_line_ends),
        0.99,
        "lines that the code has twice",
    ),
    Deviation(
        "dedented", tagged(dedented), 0.1, "a line at the margin that may be meant, but after `if x:` and its like"
    ),
]
