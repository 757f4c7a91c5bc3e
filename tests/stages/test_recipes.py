"""Stages as derivations: byte for byte what nix-instantiate makes of the equal expression."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bridge.formats.derivation import Floating, parse_aterm, unparse
from bridge.formats.derivation import instantiate as instantiate_derivation
from bridge.formats.derivation import resolve as resolve_derivation
from bridge.formats.derivation.json import STRUCTURED
from bridge.formats.nar import pack_chunks
from bridge.stages.define import fetchurl, host, shell, source, stage
from bridge.stages.errors import StageError
from bridge.stages.plan import instantiate
from bridge.stages.resolve import _written_again, resolve
from bridge.stages.values import out

SYSTEM = "x86_64-linux"
HASH = "sha256-" + "A" * 43 + "="
LET = """
let
  sh = name: outputs: script: attrs: derivation ({
    inherit name;
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ "-euc" (builtins.concatStringsSep "" (map (o: "mkdir -p \\"\\$${o}\\"\\n") outputs) + script) ];
  } // (if outputs == [ "out" ] then { } else { inherit outputs; }) // attrs);
  ca = { __contentAddressed = true; outputHashAlgo = "sha256"; outputHashMode = "recursive"; };
  plain = sh "plain" [ "out" ] "echo hi > $out/x" { };
  multi = sh "multi" [ "out" "lib" "dev" ] "true" { };
  floating = sh "floating" [ "out" ] "date > $out/x" ca;
  fetched = import <nix/fetchurl.nix> { url = "https://example.org/a.tar.gz"; hash = "HASH"; };
in
""".replace("HASH", HASH)

plain = shell("echo hi > $out/x", system=SYSTEM)
multi = shell("true", outputs=("out", "lib", "dev"), system=SYSTEM)
floating = shell("date > $out/x", deterministic=False, system=SYSTEM)
fetched = fetchurl("https://example.org/a.tar.gz", hash=HASH)


def a(name, **arguments):
    return shell("cat $x > $out/y", name=name, system=SYSTEM, **arguments)


def equals_nix(nix, stage, expression):
    """The stage's `.drv` has the path and the bytes of what Nix makes of the expression."""
    done = nix.run([nix.program("nix-instantiate"), "--expr", LET + expression])
    assert done.returncode == 0, done.stderr
    path = done.stdout.strip().partition("!")[0]
    node = instantiate([stage]).targets[0]
    assert node.instantiated.aterm.decode() == nix.real_path(path).read_bytes().decode()
    assert node.path == path
    return node


CASES = {
    "no arguments": (plain, "plain"),
    "several outputs": (multi, "multi"),
    "floating": (floating, "floating"),
    "a fetch": (fetched, "fetched"),
    "texts": (
        a("t", x='q"$\\n\n\tü€ 😀', y=""),
        r"""sh "t" ["out"] "cat $x > $out/y" { x = "q\"$\\n\n\tü€ 😀"; y = ""; }""",
    ),
    "numbers": (
        a("t", x=[0, -3, 2**62], y=1.5, z=-0.25, big=1e20, small=1e-7),
        'sh "t" ["out"] "cat $x > $out/y" { x = [0 (-3) 4611686018427387904]; y = 1.5; z = -0.25;'
        " big = 100000000000000000000.0; small = 0.0000001; }",
    ),
    "truth and nothing": (
        a("t", x=True, y=False, z=None),
        'sh "t" ["out"] "cat $x > $out/y" { x = true; y = false; z = null; }',
    ),
    "lists": (
        a("t", x=[1, [], 2], y=[[1, []], 2], z=[None, True, [None], 3.0, ["a b", [[]]]], w=[], v=[1, []], u=[[], []]),
        'sh "t" ["out"] "cat $x > $out/y" { x = [1 [] 2]; y = [[1 []] 2]; w = []; v = [1 []]; u = [[] []];'
        ' z = [null true [null] 3.0 ["a b" [[]]]]; }',
    ),
    "a promise": (
        a("t", x=out("sub/y")),
        'sh "t" ["out"] "cat $x > $out/y" { x = "${placeholder "out"}/sub/y"; }',
    ),
    "an input": (a("t", x=plain), 'sh "t" ["out"] "cat $x > $out/y" { x = plain; }'),
    "a path in an input": (a("t", x=plain / "x"), 'sh "t" ["out"] "cat $x > $out/y" { x = "${plain}/x"; }'),
    "an output of an input": (
        a("t", x=multi.lib, y=multi.dev / "a", z=multi),
        'sh "t" ["out"] "cat $x > $out/y" { x = multi.lib; y = "${multi.dev}/a"; z = multi.out; }',
    ),
    "a list of inputs": (
        a("t", x=[plain, multi.lib, plain / "x"]),
        'sh "t" ["out"] "cat $x > $out/y" { x = [plain multi.lib "${plain}/x"]; }',
    ),
    "a fetch as input": (a("t", x=fetched), 'sh "t" ["out"] "cat $x > $out/y" { x = fetched; }'),
    "tools": (
        a("t", x=1, tools=[plain, multi.lib]),
        'sh "t" ["out"] "cat $x > $out/y" { x = 1; PATH = "${plain}/bin:${multi.lib}/bin"; }',
    ),
    "a shell": (
        a("t", x=1, shell=plain),
        'sh "t" ["out"] "cat $x > $out/y" { x = 1; builder = "${plain}/bin/sh"; }',
    ),
    "a floating input": (
        a("t", x=floating / "x", y=[floating]),
        'sh "t" ["out"] "cat $x > $out/y" { x = "${floating}/x"; y = [floating]; }',
    ),
    "deferred ones": (
        a("t", x=a("mid", x=floating), tools=[floating], outputs=("out",)),
        'sh "t" ["out"] "cat $x > $out/y" { x = sh "mid" ["out"] "cat $x > $out/y" { x = floating; };'
        ' PATH = "${floating}/bin"; }',
    ),
    "floating below deferred": (
        shell("true", name="t", deterministic=False, system=SYSTEM, x=a("mid", x=floating)),
        'sh "t" ["out"] "true" (ca // { x = sh "mid" ["out"] "cat $x > $out/y" { x = floating; }; })',
    ),
    "a diamond": (
        a("t", x=a("l", x=plain), y=a("r", x=plain)),
        'sh "t" ["out"] "cat $x > $out/y" { x = sh "l" ["out"] "cat $x > $out/y" { x = plain; };'
        ' y = sh "r" ["out"] "cat $x > $out/y" { x = plain; }; }',
    ),
}


@pytest.mark.nix
@pytest.mark.parametrize("what", CASES)
def test_a_stage_is_the_derivation_that_nix_makes(nix, what):
    equals_nix(nix, *CASES[what])


@pytest.mark.nix
@pytest.mark.parametrize(
    "hash",
    [HASH, "sha256:" + "0" * 64, "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s", "sha512-" + "A" * 86 + "=="],
)
def test_a_fetch_is_what_nix_fetchurl_makes(nix, hash):
    url = "file:///some/where/hello-2.10.tar.gz?x=1"
    made = fetchurl(url, hash=hash)
    assert made.name == "hello-2.10.tar.gz"
    sri = made.recipe.hash.sri
    equals_nix(nix, made, f'import <nix/fetchurl.nix> {{ name = "{made.name}"; url = "{url}"; hash = "{sri}"; }}')


@pytest.mark.nix
def test_mirrors_have_no_part_in_the_output_path(nix):
    mirrors = fetchurl(["https://example.org/a.tar.gz", "file:///a.tar.gz"], hash=HASH)
    node = instantiate([mirrors]).targets[0]
    assert node.output("out") == instantiate([fetched]).targets[0].output("out")
    assert node.derivation.env["urls"] == "https://example.org/a.tar.gz file:///a.tar.gz"
    above = [instantiate([a("t", x=one)]).targets[0].output("out") for one in (mirrors, fetched)]
    assert above[0] == above[1]


PYTHON = """
from bridge import out, shell, stage

clean = shell("echo hi > $out/x", name="plain", system="x86_64-linux")
noisy = shell("date > $out/x", name="floating", deterministic=False, system="x86_64-linux")

@stage
def train(
    run,
    data=clean / "x",
    many=[clean, noisy / "x"],
    none=[],
    lr=0.5,
    text="ü \\n",
    nested={"b": [1, None, True], "a": {}},
    model=out("model.pkl"),
):
    print(data)
"""


@pytest.mark.nix
def test_a_python_stage_is_the_derivation_that_nix_makes_of_structured_attributes(nix, project):
    train = project.load(PYTHON).train
    code = project.code()
    folder = project.folder / "code"
    folder.mkdir()
    for path, text in code.files.items():
        (folder / path).write_text(text)
    node = equals_nix(
        nix,
        train,
        f"""derivation (ca // {{
          __structuredAttrs = true;
          name = "train";
          system = "builtin";
          builder = "builtin:nixbridge-python";
          code = builtins.path {{ path = {folder}; name = "train-code"; }};
          config = {{ none = [ ]; lr = 0.5; text = "ü \\n"; nested = {{ b = [ 1 null true ]; a = {{ }}; }}; }};
          function = "stages:train";
          inputs = {{ data = "${{plain}}/x"; many = [ "${{plain}}" "${{floating}}/x" ]; }};
          promises = {{ model = "model.pkl"; }};
        }})""",
    )
    (code_object,) = node.objects
    (stored,) = (path for path in node.derivation.input_srcs if path.endswith("-train-code"))
    assert code_object.path == stored
    assert b"".join(code_object.chunks()) == b"".join(pack_chunks(nix.real_path(stored)))


@pytest.mark.nix
def test_a_source_is_the_object_that_nix_store_adds(nix, project):
    project.write({"data/a.txt": "a", "data/sub/b.csv": "b"})
    (project.folder / "data" / "link").symlink_to("a.txt")
    (project.folder / "data" / "a.txt").chmod(0o755)
    folder, file = project.folder / "data", project.folder / "data" / "a.txt"
    for place in (folder, file):
        done = nix.run([nix.program("nix-store"), "--add", str(place)])
        assert instantiate([source(place)]).targets[0].path == done.stdout.strip()


@pytest.mark.nix
def test_a_host_program_is_a_source_that_runs_in_the_sandbox(nix):
    busybox = host("busybox")
    done = shell("echo hi | tr a-z A-Z > $out/x", name="up", tools=[busybox], shell=busybox, system=SYSTEM)
    node = instantiate([done]).targets[0]
    (used,) = node.derivation.input_srcs
    assert used == instantiate([busybox]).targets[0].path
    assert node.derivation.builder == f"{used}/bin/sh"
    assert node.derivation.env["PATH"] == f"{used}/bin"


# ------------------------------------------------------------------------------ without any Nix


def test_nothing_of_the_host_is_in_a_python_stage(project):
    node = project.node(PYTHON)
    text = node.instantiated.aterm.decode()
    for word in (str(project.folder), os.sys.executable, os.sys.version.split()[0], os.uname().nodename):
        assert word not in text
    assert node.derivation.system == "builtin"
    assert node.derivation.builder == "builtin:nixbridge-python"


def test_a_python_stage_is_floating_with_structured_attributes(project):
    node = project.node(PYTHON)
    drv = node.derivation
    assert drv.outputs == {"out": Floating()}
    assert set(drv.env) == {STRUCTURED, "out"}
    attributes = json.loads(drv.env[STRUCTURED])
    assert attributes["config"] == {
        "lr": 0.5,
        "nested": {"a": {}, "b": [1, None, True]},
        "none": [],
        "text": "ü \n",
    }
    assert attributes["promises"] == {"model": "model.pkl"}
    assert set(attributes["inputs"]) == {"data", "many"}
    assert parse_aterm(node.instantiated.aterm, "train") == drv


@pytest.mark.parametrize("policy", [{"realizations": 7}, {"match": print}, {"builder": "local"}])
def test_policy_is_never_hashed(project, policy):
    train = project.load(PYTHON).train
    assert instantiate([train]).targets[0].path == instantiate([train.options(**policy)]).targets[0].path
    if "realizations" not in policy:
        assert instantiate([plain]).targets[0].path == instantiate([plain.options(**policy)]).targets[0].path


def test_a_dict_in_the_environment_is_json():
    node = instantiate([a("t", x={"b": 1, "a": [1.5]})]).targets[0]
    assert node.derivation.env["x"] == '{"a":[1.5],"b":1}'


# ----------------------------------------------------------------------------------- resolution


def chosen_path(node, output):
    return f"/nix/store/{'a' * 32}-{node.name}-{output}"


@pytest.mark.parametrize("what", [name for name in CASES if name != "a fetch"])
def test_a_single_choice_resolves_as_nix_resolves(what):
    node = instantiate([CASES[what][0]]).targets[0]
    same_resolution(node)


def same_resolution(node):
    """Resolved from the derivation, and written down by the recipe with the paths: the same."""

    def path_of(used, output):
        return used.derivation.output_path(output) or chosen_path(used, output)

    inputs = {used.path: used for used in node.inputs}
    chosen = {
        (path, output): path_of(inputs[path], output)
        for path, used in node.derivation.input_drvs.items()
        for output in used.outputs
    }
    if node.waits:
        found = resolve(node, path_of)
        assert found.derivation.input_drvs == {}
        assert found.aterm == unparse(resolve_derivation(node.derivation, chosen))
        written = _written_again(node, path_of)
        assert found == instantiate_derivation(written, lambda path: None)


def test_a_python_stage_with_single_choices_resolves_as_nix_resolves(project):
    same_resolution(project.node(PYTHON))


def test_several_choices_arrive_as_a_list(project):
    node = project.node(PYTHON)
    paths = [f"/nix/store/{letter * 32}-x" for letter in "abc"]
    found = resolve(node, lambda used, output: paths if used.name == "floating" else chosen_path(used, output))
    attributes = json.loads(found.derivation.env[STRUCTURED])
    assert attributes["inputs"]["many"][1:] == [f"{path}/x" for path in paths]
    assert set(paths) < set(found.derivation.input_srcs)
    shown = resolve(
        instantiate([a("t", x=floating / "x", tools=[floating])]).targets[0], lambda used, output: paths
    ).derivation.env
    assert shown["x"] == " ".join(f"{path}/x" for path in paths)
    assert shown["PATH"] == ":".join(f"{path}/bin" for path in paths)


# ------------------------------------------------------------------------------ sources and hosts


def test_a_source_keeps_what_the_filter_lets_in(project):
    project.write({"data/a.txt": "a", "data/b.csv": "b", "data/sub/c.txt": "c", "data/hidden/d.txt": "d"})
    asked = []

    def keep(path):
        asked.append(path)
        return path != "hidden" and not path.endswith(".csv")

    folder = project.folder / "data"
    filtered = instantiate([source(folder, keep=keep)]).targets[0].path
    assert sorted(asked) == ["a.txt", "b.csv", "hidden", "sub", "sub/c.txt"]
    (folder / "b.csv").unlink()
    (folder / "hidden" / "d.txt").unlink()
    (folder / "hidden").rmdir()
    assert instantiate([source(folder)]).targets[0].path == filtered


def test_a_source_that_is_gone_or_no_file_is_refused_where_it_was_written(project):
    project.write({"a.txt": "a"})
    here = source(project.folder / "a.txt")
    (project.folder / "a.txt").unlink()
    with pytest.raises(StageError, match="can not be read: No such file or directory") as caught:
        instantiate([here])
    assert caught.value.file == __file__
    os.mkfifo(project.folder / "a.txt")
    with pytest.raises(StageError, match="can not be read") as caught:
        instantiate([here])
    assert caught.value.file == __file__


def test_a_host_program_that_is_missing_is_refused():
    with pytest.raises(StageError, match="there is no program nothing-of-this-name on this machine") as caught:
        instantiate([host("nothing-of-this-name")])
    assert caught.value.file == __file__
    assert "apt" in caught.value.hint


def test_a_host_program_with_a_dynamic_linker_is_refused():
    with pytest.raises(StageError, match="is not statically linked") as caught:
        instantiate([host("/bin/sh")])
    assert caught.value.file == __file__
    assert "flake" in caught.value.hint


def test_a_script_is_no_host_program(tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    with pytest.raises(StageError, match="is not statically linked"):
        instantiate([host(str(script))])


@pytest.mark.parametrize("size", [0, 3, 4])
def test_a_damaged_program_is_no_host_program(tmp_path, size):
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/sh").read_bytes()[:size])
    program.chmod(0o755)
    with pytest.raises(StageError, match="is not statically linked"):
        instantiate([host(str(program))])


def test_code_that_is_wrong_is_refused_at_instantiation():
    @stage
    def inner(run):
        pass

    with pytest.raises(StageError, match="defined inside another function"):
        instantiate([inner])
