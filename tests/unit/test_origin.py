"""A file's path and language: named by what Claude would be told wrongly, or not at all."""

from __future__ import annotations

import pytest

from proxy.dialects.base import Hole
from proxy.origin import origin


@pytest.mark.parametrize(
    ("prefix", "path", "language"),
    [
        ("// file: src/x.ts\n", "src/x.ts", "typescript"),
        ("\n// Filename: a.go\n", "a.go", "go"),
        ("/* Path: a/b.css */\n", "a/b.css", "css"),
        ("<!-- path: page.html -->\n", "page.html", "html"),
        ("-- File path: q.sql\n", "q.sql", "sql"),
        ("# path: Makefile.unknown\n", "Makefile.unknown", ""),
        ("# Path: C:\\work\\a.py\r\nx = ", "C:\\work\\a.py", "python"),
        ("# src/a.py\nx = ", "src/a.py", "python"),
        ("#!/usr/bin/env python3\n# tools/run.py\n", "tools/run.py", "python"),
        ("+++++ other.py\nx\n\n+++++ src/main.rs\nfn ", "src/main.rs", "rust"),
        ("+++++ src/main.rs", "src/main.rs", "rust"),
        ("<file_sep>a.py\nx = 1\n<file_sep>b.go\nfunc ", "b.go", "go"),
        ("<repo_name>r<filename>src/a.ts\nlet ", "src/a.ts", "typescript"),
        ("<|repo_name|>r\n<|file_sep|>a.kt\nval ", "a.kt", "kotlin"),
        ("// Path: b.ts\n// let b = 1;\n//\n// Path: src/a.ts\nlet a = ", "src/a.ts", "typescript"),
    ],
)
def test_the_path_is_not_told(prefix: str, path: str, language: str) -> None:
    assert origin(Hole(prefix, "")) == (path, language)


@pytest.mark.parametrize(
    ("prefix", "suffix", "language"),
    [
        ("#!/usr/bin/env python3\n", "", "python"),
        ("#!/usr/bin/env -S deno run\n", "", "typescript"),
        ("#!/bin/sh\n", "", "bash"),
        ("#!/usr/bin/node\n", "", "javascript"),
        ("// Language: TypeScript\nlet ", "", "typescript"),
        ("# language: golang\n", "", "go"),
        ("<?php\n$x = ", "", "php"),
        ("\n<!DOCTYPE html>\n<p>", "", "html"),
        ("/* -*- mode: c++; tab-width: 4 -*- */\n", "", "c++"),
        ("# -*- ruby -*-\n", "", "ruby"),
        ("x = ", "\n\n# vim: set ts=4 ft=perl :\n", "perl"),
        ("x = ", "\n// vi: filetype=javascript\n", "javascript"),
    ],
)
def test_the_language_is_not_told(prefix: str, suffix: str, language: str) -> None:
    assert origin(Hole(prefix, suffix)) == ("", language)


@pytest.mark.parametrize(
    "prefix",
    [
        "# file: the one that was lost\n",
        "# path: <CODE>/x.py\n",
        "x = 1\ny = 2\nz = 3\n# path: a.py\n",
        "x +++++ a.py\n",
        "# e.g.\nx = ",
        "# see docs/style.guide\n",
        "#!/usr/bin/pythonista\n",
        "# -*- coding: utf-8 -*-\n",
        "path = 'file: a.py'\n",
        "",
    ],
)
def test_something_else_is_told(prefix: str) -> None:
    assert origin(Hole(prefix, "")) == ("", "")


@pytest.mark.parametrize(
    "code",
    [
        "+++++ " + "a." * 500_000 + "<",
        "#!" + "/" * 1_000_000,
        "<file_sep>" * 100_000,
        "# " * 500_000,
        "#\n" * 500_000,
        "# -*-" + "mode:" * 200_000,
        "vim: " * 200_000,
        " " * 1_000_000,
    ],
)
def test_code_keeps_a_regular_expression_busy(code: str) -> None:
    assert origin(Hole(code, code)) == ("", "")
