from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.look.errors import MarkdownError
from bridge.look.markdown import agree, read, tidy, weave

LINES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), max_size=30)
PROSE = st.sampled_from(["# Title", "", "a word `code`", "- a list", "| a | table |", "```text\nno block\n```"])
PRINTED = st.lists(LINES, max_size=5).map("\n".join).map(tidy)
SHOWN = st.none() | PRINTED.filter(lambda text: "```" not in text)


def script(word: str, shown: str | None) -> str:
    return f"```sh {word}\necho 1\n```\n" + ("" if shown is None else f"\n```output\n{shown}```\n")


@given(st.lists(st.tuples(PROSE, SHOWN, PRINTED), max_size=5))
def test_a_document_says_what_was_put_into_it(parts: list[tuple[str, str | None, str]]) -> None:
    text = "".join(f"{prose}\n\n{script('run', shown)}" for prose, shown, _ in parts)
    document = read(text, "x.md")
    assert [one.shown for one in document.blocks] == [shown for _, shown, _ in parts]
    printed = dict(zip(document.blocks, (printed for _, _, printed in parts), strict=True))
    made = weave(document, printed)
    again = read(made, "x.md")
    assert [one.shown or "" for one in again.blocks] == list(printed.values())
    assert [one.code for one in again.blocks] == [one.code for one in document.blocks]
    assert weave(again, dict(zip(again.blocks, printed.values(), strict=True))) == made


@given(PRINTED)
def test_a_document_that_nothing_is_put_into_stays_as_it_is(text: str) -> None:
    document = read(text, "x.md")
    assert weave(document, {}) == text


def test_a_console_block_holds_its_commands_and_what_each_prints() -> None:
    [block] = read("```console run\n$ one \\\n> two\nprinted\n> more\n$ three\n```\n", "x.md").blocks
    assert [(one.text, one.line, one.shown) for one in block.commands] == [
        ("one \\\ntwo", 2, "printed\n> more\n"),
        ("three", 6, ""),
    ]


def test_blocks_without_run_are_none_of_ours() -> None:
    assert not read("```python\nx\n```\n\n```\nrun\n```\n\n    ```sh run\n    indented\n", "x.md").blocks


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("\n```perl run\nx\n```\n", 2, "what can be run is console, python, sh, bash"),
        ("```python run volatil\nx\n```\n", 1, "'volatil' says nothing here"),
        ("```python volatile run\nx\n```\n", 1, "'volatile' says nothing here"),
        ("# Title\n\n```python run\nx\n", 3, "close it"),
        ("- a\n\n  ```python run\n  x\n  ```\n", 3, "in no list"),
        ("```console run\nls\n```\n", 1, "behind '$ '"),
        ("```python file=../x.py\nx\n```\n", 1, "below the folder"),
        ("```python file=/etc/x\nx\n```\n", 1, "below the folder"),
        ("```python file=\nx\n```\n", 1, "below the folder"),
    ],
)
def test_a_block_that_can_not_be_run_is_told_with_its_line(text: str, line: int, hint: str) -> None:
    with pytest.raises(MarkdownError) as caught:
        read(text, "x.md")
    assert (caught.value.file, caught.value.line) == ("x.md", line)
    assert caught.value.hint is not None
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("word", "shown", "printed", "same"),
    [
        ("", "a\n", "a\n", True),
        ("", "took 1.0 s\n", "took 2.0 s\n", False),
        ("volatile", "014yczrj2sb824ss  took 1.0 s, 3 days ago\n", "1i11bk76r8p0mmj5 took 22 ms, 1 s ago\n", True),
        ("volatile", "accuracy 0.95\n", "accuracy 0.96\n", False),
        ("volatile", "0.8690807799442897\n", "0.8690807799442899\n", False),
        ("unchecked", "a\n", "b\n", True),
    ],
)
def test_what_a_block_may_print_differently(word: str, shown: str, printed: str, same: bool) -> None:
    [block] = read(script(f"run {word}".strip(), shown), "x.md").blocks
    assert agree(block, shown, printed) is same


def test_files_and_pictures_are_found() -> None:
    text = "<!-- run-md files: a.csv '../b c' -->\n\n![x](p.svg) ![y](https://a.org/q.svg) ![z](../r.svg)\n"
    document = read(text, "x.md")
    assert document.files == (("a.csv", 1), ("../b c", 1))
    assert document.images == ("p.svg",)
