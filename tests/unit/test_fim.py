"""Fill-in-the-middle on a chat model: named by what would be inserted into somebody's file."""

from __future__ import annotations

import re
from time import process_time

import pytest

from proxy import fim
from proxy.dialects.base import Hole

BODY = Hole("def f(x):\n    ", "\n\n\ndef g():\n")


def clean(answer: str, hole: Hole = BODY, *, stops: tuple[str, ...] = (), max_tokens: int | None = None) -> str:
    cleaner = fim.Cleaner(hole, stops=stops, max_tokens=max_tokens)
    return cleaner.feed(answer) + cleaner.finish()


class TestPrompt:
    def test_the_question_has_another_form(self) -> None:
        prompt = fim.prompt(Hole("# Path: src/foo.py\nx = ", "\ny = 2\n"))
        assert prompt.text == (
            "File: src/foo.py\n"
            "Language: python\n"
            "<CODE>\n"
            "# Path: src/foo.py\n"
            "x = <|CURSOR|>\n"
            "y = 2\n"
            "\n"
            "</CODE>\n"
            "\n"
            "Write the code that belongs at <|CURSOR|>. Answer inside <COMPLETION> and </COMPLETION>."
        )
        assert (prompt.opening_tag, prompt.closing_tag) == ("<COMPLETION>", "</COMPLETION>")

    def test_a_file_is_made_up(self) -> None:
        assert fim.prompt(Hole("x = ", "")).text.startswith("<CODE>\nx = <|CURSOR|>\n</CODE>\n\n")

    @pytest.mark.parametrize("token", ["<|CURSOR|>", "<CODE>", "</CODE>", "<COMPLETION>", "</COMPLETION>"])
    def test_code_forges_a_tag(self, token: str) -> None:
        for hole in (Hole(f"a {token} b", "c"), Hole("a", f"b{token}")):
            prompt = fim.prompt(hole)
            assert prompt.closing_tag == "</COMPLETION-2>"
            assert prompt.text.count("<|CURSOR-2|>") == 2
            assert "<CODE-2>\n" in prompt.text

    def test_a_number_is_taken(self) -> None:
        assert fim.prompt(Hole("<CODE> <|CURSOR-2|> </COMPLETION-3> <CODE-5>", "")).closing_tag == "</COMPLETION-4>"
        assert fim.prompt(Hole("<CODE-2>", "")).closing_tag == "</COMPLETION>"
        assert fim.prompt(Hole("<CODE><CODE-02><CODE-2x>", "")).closing_tag == "</COMPLETION-2>"

    def test_a_tag_is_cut_in_two_by_the_cursor(self) -> None:
        assert fim.prompt(Hole("<|CUR", "SOR|>")).text.count("<|CURSOR|>") == 2

    def test_a_long_file_is_sent_whole(self) -> None:
        prefix = "".join(f"line {number}\n" for number in range(10_000))
        prompt = fim.prompt(Hole(prefix + "x = ", "\n" + prefix))
        before, _, after = prompt.text.partition("<|CURSOR|>")
        code = before.partition("<CODE>\n")[2]
        assert fim.PREFIX_BUDGET - 20 < len(code) <= fim.PREFIX_BUDGET
        assert re.match(r"line \d+\n", code)
        assert code.endswith("line 9999\nx = ")
        rest = after.partition("\n</CODE>")[0]
        assert fim.SUFFIX_BUDGET - 20 < len(rest) <= fim.SUFFIX_BUDGET
        assert re.search(r"\nline \d+\Z", rest)

    def test_a_file_of_one_line_is_not_sent_at_all(self) -> None:
        prompt = fim.prompt(Hole("a\n" + "x" * 100_000, "y" * 100_000 + "\n"))
        assert prompt.text.count("x") == fim.PREFIX_BUDGET
        assert "y" * fim.SUFFIX_BUDGET in prompt.text

    @pytest.mark.parametrize("code", ["<CODE-1" * 200_000, "<" * 1_000_000])
    def test_code_keeps_a_regular_expression_busy(self, code: str) -> None:
        assert fim.prompt(Hole(code, code)).closing_tag == "</COMPLETION>"

    def test_the_examples_have_another_form_than_the_question(self) -> None:
        form = re.compile(
            r"(File: .*\n)?(Language: .*\n)?<CODE>\n(?s:.*?)<\|CURSOR\|>(?s:.*?)\n</CODE>\n\n"
            r"Write the code that belongs at <\|CURSOR\|>\. Answer inside <COMPLETION> and </COMPLETION>\."
        )
        examples = fim.SYSTEM_PROMPT.split("Examples:\n\n")[1].split("\n\n---\n\n")
        answers = []
        for example in examples:
            question, _, answer = example.rpartition("\n\n")
            while not form.fullmatch(question):
                question, _, more = question.rpartition("\n\n")
                answer = f"{more}\n\n{answer}"
            answers.append(answer)
        assert 3 <= len(examples) <= 5
        assert answers.count("<COMPLETION></COMPLETION>") == 1
        assert all(answer.startswith("<COMPLETION>") and answer.endswith("</COMPLETION>") for answer in answers)


class TestTags:
    @pytest.mark.parametrize(
        "answer",
        [
            "<COMPLETION>return x</COMPLETION>",
            "<COMPLETION>return x",
            "Here it is:\n\n<COMPLETION>return x</COMPLETION>\n\nI hope this helps.",
            "return x",
            "return x</COMPLETION>",
            "<COMPLETION>return x</COMPLET",
            "```python\nreturn x\n```",
            "Here is the code:\n```python\nreturn x\n```\nIt returns x.",
            "<COMPLETION>```python\nreturn x\n```</COMPLETION>",
            "<COMPLETION>\n```\nreturn x\n```\n</COMPLETION>",
            "<COMPLETION>```python\r\nreturn x\r\n```\r\n</COMPLETION>",
            "<COMPLETION>```python\nreturn x",
            "<COMPLETION>```python\nreturn x\n```\nThis returns x.</COMPLETION>",
        ],
    )
    def test_the_form_of_an_answer_is_inserted(self, answer: str) -> None:
        assert clean(answer) == "return x"

    @pytest.mark.parametrize(
        "answer",
        [
            "",
            "<COMPLETION>",
            "<COMPLETION></COMPLETION>",
            "<COMPL",
            "I can't help with that.",
            "I\u2019m sorry, but there is nothing to complete.",
            "Sorry, no.",
            "The code is complete as it stands.",
            "Nothing fits here.",
            "<COMPLETION>```python\n```</COMPLETION>",
            "<COMPLETION>```</COMPLETION>",
        ],
    )
    def test_talk_is_inserted(self, answer: str) -> None:
        assert clean(answer) == ""

    @pytest.mark.parametrize("code", ["if x < y", "a </", "Item()", "`x`", "``", "```x```", "I = 1", "x\n``"])
    def test_code_is_taken_for_form(self, code: str) -> None:
        assert clean(f"<COMPLETION>{code}</COMPLETION>") == code
        assert clean(f"<COMPLETION>{code}") == code

    def test_code_without_tags_is_taken_for_talk(self) -> None:
        assert clean("Item = 1\nThen = 2") == "Item = 1\nThen = 2"

    def test_a_fence_inside_the_code_ends_it(self) -> None:
        code = 'text = """\n```\ncode\n```\n"""\n'
        assert clean(f"<COMPLETION>{code}x</COMPLETION>") == f"{code}x"

    def test_a_line_that_only_begins_like_a_fence_ends_it(self) -> None:
        assert clean("<COMPLETION>```md\na\n``\n```js\nb\n```</COMPLETION>") == "a\n``\n```js\nb"

    def test_a_tag_in_the_code_ends_it(self) -> None:
        hole = Hole("tag = '</COMPLETION>'\n", "y\n")
        assert clean("<COMPLETION-2>x = '</COMPLETION>'\n</COMPLETION-2>", hole) == "x = '</COMPLETION>'\n"

    @pytest.mark.parametrize(
        "answer",
        [
            "<completion>return x</completion>",
            "<Completion>\nreturn x\n</Completion>\n\nIt returns x.",
            "<COMPLETION>return x</completion>\n",
            "<COMPLETION-2>return x</COMPLETION-2>",
            "```python\n<COMPLETION>return x</COMPLETION>\n```",
            "Here it is:\n<completion>return x</completion>",
            "return x</completion>",
        ],
    )
    def test_another_tag_than_the_one_asked_for_is_inserted(self, answer: str) -> None:
        assert clean(answer) == "return x"

    def test_a_plain_tag_is_inserted_where_one_with_a_number_was_asked_for(self) -> None:
        hole = Hole("# <COMPLETION>\nx = ", "\n")
        assert clean("<COMPLETION>1</COMPLETION>", hole) == "1"
        assert clean("<COMPLETION>'</COMPLETION>'</COMPLETION-2>", hole) == "'</COMPLETION>'"
        assert clean("<COMPLETION-2>1</COMPLETION>\n", hole) == "1"

    @pytest.mark.parametrize("code", ["'</completion>'", "x = '</COMPLETION", "a <completion> b", "</c"])
    def test_code_that_looks_like_another_tag_is_lost(self, code: str) -> None:
        hole = Hole("# <COMPLETION>\n", "")
        assert clean(f"<COMPLETION-2>{code}</COMPLETION-2>", hole) == code
        assert clean(f"<COMPLETION>x{code}.</COMPLETION>") == f"x{code}."

    @pytest.mark.parametrize(
        "answer",
        [
            "<COMPLETION>Here is the code:\n\n```python\nreturn x\n```\nIt returns x.</COMPLETION>",
            "<COMPLETION>Sure!\n```\nreturn x\n```</COMPLETION>",
            "Here is the code:\n\nreturn x",
            "return x\n\nThis returns x.",
            "Sure, here you go:\n\nreturn x\n\nThis is all.\n\nLet me know!",
        ],
    )
    def test_talk_around_the_code_is_inserted(self, answer: str) -> None:
        assert clean(answer) == "return x"

    @pytest.mark.parametrize(
        "code", ["Here is the\nend", "Sure", "Surely(1)", "Here is ```x```", "x = 1\n\nThis is x", "Her"]
    )
    def test_code_that_begins_as_talk_is_lost(self, code: str) -> None:
        assert clean(f"<COMPLETION>{code}</COMPLETION>", Hole("q = ", "\n")) == code
        assert clean(f"<COMPLETION>y\n\n{code}", Hole("q = ", "\n")) == f"y\n\n{code}"

    def test_fenced_lines_run_into_the_line_after_them(self) -> None:
        assert clean("<COMPLETION>```\nb\n```</COMPLETION>", Hole("a\n", "c\n")) == "b\n"
        assert clean("<COMPLETION>```\nb\n```\n</COMPLETION>", Hole("a\n", "c\n")) == "b\n"
        assert clean("<COMPLETION>```\n```</COMPLETION>", Hole("a\n", "c\n")) == ""
        assert clean("<COMPLETION>```\nb\n```</COMPLETION>", Hole("a\n", "\nc\n")) == "b"


class TestStops:
    def test_a_stop_is_looked_for_outside_of_the_code(self) -> None:
        assert clean("I thought\n\nof <COMPLETION>a\nb\n\nc</COMPLETION>", stops=("\n\n",)) == "a\nb"

    def test_the_prefix_that_is_repeated_stops_the_answer(self) -> None:
        assert clean("<COMPLETION>def f(x):\n    return 1\ndef", stops=("def",)) == "return 1\n"

    def test_the_limit_is_passed(self) -> None:
        cleaner = fim.Cleaner(BODY, stops=(), max_tokens=2)
        assert cleaner.feed("<COMPLETION>return value") == "return v"
        assert (cleaner.stopped, cleaner.capped) == (True, True)
        assert cleaner.finish() == ""

    def test_the_closing_tag_does_not_end_the_answer(self) -> None:
        cleaner = fim.Cleaner(BODY, stops=(), max_tokens=None)
        assert cleaner.feed("<COMPLETION>return x\n") == "return x"
        assert not cleaner.stopped
        assert cleaner.feed("</COMPLETION> and so on") == ""
        assert (cleaner.stopped, cleaner.capped) == (True, False)
        assert cleaner.finish() == ""


class TestStopsLeftToClaude:
    HOLE = Hole("import os\n\n\ndef add(a, b):\n    total = ", "\n    return total\n")

    @pytest.mark.parametrize("stop", ["\n    return total", "\n+++++", "\nclass", "\n\nx", "print("])
    def test_claude_writes_on_after_a_stop(self, stop: str) -> None:
        assert fim.is_safe_stop(stop, self.HOLE)

    @pytest.mark.parametrize(
        "stop", ["def", "\ndef add", "total =", "import os", "total = 0", "COMPLETION", "`", "```", "```python", "N>x"]
    )
    def test_claude_stops_in_what_is_cleaned_away(self, stop: str) -> None:
        hole = Hole(f"import os\n{self.HOLE.prefix}", self.HOLE.suffix)
        assert not fim.is_safe_stop(stop, hole)
        assert not fim.is_safe_stop(stop, Hole(hole.prefix.replace("\n", "\r\n"), ""))


class TestAnAnswerThatGoesOn:
    """`already` is what another provider sent before it broke off; it stands in the prefix."""

    def going_on(self, answer: str, already: str, suffix: str = "", *, stops: tuple[str, ...] = ()) -> str:
        cleaner = fim.Cleaner(Hole(f"x = {already}", suffix), stops=stops, max_tokens=4, already=already)
        return cleaner.feed(f"<COMPLETION>{answer}</COMPLETION>") + cleaner.finish()

    def test_a_bracket_that_was_open_at_the_break_is_not_closed(self) -> None:
        assert self.going_on("a)", "f(", ")\n") == "a)"
        assert self.going_on("a)", "f", ")\n") == "a"

    def test_a_bracket_that_was_open_at_the_break_is_closed_twice(self) -> None:
        cleaner = fim.Cleaner(Hole("x = f(g(", ")\n"), stops=(), max_tokens=None, already="g(")
        assert cleaner.feed("<COMPLETION>a))</COMPLETION>") + cleaner.finish() == "a)"

    def test_the_begun_line_is_sent_again(self) -> None:
        assert self.going_on("x = abc", "ab") == "c"

    def test_a_stop_and_the_limit_begin_anew(self) -> None:
        assert self.going_on(")\n", "f()", stops=("))",)) == ""
        assert self.going_on("y" * 20, "x" * 10) == "y" * 6


class TestStream:
    @pytest.mark.parametrize(
        "answer",
        [
            " ",
            "\n",
            "\n    ",
            "\t\n",
            ")",
            "()",
            " x",
            "```",
            "`",
            "\n```",
            "<",
            "</completion>",
            "Here is",
            "\n\nThis is.",
        ],
    )
    @pytest.mark.parametrize("tag", ["", "<COMPLETION>", "<COMPLETION>```\n"])
    def test_an_answer_keeps_the_clean_up_busy(self, answer: str, tag: str) -> None:
        answer *= 1_000_000 // len(answer)
        hole = Hole("x = (\n" * 2000 + "    foo(", answer[:8000])
        cleaner = fim.Cleaner(hole, stops=("\n\n\n\nx",), max_tokens=None)
        began = process_time()
        cleaner.feed(tag)
        for at in range(0, 100_000, 10):
            cleaner.feed(answer[at : at + 10])
        cleaner.feed(answer[100_000:])
        cleaner.finish()
        # A look at all of the text for each of the 10,000 pieces would take a minute.
        assert process_time() - began < 3

    def test_text_is_held_back_for_no_reason(self) -> None:
        cleaner = fim.Cleaner(BODY, stops=("\n\n",), max_tokens=None)
        assert [cleaner.feed(piece) for piece in ("<COMP", "LETION>", "ret", "urn", " x\n", "    + y<", "z")] == [
            "",
            "",
            "ret",
            "urn",
            " x",
            "\n    + y",
            "<z",
        ]
