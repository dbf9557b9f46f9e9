"""Fill-in-the-middle on a chat model: named by what would be inserted into somebody's file."""

from __future__ import annotations

import re

import pytest

from proxy import fim
from proxy.dialects.base import Hole

BODY = Hole("def f(x):\n    ", "\n\n\ndef g():\n")


def clean(answer: str, hole: Hole = BODY, *, stops: tuple[str, ...] = (), max_tokens: int | None = None) -> str:
    cleaner = fim.Cleaner(hole, stops=stops, max_tokens=max_tokens)
    return cleaner.feed(answer) + cleaner.finish()


def tagged(answer: str, prefix: str, suffix: str = "") -> str:
    return clean(f"<COMPLETION>{answer}</COMPLETION>", Hole(prefix, suffix))


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

    @pytest.mark.parametrize(
        ("prefix", "head"),
        [
            ("// file: src/x.ts\n", "File: src/x.ts\nLanguage: typescript\n"),
            ("\n// Filename: a.go\n", "File: a.go\nLanguage: go\n"),
            ("/* Path: a/b.css */\n", "File: a/b.css\nLanguage: css\n"),
            ("<!-- path: page.html -->\n", "File: page.html\nLanguage: html\n"),
            ("-- File path: q.sql\n", "File: q.sql\nLanguage: sql\n"),
            ("+++++ other.py\nx\n\n+++++ src/main.rs\nfn ", "File: src/main.rs\nLanguage: rust\n"),
            ("+++++ src/main.rs", "File: src/main.rs\nLanguage: rust\n"),
            ("# path: Makefile.unknown\n", "File: Makefile.unknown\n"),
            ("#!/usr/bin/env python3\n", "Language: python\n"),
            ("#!/bin/sh\n", "Language: bash\n"),
            ("#!/usr/bin/node\n", "Language: javascript\n"),
            ("# file: the one that was lost\n", ""),
            ("# path: <CODE>/x.py\n", ""),
            ("x = 1\ny = 2\nz = 3\n# path: a.py\n", ""),
            ("x +++++ a.py\n", ""),
        ],
    )
    def test_the_file_and_language_are_not_shown(self, prefix: str, head: str) -> None:
        assert fim.prompt(Hole(prefix, "")).text.partition("<CODE")[0] == head

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

    @pytest.mark.parametrize("code", ["+++++ " + "a." * 500_000 + "<", "#!" + "/" * 1_000_000, "<CODE-1" * 200_000])
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
        hole = Hole("tag = '</COMPLETION>'\n", "")
        assert clean("<COMPLETION-2>x = '</COMPLETION>'\n</COMPLETION-2>", hole) == "x = '</COMPLETION>'\n"


class TestRepetitionOfThePrefix:
    @pytest.mark.parametrize(
        ("prefix", "answer", "inserted"),
        [
            ("def add(a, b):", "def add(a, b):\n    return a + b", "\n    return a + b"),
            ("    x = ", "    x = 1", "1"),
            ("    x = ", "x = 1", "1"),
            ("    ret", "return 1", "urn 1"),
            ("def f():\n    ", "    return 1", "return 1"),
            ("def f():\n    ", "\n    return 1", "return 1"),
            ("def f():\r\n    ", "\r\n    return 1", "return 1"),
            ("def f():\n    ", "\nreturn 1", "return 1"),
            ("def f():\n    ", "def f():\n    return 1", "return 1"),
            ("def f():\n    ", "\ndef f():\n    return 1", "return 1"),
            ("import os\n", "import os\nimport sys\n", "import sys\n"),
            ("import a\nimport b\n", "import a\nimport b\nimport c", "import c"),
            ("x" * 2000 + "\ny = ", "y = 1", "1"),
        ],
    )
    def test_it_is_inserted_again(self, prefix: str, answer: str, inserted: str) -> None:
        assert tagged(answer, prefix) == inserted

    @pytest.mark.parametrize(
        ("prefix", "answer"),
        [
            ("x = foo(", "foo(1), 2)"),
            ("    }\n", "}\n"),
            ("}\n", "}\n"),
            ("(", "(a, b), c)"),
            ("x = ", "x"),
            ("def f():\n", "    return 1"),
            ("def f():\n", "\n    return 1"),
            ("", "x = 1"),
            ("\n", "\nx"),
            ("a = 1\n", "a"),
            ("import os\n", "import"),
        ],
    )
    def test_what_is_none_is_cut(self, prefix: str, answer: str) -> None:
        assert tagged(answer, prefix) == answer


class TestRepetitionOfTheSuffix:
    @pytest.mark.parametrize(
        ("suffix", "answer", "inserted"),
        [
            ("\n    return x\n", "a = 1\n    return x", "a = 1"),
            ("\n    return x\n", "a = 1\n    return x\n", "a = 1"),
            ("\n\ndef g():\n    pass\n", "return 1\n\ndef g():", "return 1"),
            (")\n", "a, b)", "a, b"),
            ("))\n", "g(a)))", "g(a)"),
            ("))\n", "g(a))", "g(a)"),
            (");\n", "g(a));", "g(a)"),
            (";\n", "x + 1;", "x + 1"),
            ('"]\n', 'Wednesday"]', "Wednesday"),
            ("'\n", "it'", "it"),
            ("\n}\n", "return 1;\n}", "return 1;"),
            ("\n", "return 1\n", "return 1"),
            ("\n\n", "return 1\n\n", "return 1"),
            ("\nx\n", "y\nx", "y"),
            ("\n    }\n", "return 1;\n    ", "return 1;"),
        ],
    )
    def test_it_is_inserted_again(self, suffix: str, answer: str, inserted: str) -> None:
        assert tagged(answer, "q = ", suffix) == inserted

    @pytest.mark.parametrize(
        ("suffix", "answer"),
        [
            (")\n", "f(a)"),
            ("\n}\n", "if (a) {\n  b;\n}"),
            ('"\n', 'f("x"'),
            ('"\n', '"x"'),
            ("foo(1)\n", "bar\n"),
            ("ab = 1\n", "x.a"),
            (" = 1\n", "x "),
            ("", "x\n"),
            ("def g()\n", "un.de"),
        ],
    )
    def test_what_is_none_is_cut(self, suffix: str, answer: str) -> None:
        assert tagged(answer, "q = ", suffix) == answer


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


class TestAnAnswerThatGoesOn:
    """`already` is what another provider sent before it broke off; it stands in the prefix."""

    def going_on(self, answer: str, already: str, suffix: str = "", *, stops: tuple[str, ...] = ()) -> str:
        cleaner = fim.Cleaner(Hole(f"x = {already}", suffix), stops=stops, max_tokens=4, already=already)
        return cleaner.feed(f"<COMPLETION>{answer}</COMPLETION>") + cleaner.finish()

    def test_a_bracket_that_was_open_at_the_break_is_not_closed(self) -> None:
        assert self.going_on("a)", "f(", ")\n") == "a)"
        assert self.going_on("a)", "f", ")\n") == "a"

    def test_the_begun_line_is_sent_again(self) -> None:
        assert self.going_on("x = abc", "ab") == "c"

    def test_a_stop_and_the_limit_begin_anew(self) -> None:
        assert self.going_on(")\n", "f()", stops=("))",)) == ""
        assert self.going_on("y" * 20, "x" * 10) == "y" * 6


class TestStream:
    @pytest.mark.parametrize("answer", [" " * 100_000, "```" * 100_000, "\n" * 100_000, ")" * 10_000, " x" * 50_000])
    def test_an_answer_keeps_the_clean_up_busy(self, answer: str) -> None:
        tags = ("", "<COMPLETION>", "<COMPLETION>```\n")
        assert all(len(clean(tag + answer, Hole("x", answer))) <= len(answer) for tag in tags)

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
