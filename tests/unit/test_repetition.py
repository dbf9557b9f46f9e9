"""What an answer repeats of the code around the hole: named by what would stand in the file twice, or be missing."""

from __future__ import annotations

import pytest

from proxy import fim
from proxy.dialects.base import Hole


def tagged(answer: str, prefix: str, suffix: str = "\n") -> str:
    cleaner = fim.Cleaner(Hole(prefix, suffix), stops=(), max_tokens=None)
    return cleaner.feed(f"<COMPLETION>{answer}</COMPLETION>") + cleaner.finish()


class TestBeforeTheHole:
    @pytest.mark.parametrize(
        ("prefix", "answer", "inserted"),
        [
            ("def add(a, b):", "def add(a, b):\n    return a + b", "\n    return a + b"),
            ("    x = ", "    x = 1", "1"),
            ("    x = ", "x = 1", "1"),
            ("    x = ", "\n    x = 1", "1"),
            ("    x = ", "\nx = 1", "1"),
            ("    ret", "return 1", "urn 1"),
            ("    ret", "\n    return 1", "urn 1"),
            ("def f():\n    ", "    return 1", "return 1"),
            ("def f():\n    ", "\n    return 1", "return 1"),
            ("def f():\r\n    ", "\r\n    return 1", "return 1"),
            ("def f():\r\n    ", "\n    return 1", "return 1"),
            ("def f():\n    ", "\nreturn 1", "return 1"),
            ("def f():\n    ", "def f():\n    return 1", "return 1"),
            ("def f():\n    ", "\ndef f():\n    return 1", "return 1"),
            ("def area(x):\n    ", "def area(x):\nreturn 1", "return 1"),
            ("class A:\n    def f(self):\n        ", "def f(self):\n        return 1", "return 1"),
            ("class A:\n    width = 1\n    def f(self):", "width = 1\ndef f(self):\n    pass", "\n    pass"),
            ("    width = 1\n    def f(self):", "width = 1\n    def f(self):\n        pass", "\n        pass"),
            ("import os\n", "import os\nimport sys", "import sys"),
            ("import a\nimport b\n", "import a\nimport b\nimport c", "import c"),
            ("x" * 2000 + "\ny = ", "y = 1", "1"),
            ("    # ", "# see below", "see below"),
            ('    """', '    """Adds."""', 'Adds."""'),
            ("    x = foo(", "\na, b", "a, b"),
            ("x = ", "\n1", "1"),
        ],
    )
    def test_it_is_inserted_again(self, prefix: str, answer: str, inserted: str) -> None:
        assert tagged(answer, prefix) == inserted

    @pytest.mark.parametrize(
        ("prefix", "answer"),
        [
            ("x = foo(", "foo(1), 2)"),
            ("    }\n", "}\nx"),
            ("}\n", "}\nx"),
            ("(", "(a, b), c)"),
            ("x = ", "x"),
            ("    _", "_slots__ = ()"),
            ('    ""', '"Adds."""'),
            ("def f():\n", "    return 1"),
            ("def f():\n", "\n    return 1"),
            ("", "x = 1"),
            ("\n", "\nx"),
            ("a = 1\n", "a"),
            ("import os\n", "import"),
            ("import os", "\nimport os.path"),
            ("    0,\n    0,\n", "    0,\n    1"),
            ("try:\n    ", "try:\n        x()"),
            ("    f(a)", "\n    f(a)"),
            ("    f(", "\n        a,\n    )"),
            ("    f(", "\n)"),
            ("names = [", '\n"a",\n"b"'),
        ],
    )
    def test_what_is_none_is_cut(self, prefix: str, answer: str) -> None:
        assert tagged(answer, prefix) == answer


class TestAfterTheHole:
    @pytest.mark.parametrize(
        ("prefix", "suffix", "answer", "inserted"),
        [
            ("q = ", "\n    return x\n", "a = 1\n    return x", "a = 1"),
            ("q = ", "\n    return x\n", "a = 1\n    return x\n", "a = 1"),
            ("q = ", "\n    return x", "a = 1\n    return x\n", "a = 1"),
            ("q = ", "\n\ndef g():\n    pass\n", "return 1\n\ndef g():", "return 1"),
            ("q = ", "\n\ndef g():\n    pass\n", "return 1\n\ndef g():\n    pa", "return 1"),
            ("q = f(", ")\n", "a, b)", "a, b"),
            ("q = f(", ")\n", "g(a))", "g(a)"),
            ("q = f(", ")\n", "a, b)\n", "a, b"),
            ("q = ", "))\n", "g(a)))", "g(a)"),
            ("q = ", "))\n", "g(a))", "g(a)"),
            ("q = f(", ");\n", "g(a));", "g(a)"),
            ("q = ", ";\n", "x + 1;", "x + 1"),
            ('q = d["', '"]\n', 'Wednesday"]', "Wednesday"),
            ("q = '", "'\n", "it'", "it"),
            ("q = ", "\n}\n", "return 1;\n}", "return 1;"),
            ("q = ", "\n", "return 1\n", "return 1"),
            ("q = ", "\n\n", "return 1\n\n", "return 1"),
            ("q = ", "\nx\n", "y\nx", "y"),
            ("q = ", "\n    }\n", "return 1;\n    ", "return 1;"),
            ("q = ", "", "1\n", "1"),
            ("q = ", "\n", "1  ", "1"),
            ("q = ", "\n", "1  \n", "1"),
            ("q = f(", ")\n", "a   ", "a"),
            ("q = f(", ")\n", "a\n", "a"),
            ("    ", "    '''\n    x = 1\n", "'''Adds.\n    '''", "'''Adds.\n"),
        ],
    )
    def test_it_is_inserted_again(self, prefix: str, suffix: str, answer: str, inserted: str) -> None:
        assert tagged(answer, prefix, suffix) == inserted

    @pytest.mark.parametrize(
        ("prefix", "suffix", "answer"),
        [
            ("q = ", ")\n", "f(a)"),
            ("q = f(g(", ")\n", "a)"),
            ("q = f(\n    g(h(", "))\n\nx = 1\n", "a)"),
            ("q = ", "\n}\n", "if (a) {\n  b;\n}"),
            ('q = d["', '"]\n', 'a"] + d["b'),
            ("def f(x='', ", "'):\n", "y='"),
            ("    return", "'\n", " '"),
            ("q = ", "foo(1)\n", "bar\n"),
            ("q = ", "ab = 1\n", "x.a"),
            ("q = ", " = 1\n", "x "),
            ("q = ", "def g()\n", "un.de"),
            ("q = (", " )\n", "'a '"),
            ("# ---", "------\n", "---"),
            ("    0,\n", "    0,\n    0,\n", "    1,\n    0,\n"),
            ("import re", "\nimport sysconfig\n", "\nimport os\nimport sys"),
            ("x = f(\n", "    )\n", "        g(\n            1,\n        )\n"),
            ("    a,\n", "    1, 2\n", "    b,\n        1, 2\n"),
            ("# ", "R\n", "FOR"),
            ("# ", "-----\n", "--  -------"),
            ("**De", "*\n", "precated*"),
            ("a = ':('\n\nb = f('%s' % (\n    c, self", ")\n", ".d)"),
            ("f(\n    ", ")\n", "a,\n"),
        ],
    )
    def test_what_is_none_is_cut(self, prefix: str, suffix: str, answer: str) -> None:
        assert tagged(answer, prefix, suffix) == answer
