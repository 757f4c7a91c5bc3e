"""`nixbridge run-md`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import NIXBRIDGE, Command

DOCUMENT = """\
# A study

```sh run
seq 3 > numbers; date +%N > when
```

```python run
numbers = [int(line) for line in open("numbers")]
def total(): return sum(numbers)
len(numbers)
```

```console run
$ wc -l < numbers
$ cat missing || echo none
```

```python run
total()
```
"""


def ran(stderr: str) -> list[bool]:
    """Of each block that was told of, whether it ran."""
    return [not line.endswith("kept") for line in stderr.splitlines() if re.match(r"\S+\.md:\d+  ", line)]


@pytest.fixture
def document(project: Path) -> Path:
    file = project / "study.md"
    file.write_text(DOCUMENT)
    return file


def test_blocks_share_a_folder_and_python_blocks_their_names(nixbridge: Command, document: Path) -> None:
    made = nixbridge("run-md", "study.md").stdout
    assert "\n```output\n3\n```\n" in made
    assert "$ wc -l < numbers\n3\n$ cat missing || echo none\ncat: missing: No such file or directory\nnone\n" in made
    assert made.endswith("total()\n```\n\n```output\n6\n```\n")
    assert document.read_text() == DOCUMENT


def test_nothing_runs_twice(nixbridge: Command, document: Path) -> None:
    first = nixbridge("run-md", "study.md", "--in-place")
    assert ran(first.stderr) == [True] * 4
    written = document.read_text()
    again = nixbridge("run-md", "study.md", "--in-place")
    assert ran(again.stderr) == [False] * 4
    assert document.read_text() == written
    assert ran(nixbridge("run-md", "study.md", "--check", "--rebuild").stderr) == [True] * 4


def test_an_edit_runs_what_comes_after_it_and_the_python_before(nixbridge: Command, document: Path) -> None:
    nixbridge("run-md", "study.md", "-o", "study.md")
    text = document.read_text()
    document.write_text(text.replace("$ wc -l < numbers", "$ wc -c < numbers; echo > more"))
    edited = nixbridge("run-md", "study.md")
    assert "$ wc -c < numbers; echo > more\n6\n" in edited.stdout
    told = {line.split("  ")[0]: line.endswith("kept") for line in edited.stderr.splitlines()}
    assert told == {"study.md:4": True, "study.md:8": False, "study.md:18": False, "study.md:26": False}


def test_an_edit_that_leaves_the_same_folder_runs_nothing_else(nixbridge: Command, document: Path) -> None:
    document.write_text(DOCUMENT.replace("; date +%N > when", ""))
    nixbridge("run-md", "study.md", "-o", "study.md")
    document.write_text(document.read_text().replace("seq 3 > numbers", "seq 1 3 > numbers"))
    assert ran(nixbridge("run-md", "study.md", "--check").stderr) == [True, False, False, False]


def test_check_fails_with_a_diff(nixbridge: Command, document: Path) -> None:
    nixbridge("run-md", "study.md", "--in-place")
    nixbridge("run-md", "study.md", "--check")
    text = document.read_text().replace("```output\n6\n", "```output\n7\n")
    document.write_text(text)
    found = nixbridge("run-md", "study.md", "--check", status=1)
    assert "-7\n+6\n" in found.stdout
    assert document.read_text() == text


def test_what_is_volatile_is_neither_a_difference_nor_rewritten(nixbridge: Command, project: Path) -> None:
    block = "```console run volatile\n$ nixbridge realize stages.py:train --store x --jobs 1 2>&1 | tail -1\n```\n"
    document = project / "x.md"
    document.write_text("<!-- run-md files: stages.py words.txt -->\n\n" + block)
    nixbridge("run-md", "x.md", "--in-place")
    text = document.read_text()
    assert "-train" in text
    nixbridge("run-md", "x.md", "--in-place", "--rebuild")
    assert document.read_text() == text
    document.write_text(text.replace("-train\n", "-trane\n"))
    nixbridge("run-md", "x.md", "--check", status=1)


@pytest.mark.parametrize(
    ("block", "where", "said"),
    [
        ("```python run\nx = 1\n\nraise KeyError(x)\n```\n", "x.md:6", "raised KeyError: 1"),
        ("```python run\ndef (:\n```\n", "x.md:4", "SyntaxError"),
        ("```sh run\necho first\nfalse\necho second\n```\n", "x.md:4", "ended with status 1"),
        ("```console run\n$ true\n$ exit 7\n```\n", "x.md:5", "ended with status 7"),
        ("```console run fails\n$ true\n```\n", "x.md:4", "should fail"),
        ("```console run\n$ echo '$ x'\n```\n", "x.md:4", "looks like a command"),
        ("```python run\nimport os; os._exit(0)\n```\n", "x.md:4", "Python ended"),
        ("<!-- run-md files: nothing.csv -->\n", "x.md:3", "there is no nothing.csv"),
    ],
)
def test_a_block_that_fails_is_told_with_its_line_and_nothing_is_written(
    nixbridge: Command, project: Path, block: str, where: str, said: str
) -> None:
    document = project / "x.md"
    document.write_text(f"# X\n\n{block}\n```sh run\necho\n```\n")
    before = document.read_text()
    failed = nixbridge("run-md", "x.md", "--in-place", status=1)
    assert f"error: {where}: " in failed.stderr
    assert said in failed.stderr
    assert document.read_text() == before
    nixbridge("verify")


def test_a_failure_that_is_meant_is_shown(nixbridge: Command, project: Path) -> None:
    (project / "x.md").write_text(
        "```console run fails\n$ false\n$ echo after\n```\n\n```python run fails\n1 / 0\n```\n"
    )
    made = nixbridge("run-md", "x.md").stdout
    assert "$ echo after\nafter\n" in made
    assert "ZeroDivisionError: division by zero\n```\n" in made


def test_pictures_come_beside_the_document(nixbridge: Command, project: Path) -> None:
    (project / "docs").mkdir()
    document = project / "docs" / "x.md"
    document.write_text("![a picture](p.svg)\n\n```sh run\necho '<svg/>' > p.svg\n```\n")
    nixbridge("run-md", "docs/x.md", "--check", status=1)
    nixbridge("run-md", "docs/x.md", "--in-place")
    assert (project / "docs" / "p.svg").read_text() == "<svg/>\n"
    nixbridge("run-md", "docs/x.md", "--check")


def test_file_blocks_and_files_are_in_the_folder(nixbridge: Command, project: Path) -> None:
    (project / "x.md").write_text(
        "<!-- run-md files: words.txt -->\n\n```python file=a/b.py\nX = 1\n```\n\n```python run\n"
        "import a.b\na.b.X, open('words.txt').read()\n```\n"
    )
    assert "(1, 'two\\none\\ntwo\\n')" in nixbridge("run-md", "x.md").stdout
    (project / "words.txt").write_text("four\n")
    assert "(1, 'four\\n')" in nixbridge("run-md", "x.md").stdout


def test_a_picture_that_differs_in_ids_is_the_same(nixbridge: Command, project: Path) -> None:
    (project / "x.md").write_text(
        "![a picture](p.svg)\n\n```sh run\necho '<svg><!-- 014yczrj2sb824ss 7 --></svg>' > p.svg\n```\n"
    )
    (project / "p.svg").write_text("<svg><!-- 1i11bk76r8p0mmj5 7 --></svg>\n")
    nixbridge("run-md", "x.md", "--check")
    (project / "p.svg").write_text("<svg><!-- 1i11bk76r8p0mmj5 8 --></svg>\n")
    assert "is not the picture" in nixbridge("run-md", "x.md", "--check", status=1).stdout


STAGES_IN_BLOCKS = """\
```python file=helper.py
def two(): return 2
```

```python run
from bridge import instantiate, out, realize, stage
from helper import two
SCALE = 3
```

```python run
@stage
def one(run, made=out("x")):
    made.write_text(str(two() * SCALE))

@stage
def fails(run, made=out("x")):
    1 / 0

realize(instantiate([one])).one.made.read_text()
```

```python run fails
realize(instantiate([fails]))
```
"""


def test_stages_are_defined_in_python_blocks(nixbridge: Command, project: Path) -> None:
    (project / "x.md").write_text(STAGES_IN_BLOCKS)
    first = nixbridge("run-md", "x.md").stdout
    assert "```output\n'6'\n" in first
    assert "x.md:18: the stage fails raised ZeroDivisionError" in first
    (project / "x.md").write_text(STAGES_IN_BLOCKS.replace("return 2", "return 5"))
    assert "```output\n'15'\n" in nixbridge("run-md", "x.md").stdout


def test_a_file_that_is_no_document_is_told(nixbridge: Command, project: Path) -> None:
    assert "can not be read" in nixbridge("run-md", "nothing.md", status=1).stderr
    (project / "x.md").write_bytes(b"\xff\xfe")
    assert "no text in UTF-8" in nixbridge("run-md", "x.md", status=1).stderr
    assert "one of -o" in nixbridge("run-md", "x.md", "--check", "--in-place", status=1).stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_one_that_is_ended_leaves_the_store_clean_and_goes_on(
    nixbridge: Command, project: Path, environment: dict[str, str], number: int
) -> None:
    begun = project / "begun"
    (project / "x.md").write_text(
        f"```sh run\necho > a\n```\n\n```sh run\n[ -e {begun} ] || {{ echo > {begun}; sleep 60; }}\necho done\n```\n"
    )
    process = subprocess.Popen(
        [NIXBRIDGE, "run-md", "x.md"], cwd=project, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while not begun.exists():
        time.sleep(0.02)
    os.kill(process.pid, number)
    process.communicate(timeout=10)
    assert process.returncode != 0
    nixbridge("verify")
    done = nixbridge("run-md", "x.md")
    assert "```output\ndone\n" in done.stdout
    assert ran(done.stderr) == [False, True]
