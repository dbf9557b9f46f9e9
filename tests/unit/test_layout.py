"""Line ends and indentation: named by what would be wrong with them in the file."""

from __future__ import annotations

import pytest

from proxy import fim
from proxy.dialects.base import Hole


def tagged(answer: str, prefix: str, suffix: str = "\n", *, stops: tuple[str, ...] = ()) -> str:
    cleaner = fim.Cleaner(Hole(prefix, suffix), stops=stops, max_tokens=None)
    return cleaner.feed(f"<COMPLETION>{answer}</COMPLETION>") + cleaner.finish()


class TestLineEnds:
    @pytest.mark.parametrize("answer", ["a\nb", "a\r\nb"])
    @pytest.mark.parametrize(
        ("prefix", "suffix", "inserted"),
        [
            ("x\r\n", "\r\n", "a\r\nb"),
            ("x", "\r\ny", "a\r\nb"),
            ("x\n", "\n", "a\nb"),
            ("x", "", "a\nb"),
            ("x\ny\r\n", "\n", "a\r\nb"),
            ("x\r\ny\n", "\r\n", "a\nb"),
        ],
    )
    def test_a_line_does_not_end_as_those_around_it(self, prefix: str, suffix: str, answer: str, inserted: str) -> None:
        assert tagged(answer, prefix, suffix) == inserted

    def test_a_carriage_return_without_a_line_end_is_lost(self) -> None:
        assert tagged("a\rb\r", "x = ") == "a\rb\r"

    def test_a_repetition_with_other_line_ends_is_inserted(self) -> None:
        assert tagged("def f():\n    return 1\n\n\nx", "def f():\r\n    ", "\r\n\r\n\r\nx\r\n") == "return 1"

    @pytest.mark.parametrize("stop", ["\n\n", "\r\n\r\n"])
    def test_a_blank_line_does_not_stop_the_answer(self, stop: str) -> None:
        assert tagged("a\n\nb", "x\r\n", "\r\n", stops=(stop,)) == "a"


class TestIndentation:
    PREFIX = "class A:\n    def f(self, x):\n        "

    def test_a_block_is_inserted_at_the_margin(self) -> None:
        answer = "if x:\n    return 1\n\nelse:\n    return 2\nreturn 3"
        assert tagged(answer, self.PREFIX) == (
            "if x:\n            return 1\n\n        else:\n            return 2\n        return 3"
        )

    @pytest.mark.parametrize(
        "answer",
        [
            "if x:\n            return 1\n        return 2",
            "return 1\n\n    def g(self):\n        pass",
            "return 1\n\n\nx = 1",
            "if x:\n        # this is so\n            return 1",
            "if x:\n\n\n    ",
            "if x:",
            "if x:\nx",
            "for example:\n    that",
            "x = {\n    }",
            "for a in b):\n    return",
        ],
    )
    def test_what_is_indented_as_it_should_be_is_moved(self, answer: str) -> None:
        assert tagged(answer, self.PREFIX, "\n    y\n").rstrip() == answer.rstrip()

    def test_a_text_is_indented_as_code(self) -> None:
        assert tagged("if x:\n  y", 'a = """\n    ') == "if x:\n  y"

    def test_what_is_not_indented_with_the_same_signs_is_mixed(self) -> None:
        assert tagged("if x:\n    y", "def f():\n\t") == "if x:\n    y"

    def test_what_goes_on_in_an_indentation_is_moved(self) -> None:
        already = "(a\n           "
        cleaner = fim.Cleaner(Hole(f"    if not any{already}", "\n"), stops=(), max_tokens=None, already=already)
        rest = "  for a in b):\n        return"
        assert cleaner.feed(f"<COMPLETION>{rest}</COMPLETION>") + cleaner.finish() == rest

    def test_a_line_end_is_begun_twice(self) -> None:
        cleaner = fim.Cleaner(Hole("a\r\nb\r", "\r\n"), stops=(), max_tokens=None, already="b\r")
        assert cleaner.feed("<COMPLETION>\nc\nd</COMPLETION>") + cleaner.finish() == "\nc\r\nd"
