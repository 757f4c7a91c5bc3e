"""What other modules change in what a stage's code uses: it counts, and runs as it does live; the rest does not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bridge.stages.plan import instantiate

REGISTRY = (
    "T = {}\ndef register(g):\n    T[g.__name__] = g\n    return g\n"
    "def build():\n    return {k: v() for k, v in T.items()}\n"
)
READS_K = "K = 0\ndef f():\n    return K\n"
RANDOM = "import random\ndef f():\n    return random.random()\n"
PLUGIN = "from reg import register\n@register\ndef one():\n    return NN\n"

CHANGES = {
    "a constant of an imported module": ("import helper\nfrom helper import f\nhelper.K = NN", {"helper": READS_K}),
    "the dictionary of a module": (
        "import helper\nfrom helper import f\nhelper.__dict__.update(K=NN)",
        {"helper": READS_K},
    ),
    "a configuration that a function elsewhere sets": (
        "from config import setup\nfrom helper import f\nsetup(NN)",
        {
            "config": "class Config:\n    rate = 0\nvalue = Config()\ndef setup(n):\n    value.rate = n\n",
            "helper": "from config import value\ndef f():\n    return value.rate\n",
        },
    ),
    "what is looked up in the dictionary of a module": (
        "import helper\ndef f():\n    return helper.__dict__.get('K')",
        {"helper": "K = NN\n"},
    ),
    "setattr of a module": ("import helper\nfrom helper import f\nsetattr(helper, 'K', NN)", {"helper": READS_K}),
    "a module that patches another": (
        "import pkg.sub\ndef f():\n    return pkg.V",
        {"pkg/__init__": "V = 0\n", "pkg/sub": "import pkg\npkg.V = NN\n"},
    ),
    "a package that patches its module": (
        "from pkg.a import f",
        {"pkg/__init__": "from . import a\na.K = NN\n", "pkg/a": READS_K},
    ),
    "a method of an imported class": (
        "from helper import C, f\nC.m = lambda self: NN",
        {"helper": "class C:\n    def m(self):\n        return 0\ndef f():\n    return C().m()\n"},
    ),
    "an entry of a registry elsewhere": (
        "from reg import build as f, register\n@register\ndef one():\n    return NN",
        {"reg": REGISTRY},
    ),
    "an entry of a registry made by a plugin": (
        "import plugin\nfrom reg import build as f",
        {"reg": REGISTRY, "plugin": PLUGIN},
    ),
    "an entry of a registry made by plugins of a package": (
        "import plugins\nfrom reg import build as f",
        {
            "reg": REGISTRY,
            "plugins/__init__": "from . import b, a\n",
            "plugins/a": PLUGIN,
            "plugins/b": "from reg import T\nT['int'] = int\n",
        },
    ),
    "an entry of a registry that is exported again": (
        "import lib\nfrom lib.reg import build as f\n@lib.register\ndef one():\n    return NN",
        {"lib/__init__": "from .reg import register\n", "lib/reg": REGISTRY},
    ),
    "a plugin that is imported late": (
        "def f():\n    import reg, plugin\n    return reg.build()",
        {"reg": REGISTRY, "plugin": PLUGIN},
    ),
    "a registering object": (
        "from reg import MODELS\nimport models\ndef f():\n    return MODELS.d['m']()",
        {
            "reg": "class R:\n    def __init__(self):\n        self.d = {}\n    def register(self, n):\n"
            "        return lambda c: self.d.setdefault(n, c)\nMODELS = R()\n",
            "models": "from reg import MODELS\n@MODELS.register('m')\ndef m():\n    return NN\n",
        },
    ),
    "a subclass of a class elsewhere that is told": (
        "from helper import B, f\nclass A(B):\n    k = NN",
        {
            "helper": "class B:\n    T = []\n    def __init_subclass__(cls):\n        B.T.append(cls)\n"
            "def f():\n    return [one.k for one in B.T]\n"
        },
    ),
    "subclasses that are listed": (
        "class B:\n    pass\nclass A(B):\n    k = NN\ndef f():\n    return [one.k for one in B.__subclasses__()]",
        {},
    ),
    "classes of a metaclass": (
        "class M(type):\n    T = []\n    def __new__(m, n, b, d):\n        m.T.append(d.get('k'))\n"
        "        return super().__new__(m, n, b, d)\nclass B(metaclass=M):\n    pass\n"
        "class A(B):\n    k = NN\ndef f():\n    return M.T",
        {},
    ),
    "a single dispatch": (
        "from functools import singledispatch\n@singledispatch\ndef g(x):\n    return 0\n"
        "@g.register\ndef _(x: int):\n    return NN\ndef f():\n    return g(1)",
        {},
    ),
    "a single dispatch elsewhere": (
        "from helper import f, g\n@g.register\ndef _(x: int):\n    return NN",
        {
            "helper": "from functools import singledispatch\n@singledispatch\ndef g(x):\n    return 0\n"
            "def f():\n    return g(1)\n"
        },
    ),
    "a global that a function sets": (
        "Z = 0\ndef init(n):\n    global Z\n    Z = n\ninit(NN)\ndef f():\n    return Z",
        {},
    ),
    "a global that a function elsewhere sets": (
        "from helper import get as f, init\ninit(NN)",
        {"helper": "Z = 0\ndef init(n):\n    global Z\n    Z = n\ndef get():\n    return Z\n"},
    ),
    "a global that only a function binds": (
        "def init():\n    global g\n    def g():\n        return NN\ninit()\ndef f():\n    return g()",
        {},
    ),
    "an attribute that a function sets": (
        "def g():\n    return g.k\ndef init(n):\n    g.k = n\ninit(NN)\ndef f():\n    return g()",
        {},
    ),
    "a library's setting": (
        "import decimal\nfrom decimal import Decimal\ndecimal.getcontext().prec = NN\n"
        "def f():\n    return str(Decimal(1) / Decimal(3))",
        {},
    ),
    "a library's setting for another module": (
        "import random\nfrom helper import f\nrandom.seed(NN)",
        {"helper": RANDOM},
    ),
    "a library's setting in a function elsewhere": (
        "from helper import f\nfrom util import set_seed\nset_seed(NN)",
        {"helper": RANDOM, "util": "import random\ndef set_seed(n):\n    random.seed(n)\n"},
    ),
    "a library's setting under a condition": (
        "import random\nfrom helper import f\nif random:\n    random.seed(NN)",
        {"helper": RANDOM},
    ),
    "a call in a class": ("T = []\nclass A:\n    T.append(NN)\ndef f():\n    return T", {}),
    "a call in a default": ("T = []\ndef g(x=T.append(NN)):\n    pass\ndef f():\n    return T", {}),
    "a decorated method": (
        "from reg import T, register\nclass A:\n    @register\n    def m(x=0):\n        return NN\n"
        "def f():\n    return T['m']()",
        {"reg": REGISTRY},
    ),
    "an instance that its class lists": (
        "from helper import D, f\nx = D(NN)",
        {
            "helper": "class D:\n    T = []\n    def __init__(self, n):\n        self.T.append(n)\n"
            "def f():\n    return D.T\n"
        },
    ),
    "a descriptor that is told its name": (
        "class D:\n    T = []\n    def __set_name__(self, owner, name):\n        self.T.append(name)\n"
        "class A:\n    xNN = D()\ndef f():\n    return D.T",
        {},
    ),
    "a module that a package has as an attribute": (
        "import pkg\npkg.conf.K = NN\nfrom pkg.use import f",
        {"pkg/__init__": "from . import conf\n", "pkg/conf": READS_K, "pkg/use": "from .conf import f\n"},
    ),
    "a docstring that inspect reads": (
        "import inspect\ndef g():\n    '''Doc NN.'''\ndef f():\n    return inspect.getdoc(g)",
        {},
    ),
    "globals by another name": ("K = NN\ng = globals\ndef f():\n    return g()['K']", {}),
    "a module that looks into itself": ("import sys\nK = NN\ndef f():\n    return sys.modules[__name__].K", {}),
    "a package handed on with its modules": (
        "import pkg.a\ndef g(p):\n    return p.a.K\ndef f():\n    return g(pkg)",
        {"pkg/__init__": "", "pkg/a": "K = NN\n"},
    ),
    "a module imported by its name": (
        "from importlib import import_module\nimport helper\ndef f():\n    return import_module('helper').K",
        {"helper": "K = NN\n"},
    ),
    "a module named like a standard one": (
        "import statistics\ndef f():\n    return statistics.K",
        {"statistics": "K = NN\n"},
    ),
}


def written(own: str, files: dict[str, str], number: int) -> tuple[str, dict[str, str]]:
    """A stage that logs what f() gives, and its modules, with the number in place of NN."""
    text = f"{own}\nfrom bridge import stage\n@stage\ndef train(run):\n    run.log(result=f())\n"
    return text.replace("NN", str(number)), {name: one.replace("NN", str(number)) for name, one in files.items()}


@pytest.mark.parametrize("what", CHANGES)
def test_what_changes_something_that_is_used_counts_and_runs_as_it_does_live(project, what):
    paths = []
    for number in (1, 2):
        text, files = written(*CHANGES[what], number)
        paths.append(project.node(text, **files).path)
        pruned, live = project.result(text, **files)
        assert pruned == live
    assert paths[0] != paths[1]


UNRELATED = {
    "a registry that is not used": ("import plugin\ndef f():\n    return 1", {"reg": REGISTRY, "plugin": PLUGIN}),
    "a use of a library": ("import math\nU = dict()\nU['x'] = math.pi * NN\ndef f():\n    return math.pi", {}),
    "a call of a function elsewhere": (
        "import helper\nU = helper.g(NN)\ndef f():\n    return helper.g(1)",
        {"helper": "def g(x):\n    return x\n"},
    ),
    "a subclass that nobody lists": (
        "from helper import B\nclass U(B):\n    x = NN\ndef f():\n    return B.k",
        {"helper": "class B:\n    k = 1\n"},
    ),
    "a subclass of a generic class": (
        "from typing import Generic, TypeVar\nT = TypeVar('T')\nclass B(Generic[T]):\n    k = 1\n"
        "class U(B[int]):\n    k = NN\ndef f():\n    return B.k",
        {},
    ),
    "another instance of a class": (
        "from dataclasses import dataclass, field\n@dataclass\nclass D:\n    n: int\n"
        "    k: list = field(default_factory=list)\nx = D(NN)\ndef f():\n    return D(1).n",
        {},
    ),
    "a path below a path that is used": (
        "from pathlib import Path\nROOT = Path('x')\nU = ROOT.joinpath('NN')\ndef f():\n    return str(ROOT)",
        {},
    ),
    "a call of a cached function": (
        "from functools import cache\n@cache\ndef g(x):\n    return x\nU = g(NN)\ndef f():\n    return g(1)",
        {},
    ),
    "another module of the same package": (
        "import pkg.a\nimport pkg.bNN\ndef f():\n    return pkg.a.K",
        {"pkg/__init__": "", "pkg/a": "K = 1\n", "pkg/b1": "", "pkg/b2": ""},
    ),
    "stages of what is used": (
        "from bridge import best, json_file, stage\nimport helper\n@stage(match=best(helper.M['x']))\n"
        "def other(run, k=helper.M['y']):\n    print(NN)\nALL = [other(k=one) for one in helper.M]\n"
        "TEXTS = [json_file(helper.M, name='mNN')]\ndef f():\n    return helper.M",
        {"helper": "M = {'x': 'loss', 'y': 2}\n"},
    ),
}


@pytest.mark.parametrize("what", UNRELATED)
def test_what_changes_nothing_that_is_used_does_not_count(project, what):
    paths = set()
    for number in (1, 2):
        text, files = written(*UNRELATED[what], number)
        paths.add(project.node(text, **files).path)
        pruned, live = project.result(text, **files)
        assert pruned == live
    assert len(paths) == 1


def test_modules_with_effects_are_imported_in_their_order_and_the_same_in_each_process(project):
    plugin = "from reg import register\n@register\ndef {}():\n    return 1\n"
    text, files = written("import plugins\nfrom reg import build as f", {"reg": REGISTRY}, 1)
    files |= {f"plugins/{name}": plugin.format(name) for name in "abc"}
    files["plugins/__init__"] = "from . import c, a, b\n"
    project.load(text, **files)
    script = "import sys; from bridge.stages.load import load_targets; from bridge.stages.plan import instantiate; "
    script += "print(instantiate(load_targets(sys.argv[1])).targets[0].path)"
    found = {
        subprocess.run(
            [sys.executable, "-c", script, str(project.folder / "stages.py")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1
    imports = [line for line in project.code(text, **files).files["stages.py"].splitlines() if " as _plugins_" in line]
    assert [line.split()[1] for line in imports] == ["plugins.c", "plugins.a", "plugins.b"]


def test_a_library_is_not_imported_to_be_looked_at(project, tmp_path):
    library = tmp_path / "elsewhere" / "some_library"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text("raise SystemError\n")
    (library / "inner.py").touch()
    text, _ = written("def f():\n    import some_library.inner\n    return 1", {}, 1)
    stage = project.load(text).train
    sys.path.append(str(library.parent))
    assert instantiate([stage]).targets
