"""The code of a Python stage: what counts, what does not, what is refused, and that it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.stages.code import stage_code
from bridge.stages.define import stage as make_stage
from bridge.stages.errors import CodeError
from bridge.stages.plan import instantiate

BASE = """
from bridge import out, stage

LIMIT = 3
TABLE = {"a": 1}

def unrelated():
    return 1

def helper(x):
    return x * LIMIT

@stage
def train(run, lr=0.1, model=out("model.pkl")):
    run.log(result=helper(lr))
"""


def drv(project, text, /, **files):
    return project.node(text, **files).path


# ------------------------------------------------------------------------------ what changes nothing


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def helper(x):", "# a comment\ndef helper(x):  # another"),
        ("    return x * LIMIT", "\n\n    return x * LIMIT\n\n\n"),
        ("    return x * LIMIT", "    return (x   *\n      LIMIT)"),
        ("    return x * LIMIT", '    """Multiply."""\n    return x * LIMIT'),
        ("\nfrom bridge", '"""A module."""\nfrom bridge'),
        ("    run.log", '    """Train."""\n    run.log'),
        ("def unrelated():\n    return 1\n", ""),
        ("    return 1", "    return 2"),
        ("def unrelated():\n    return 1\n", "class Unrelated:\n    x = 1\n"),
        ('TABLE = {"a": 1}', 'TABLE = {"a": 2}'),
        ('TABLE = {"a": 1}', 'TABLE = {"a": 2}\nTABLE["b"] = 3'),
        ("LIMIT = 3", "import json\nLIMIT = 3"),
        ("def train(run, lr=0.1", "def train(run: object, lr: float = 0.1"),
        ('out("model.pkl")):', 'out("model.pkl")) -> None:'),
        ("@stage\n", "@stage(realizations=5)\n"),
        ("@stage\n", "@stage(\n    realizations=5,\n    match=lambda found: found,\n)\n"),
        ("LIMIT = 3", "if __name__ == '__main__':\n    print(LIMIT)\nLIMIT = 3"),
        ("LIMIT = 3", "LIMIT = 3\nif '__main__' == __name__:\n    LIMIT = 5"),
        (
            "LIMIT = 3",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from json import loads as LIMIT\nLIMIT = 3",
        ),
        ("LIMIT = 3", "LIMIT = (0x3)"),
    ],
)
def test_what_does_not_run_does_not_count(project, old, new):
    assert old in BASE
    assert drv(project, BASE.replace(old, new, 1)) == drv(project, BASE)


def test_the_order_of_unrelated_functions_does_not_count(project):
    first = "def unrelated():\n    return 1\n\ndef helper(x):\n    return x * LIMIT\n"
    second = "def helper(x):\n    return x * LIMIT\n\ndef unrelated():\n    return 1\n"
    assert first in BASE
    assert drv(project, BASE.replace(first, second)) == drv(project, BASE)


def test_an_import_of_several_names_counts_by_the_name(project):
    text = "from bridge import stage\nfrom json import dumps{}\n@stage\ndef train(run):\n    dumps(1)\n"
    assert drv(project, text.format("")) == drv(project, text.format(", loads"))


def test_another_stage_does_not_count(project):
    more = '\n@stage\ndef other(run, x=train.model):\n    helper(1)\n\nagain = train(lr=2)\nfolder = train / "x"\n'
    assert drv(project, BASE + more) == drv(project, BASE)


def test_the_stage_bound_again_under_another_policy_is_the_same_code(project):
    assert drv(project, BASE + "\ntrain = train.options(realizations=3)\n") == drv(project, BASE)


def test_decorators_above_stage_do_not_count(project):
    above = "def keep(stage):\n    return stage\n\n@keep\n@stage\n"
    assert drv(project, BASE.replace("@stage\n", above)) == drv(project, BASE)


@pytest.mark.parametrize(
    "own",
    [
        "def my_stage(f):\n    return stage(realizations=NN)(f)\n",
        "my_stage = stage(realizations=NN)\n",
        "from functools import partial\nmy_stage = partial(stage, realizations=NN)()\n",
        "from helper import my_stage\n",
    ],
)
def test_a_decorator_of_ones_own_that_makes_a_stage_does_not_count(project, own):
    text = f"from bridge import stage\n{own}@my_stage\ndef train(run):\n    run.log(result=1)\n"
    helper = "from bridge import stage\n\n\n\n\n\ndef my_stage(f):\n    return stage(realizations=NN)(f)\n"
    paths = {drv(project, text.replace("NN", one), helper=helper.replace("NN", one)) for one in "12"}
    assert len(paths) == 1
    assert project.result(text.replace("NN", "1"), helper=helper.replace("NN", "1")) == (1, 1)


TIMES = """
import functools
from bridge import stage
def times(g):
    @functools.wraps(g)
    def inner(run):
        g(run)
        run.metrics["result"] += NN
    return inner
"""


def test_the_decorators_of_a_function_that_is_made_a_stage_later_count(project):
    text = TIMES + "@times\ndef body(run):\n    run.log(result=1)\n\ntrain = stage(body)\n"
    one, two = (text.replace("NN", number) for number in "12")
    assert drv(project, one) != drv(project, two)
    assert project.result(two)[0] == 3


@pytest.mark.parametrize(
    "made",
    [
        "def train(run):\n    pass\ntrain = stage(times(train))\n",
        "def both(f):\n    return stage(times(f))\n@both\ndef train(run):\n    pass\n",
    ],
)
def test_a_function_wrapped_elsewhere_is_refused_since_the_wrapping_would_not_run(project, made):
    with pytest.raises(CodeError, match="train is wrapped in one that none of its decorators made") as error:
        drv(project, TIMES + made)
    assert error.value.file == str(project.folder / "stages.py")


def test_a_module_that_is_no_python_is_passed_over_unless_it_is_used(project):
    text = "from bridge import stage\ntry:\n    import broken\nexcept SyntaxError:\n    pass\n"
    text += "@stage\ndef train(run):\n    {}\n"
    assert drv(project, text.format("pass"), broken="x = (\n")
    with pytest.raises(CodeError, match="the module broken can not be read: '\\(' was never closed") as error:
        drv(project, text.format("import broken"), broken="\nx = (\n")
    assert (error.value.file, error.value.line) == (str(project.folder / "broken.py"), 2)


# --------------------------------------------------------------------------- what changes the code


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x * LIMIT", "x + LIMIT"),
        ("LIMIT = 3", "LIMIT = 4"),
        ("    run.log", "    print(1)\n    run.log"),
        ("def helper", "def wrap(f):\n    return f\n\n@wrap\ndef helper"),
        ("LIMIT = 3", "LIMIT = 3\nLIMIT += 1"),
        ("LIMIT = 3", "LIMIT = 3\nfor LIMIT in range(3):\n    pass"),
        ("LIMIT = 3", "LIMIT = 3\nwith open(__file__) as LIMIT:\n    pass"),
        ("LIMIT = 3", "LIMIT = 3\nLIMIT, REST = 4, 5"),
        ("LIMIT = 3", "LIMIT = 3\n[LIMIT := i for i in range(2)]"),
        ("LIMIT = 3", "LIMIT = 3\nOTHER = (LIMIT := 2)"),
        ("LIMIT = 3", "LIMIT = 3\nif TABLE:\n    LIMIT = 2"),
        ("LIMIT = 3", "LIMIT: int = 4"),
        ("lr=0.1", "lr=0.2"),
        ("lr=0.1", "rate=0.1"),
        ("model.pkl", "model.bin"),
        ("def train", "def fit"),
    ],
)
def test_what_runs_counts(project, old, new):
    assert old in BASE
    text = BASE.replace(old, new, 1).replace("TABLE = ", "TABLE = ", 1)
    if "if TABLE" in new:
        text = text.replace('TABLE = {"a": 1}\n', "").replace("LIMIT = 3", 'TABLE = {"a": 1}\nLIMIT = 3', 1)
    changed = text.replace("helper(lr)", "helper(rate)") if "rate=" in new else text
    assert drv(project, BASE) != project.node(changed, stage="fit" if "fit" in new else "train").path


REACHED = {
    "a decorator of a helper": ("", "def twice(f):\n    return lambda x: f(x) * {}\n@twice\ndef f(x):\n    return x"),
    "a decorator below stage": ("", None),
    "a class": ("", "class A:\n    def m(self, x):\n        return x + {}\ndef f(x):\n    return A().m(x)"),
    "a base class": ("", "class B:\n    K = {}\nclass A(B):\n    pass\ndef f(x):\n    return A.K"),
    "a class body": ("", "K = {}\nclass A:\n    K = K\ndef f(x):\n    return A.K"),
    "a default": ("", "K = {}\ndef f(x, k=K):\n    return k"),
    "a keyword default": ("", "K = {}\ndef f(x, *, k=K):\n    return k"),
    "a lambda": ("", "K = {}\nf = lambda x: K"),
    "a comprehension": ("", "K = {}\ndef f(x):\n    return [K for _ in range(2)]"),
    "a nested function": ("", "K = {}\ndef f(x):\n    def g():\n        return K\n    return g()"),
    "a nested class": ("", "K = {}\ndef f(x):\n    class C:\n        k = K\n    return C.k"),
    "a star argument": ("", "K = ({},)\ndef g(*args):\n    return args\ndef f(x):\n    return g(*K)"),
    "a global statement": ("", "K = {}\ndef f(x):\n    global K\n    K = K + 1\n    return K"),
    "an f-string": ("", "K = {}\ndef f(x):\n    return f'{{K!r:>5}}'"),
    "a match statement": ("", "class P:\n    K = {}\ndef f(x):\n    match x:\n        case P.K:\n            return 1"),
    "a try statement": (
        "",
        "try:\n    import nothing_here as K\nexcept ImportError:\n    K = {}\ndef f(x):\n    return K",
    ),
    "a loop": ("", "T = {{}}\nfor i in range({}):\n    T[str(i)] = i\ndef f(x):\n    return T"),
    "an item set": ("", "T = {{}}\nT['x'] = {}\ndef f(x):\n    return T"),
    "an item deleted": ("", "T = {{'1': 1, '2': 2}}\ndel T['{}']\ndef f(x):\n    return T"),
    "a method called": ("", "T = []\nT.append({})\ndef f(x):\n    return T"),
    "an attribute set": ("", "def f(x):\n    return f.k\nf.k = {}"),
    "an augmented assignment": ("", "T = []\nT += [{}]\ndef f(x):\n    return T"),
    "a slice set": ("", "T = [0]\nT[:], U = [{}], 1\ndef f(x):\n    return T"),
    "a registry by decorator": (
        "",
        "T = {{}}\ndef register(g):\n    T[g.__name__] = g\n    return g\n"
        "@register\ndef one():\n    return {}\ndef f(x):\n    return {{k: v() for k, v in T.items()}}",
    ),
    "a registry by call": (
        "",
        "T = {{}}\ndef register(k, v):\n    T[k] = v\nregister('k', {})\ndef f(x):\n    return T",
    ),
    "a registry by assignment": (
        "",
        "T = []\ndef register(v):\n    T.append(v)\n    return v\nOTHER = register({})\ndef f(x):\n    return T",
    ),
    "a registry of subclasses": (
        "",
        "class B:\n    T = []\n    def __init_subclass__(cls):\n        B.T.append(cls.__name__)\n"
        "class A{}(B):\n    pass\ndef f(x):\n    return B.T",
    ),
    "a registry through a local name": (
        "",
        "T = {{}}\nadd = T.setdefault\nadd('k', {})\ndef f(x):\n    return T",
    ),
    "a helper's module": ("from helper import f", "def f(x):\n    return {}"),
    "a renamed import": ("from helper import g as f", "def g(x):\n    return {}"),
    "a module's attribute": ("import helper\ndef f(x):\n    return helper.g(x)", "def g(x):\n    return {}"),
    "a module under a name": ("import helper as h\nf = h.g", "def g(x):\n    return {}"),
    "a module in a variable": ("import helper\nh = helper\ndef f(x):\n    return h.g(x)", "def g(x):\n    return {}"),
    "a module by getattr": (
        "import helper\ndef f(x):\n    return getattr(helper, 'g')(x)",
        "def g(x):\n    return {}",
    ),
    "a lazy import": ("def f(x):\n    import helper\n    return helper.g(x)", "def g(x):\n    return {}"),
    "a lazy from import": ("def f(x):\n    from helper import g\n    return g(x)", "def g(x):\n    return {}"),
    "an import in try": (
        "try:\n    import helper as h\nexcept ImportError:\n    h = None\ndef f(x):\n    return h.g(x)",
        "def g(x):\n    return {}",
    ),
    "a from import in try": (
        "try:\n    from helper import g\nexcept ImportError:\n    g = None\ndef f(x):\n    return g(x)",
        "def g(x):\n    return {}",
    ),
    "an import in else of TYPE_CHECKING": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    from helper import g as f",
        "def g(x):\n    return {}",
    ),
    "import of everything": ("from helper import *", "def f(x):\n    return {}"),
    "a module of __getattr__": ("from helper import f", "K = {}\ndef __getattr__(name):\n    return lambda x: K"),
    "an effect in a helper's module": ("from helper import f", "T = []\nT.append({})\ndef f(x):\n    return T"),
    "eval": ("", "K = {}\ndef f(x):\n    return eval('K')"),
    "globals": ("", "K = {}\ndef f(x):\n    return globals()['K']"),
    "vars of a module": ("import helper\ndef f(x):\n    return vars(helper)['K']", "K = {}"),
    "eval in a helper's module": ("from helper import f", "K = {}\ndef f(x):\n    return eval('K')"),
}


@pytest.mark.parametrize("what", REACHED)
def test_what_the_function_reaches_counts_and_runs_as_it_does_live(project, what):
    own, other = REACHED[what]
    uses = "from bridge import stage\n{}\n@stage{}\ndef train(run):\n    run.log(result=f(1))\n"
    if other is None:
        own = "def times(g):\n    import functools\n    @functools.wraps(g)\n    def inner(run):\n"
        own += "        g(run)\n        run.metrics['result'] += {}\n    return inner\ndef f(x):\n    return x"
        uses = uses.replace("def train", "@times\ndef train")
    elif own == "":
        own = other
    paths = []
    for number in (1, 2):
        files = {"helper": other.format(number)} if own is not other and other is not None else {}
        text = uses.format(own if files else own.format(number), "")
        paths.append(drv(project, text, **files))
        pruned, live = project.result(text, **files)
        if other is not None:
            assert pruned == live
        else:
            assert pruned == 1 + number
    assert paths[0] != paths[1]


def test_a_helper_two_modules_away_counts(project):
    text = "from bridge import stage\nfrom one import f\n@stage\ndef train(run):\n    run.log(result=f())\n"
    one = "from two import g\ndef f():\n    return g()\ndef unrelated():\n    return {}\n"
    two = "def g():\n    return {}\ndef unrelated():\n    return {}\n"
    first = drv(project, text, one=one.format(1), two=two.format(1, 1))
    assert drv(project, text, one=one.format(2), two=two.format(1, 2)) == first
    assert drv(project, text, one=one.format(1), two=two.format(2, 1)) != first
    assert project.result(text, one=one.format(1), two=two.format(7, 1)) == (7, 7)


def test_an_annotation_of_a_helper_is_code_that_others_may_read(project):
    old, new = "def helper(x):", "def helper(x: int):"
    assert drv(project, BASE.replace(old, new)) != drv(project, BASE)


def test_the_docstrings_count_where_something_reads_them(project):
    text = 'from bridge import stage\n@stage\ndef train(run):\n    """{}"""\n    print(train.__doc__)\n'
    assert drv(project, text.format("one")) != drv(project, text.format("two"))


# --------------------------------------------------------------------------- modules and packages

PACKAGE = {
    "pkg/lib/deep": "from ..base import K\ndef g():\n    return K\ndef unrelated():\n    return 0\n",
    "pkg/base": "K = 5\nUNUSED = 1\n",
    "pkg/lib/__init__": "from . import deep\nSIDE = 1\n",
    "pkg/__init__": "from .lib.deep import g as exported\nUNUSED = 2\n",
}


@pytest.mark.parametrize(
    "own",
    [
        "import pkg.lib.deep\ndef f():\n    return pkg.lib.deep.g()",
        "import pkg.lib.deep as d\ndef f():\n    return d.g()",
        "import pkg.lib as lib\ndef f():\n    return lib.deep.g()",
        "import pkg.lib\ndef f():\n    return pkg.lib.deep.g()",
        "from pkg.lib import deep\ndef f():\n    return deep.g()",
        "from pkg.lib import deep as d\ndef f():\n    return d.g()",
        "from pkg import lib\ndef f():\n    return lib.deep.g()",
        "from pkg.lib.deep import g as f",
        "from pkg import exported as f",
        "import pkg\ndef f():\n    return pkg.exported()",
        "import pkg\ndef f():\n    return pkg.lib.deep.g()",
        "def f():\n    from pkg.lib import deep\n    return deep.g()",
        "def f():\n    import pkg.lib.deep\n    return pkg.lib.deep.g()",
        "def f():\n    import pkg.lib.deep as d\n    return d.g()",
        "try:\n    from pkg.lib import deep as d\nexcept ImportError:\n    d = None\ndef f():\n    return d.g()",
        "from bypass import d\ndef f():\n    return d.g()",
        "import bypass\ndef f():\n    return bypass.d.g()",
    ],
)
def test_a_package_is_pruned_and_runs_however_it_is_imported(project, own):
    text = f"from bridge import stage\n{own}\n@stage\ndef train(run):\n    run.log(result=f())\n"
    files = {**PACKAGE, "bypass": "import pkg.lib.deep as d\n"}
    assert project.result(text, **files) == (5, 5)
    changed = {**files, "pkg/base": "K = 6\nUNUSED = 1\n"}
    assert drv(project, text, **changed) != drv(project, text, **files)


@pytest.mark.parametrize(
    "own",
    [
        "import pkg.lib.deep as d\ndef f():\n    return d.g()",
        "from pkg.lib import deep\ndef f():\n    return deep.g()",
        "def f():\n    from pkg.lib import deep\n    return deep.g()",
        "from pkg import exported as f",
    ],
)
def test_an_unrelated_function_of_an_imported_module_does_not_count(project, own):
    text = f"from bridge import stage\n{own}\n@stage\ndef train(run):\n    run.log(result=f())\n"
    changed = {**PACKAGE, "pkg/lib/deep": PACKAGE["pkg/lib/deep"].replace("return 0", "return 1")}
    changed["pkg/base"] = "K = 5\nUNUSED = 3\n"
    assert drv(project, text, **changed) == drv(project, text, **PACKAGE)


def test_a_stage_inside_a_package_uses_relative_imports(project):
    files = {
        "pkg/__init__": "",
        "pkg/sub/__init__": "",
        "pkg/sub/near": "from .. import far\ndef near():\n    return far.far() + 1\n",
        "pkg/far": "def far():\n    return 1\n",
    }
    project.load("", **files)
    text = (
        "from bridge import stage\nfrom . import near\nfrom .near import near as direct\n"
        "@stage\ndef train(run):\n    run.log(result=[near.near(), direct()])\n"
    )
    code = project.code(text, file="pkg/sub/stages.py")
    assert code.module == "pkg.sub.stages"
    assert set(code.files) == {
        "pkg/__init__.py",
        "pkg/far.py",
        "pkg/sub/__init__.py",
        "pkg/sub/near.py",
        "pkg/sub/stages.py",
    }
    found = project.run(project.load(None, "pkg/sub/stages.py").train)
    assert found["metrics"]["result"] == [2, 2]


def test_a_package_without_marks_of_a_project_is_one_project(tmp_path, project):
    (project.folder / "pyproject.toml").unlink()
    project.write({"pkg/__init__.py": "", "pkg/a/__init__.py": "", "pkg/b.py": "def f():\n    return 4\n"})
    text = "from bridge import stage\nfrom pkg.b import f\n@stage\ndef train(run):\n    run.log(result=f())\n"
    found = project.run(project.load(text, "pkg/a/stages.py").train)
    assert found["metrics"]["result"] == 4


def test_a_namespace_package_is_followed(project):
    text = "from bridge import stage\nfrom space import mod\n@stage\ndef train(run):\n    run.log(result=mod.f())\n"
    assert project.result(text, **{"space/mod": "def f():\n    return 3\n"}) == (3, 3)


def test_libraries_and_nixbridge_itself_are_no_part_of_the_code(project):
    text = "import json\nimport pytest\nfrom bridge import stage, best\n@stage\ndef train(run):\n"
    text += "    json.dumps(1), pytest.skip, best\n"
    assert project.code(text).files == {
        "stages.py": "import json\nimport pytest\nfrom bridge import best\n"
        "def train(run):\n    (json.dumps(1), pytest.skip, best)\n"
    }


def test_helpers_may_be_recursive_and_modules_may_need_each_other(project):
    text = """
    from bridge import stage
    from other import even

    def odd(n):
        return n != 0 and even(n - 1)

    @stage
    def train(run, n=7):
        run.log(result=[odd(n), even(n), fact(n)])

    def fact(n):
        return 1 if n == 0 else n * fact(n - 1)
    """
    other = "def even(n):\n    from stages import odd\n    return n == 0 or odd(n - 1)\n"
    assert project.result(text, other=other) == ([True, False, 5040],) * 2


def test_a_function_defined_twice_runs_as_the_last(project):
    text = """
    from bridge import stage

    def f():
        return 1

    before = f

    def f():
        return before() + 1

    @stage
    def train(run):
        run.log(result=f())
    """
    assert project.result(text) == (2, 2)


def test_a_conditional_definition_runs_as_it_does_live(project):
    text = """
    import sys
    from bridge import stage

    if sys.version_info >= (3, 0):
        def f():
            return "new"
    else:
        def f():
            return "old"

    @stage
    def train(run):
        run.log(result=f())
    """
    assert project.result(text) == ("new", "new")


def test_future_imports_are_kept(project):
    text = """
    from __future__ import annotations
    from bridge import stage

    def f(x: Nothing) -> Never: ...

    @stage
    def train(run):
        run.log(result=f.__annotations__)
    """
    assert project.result(text) == ({"x": "Nothing", "return": "Never"},) * 2


def test_a_whole_module_leaves_its_stages_out(project):
    text = """
    from bridge import shell, stage

    K = 3
    made = shell("true")
    ALL = [made]

    @stage
    def other(run, x=made):
        pass

    @stage
    def train(run, x=1):
        run.log(result=globals()["K"] + x)
    """
    assert project.result(text) == (4, 4)
    (printed,) = project.code(text).files.values()
    assert "shell" not in printed
    assert "other" not in printed
    # A worker has no nixbridge.
    assert "bridge" not in printed


def test_a_registry_of_stages_is_no_part_of_the_code(project):
    text = BASE + "\nTABLE['train'] = train\n"
    assert drv(project, text) == drv(project, BASE)


def test_a_stage_that_has_its_module_run_as_a_program_is_the_same(project):
    text = BASE + "\nif __name__ == '__main__':\n    from bridge import instantiate\n"
    text += "    print(instantiate([train]).targets[0].path)\n"
    expected = drv(project, text)
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    ran = [sys.executable, str(project.folder / "stages.py")]
    assert subprocess.run(ran, capture_output=True, text=True, check=True, env=environ).stdout.strip() == expected


# ---------------------------------------------------------------------------------------- the same

ASK = """
import sys
from bridge.stages.load import load_targets
from bridge.stages.plan import instantiate
print(*(node.path for node in instantiate(load_targets(sys.argv[1])).nodes))
"""


def test_the_hash_is_the_same_in_every_process_folder_and_place(project, tmp_path):
    files = {"helper": "A, B, C, D = {'x', 'y'}, 1, 2, 3\ndef f():\n    return A, B, C, D\n"}
    text = "from bridge import stage\nimport helper\nK = {1, 2, 3}\n@stage\ndef train(run, x={'b': 1, 'a': 2}):\n"
    text += "    helper.f(), K, helper.D\n"
    expected = drv(project, text, **files)
    elsewhere = tmp_path / "else where"
    shutil.copytree(project.folder, elsewhere)
    found = []
    for seed, folder, cwd in (
        ("0", project.folder, "/"),
        ("1", project.folder, project.folder),
        ("2", elsewhere, tmp_path),
        ("3", elsewhere, elsewhere),
    ):
        environ = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[3])}
        place = os.path.relpath(folder / "stages.py", cwd)
        ran = [sys.executable, "-c", ASK, place]
        found.append(subprocess.run(ran, capture_output=True, text=True, check=True, env=environ, cwd=cwd).stdout)
    assert {one.strip() for one in found} == {expected}


# ---------------------------------------------------------------------------------- what is refused


def test_a_stage_in_another_stages_code_is_refused_where_it_is_used(project):
    module = project.load("""\
        from bridge import stage

        @stage
        def first(run):
            pass

        def helper():
            return first

        @stage
        def train(run):
            helper()
        """)
    with pytest.raises(CodeError, match="the code of the stage train uses the stage first") as caught:
        instantiate([module.train])
    assert caught.value.where == f"{module.__file__}:7"
    assert "parameter" in caught.value.hint


@pytest.mark.parametrize(
    "body",
    [
        "import other; other.made",
        "from other import made; made",
        "import other as o; o.made",
    ],
)
def test_a_stage_of_another_module_is_refused_too(project, body):
    text = f"from bridge import stage\n@stage\ndef train(run):\n    {body}\n"
    module = project.load(text, other="from bridge import shell\n\nmade = shell('true')\n")
    with pytest.raises(CodeError, match="uses the stage made") as caught:
        instantiate([module.train])
    assert caught.value.file.endswith(".py")
    assert caught.value.line


def test_a_stage_in_a_list_is_refused_too(project):
    text = "from bridge import shell, stage\nmade = shell('true')\nALL = [made]\n"
    module = project.load(text + "@stage\ndef train(run):\n    print(ALL)\n")
    with pytest.raises(CodeError, match="uses the stage made") as caught:
        instantiate([module.train])
    assert caught.value.where == f"{module.__file__}:3"


def test_a_parameter_may_have_the_name_of_a_stage(project):
    text = "from bridge import shell, stage\nclean = shell('true')\n@stage\ndef train(run, clean=clean):\n    clean\n"
    assert "shell" not in project.code(text).files["stages.py"]


def test_a_local_variable_may_have_the_name_of_a_stage(project):
    text = "from bridge import shell, stage\nclean = shell('true')\n@stage\ndef train(run):\n    clean = 1\n    clean\n"
    assert "shell" not in project.code(text).files["stages.py"]


@pytest.mark.parametrize(
    "text",
    [
        "def make():\n    @stage\n    def train(run):\n        pass\n    return train\ntrain = make()\n",
        "def make(x):\n    @stage\n    def train(run):\n        print(x)\n    return train\ntrain = make(1)\n",
        "class A:\n    @stage\n    def train(run):\n        pass\ntrain = A.train\n",
        "def plain(f):\n    def inner(run):\n        f(run)\n    return inner\n"
        "@stage\n@plain\ndef train(run):\n    pass\n",
    ],
)
def test_a_function_inside_something_is_refused(project, text):
    module = project.load(f"from bridge import stage\n{text}")
    with pytest.raises(CodeError, match="is defined inside another function or class") as caught:
        instantiate([module.train])
    assert caught.value.file == module.__file__
    assert caught.value.line in (3, 4)


def test_a_lambda_is_refused(project):
    module = project.load("from bridge import stage\n\ntrain = stage(name='train')(lambda run: 1)\n")
    with pytest.raises(CodeError, match="not at the top level") as caught:
        instantiate([module.train])
    assert caught.value.where == f"{module.__file__}:3"


def test_a_function_without_a_source_file_is_refused():
    space = {"__name__": "typed_in", "stage": make_stage}
    exec(dedent("@stage\ndef train(run):\n    pass\n"), space)
    recipe = space["train"].recipe
    with pytest.raises(CodeError, match="the source of the stage function train can not be read"):
        stage_code(recipe.function, recipe.decorated_at)


# ------------------------------------------------------------------------------- modules by chance


@st.composite
def modules(draw):
    """Functions and constants that use what stands above them, through two modules."""
    names = [f"n{number}" for number in range(draw(st.integers(1, 7)))]
    lines = {"stages": ["from bridge import stage"], "helper": []}
    made: list[tuple[str, str]] = []
    for name in names:
        home = draw(st.sampled_from(["stages", "helper"]))
        usable = [one for one in made if home == "stages" or one[1] == "helper"]
        used = draw(st.lists(st.sampled_from(usable), max_size=2)) if usable else []
        for one, origin in used:
            if home == "stages" and origin == "helper":
                lines[home].append(f"from helper import {one}")
        total = " + ".join([str(draw(st.integers(0, 9))), *(f"{one}()" for one, _ in used)])
        lines[home] += draw(
            st.sampled_from(
                [
                    [f"def {name}():", f"    return {total}"],
                    [f"_{name} = {total}", f"def {name}():", f"    return _{name}"],
                    [f"_{name} = []", f"_{name}.append({total})", f"{name} = lambda: _{name}[-1]"],
                    [f"class {name}:", "    def __new__(cls):", f"        return {total}"],
                    ["try:", f"    {name} = lambda: {total}", "except OSError:", "    pass"],
                    [
                        f"def _{name}(f):",
                        f"    return lambda: f() + {total}",
                        f"@_{name}",
                        f"def {name}():",
                        "    return 1",
                    ],
                ]
            )
        )
        made.append((name, home))
    last, home = made[-1]
    if home == "helper":
        ways = [[f"from helper import {last}"], ["import helper", f"{last} = helper.{last}"]]
        lines["stages"] += draw(st.sampled_from(ways))
    lines["stages"] += ["@stage", "def train(run):", f"    run.log(result={last}())"]
    return {name: "\n".join(text) + "\n" for name, text in lines.items()}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(modules())
def test_pruned_code_gives_what_the_live_function_gives(project, files):
    module = project.load(files["stages"], helper=files["helper"])
    printed = project.code(files["stages"], helper=files["helper"]).files
    live: dict[str, object] = {}

    class Run:
        def log(self, **metrics):
            live.update(metrics)

    module.train.recipe.function(Run())
    expected, live = dict(live), {}
    names = {path: path.removesuffix(".py") for path in printed}
    spaces = {name: type(sys)(name) for name in names.values()}
    saved = {name: sys.modules.pop(name, None) for name in spaces}
    try:
        sys.modules.update(spaces)
        for path in sorted(printed):  # helper before stages
            exec(compile(printed[path], path, "exec"), vars(spaces[names[path]]))
        spaces["stages"].train(Run())
    finally:
        for name in spaces:
            del sys.modules[name]
        sys.modules.update({name: one for name, one in saved.items() if one is not None})
    assert live == expected
