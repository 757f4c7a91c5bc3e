"""A module as statements: what each binds, reads and changes, and which modules are the project's."""

from __future__ import annotations

import ast
import sys

import pytest

from bridge.stages.code.locate import project_root
from bridge.stages.code.modules import Module, analyse, find, imported_names, load, tree


def statement(text):
    (node,) = ast.parse(text).body
    return analyse(node)


@pytest.fixture
def module(tmp_path, project):
    def make(text: str) -> Module:
        file = tmp_path / "mod.py"
        file.write_text(text)
        tree.cache_clear()
        load.cache_clear()
        return load("mod", file)

    return make


@pytest.mark.parametrize(
    ("text", "binds", "reads"),
    [
        ("a = b", {"a"}, {"b"}),
        ("a: b = c", {"a"}, {"b", "c"}),
        ("a, *b = c", {"a", "b"}, {"c"}),
        ("a += b", {"a"}, {"b"}),
        ("a[b] = c", set(), {"a", "b", "c"}),
        ("a.b = c", set(), {"a", "c"}),
        ("del a[b]", set(), {"a", "b"}),
        ("a = (b := c)", {"a", "b"}, {"c"}),
        ("a = [b for b in c]", {"a"}, {"c"}),
        ("a = [(last := b) for b in c]", {"a", "last"}, {"c", "last"}),
        ("a = lambda b: b + c", {"a"}, {"c"}),
        ("a = {**b, 'c': d}", {"a"}, {"b", "d"}),
        ("f(*a, **b)", set(), {"f", "a", "b"}),
        ("import a.b", {"a"}, set()),
        ("import a.b as c", {"c"}, set()),
        ("from a import b as c", {"c"}, set()),
        ("def f(a, b=c, *d, e: g = h) -> i: return a + b + j", {"f"}, {"c", "g", "h", "i", "j"}),
        ("def f():\n    a = 1\n    return a", {"f"}, set()),
        ("def f():\n    global a\n    a = 1", {"f"}, {"a"}),
        ("def f():\n    def g():\n        global a\n        a = b\n    return g", {"f"}, {"a", "b"}),
        ("def f():\n    a = 1\n    def g():\n        nonlocal a\n        a = b\n    return g", {"f"}, {"b"}),
        ("@d\ndef f(): pass", {"f"}, {"d"}),
        ("async def f():\n    async with a as b:\n        return b", {"f"}, {"a"}),
        ("class A(B, metaclass=M): pass", {"A"}, {"B", "M"}),
        ("class A:\n    x = x", {"A"}, {"x"}),
        ("class A:\n    x = y\n    def f(self):\n        return x", {"A"}, {"x", "y"}),
        ("if a:\n    b = c\nelse:\n    d = e", {"b", "d"}, {"a", "c", "e"}),
        ("try:\n    import a\nexcept b as c:\n    d = e", {"a", "c", "d"}, {"b", "e"}),
        ("for a, b in c:\n    d[a] = b", {"a", "b"}, {"a", "b", "c", "d"}),
        ("with a as b:\n    c = b", {"b", "c"}, {"a", "b"}),
        ("match a:\n    case [b, C(d=e)]:\n        f = b", {"b", "e", "f"}, {"C", "a", "b"}),
        ("f'{a!r:>{b}}'", set(), {"a", "b"}),
    ],
)
def test_a_statement_binds_and_reads(text, binds, reads):
    found = statement(text)
    assert found.binds == binds
    assert found.reads == reads


@pytest.mark.parametrize(
    "text", ["a = b()", "a: int = 1", "a, b = 1, 2", "def f(): g()", "class A: pass", "import a", "'text'", "pass"]
)
def test_what_only_binds_has_no_effect(text):
    assert not statement(text).effect


@pytest.mark.parametrize(
    "text", ["f()", "a.b = 1", "a[0] = 1", "a[0]: int = 1", "a += 1", "del a", "a, b[0] = c", "assert a", "if a: b = 1"]
)
def test_what_does_more_than_bind_has_an_effect(text):
    assert statement(text).effect


def shown(statements):
    return [ast.unparse(one.node) for one in statements]


@pytest.mark.parametrize(
    ("text", "effects"),
    [
        ("T = {}\nT['x'] = 1\nU = {}\nU['x'] = 1\n", ["T['x'] = 1"]),
        ("T = {}\ndef add(k):\n    T[k] = 1\nadd('x')\n", ["add('x')"]),
        ("T = {}\ndef add(k):\n    T[k] = 1\ndef more():\n    add('x')\nmore()\n", ["more()"]),
        ("T = {}\nadd = T.update\nadd(x=1)\n", ["add(x=1)"]),
        ("T = {}\ndef add(f):\n    T[f] = 1\n@add\ndef g(): pass\n", ["@add\ndef g():\n    pass"]),
        ("T = {}\nx = T.setdefault('x', 1)\n", ["x = T.setdefault('x', 1)"]),
        ("T = {}\nx = T\n", []),
        ("T = 3\ndef show():\n    print(T)\nx = show()\n", []),
        ("T = (1, -2, 'x')\nx = f(T)\n", []),
        ("def T(): pass\nx = T()\n", []),
        ("import T\nx = T.zeros(3)\n", []),
        ("import T\nT.seed(3)\n", ["T.seed(3)"]),
        (
            "try:\n    import T\nexcept ImportError:\n    raise\nx = T.zeros(3)\n",
            ["try:\n    import T\nexcept ImportError:\n    raise"],
        ),
    ],
)
def test_what_may_change_a_name(module, text, effects):
    assert shown(module(text).effects("T")) == effects


def test_imports_of_several_names_are_statements_of_their_own(module):
    assert shown(module("import a, b.c\nfrom d import e, f as g\n").statements) == [
        "import a",
        "import b.c",
        "from d import e",
        "from d import f as g",
    ]


def test_future_imports_stay_together(module):
    assert shown(module("from __future__ import annotations, division\n").statements) == [
        "from __future__ import annotations, division"
    ]


@pytest.mark.parametrize(
    "test", ["TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'", '"__main__" == __name__']
)
def test_what_never_runs_in_a_worker_is_dropped_and_its_else_is_kept(module, test):
    text = f"if {test}:\n    a = 1\nelif x:\n    b = 2\nelse:\n    c = 3\nd = 4\n"
    assert shown(module(text).statements) == ["if x:\n    b = 2\nelse:\n    c = 3", "d = 4"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = 1\ny = eval('x')\n", "it calls eval() in line 2"),
        ("def f():\n    exec('x')\n", "it calls exec() in line 2"),
        ("globals()['a'] = 1\n", "it calls globals() in line 1"),
        ("vars(a)\n", None),
        ("vars()['a']\n", "it calls vars() in line 1"),
        ("__import__('a')\n", "it calls __import__() in line 1"),
        ("x = locals()\n", "it calls locals() in line 1"),
        ("def f(a):\n    return '{a}'.format(**locals())\n", None),
        ("g = globals\n", "it uses globals in line 1"),
        ("import builtins\nbuiltins.eval('a')\n", "it uses eval in line 2"),
        ("f.__globals__['a']\n", "it looks into a module in line 1"),
        ("sys.modules[__name__]\n", "it looks into a module in line 1"),
        ("sys.modules['a']\n", None),
        ("import importlib\nimportlib.import_module('a')\n", "it uses import_module in line 2"),
        ("from a import *\n", "it imports * in line 1"),
        ("model.eval()\n", None),
    ],
)
def test_a_dynamic_module_says_why(module, text, reason):
    assert module(text).dynamic == reason


def test_a_module_with_a_syntax_error_is_refused(module):
    with pytest.raises(SyntaxError, match="never closed"):
        module("a = (1\n")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import a.b.c", [("a.b.c", None, "a")]),
        ("import a.b as c, d", [("a.b", None, "c"), ("d", None, "d")]),
        ("from a.b import c as d", [("a.b", "c", "d")]),
        ("from . import a", [("pkg.sub", "a", "a")]),
        ("from .a import b", [("pkg.sub.a", "b", "b")]),
        ("from .. import a", [("pkg", "a", "a")]),
        ("from ..a import b", [("pkg.a", "b", "b")]),
        ("x = 1", []),
    ],
)
def test_imports_name_modules_absolutely(text, found):
    assert imported_names(ast.parse(text).body[0], "pkg.sub") == found


def test_the_package_of_a_module(tmp_path):
    assert Module("a.b", tmp_path, False, (), None).package == "a"
    assert Module("a.b", tmp_path, True, (), None).package == "a.b"
    assert Module("a", tmp_path, False, (), None).package == ""


@pytest.mark.parametrize("mark", ["pyproject.toml", "flake.nix", ".git"])
def test_a_project_begins_where_its_mark_is(tmp_path, mark):
    (tmp_path / mark).touch()
    file = tmp_path / "a" / "b" / "c.py"
    file.parent.mkdir(parents=True)
    assert project_root(file) == tmp_path


def test_a_project_without_marks_is_the_folder_of_the_outermost_package(tmp_path):
    inner = tmp_path / "top" / "pkg" / "sub"
    inner.mkdir(parents=True)
    (inner / "__init__.py").touch()
    (inner.parent / "__init__.py").touch()
    assert project_root(inner / "a.py") == tmp_path / "top"
    assert project_root(tmp_path / "top" / "a.py") == tmp_path / "top"


def test_modules_of_others_are_not_found(project, tmp_path):
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "outside.py").write_text("x = 1\n")
    module = project.load("import sys\n", inside="x = 1\n")
    sys.path.append(str(outside))
    root = project.folder
    assert module.__file__ == str(root / "stages.py")
    assert find("inside", root).file == root / "inside.py"
    for name in ("outside", "json", "pytest", "bridge", "bridge.stages.values", "nothing", "inside.nothing", "sys"):
        assert find(name, root) is None
