"""From a target to stages."""

from __future__ import annotations

import sys

import pytest

from bridge.stages.errors import LoadError, StageError, TargetError
from bridge.stages.load import load_module, load_targets, module_name

STAGES = """
from bridge import shell

first = shell("true")
second = shell("true", x=first)
third = shell("true", name="last", x=first)
alias = third
"""


@pytest.fixture
def inside(project, monkeypatch):
    """A project whose folder is the current one."""
    monkeypatch.chdir(project.folder)
    return project


def names(stages):
    return [stage.name for stage in stages]


def test_a_file_gives_the_stages_that_no_other_uses(inside):
    inside.write({"stages.py": STAGES})
    assert names(load_targets("stages.py")) == ["second", "last"]
    assert names(load_targets(str(inside.folder / "stages.py"))) == ["second", "last"]


def test_a_stage_that_is_a_tool_or_a_shell_is_used(inside):
    inside.write(
        {"stages.py": "from bridge import *\nt = host('a')\ns = host('b')\nx = shell('', tools=[t], shell=s)\n"}
    )
    assert names(load_targets("stages.py")) == ["x"]


@pytest.mark.parametrize(
    ("name", "found"), [("first", "first"), ("third", "last"), ("alias", "last"), ("last", "last")]
)
def test_a_stage_is_named_by_its_variable_or_its_own_name(inside, name, found):
    inside.write({"stages.py": STAGES})
    assert names(load_targets(f"stages.py:{name}")) == [found]


def test_several_stages_of_a_name_are_all_meant(inside):
    inside.write({"stages.py": "from bridge import shell\na = shell('1', name='x')\nb = shell('2', name='x')\n"})
    assert len(load_targets("stages.py:x")) == 2


def test_a_variable_goes_before_a_name(inside):
    inside.write({"stages.py": "from bridge import shell\na = shell('1', name='b')\nb = shell('2', name='a')\n"})
    assert names(load_targets("stages.py:a")) == ["b"]


def test_a_module_of_the_current_folder_is_a_target(inside):
    inside.write({"pkg/__init__.py": "", "pkg/stages.py": STAGES, "top.py": STAGES})
    assert names(load_targets("pkg.stages:first")) == ["first"]
    assert names(load_targets("top")) == ["second", "last"]


def test_a_file_inside_a_package_is_imported_under_its_dotted_name(inside):
    inside.write({"pkg/__init__.py": "", "pkg/near.py": "X = 3\n", "pkg/stages.py": "from .near import X\n" + STAGES})
    module = load_module("pkg/stages.py")
    assert (module.__name__, module.X) == ("pkg.stages", 3)
    assert load_module("pkg.stages") is module
    assert load_module("pkg/__init__.py").__name__ == "pkg"


def test_a_file_imports_what_lies_beside_it_wherever_it_is_called_from(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = project.load("import beside\n", "deep/stages.py", **{"deep/beside": "X = 4\n"})
    assert module.beside.X == 4


def test_a_file_is_imported_once(inside):
    inside.write({"stages.py": STAGES})
    assert load_module("stages.py") is load_module("./stages.py") is load_module("stages")


def test_files_of_the_same_name_are_modules_of_their_own(inside):
    inside.write({f"{folder}/stages.py": f"import mark_{folder}\nX = {folder!r}\n" for folder in "abc"})
    inside.write({f"{folder}/mark_{folder}.py": "" for folder in "abc"})
    modules = [load_module(f"{folder}/stages.py") for folder in "abc"]
    assert [module.X for module in modules] == ["a", "b", "c"]
    assert [load_module(f"{folder}/stages.py") for folder in "abc"] == modules
    assert len({module.__name__ for module in modules}) == 3
    assert all(sys.modules[module.__name__] is module for module in modules)


def test_a_file_with_the_name_of_a_loaded_library_is_not_that_library(inside):
    inside.write({"json.py": STAGES})
    assert names(load_targets("json.py:first")) == ["first"]
    import json

    assert json.dumps(1) == "1"


def test_packages_of_the_same_name_are_told_apart_or_refused(inside):
    for folder in "ab":
        inside.write({f"{folder}/pkg/__init__.py": "", f"{folder}/pkg/stages.py": STAGES})
    assert load_module("a/pkg/stages.py").__name__ == "pkg.stages"
    with pytest.raises(TargetError, match=r"can not be imported as pkg\.stages: that is .*/a/pkg/stages\.py"):
        load_module("b/pkg/stages.py")


@pytest.mark.parametrize("file", ["my-stages.py", "my.stages.py", "1.py", "class.py", "mine & yours.py"])
def test_a_file_may_have_any_name(inside, file):
    inside.write({file: STAGES})
    assert names(load_targets(f"{file}:first")) == ["first"]
    assert load_module(file) is load_module(file)


def test_the_name_of_a_module_is_that_of_its_packages_and_its_own(project):
    project.write({"a/__init__.py": "", "a/b/__init__.py": "", "a/b/c.py": "", "d/e.py": ""})
    folder = project.folder
    assert module_name(folder / "a/b/c.py") == "a.b.c"
    assert module_name(folder / "a/b/__init__.py") == "a.b"
    assert module_name(folder / "d/e.py") == "e"


# --------------------------------------------------------------------------- targets of nothing


@pytest.mark.parametrize(
    ("target", "message", "hint"),
    [
        ("nothing.py", "there is no file nothing.py", None),
        ("nothing/at/all.py:x", "there is no file nothing/at/all.py", None),
        ("pkg/", "there is no file pkg", None),
        ("nothing", "there is no module 'nothing'", None),
        ("pkg.nothing", "there is no module 'pkg.nothing'", None),
        ("nothing.at.all:x", "there is no module 'nothing.at.all'", None),
        ("", "there is no module ''", None),
        (":x", "there is no module ''", None),
        (".pkg", "there is no module '.pkg'", None),
        ("pkg.stages.first", "there is no module 'pkg.stages.first'", None),
        ("empty.py", "empty.py defines no stages", "decorate a function with @stage"),
        ("empty.py:x", "empty.py defines no stage 'x'", "it defines none"),
        ("stages.py:frist", "stages.py defines no stage 'frist'", "did you mean first?"),
        ("sub/stages", "there is no file sub/stages", None),
    ],
)
def test_a_target_that_names_nothing_is_refused(inside, target, message, hint):
    inside.write({"stages.py": STAGES, "empty.py": "X = 1\n", "pkg/__init__.py": "", "pkg/stages.py": STAGES})
    with pytest.raises(TargetError, match=message) as caught:
        load_targets(target)
    if hint is not None:
        assert caught.value.hint == hint


def test_a_file_without_its_suffix_is_hinted_at(inside):
    inside.write({"my-stages.py": STAGES, "pkg.x.py": STAGES})
    with pytest.raises(TargetError) as caught:
        load_targets("pkg.x")
    assert caught.value.hint == "pkg.x.py is a file: write the .py as well"


# --------------------------------------------------------------------------- files that do not import


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("\n\nraise ValueError('no')\n", "importing bad raised ValueError: no", 3),
        ("def f():\n    return 1 / 0\n\nf()\n", "raised ZeroDivisionError: division by zero", 2),
        ("\nraise KeyError\n", "raised KeyError$", 2),
        ("import sys\nsys.exit('bye')\n", "raised SystemExit: bye", 2),
        ("x = 1\nimport not_there_at_all\n", "raised ModuleNotFoundError: No module named 'not_there_at_all'", 2),
        ("from json import nothing\n", "raised ImportError: cannot import name 'nothing'", 1),
        ("x = (1\n", r"'\(' was never closed", 1),
        ("x = 1\n  y = 2\n", "unexpected indent", 2),
        ("from bridge import nothing\n", "raised ImportError", 1),
        (
            "from bridge import shell\nx = shell('true')\nx.nothing\n",
            "raised AttributeError: the stage x has no output",
            3,
        ),
        ("from bridge import fetchurl\n\nx = fetchurl('file:///a')\n", "raised TypeError", 3),
        ("from bridge import stage\n@stage\ndef f(): pass\n\nf(1)\n", "raised TypeError", 5),
        ("from bridge import fetchurl\n\nx = fetchurl('file:///a', hash=None)\n", "raised TypeError", 3),
    ],
)
@pytest.mark.parametrize("where", ["bad.py", "bad", "-bad.py"])
def test_a_file_that_does_not_import_points_to_the_users_line(inside, text, message, line, where):
    file = where if where.endswith(".py") else "bad.py"
    inside.write({file: text})
    with pytest.raises(LoadError, match=message.replace("bad raised", f"{file[:-3]} raised")) as caught:
        load_targets(where)
    assert caught.value.where == f"{inside.folder / file}:{line}"
    with pytest.raises(LoadError):  # and so it does the second time
        load_targets(where)


def test_a_missing_package_hints_at_installing_it(inside):
    inside.write({"bad.py": "import not_there_at_all\n"})
    with pytest.raises(LoadError) as caught:
        load_targets("bad.py")
    assert "install not_there_at_all into the Python" in caught.value.hint


def test_an_error_in_an_imported_module_points_there(inside):
    inside.write({"bad.py": "import helper\n", "helper.py": "\n\n1 / 0\n"})
    with pytest.raises(LoadError) as caught:
        load_targets("bad.py")
    assert caught.value.where == f"{inside.folder / 'helper.py'}:3"


@pytest.mark.parametrize("text", ["1 / 0\n", "import not_there_at_all\n", "x = (\n", "raise SystemExit\n"])
@pytest.mark.parametrize("where", ["pkg.stages", "pkg/stages.py"])
def test_an_error_in_the_package_itself_points_there(inside, text, where):
    inside.write({"pkg/__init__.py": text, "pkg/stages.py": STAGES})
    with pytest.raises(LoadError) as caught:
        load_targets(where)
    assert caught.value.where == f"{inside.folder / 'pkg/__init__.py'}:1"


def test_an_error_of_nixbridge_is_passed_on_as_it_is(inside):
    inside.write({"bad.py": "from bridge import stage\n\n@stage\ndef f(x): pass\n"})
    with pytest.raises(StageError) as caught:
        load_targets("bad.py")
    assert caught.value.where == f"{inside.folder / 'bad.py'}:3"


def test_an_interrupt_is_passed_on(inside):
    inside.write({"bad.py": "raise KeyboardInterrupt\n"})
    with pytest.raises(KeyboardInterrupt):
        load_targets("bad.py")
