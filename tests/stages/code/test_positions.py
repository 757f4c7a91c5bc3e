"""Tracebacks of stage code point into the user's file."""

from __future__ import annotations

import ast

import pytest

TEXT = '''\
"""A module."""

from bridge import stage
from helper import fail


# A comment.
def unrelated():
    """Nothing."""


def local(x):
    """Divide."""

    # By what?
    return (
        1
        / x
    )


@stage(
    realizations=2,
)
def train(
    run,
    how="local",
):
    """Fail."""
    if how == "local":
        local(0)
    if how == "away":
        fail()
    if how == "own":
        raise ValueError("no")
'''
HELPER = '''\
X = 1



def fail():
    """Fail."""
    values = {"a": 1}

    return values["b"]
'''


@pytest.mark.parametrize(
    ("how", "message", "file", "line"),
    [
        ("local", "ZeroDivisionError: division by zero", "stages.py", 17),
        ("away", "KeyError: 'b'", "helper.py", 9),
        ("own", "ValueError: no", "stages.py", 34),
    ],
)
def test_an_error_points_to_the_users_own_line(project, how, message, file, line):
    module = project.load(TEXT, helper=HELPER)
    found = project.run(module.train, how=how)
    assert found["error"]["message"] == message
    assert found["error"]["file"] == str(project.folder / file)
    assert found["error"]["line"] in (line, line + 1)
    lines = (project.folder / file).read_text().splitlines()
    assert lines[found["error"]["line"] - 1].strip() in found["log"]


def test_an_error_while_a_helper_is_imported_points_to_its_line(project):
    text = "from bridge import stage\nimport helper\n@stage\ndef train(run):\n    helper.K\n"
    helper = "import sys\n\n# here\nK = 1 if 'pytest' in sys.modules else sys.nothing\n"
    found = project.run(project.load(text, helper=helper).train)
    assert found["error"]["message"].startswith("AttributeError")
    assert (found["error"]["file"], found["error"]["line"]) == (str(project.folder / "helper.py"), 4)


CONSTRUCTS = '''\
from bridge import stage

@stage
def train(run, *, x=1):
    a = "one" "two" f"three {x!r:>{x}}" "four"
    b = [i for i in range(3) if i] + [*range(2)]
    c = {**{}, "k": -1, 2: (yield_ := 3)}
    try:
        with open("x") as f, open("y"):
            pass
    except (OSError, ValueError) as error:
        assert error, "text"
    else:
        del a
    finally:
        a = lambda q, /, r=1, *s, t, **u: (q, r, s, t, u)
    class C(object, metaclass=type):
        """Text."""
        y: int = 1
        z: "C"
        def m(self) -> None:
            """Only this."""
    async def g():
        async for i in h(): await i
        return [i async for i in h()]
    match b:
        case [1, *rest] if rest: pass
        case {"k": v, **more}: pass
        case C(y=1) | None: pass
        case str() as s: pass
        case _: pass
    while x < 3 < 4:
        x += 1; continue
    else: x = not x and -x ** 2 or ~x if x else ...
    def h(): yield; yield from b
    global G
    G = b[1:2, ::3], c["k"].d
    for i, (j, k) in (): break
    print(f"{x=}", rb"\\x00", 1_000, 1e3, 2j, a @ b if False else x // 3)
    return b"", None, True
'''


def test_every_construct_has_its_place(project):
    code = project.code(CONSTRUCTS)
    ((path, (file, places)),) = code.positions.items()
    assert (path, file) == ("stages.py", str(project.folder / "stages.py"))
    printed = [node for node in ast.walk(ast.parse(code.files[path])) if "lineno" in node._attributes]
    assert len(printed) == len(places)
    lines = CONSTRUCTS.splitlines()
    for node, (line, column, end_line, _) in zip(printed, places, strict=True):
        assert 1 <= line <= end_line <= len(lines)
        if isinstance(node, ast.Name) and node.id in lines[line - 1]:
            assert lines[line - 1].encode()[column:].startswith(node.id.encode()) or 'f"' in lines[line - 1]


def test_a_printed_file_without_statements_has_no_places(project):
    text = "from bridge import stage\nimport pkg.mod\n@stage\ndef train(run):\n    pkg.mod.f()\n"
    code = project.code(text, **{"pkg/__init__": "", "pkg/mod": "def f():\n    pass\n"})
    assert code.files["pkg/__init__.py"] == ""
    assert len(code.positions["pkg/mod.py"][1]) == 2
