"""A Markdown document's blocks to run, and the document with what they print.

    ```console run          commands behind "$ ", each followed by what it prints
    ```python run           code; what it prints goes into the next block, if that is one of ```output
    ```sh run               the same for a script, also of bash
    ```python file=NAME     no run: the text becomes a file of the folder that the blocks run in

Words behind `run`: `volatile` (times, ids and hashes are not compared), `unchecked` (nothing is), `fails` (it must).
A comment `<!-- run-md files: data.csv ../stages.py -->` names files beside the document that the folder begins with.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import PurePosixPath

from markdown_it import MarkdownIt
from markdown_it.token import Token

from .errors import MarkdownError

__all__ = ["LANGUAGES", "Block", "Command", "Document", "agree", "alike", "read", "tidy", "weave"]

LANGUAGES = ("console", "python", "sh", "bash")
_WORDS = ("volatile", "unchecked", "fails")
_FILES = re.compile(r"<!--\s*run-md\s+files:(.*?)-->", re.DOTALL)
_PROMPT = "$ "

_VOLATILE = (
    (re.compile(r"\b(?=\d*[a-z])([0-9a-df-np-sv-z]{16,52}|[0-9a-f]{12,64})\b"), "<id>"),
    (re.compile(r"(?<=\.drv-)[0-9a-f]{10}\b"), "<id>"),
    (re.compile(r"\b\d+(\.\d+)? (ms|s|min|h|d|days?|months?|years?)( ago)?(?![\w.])"), "<time>"),
    (re.compile(r"\s+"), " "),
)
"""What a block that is `volatile` may print differently: ids, hashes, names of logs, times, the width of columns."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a console block, and what the document says it prints."""

    text: str
    line: int
    shown: str


@dataclass(frozen=True, slots=True)
class Block:
    """A block to run, or a file.

    Parameters
    ----------
    line
        Of the first line of the code, from 1.
    fence
        The opening line of a console block.
    place
        The lines (from 0, without the end) that its output replaces; empty where there is no block for it yet.
    shown
        What the document says it prints; None without a block for it. A console block's is its whole text.
    file
        The name that its text is written to, of a block that does not run.
    """

    language: str
    code: str
    line: int
    fence: str
    place: tuple[int, int]
    shown: str | None
    words: frozenset[str] = frozenset()
    file: str | None = None

    @property
    def commands(self) -> list[Command]:
        """Those of a console block; a line that ends with a backslash goes on in the next one, behind `> `."""
        found: list[tuple[list[str], int, list[str]]] = []
        for number, line in enumerate(self.code.splitlines(), self.line):
            if found and not found[-1][2] and found[-1][0][-1].endswith("\\"):
                found[-1][0].append(line.removeprefix("> "))
            elif line.startswith(_PROMPT):
                found.append(([line.removeprefix(_PROMPT)], number, []))
            elif found:
                found[-1][2].append(line)
        return [Command("\n".join(text), line, tidy("\n".join(shown))) for text, line, shown in found]


@dataclass(frozen=True, slots=True)
class Document:
    """A document's lines and blocks.

    Parameters
    ----------
    files
        What its folder begins with: paths relative to the document, and the line that names each.
    images
        The relative paths of the pictures that it shows.
    """

    name: str
    lines: tuple[str, ...]
    blocks: tuple[Block, ...]
    files: tuple[tuple[str, int], ...]
    images: tuple[str, ...]


def read(text: str, name: str) -> Document:
    """Find a document's blocks.

    Parameters
    ----------
    name
        The file, for errors.

    Raises
    ------
    MarkdownError
        For a block that can not be run as it is written.
    """
    lines = tuple(text.split("\n"))
    tokens = MarkdownIt("commonmark").parse(text)
    blocks = []
    files: list[tuple[str, int]] = []
    images: dict[str, None] = {}
    for token, after in zip_longest(tokens, tokens[1:]):
        if token.type == "fence" and _is_ours(token.info):
            blocks.append(_block(token, after, lines, name))
        elif token.type == "html_block":
            line = token.map[0] + 1 if token.map else 1
            for found in _FILES.findall(token.content):
                files += ((path, line) for path in shlex.split(found))
        images |= dict.fromkeys(_images(token.children or ()))
    return Document(name, lines, tuple(blocks), tuple(files), tuple(images))


def weave(document: Document, printed: Mapping[Block, str]) -> str:
    """The document's text with what its blocks print.

    Parameters
    ----------
    printed
        Of blocks that ran what they printed; of a console block its whole text.
    """
    lines: list[str] = []
    done = 0
    for block in document.blocks:
        if block not in printed:
            continue
        start, end = block.place
        lines += document.lines[done:start]
        done = end
        text = printed[block]
        if block.language == "console":
            lines += [block.fence, *text.splitlines(), _ticks(block.fence)]
        elif block.shown is not None or text:
            ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
            lines += [*([""] if block.shown is None else []), f"{ticks}output", *text.splitlines(), ticks]
    return "\n".join([*lines, *document.lines[done:]])


def agree(block: Block, shown: str, printed: str) -> bool:
    """Whether a document's text says what a block prints, as far as its words ask for."""
    if "unchecked" in block.words:
        return True
    return shown == printed or ("volatile" in block.words and alike(shown, printed))


def alike(one: str, other: str) -> bool:
    """Whether two texts differ in times, ids and hashes at most."""
    return _masked(one) == _masked(other)


def tidy(text: str) -> str:
    """Printed text as documents hold it: without blanks at the ends of lines, or empty lines at its end."""
    return "".join(f"{line.rstrip()}\n" for line in text.rstrip().splitlines())


def _masked(text: str) -> str:
    for pattern, shown in _VOLATILE:
        text = pattern.sub(shown, text)
    return text.strip()


def _is_ours(info: str) -> bool:
    return any(word == "run" or word.startswith("file=") for word in info.split()[1:])


def _block(token: Token, after: Token | None, lines: Sequence[str], name: str) -> Block:
    assert token.map is not None
    start, end = token.map
    language, *words = token.info.split()
    error = MarkdownError(f"this block of {language} can not be run", file=name, line=start + 1)
    if token.level or lines[start][:1].isspace():
        error.hint = "a block to run begins at the margin, in no list and no quotation"
        raise error
    if lines[end - 1].strip("`~ ") or end - start < 2:
        error.hint = f"close it with a line of {token.markup}"
        raise error
    if words[0].startswith("file="):
        return Block(language, token.content, start + 2, lines[start], (end, end), None, file=_file(words, error))
    if language not in LANGUAGES:
        error.hint = f"what can be run is {', '.join(LANGUAGES)}; write file=NAME to have the text as a file"
        raise error
    if unknown := [word for word in words[1:] if word not in _WORDS] if words[0] == "run" else words[:1]:
        error.hint = f"{unknown[0]!r} says nothing here; first comes run, and behind it may be {', '.join(_WORDS)}"
        raise error
    found = frozenset(words[1:])
    if language == "console":
        if not token.content.startswith(_PROMPT):
            error.hint = f"its commands stand behind {_PROMPT!r}, the first of them in its first line"
            raise error
        return Block(language, token.content, start + 2, lines[start], (start, end), tidy(token.content), found)
    shows = after is not None and after.type == "fence" and after.info.split()[:1] == ["output"] and not after.level
    if shows:
        assert after is not None
        assert after.map is not None
        first, last = after.map
        return Block(language, token.content, start + 2, lines[start], (first, last), tidy(after.content), found)
    return Block(language, token.content, start + 2, lines[start], (end, end), None, found)


def _file(words: Sequence[str], error: MarkdownError) -> str:
    found = words[0].removeprefix("file=")
    path = PurePosixPath(found)
    if len(words) > 1 or not path.parts or path.is_absolute() or ".." in path.parts:
        error.hint = "file= takes one path below the folder that the blocks run in"
        raise error
    return str(path)


def _images(tokens: Sequence[Token]) -> Iterator[str]:
    for token in tokens:
        source = token.attrs.get("src") if token.type == "image" else None
        if isinstance(source, str) and "://" not in source:
            path = PurePosixPath(source)
            if path.parts and not path.is_absolute() and ".." not in path.parts:
                yield str(path)
        yield from _images(token.children or ())


def _ticks(fence: str) -> str:
    found = re.match(r"`+|~+", fence)
    assert found is not None
    return found[0]
