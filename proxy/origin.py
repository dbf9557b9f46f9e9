"""A file's path and language, where the code itself shows them: completion requests have no field for either.

Pure. Editors write the path into the prompt, each in its own way; people write the language into their files. What is
not shown is not guessed. The code is untrusted: every look is bounded, and a path is one word without a sign that could
be taken for a tag.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.dialects.base import Hole

_HEAD = 20_000
"""Characters of comments at the beginning of the code in which a path is looked for: an editor's snippets of others."""
_MARGIN = 500
"""Characters at the beginning and the end of the code in which people say what language it is."""

_PATH = r"(?:[A-Za-z]:)?[\w.@+~-]{0,200}[./\\][\w./\\@+~-]{0,200}"
_COMMENT = r"(?:#|//|--|;|%|/\*|<!--)"
_PATH_COMMENT = re.compile(
    rf"\s{{0,20}}{_COMMENT}\s{{0,20}}(?:file|(?:file ?)?(?:path|name))\s{{0,5}}:\s{{0,20}}({_PATH})", re.IGNORECASE
)
_BARE_PATH_COMMENT = re.compile(rf"{_COMMENT} ?({_PATH})\s{{0,5}}(?:\*/|-->)?\s{{0,5}}\Z")
_IS_COMMENT = re.compile(rf"\s{{0,200}}(?:{_COMMENT}|\*|\Z)")
_HEADERS = ("+++++ ", "<file_sep>", "<filename>", "<|file_sep|>")
"""What stands before a path at the beginning of each file: Codestral's prompts as Continue writes them, StarCoder's,
Qwen's."""
_HEADER_PATH = re.compile(rf"({_PATH})\s{{0,20}}(?:\n|\Z)")

_LANGUAGE_COMMENT = re.compile(rf"^\s{{0,20}}{_COMMENT}\s{{0,20}}language\s?:\s{{0,5}}([\w+#-]{{1,30}})", re.I | re.M)
_MODELINE = re.compile(
    r"\b(?:vim?|ex):.{0,100}?\b(?:ft|filetype|syntax)=(\w{1,30})"
    r"|-\*-(?:.{0,50}\bmode:)? ?([\w+]{1,30})(?:;.{0,50})? ?-\*-"
)
_SHEBANG = re.compile(
    r"#!\s{0,5}\S{0,200}/(?:env\s+(?:-S\s+)?)?"
    r"(python|pypy|bash|dash|ksh|sh|zsh|fish|node|deno|bun|ruby|perl|php|lua|Rscript|pwsh|awk)(?![a-z])"
)
_BEGINNINGS = {"<?php": "php", "<?xml": "xml", "<!doctype html": "html", "<html": "html"}
_OTHER_NAMES = {
    **dict.fromkeys(("sh", "zsh", "dash", "ksh", "shell", "shell-script", "shellscript"), "bash"),
    **dict.fromkeys(("node", "js", "javascriptreact"), "javascript"),
    **dict.fromkeys(("deno", "bun", "ts", "typescriptreact"), "typescript"),
    "pypy": "python",
    "rscript": "r",
    "pwsh": "powershell",
    "cpp": "c++",
    "cs": "c#",
    "csharp": "c#",
    "golang": "go",
}
_LANGUAGES = {
    language: extensions.split()
    for language, extensions in {
        "python": "py pyi",
        "javascript": "js jsx mjs cjs",
        "typescript": "ts tsx mts cts",
        "go": "go",
        "rust": "rs",
        "ruby": "rb",
        "java": "java",
        "kotlin": "kt kts",
        "c": "c h",
        "c++": "cc cpp cxx hpp hh",
        "c#": "cs",
        "php": "php",
        "swift": "swift",
        "scala": "scala",
        "dart": "dart",
        "elixir": "ex exs",
        "haskell": "hs",
        "lua": "lua",
        "perl": "pl pm",
        "r": "r",
        "bash": "sh bash",
        "powershell": "ps1",
        "sql": "sql",
        "html": "html htm",
        "css": "css",
        "scss": "scss",
        "vue": "vue",
        "svelte": "svelte",
        "terraform": "tf",
        "yaml": "yml yaml",
        "toml": "toml",
        "json": "json",
        "markdown": "md",
    }.items()
}
_LANGUAGE_OF = {extension: language for language, extensions in _LANGUAGES.items() for extension in extensions}


def origin(hole: Hole) -> tuple[str, str]:
    """The file's path and language; "" for what the code does not show.

    Of several files in one prompt, the last is the one that is edited.
    """
    path = _path_in_header(hole.prefix) or _path_in_comments(hole.prefix)
    return path, _language_of(path) or _language_in(hole)


def _language_of(path: str) -> str:
    return _LANGUAGE_OF.get(path.rpartition(".")[2].lower(), "")


def _path_in_header(prefix: str) -> str:
    at, header = max((prefix.rfind(header), header) for header in _HEADERS)
    # A model's own markers may stand anywhere; pluses are one at a line's beginning alone.
    if at < 0 or (header[0] == "+" and prefix[at - 1 : at] not in ("", "\n")):
        return ""
    found = _HEADER_PATH.match(prefix, at + len(header))
    return found[1] if found else ""


def _path_in_comments(prefix: str) -> str:
    path, is_head = "", True
    for number, line in enumerate(prefix[:_HEAD].split("\n")):
        is_head = is_head and bool(_IS_COMMENT.match(line))
        if number >= 3 and not is_head:
            break
        found = _PATH_COMMENT.match(line)
        if not found and number < 2 and not path:
            found = _BARE_PATH_COMMENT.match(line)
            # A comment of one word is a path if it ends as one.
            found = found if found and _language_of(found[1]) else None
        path = found[1] if found else path
    return path


def _language_in(hole: Hole) -> str:
    beginning, end = hole.prefix[:_MARGIN], hole.suffix[-_MARGIN:]
    for text in (beginning, end):
        if found := _LANGUAGE_COMMENT.search(text) or _MODELINE.search(text):
            return _named(found)
    if found := _SHEBANG.match(beginning):
        return _named(found)
    return next((name for text, name in _BEGINNINGS.items() if beginning.lstrip().lower().startswith(text)), "")


def _named(found: re.Match[str]) -> str:
    name = str(found[found.lastindex or 0]).lower()
    return _OTHER_NAMES.get(name, name)
