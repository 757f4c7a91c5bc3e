"""What users write: what each maker takes, and what it refuses, with file and line."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

import pytest

from bridge.stages.define import fetchurl, flake, host, shell, source, stage
from bridge.stages.errors import StageError
from bridge.stages.values import OutputPath, out

HASH = "sha256-" + "A" * 43 + "="


def refused(project, text, message, line, imports="from bridge import *"):
    """A stage file that says `text` from line 2 on is refused with `message` at `line`."""
    with pytest.raises(StageError, match=message) as caught:
        project.load(f"{imports}\n{text}\n")
    assert caught.value.where == f"{project.folder / 'stages.py'}:{line}"
    return caught.value


# ------------------------------------------------------------------------------------ Python stages


def test_a_function_becomes_a_stage_with_its_parameters(project):
    train = project.load("""\
        from bridge import out, shell, stage
        data = shell("true")

        @stage(realizations=5)
        def train(run, source=data / "a", *, both=[data, data], lr=0.1, model=out("m")):
            pass
        """).train
    recipe = train.recipe
    assert train.name == "train"
    assert list(recipe.arguments) == ["source", "both", "lr", "model"]
    assert recipe.run == "run"
    assert (train.policy.realizations, train.policy.deterministic) == (5, False)
    assert train.place.line == 4


def test_a_stage_may_be_without_a_run_and_without_brackets(project):
    train = project.load("from bridge import stage\n@stage\ndef train(lr=1): pass\n").train
    assert train.recipe.run is None


def test_a_run_with_a_default_is_config(project):
    train = project.load("from bridge import stage\n@stage\ndef train(run=1): pass\n").train
    assert (train.recipe.run, train.recipe.arguments) == (None, {"run": 1})


def test_two_stages_may_share_a_name():
    one, two = shell("true", name="same"), shell("false", name="same")
    assert one.name == two.name


def test_a_decorator_below_stage_that_keeps_the_function_is_looked_through():
    def plain(function):
        @functools.wraps(function)
        def inner(**arguments):
            function(**arguments)

        return inner

    @stage
    @plain
    def train(run, lr=1):
        pass

    assert train.recipe.arguments == {"lr": 1}


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("@stage\ndef train(run, data): pass", "the parameter data of the stage train has no default", 2),
        ("\n\n@stage()\ndef train(runs): pass", "the parameter runs of the stage train has no default", 4),
        ("@stage\ndef train(run, *, data): pass", "the parameter data of the stage train has no default", 2),
        ("@stage\ndef train(*args): pass", r"the parameter \*args of the stage train has no name", 2),
        ("@stage\ndef train(**more): pass", r"the parameter \*\*more of the stage train has no name", 2),
        ("@stage\ndef train(run, /): pass", "the parameter run of the stage train has no name", 2),
        ("@stage\ndef train(x={1}): pass", "the parameter x of train is a set, which JSON can not hold", 2),
        ("@stage\ndef train(x=float('nan')): pass", "the parameter x of train is nan", 2),
        ("@stage\ndef train(x=b''): pass", "the parameter x of train is a bytes", 2),
        ("@stage\ndef train(x={1: 2}): pass", "the parameter x of train has the key 1", 2),
        ("@stage\ndef train(x=print): pass", "is a builtin_function_or_method", 2),
        ("import pathlib\n@stage\ndef train(x=pathlib.Path('a')): pass", "is a path of this machine", 3),
        ("@stage\ndef train(x=out('../a')): pass", "must be a path inside the stage's output", 3),
        ("@stage\ndef train(x=out('/a')): pass", "must be a path inside the stage's output", 3),
        ("@stage\ndef train(x=out('')): pass", "must be a path inside the stage's output", 3),
        ("@stage\ndef train(name=out('a')): pass", "an output can not be named 'name'", 2),
        ("@stage\ndef train(options=out('a')): pass", "an output can not be named 'options'", 2),
        ("@stage\ndef café(): pass", "Nix does not allow 'é' in the name 'café'", 2),
        ("@stage(name='a b')\ndef train(): pass", "Nix does not allow ' ' in the name 'a b'", 2),
        ("@stage(name='x' * 212)\ndef train(): pass", "has 212 characters; Nix allows 211", 2),
        ("@stage(name='.hidden')\ndef train(): pass", "a stage can not be named '.hidden'", 2),
        ("@stage(name='a.drv')\ndef train(): pass", "a stage can not be named 'a.drv'", 2),
        ("train = stage(lambda run: 1)", "Nix does not allow '<' in the name '<lambda>'", 2),
        ("train = stage(print)", "a stage is made of a function, not of <built-in function print>", 2),
        ("@stage\nclass Train: pass", "a stage is made of a function, not of <class", 2),
        ("@stage\nasync def train(run): pass", "is async or a generator", 2),
        ("@stage\ndef train(run): yield 1", "is async or a generator", 2),
        ("@stage(realizations=0)\ndef train(): pass", "realizations must be a whole number above 0", 2),
        ("@stage(match=1)\ndef train(): pass", "match must be a matcher, not 1", 2),
        ("@stage(deterministic=True, realizations=2)\ndef train(): pass", "has one realization", 2),
        ("@stage\ndef train(x=1): pass\n\nother = train(y=2)", "the stage train has no argument 'y'", 5),
        ("@stage\ndef train(x=1): pass\n\nother = train(x={1})", r"train\(x=…\) is a set", 5),
        ("@stage\ndef train(x=1): pass\n\nother = train.options(realisations=2)", "unknown option realisations", 5),
        ("@stage\ndef train(x=1): pass\nother = train / '..'", "is no path inside a stage's output", 4),
    ],
)
def test_a_python_stage_that_can_not_be_is_refused_where_it_stands(project, text, message, line):
    refused(project, text, message, line)


# ------------------------------------------------------------------------------------ shell stages


def test_a_shell_stage_is_deterministic_and_of_this_machine_unless_it_says_so():
    made = shell("true", name="x")
    assert made.policy.deterministic
    assert made.recipe.system == f"{os.uname().machine.replace('arm64', 'aarch64')}-{sys.platform}"
    assert made.recipe.shell == "/bin/sh"
    assert shell("true", name="x", system="riscv64-linux").recipe.system == "riscv64-linux"
    assert not shell("true", name="x", deterministic=False, realizations=3).policy.deterministic


def test_the_shell_may_come_from_a_stage():
    busybox = host("busybox")
    assert shell("true", name="x", shell=busybox).recipe.shell.path == "bin/sh"
    assert shell("true", name="x", shell=busybox / "bin/ash").recipe.shell.path == "bin/ash"


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("shell('true')", "this shell stage has no name", 2),
        ("x = shell(1)", "the script of x is no text but 1", 2),
        ("x = shell('true', name='a/b')", "Nix does not allow '/' in the name 'a/b'", 2),
        ("x = shell('true', outputs=())", "must be different names, one at least", 2),
        ("x = shell('true', outputs=['a', 'a'])", "must be different names, one at least", 2),
        ("x = shell('true', outputs='lib')", "must be different names, one at least", 2),
        ("x = shell('true', outputs=['a b'])", "Nix does not allow ' ' in the name 'a b'", 2),
        ("x = shell('true', outputs=['../a'])", "Nix does not allow '/' in the name", 2),
        ("x = shell('true', outputs=['out', 'drv'])", "can not be named 'drv'", 2),
        ("x = shell('true', outputs=['out', 'name'])", "can not be named 'name'", 2),
        ("x = shell('true', outputs=['out', 'builder'])", "can not be named 'builder'", 2),
        ("x = shell('true', place=out('a'))", "can not be named 'place'", 2),
        ("x = shell('true', builder='x', PATH='y')", "builder must be auto, nix or local|PATH", 2),
        ("x = shell('true', PATH='y')", "the argument PATH of x has a name that Nix uses itself", 2),
        ("x = shell('true', out='y')", "the argument out of x has a name that Nix uses itself", 2),
        ("x = shell('true', outputHash='y')", "the argument outputHash of x has a name", 2),
        ("x = shell('true', __json='y')", "the argument __json of x has a name", 2),
        ("x = shell('true', __structuredAttrs=True)", "the argument __structuredAttrs of x has a name", 2),
        ("x = shell('true', deterministic=False, outputs=['out', 'a'])", "may have one output only", 2),
        ("x = shell('true', realizations=2)", "has one realization", 2),
        ("x = shell('true', a={1})", "the argument a of x is a set", 2),
        ("x = shell('true', a=float('inf'))", "the argument a of x is inf", 2),
        ("x = shell('true', a=out('a/../..'))", "must be a path inside", 2),
        ("x = shell('true', tools=['gzip'])", "a tool of x is 'gzip'", 2),
        ("\n\nx = shell(\n    'true',\n    tools=['gzip'],\n)", "a tool of x is 'gzip'", 4),
    ],
)
def test_a_shell_stage_that_can_not_be_is_refused_where_it_stands(project, text, message, line):
    refused(project, text, message, line)


# ---------------------------------------------------------------------------------------- fetches


def test_a_fetch_has_the_name_of_its_file():
    assert fetchurl("https://example.org/a/b-1.0.tar.gz?download=1#x", hash=HASH).name == "b-1.0.tar.gz"
    assert fetchurl(["file:///a/b/", "https://example.org/c"], hash=HASH).name == "b"
    assert fetchurl("https://example.org/", hash=HASH, name="page").name == "page"


@pytest.mark.parametrize("hash", [HASH, "sha256:" + "0" * 64, "0" * 64, "0" * 52, "sha512-" + "A" * 86 + "=="])
def test_a_fetch_takes_a_hash_as_nix_prints_it(hash):
    assert fetchurl("file:///a", hash=hash).recipe.hash.digest


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("[], hash=H", "fetchurl needs a URL"),
        ("'', hash=H", "'' is no URL that can be fetched"),
        ("'example.org/a', hash=H", "is no URL that can be fetched"),
        ("'ssh://example.org/a', hash=H", "is no URL that can be fetched"),
        ("['https://example.org/a', '/tmp/a'], hash=H", "'/tmp/a' is no URL"),
        ("'https://example.org/', hash=H", "name is empty"),
        ("'https://example.org/a%20b', hash=H", "Nix does not allow '%'"),
        ("'https://example.org/a', hash=''", "the hash of a: "),
        ("'https://example.org/a', hash='sha256-short'", "the hash of a: "),
        ("'https://example.org/a', hash='sha3-' + H[7:]", "the hash of a: "),
        ("'https://example.org/a', hash='z' * 64", "the hash of a: "),
    ],
)
def test_a_fetch_that_can_not_be_is_refused_where_it_stands(project, call, message):
    refused(project, f"H = {HASH!r}\nx = fetchurl({call})", message, 3)


# ---------------------------------------------------------------------------------------- sources


def test_a_source_is_relative_to_the_file_that_names_it(project):
    project.write({"data/a.txt": "a"})
    module = project.load("from bridge import source\na = source('data/a.txt')\nb = source('data', name='all')\n")
    assert (module.a.name, module.b.name) == ("a.txt", "all")
    assert module.a.recipe.path == project.folder / "data" / "a.txt"


def test_a_source_that_is_a_symbolic_link_has_the_links_name(project):
    project.write({"version-7/a.txt": "a"})
    (project.folder / "data").symlink_to("version-7")
    made = source(project.folder / "data")
    assert (made.name, made.recipe.path) == ("data", project.folder / "version-7")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = source('nothing')", "there is no /.*/nothing"),
        ("x = source('a b.txt')", "Nix does not allow ' ' in the name 'a b.txt'"),
        ("x = source('.hidden')", "a stage can not be named '.hidden'"),
    ],
)
def test_a_source_that_can_not_be_is_refused_where_it_stands(project, text, message):
    project.write({"a b.txt": "", ".hidden": ""})
    refused(project, text, message, 2)


def test_a_file_with_an_unusual_name_may_be_given_another(project):
    project.write({"a b.txt": ""})
    assert source(project.folder / "a b.txt", name="ab").name == "ab"


# --------------------------------------------------------------------------------- hosts, Nix, flakes


def test_a_host_program_is_looked_for_at_instantiation_only():
    assert host("nothing-here").name == "nothing-here"
    assert host("/opt/bin/tool", name="x").recipe.program == Path("/opt/bin/tool")


def test_nix_takes_a_file_an_expression_or_a_derivation(project):
    module = project.load("from bridge import nix\na = nix('x.nix', attr='y')\nb = nix(expr='1')\n")
    assert module.a.recipe.file == project.folder / "x.nix"
    assert (module.a.recipe.attr, module.b.recipe.expr) == ("y", "1")
    assert list(module.a.inputs) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = nix()", "nix takes one of a file, expr= and drv="),
        ("x = nix('a.nix', expr='1')", "nix takes one of a file, expr= and drv="),
        ("nix(expr='1')", "this nix stage has no name"),
        ("x = nix(expr='1', name='a b')", "Nix does not allow ' '"),
        ("x = host('bad name')", "Nix does not allow ' '"),
        ("x = flake('nixpkgs#a b')", "Nix does not allow ' '"),
        ("x = flake('nixpkgs#a')(b=1)", "takes no arguments"),
    ],
)
def test_what_is_nix_but_can_not_be_is_refused_where_it_stands(project, text, message):
    refused(project, text, message, 2)


@pytest.mark.parametrize(
    ("installable", "name"),
    [
        ("nixpkgs#gzip", "gzip"),
        ("nixpkgs#python3Packages.numpy", "numpy"),
        ("github:owner/repo#gzip^man,bin", "gzip"),
        ("github:owner/repo", "default"),
    ],
)
def test_a_flake_has_the_name_of_its_last_attribute(installable, name):
    made = flake(installable)
    assert (made.name, made.recipe.installable) == (name, installable)
    assert isinstance(made.bin, OutputPath)


def test_a_flake_in_a_folder_is_relative_to_the_file_that_names_it(project):
    made = project.load("from bridge import flake\nx = flake('./sub#tool')\n").x
    assert made.recipe.installable == f"{project.folder}/sub#tool"


def test_out_is_what_a_shell_stage_promises_too():
    assert shell("true", name="x", page=out("index.html")).page.path == "index.html"
