"""Inputs from Nix, as users of the command meet them: packages of a stand-in for nixpkgs, real Nix below."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from nixpkgs import PYTHON, add_packages

from bridge.nix.installation import Installation

from .conftest import NIXBRIDGE

pytestmark = pytest.mark.nix

Command = Callable[..., subprocess.CompletedProcess[str]]

HEAD = "from bridge import best, flake, nix, out, shell, source, stage\n"
TOOLS = HEAD + "gzip, greet = flake('nixpkgs#gzip'), flake('nixpkgs#greet')\n"


class Project:
    """A folder with a stage file, and a Nix on PATH that logs its calls."""

    def __init__(self, scratch: Path, installed: Installation) -> None:
        self.folder = scratch / "project"
        self.folder.mkdir()
        self.scratch = scratch
        self.installed = installed
        self.calls = scratch / "calls"
        programs = scratch / "bin"
        programs.mkdir()
        for name in ("nix", "nix-build", "nix-daemon", "nix-instantiate", "nix-store"):
            logging = f'#!/bin/sh\necho "{name} $*" >> {self.calls}\nexec {installed.program(name)} "$@"\n'
            (programs / name).write_text(logging)
            (programs / name).chmod(0o755)
        self.environ = {**installed.environ, "PATH": f"{programs}:{os.environ['PATH']}", "COLUMNS": "200"}
        self.environ["NIXBRIDGE_STORE"] = str(scratch / "store")

    def write(self, text: str, name: str = "stages.py") -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def run(self, *arguments: str, status: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        self.calls.write_text("")
        done = subprocess.run(
            [NIXBRIDGE, *arguments],
            cwd=self.folder,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done

    def realize(self, target: str, **environ: str) -> Path:
        return Path(self.run("realize", target, **environ).stdout.strip())

    def fails(self, target: str = "stages.py") -> str:
        return " ".join(self.run("realize", target, status=1).stderr.split())

    def evaluations(self) -> list[str]:
        """The calls of Nix that evaluate or fetch."""
        return [one for one in self.calls.read_text().splitlines() if one.startswith(("nix ", "nix-instantiate"))]

    def nix(self, *arguments: str) -> str:
        done = self.installed.run([self.installed.program("nix"), *arguments], timeout=100)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def git(self, *arguments: str) -> None:
        user = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", "-C", self.folder, *user, *arguments], check=True, capture_output=True)


@pytest.fixture
def project(scratch: Path, nix: Installation, nixpkgs: Path) -> Project:
    return Project(scratch, nix)


# ----------------------------------------------------------------------------------- evaluation


def test_packages_are_evaluated_in_one_call_and_not_again(project: Project) -> None:
    project.write(
        TOOLS
        + "t = shell('greet | gzip -c > $out/x; cat $text >> $out/y', tools=[gzip, greet, flake('nixpkgs#coreutils')],"
        " shell=flake('nixpkgs#bash') / 'bin/bash', text=greet.out / 'lib/greeting')\n"
    )
    made = project.realize("stages.py:t")
    assert (made / "y").read_text() == "greetings\n"
    assert [call.split()[0] for call in project.evaluations()] == ["nix", "nix-instantiate"]  # locking, and all four
    assert project.realize("stages.py:t") == made
    assert project.evaluations() == []
    project.run("realize", "stages.py:t", "--dry-run")
    assert project.evaluations() == []


def test_another_attribute_is_all_that_is_evaluated_anew(project: Project) -> None:
    project.write(TOOLS + "t = shell('greet > $out/x', tools=[greet])\n")
    project.realize("stages.py:t")
    project.write(TOOLS + "t = shell('greet | gzip > $out/x', tools=[greet, gzip])\n")
    project.realize("stages.py:t")
    assert len(project.evaluations()) == 1


def test_outputs_are_used_in_place_and_rooted(project: Project) -> None:
    project.write(
        TOOLS + "t = shell('cat $h > $out/h', h=greet.dev / 'include/greet.h', tools=[flake('nixpkgs#coreutils')])\n"
    )
    made = project.realize("stages.py:t")
    assert "GREETING" in (made / "h").read_text()
    roots = [os.readlink(link) for link in (project.scratch / "store" / "roots").iterdir()]
    assert any(root.endswith("-greet-1.0-dev") for root in roots)
    project.nix("store", "gc")
    assert project.realize("stages.py:t") == made
    assert project.evaluations() == []


def test_what_was_collected_is_noticed_and_made_again(project: Project) -> None:
    project.write(TOOLS + "t = shell('greet > $out/x', tools=[greet])\n")
    made = project.realize("stages.py:t")
    for link in (project.scratch / "store" / "roots").iterdir():
        link.unlink()
    project.nix("store", "gc")
    assert not made.exists()
    assert project.realize("stages.py:t") == made
    assert (made / "x").read_text() == "greetings\n"
    assert any(call.startswith("nix-instantiate") for call in project.evaluations())


@pytest.mark.parametrize(
    ("attribute", "path"), [("greet", "bin/greet"), ("greet^out,dev", "lib/greeting"), ("greet^man", "share/greet.txt")]
)
def test_the_output_behind_the_caret_or_the_packages_own_first_is_meant(
    project: Project, attribute: str, path: str
) -> None:
    project.write(HEAD + f"t = flake('nixpkgs#{attribute}')\n")
    assert (project.realize("stages.py:greet") / path).exists()


def test_a_python_of_nix_runs_in_its_sandbox(project: Project, nixpkgs: Path) -> None:
    add_packages(project.installed, nixpkgs, PYTHON)
    project.write(
        HEAD + "python = flake('nixpkgs#python3')\n"
        "t = shell('python3 -I -c \"$code\"', tools=[python, flake('nixpkgs#coreutils')],"
        " shell=flake('nixpkgs#bash') / 'bin/bash',"
        ' code=\'import os, ssl, sys; open(os.environ["out"] + "/x", "w").write(sys.prefix)\')\n'
    )
    assert (project.realize("stages.py:t") / "x").read_text().endswith("-python3-3.11.2")


# ------------------------------------------------------------------------------------- locking


def test_a_flake_is_locked_at_first_use_and_said_so(project: Project, nixpkgs: Path) -> None:
    project.write(TOOLS + "t = shell('greet > $out/x', tools=[greet])\n")
    assert "locked the flake nixpkgs to sha256-" in project.run("realize", "stages.py:t").stderr
    entry = json.loads((project.folder / "bridge.lock").read_text())["flakes"]["nixpkgs"]
    assert entry["locked"]["narHash"].startswith("sha256-")
    assert "locked" not in project.run("realize", "stages.py:t").stderr


def test_a_locked_flake_stays_when_the_registry_moves_and_needs_no_network(project: Project, nixpkgs: Path) -> None:
    project.write(TOOLS + "t = shell('greet > $out/x', tools=[greet])\n")
    made = project.realize("stages.py:t")
    shutil.rmtree(project.scratch / "store" / "cache")
    (nixpkgs / "packages.nix").write_text('throw "moved on"')
    os.rename(nixpkgs, nixpkgs.with_name("elsewhere"))
    assert project.realize("stages.py:t") == made


def test_the_projects_own_flake_lock_is_followed(project: Project, nixpkgs: Path) -> None:
    project.write(f'{{ inputs.nixpkgs.url = "path:{nixpkgs}"; outputs = _: {{ }}; }}', "flake.nix")
    project.nix("flake", "lock", f"path:{project.folder}")
    project.write(TOOLS + "t = shell('greet > $out/x', tools=[greet])\n")
    project.realize("stages.py:t")
    assert not (project.folder / "bridge.lock").exists()


def test_a_flake_is_locked_anew_when_asked(project: Project, nixpkgs: Path) -> None:
    project.write(TOOLS + "t = shell('greet > $out/x', tools=[greet])\n")
    project.realize("stages.py:t")
    before = (project.folder / "bridge.lock").read_bytes()
    assert "nixpkgs stays at sha256-" in project.run("lock", "--update-input", "nixpkgs").stderr
    assert (project.folder / "bridge.lock").read_bytes() == before
    packages = nixpkgs / "packages.nix"
    packages.write_text(packages.read_text().replace("echo greetings", "echo hello"))
    assert (project.realize("stages.py:t") / "x").read_text() == "greetings\n"
    assert " → sha256-" in project.run("lock", "--update-input", "nixpkgs").stderr
    assert (project.realize("stages.py:t") / "x").read_text() == "hello\n"
    said = project.run("lock", "--update-input", "nixpkg", status=1).stderr
    assert "the flake nixpkg is not locked here" in said
    assert "did you mean nixpkgs" in said


def test_what_only_takes_what_is_locked_locks_no_flake(project: Project) -> None:
    project.write(TOOLS + "t = shell('greet > $out/x', tools=[greet])\n")
    project.realize("stages.py:t")
    project.run("lock", "stages.py:t")
    project.run("lock", "--check", "stages.py:t")
    file = project.folder / "bridge.lock"
    text = json.dumps({**json.loads(file.read_text()), "flakes": {}})
    file.write_text(text)
    for command in (["lock", "--check"], ["realize", "--locked"]):
        said = project.run(*command, "stages.py:t", status=1).stderr
        assert f"the flake nixpkgs is not locked in {file}" in said
    assert file.read_text() == text


def test_a_damaged_lock_entry_is_named_with_its_line(project: Project) -> None:
    project.write('{"version": 1,\n "flakes": {\n  "nixpkgs": {"url": 1}}}', "bridge.lock")
    project.write(TOOLS)
    said = project.fails()
    assert "bridge.lock:3" in said
    assert "--update-input nixpkgs" in said


# -------------------------------------------------------------------------------- folders, Git

TOOL = """{ outputs = _: { packages.x86_64-linux.tool = derivation {
  name = "tool"; system = "x86_64-linux"; builder = "/bin/sh";
  args = [ "-c" "echo ${import ./value.nix} > $out" ]; }; }; }
"""


def test_a_folders_flake_follows_its_files(project: Project) -> None:
    project.write(TOOL, "flake.nix")
    project.write('"one"', "value.nix")
    project.write(HEAD + "t = flake('.#tool')\n")
    assert project.realize("stages.py:tool").read_text() == "one\n"
    project.realize("stages.py:tool")
    assert project.evaluations() == []
    project.write('"two"', "value.nix")
    assert project.realize("stages.py:tool").read_text() == "two\n"


@pytest.mark.parametrize("reference", ["path:./own", "path:own", "./own"])
def test_a_folder_is_beside_the_stage_file_and_never_locked(project: Project, reference: str) -> None:
    project.write(TOOL, "below/own/flake.nix")
    project.write('"one"', "below/own/value.nix")
    project.write(HEAD + f"t = flake('{reference}#tool')\n", "below/stages.py")
    assert project.realize("below/stages.py:tool").read_text() == "one\n"
    project.write('"two"', "below/own/value.nix")
    assert project.realize("below/stages.py:tool").read_text() == "two\n"
    assert not (project.folder / "below" / "bridge.lock").exists()


def test_a_flake_may_be_in_a_folder_of_a_git_repository(project: Project) -> None:
    project.write(TOOL.replace("./value.nix", "../value.nix"), "pkgs/a b/flake.nix")
    project.write('"one"', "pkgs/value.nix")
    project.write(HEAD + "t = flake('./pkgs/a b#tool')\nu = flake('.?dir=pkgs/a b#tool', name='u')\n")
    project.git("init", "-q")
    project.git("add", ".")
    assert project.realize("stages.py:tool").read_text() == "one\n"
    project.write('"two"', "pkgs/value.nix")
    assert project.realize("stages.py:tool").read_text() == "two\n"
    assert project.realize("stages.py:u").read_text() == "two\n"
    assert project.evaluations() == []


def test_behind_path_git_does_not_count(project: Project) -> None:
    project.write(TOOL, "flake.nix")
    project.write('"one"', "value.nix")
    project.write(HEAD + "t = flake('path:.#tool')\n")
    project.git("init", "-q")
    assert project.realize("stages.py:tool").read_text() == "one\n"


def test_inputs_that_nix_locks_are_said_and_evaluated_once(project: Project) -> None:
    project.write(
        '{ inputs.nixpkgs.url = "nixpkgs"; outputs = { self, nixpkgs }: {'
        " packages.x86_64-linux.tool = nixpkgs.legacyPackages.x86_64-linux.greet; }; }",
        "own/flake.nix",
    )
    project.write(HEAD + "t = flake('./own#tool')\n")
    assert "Nix locked the inputs of the flake in" in project.run("realize", "stages.py:tool").stderr
    assert "locked" not in project.run("realize", "stages.py:tool").stderr
    assert project.evaluations() == []
    (project.folder / "own" / "flake.lock").write_text('{"nodes": {"root": {}}, "root": "root", "version": 7}')
    assert "Nix locked the inputs of the flake in" in project.run("realize", "stages.py:tool").stderr


def test_of_a_git_repository_nix_sees_what_git_tracks(project: Project) -> None:
    project.write(TOOL, "flake.nix")
    project.write('"one"', "value.nix")
    project.write(HEAD + "t = flake('.#tool')\n")
    project.git("init", "-q")
    project.git("add", "flake.nix", "stages.py")
    said = project.fails()
    assert "untracked are value.nix" in said
    assert "git add" in said
    project.git("add", "value.nix")
    assert project.realize("stages.py:tool").read_text() == "one\n"
    project.git("commit", "-q", "-m", "x")
    project.write('"dirty"', "value.nix")
    assert project.realize("stages.py:tool").read_text() == "dirty\n"


# ----------------------------------------------------------------------------------- Nix files


def test_a_nix_file_gets_its_arguments_and_the_locked_packages(project: Project) -> None:
    project.write(
        "{ pkgs, word, count ? 0 }: pkgs.stdenv.mkDerivation { name = import ./lib/name.nix; inherit word count; "
        "buildCommand = ''echo $word $count > $out''; }",
        "tool.nix",
    )
    project.write('"named"', "lib/name.nix")
    project.write(HEAD + "t = nix('tool.nix', args={'word': 'a \"b\" ${c}', 'count': 3}, name='t')\n")
    assert project.realize("stages.py:t").read_text() == 'a "b" ${c} 3\n'
    project.realize("stages.py:t")
    assert project.evaluations() == []
    project.write('"renamed"', "lib/name.nix")
    assert project.realize("stages.py:t").name.endswith("-renamed")


def test_an_expression_can_not_read_what_it_does_not_name(project: Project) -> None:
    project.write("secret", "secret.txt")
    project.write(HEAD + f"t = nix(expr='builtins.toFile \"x\" (builtins.readFile {project.folder}/secret.txt)')\n")
    assert "pure" in project.fails()


def test_an_answer_is_kept_in_the_store_that_is_named(project: Project) -> None:
    project.write(
        HEAD
        + 'f = nix(expr=\'derivation { name = "f"; system = "x86_64-linux"; builder = "/bin/sh"; '
        + "args = [\"-c\" \"echo > $out\"]; }', name='f')\nt = shell('true', f=f)\n"
    )
    project.run("develop", "--store", str(project.scratch / "other"), "stages.py:t", "-c", "true")
    assert not (project.scratch / "store").exists()
    assert list((project.scratch / "other" / "cache" / "evaluations").iterdir())


def test_a_derivation_is_taken_as_it_is(project: Project) -> None:
    project.write(TOOLS)
    drv = project.nix("eval", "--raw", "nixpkgs#greet.drvPath")
    project.write(
        HEAD + f"t = nix(drv='{drv}')\n"
        "u = shell('cat $x > $out/x', x=t / 'lib/greeting', tools=[flake('nixpkgs#coreutils')])\n"
    )
    assert (project.realize("stages.py:u") / "x").read_text() == "greetings\n"


def test_a_content_addressed_package_is_used_like_any_other(project: Project) -> None:
    code = """{ system }: derivation { name = "floating"; inherit system; builder = "/bin/sh";
      outputs = [ "out" "dev" ]; __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256";
      args = [ "-c" "echo floats > $out; echo $out > $dev" ]; }"""
    project.write(code, "floating.nix")
    project.write(
        HEAD + "f = nix('floating.nix')\n"
        "t = shell('cat $x $y > $out/x', x=f, y=f.dev, tools=[flake('nixpkgs#coreutils')])\n"
    )
    first, second = (project.realize("stages.py:t") / "x").read_text().splitlines()
    assert first == "floats"
    assert second.endswith("-floating")
    project.realize("stages.py:t")
    assert project.evaluations() == []


STAGE_NIX = """{ pkgs, model, ... }: pkgs.stdenv.mkDerivation {
  name = "served"; inherit model;
  buildCommand = ''mkdir $out; cat $model > $out/served; echo "from Nix" >> $out/served'';
}
"""
TRAINED = (
    HEAD
    + """
@stage(realizations=2, match=best("score"))
def train(run, bias=1, model=out("model.txt")):
    model.write_text(f"bias {bias}\\n")
    run.log(score=run.index)

served = nix("./stage.nix", args={"model": train.model})
page = shell("cat $served > $out/page", served=served / "served", tools=[flake("nixpkgs#coreutils")])
"""
)


def test_a_stage_written_in_nix_depends_on_a_chosen_realization(project: Project) -> None:
    project.write(STAGE_NIX, "stage.nix")
    project.write(TRAINED)
    made = project.realize("stages.py:page")
    assert (made / "page").read_text() == "bias 1\nfrom Nix\n"
    assert project.realize("stages.py:page") == made
    assert project.evaluations() == []
    served = project.realize("stages.py:served")
    closure = project.nix("path-info", "-r", "/nix/store/" + served.name)
    assert "-served" in closure
    done = project.run("realize", "stages.py:page", "--set", "train.bias=2")
    assert Path(done.stdout.strip(), "page").read_text() == "bias 2\nfrom Nix\n"


def test_the_pin_of_a_stage_written_in_nix_is_an_input_of_flakes(project: Project) -> None:
    project.write(STAGE_NIX, "stage.nix")
    project.write(TRAINED)
    path = project.realize("stages.py:served")
    project.run("lock", "stages.py:served")
    shutil.copy(Path(__file__).parents[2] / "nix" / "lib.nix", project.folder)
    project.write(
        "{ outputs = { self }: { packages.x86_64-linux = (import ./lib.nix).fromLock ./bridge.lock; }; }", "flake.nix"
    )
    lock = f"path:{project.folder}"
    assert project.nix("eval", "--raw", f"{lock}#served.outPath") == f"/nix/store/{path.name}"
    built = project.installed.run([project.installed.program("nix"), "build", "--no-link", f"{lock}#served"])
    assert "served is written in Nix and evaluated for its inputs" in built.stderr


OUTPUTS = """{ system, model }: derivation {
  name = "split"; inherit system model; builder = "/bin/sh"; outputs = [ "bin" "dev" ];
  args = [ "-c" "while read x; do echo $x > $bin; done < $model; echo header > $dev" ]; }
"""


def test_all_outputs_of_a_stage_written_in_nix_can_be_used(project: Project) -> None:
    project.write(OUTPUTS, "stage.nix")
    project.write(
        TRAINED + "both = shell('cat $one $two $three > $out/x', one=served, two=served.dev, three=served.bin,"
        " tools=[flake('nixpkgs#coreutils')])\n"
    )
    assert (project.realize("stages.py:both") / "x").read_text() == "bias 1\nheader\nbias 1\n"
    project.write(TRAINED + "bad = shell('cat $x', x=served.doc)\n")
    said = project.fails("stages.py:bad")
    assert "stages.py:8: the stage served has no output 'doc'" in said
    assert "it has bin, dev" in said


def test_a_stage_written_in_nix_is_made_for_each_that_was_chosen(project: Project) -> None:
    project.write(OUTPUTS, "stage.nix")
    project.write(
        HEAD + "from bridge import each, every\n"
        "@stage(realizations=2, match=every())\n"
        "def train(run, model=out('model.txt')):\n    model.write_text(f'model {run.index}\\n')\n"
        "served = nix('./stage.nix', args={'model': each(train.model)})\n"
        "all = shell('cat $x > $out/x', x=served.bin, tools=[flake('nixpkgs#coreutils')])\n"
    )
    made = (project.realize("stages.py:all") / "x").read_text()
    assert sorted(made.splitlines()) == ["model 0", "model 1"]


def test_a_stage_written_in_nix_is_checked_explained_pinned_and_walked_like_others(project: Project) -> None:
    project.write(STAGE_NIX, "stage.nix")
    project.write(TRAINED)
    made = project.realize("stages.py:page")
    assert "served" in project.run("check", "stages.py:page", "--stage", "served").stdout
    assert project.run("why", "stages.py:served").stdout
    assert "served" in project.run("lock", "stages.py:page").stdout
    project.run("lock", "stages.py:page", "--check")
    assert project.run("realize", "stages.py:page", "--locked").stdout.strip() == str(made)
    assert "is a nix" in " ".join(project.run("debug", "stages.py:served", status=1).stderr.split())
    project.run("instantiate", "stages.py:page", "--add")
    drv = project.run("instantiate", "stages.py:page").stdout.strip()
    assert "-served.drv" in project.installed.real_path(drv).read_text()


def test_what_is_not_the_same_when_nix_builds_it_again_is_found(project: Project) -> None:
    code = """{ system, model }: derivation { name = "unstable"; inherit system model; builder = "/bin/sh";
      args = [ "-c" "read x < /proc/sys/kernel/random/uuid; echo $x > $out" ]; }"""
    project.write(code, "stage.nix")
    project.write(TRAINED)
    project.realize("stages.py:served")
    assert "served" in project.run("check", "stages.py:served", "--stage", "served", status=1).stdout


def test_a_stage_written_in_nix_that_does_not_evaluate_is_named(project: Project) -> None:
    project.write('{ model, ... }: throw "no model today"', "stage.nix")
    project.write(TRAINED)
    said = project.fails("stages.py:page")
    assert "no model today" in said
    assert "stages.py:8" in said


# -------------------------------------------------------------------------------------- stdenv


def test_a_stage_with_a_stdenv_is_the_very_derivation_of_mkderivation(project: Project) -> None:
    project.write("words\n", "src/words.txt")
    project.write(
        TOOLS + "src = source('src')\n"
        "t = shell(stdenv=flake('nixpkgs#stdenv'), src=src, tools=[greet], buildPhase='greet > made',"
        " installPhase='mkdir $out; cp made words.txt $out', doCheck=False, system='x86_64-linux')\n"
    )
    found = project.run("instantiate", "stages.py:t").stdout.strip()
    expression = (
        'let pkgs = (builtins.getFlake "nixpkgs").legacyPackages.x86_64-linux; in (pkgs.stdenv.mkDerivation {'
        f' name = "t"; src = builtins.path {{ path = {project.folder}/src; name = "src"; }};'
        ' nativeBuildInputs = [ pkgs.greet ]; buildPhase = "greet > made";'
        ' installPhase = "mkdir $out; cp made words.txt $out"; }).drvPath'
    )
    assert project.nix("eval", "--impure", "--raw", "--expr", expression) == found
    made = project.realize(
        "stages.py:t",
    )
    assert (made / "words.txt").read_text() == "words\n"
    assert (made / "made").exists()


def test_a_script_with_a_stdenv_has_its_tools(project: Project) -> None:
    project.write(TOOLS + "t = shell('greet > $out', stdenv=flake('nixpkgs#stdenv'), tools=[greet.bin])\n")
    assert project.realize("stages.py:t").read_text() == "greetings\n"


def test_a_stdenv_stage_may_depend_on_a_choice(project: Project) -> None:
    project.write(TRAINED + "made = shell('cat $model > $out', stdenv=flake('nixpkgs#stdenv'), model=train.model)\n")
    project.write(STAGE_NIX, "stage.nix")
    assert project.realize("stages.py:made").read_text() == "bias 1\n"


def test_what_has_no_mkderivation_is_no_stdenv(project: Project) -> None:
    project.write(TOOLS + "t = shell('true', stdenv=gzip)\n")
    assert "has no mkDerivation" in project.fails()


# ----------------------------------------------------------------------------------- bad input


def without_nix(project: Project) -> str:
    """A PATH that has what the command needs besides Nix."""
    programs = project.scratch / "other"
    programs.mkdir(exist_ok=True)
    for name in ("git", "sh"):
        if not (programs / name).exists():
            (programs / name).symlink_to(str(shutil.which(name)))
    return str(programs)


def test_without_nix_other_stages_work_and_the_error_says_how_to_get_it(project: Project) -> None:
    path = without_nix(project)
    project.write(TOOLS + "t = shell('greet > $out/x', tools=[greet])\nu = shell('echo > $out/x')\n")
    assert project.run("realize", "stages.py:u", PATH=path, NIXBRIDGE_BUILDER="local").returncode == 0
    said = " ".join(project.run("realize", "stages.py:t", status=1, PATH=path).stderr.split())
    assert "stages.py:2: the stage greet needs Nix to be evaluated, and there is none" in said
    assert "install Nix" in said
    said = project.run("lock", "--update-input", "nixpkgs", status=1, PATH=path).stderr
    assert "Nix is not installed" in said


def test_flakes_need_no_setting_of_nix(project: Project, nixpkgs: Path) -> None:
    conf = project.scratch / "conf" / "nix.conf"
    conf.write_text(conf.read_text().replace("nix-command flakes", ""))
    # Not by the registry: later Nix reads that setting only where flakes are on.
    project.write(HEAD + f"t = shell('greet > $out/x', tools=[flake('path:{nixpkgs}#greet')])\n")
    assert (project.realize("stages.py:t") / "x").exists()


def test_a_nix_that_has_no_flakes_is_told_from_one_that_has(project: Project) -> None:
    # No such old release can be had: a real one that says that it is.
    program = project.scratch / "bin" / "nix-build"
    program.write_text(
        program.read_text().replace("exec", 'case $1 in --version) echo "nix-build (Nix) 2.3.16"; exit;; esac\nexec')
    )
    project.write(TOOLS + "t = shell('greet > $out/x', tools=[greet])\n")
    said = project.fails("stages.py:t")
    assert "Nix 2.3.16 has no flakes" in said
    assert "stages.py:2" in said


def test_a_locked_flake_that_is_nowhere_is_told(project: Project, nixpkgs: Path) -> None:
    project.write(TOOLS)
    project.realize("stages.py:greet")
    for link in (project.scratch / "store" / "roots").iterdir():
        link.unlink()
    shutil.rmtree(project.scratch / "store" / "cache")
    project.nix("store", "gc")
    shutil.rmtree(project.scratch / "cache", ignore_errors=True)
    os.rename(nixpkgs, nixpkgs.with_name("elsewhere"))
    said = project.fails("stages.py:greet")
    assert "stages.py:2" in said
    assert str(nixpkgs) in said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("t = flake('nixpkgs#gzi')", "there is no attribute 'gzi'"),
        ("t = flake('nixpkgs#gzi')", "did you mean gzip"),
        ("t = flake('nixpkgs#greet^doc')", "there is no output 'doc'"),
        ("t = flake('nixpkgs#greet^')", "asks for no output"),
        ("t = flake('nixpkgs#system')", "this is a string, where a derivation is needed"),
        ("t = flake('nothing#x')", "the flake nothing can not be locked"),
        ("t = flake('./nowhere#x')", "there is no flake in"),
        ("t = nix('nowhere.nix')", "stages.py:3: the stage t: there is no"),
        ("t = nix(expr='builtins.currentTime')", "evaluation is pure"),
        ("t = nix(expr='{ level }: level', args={'levl': 1})", "levl"),
        ("t = nix(expr='throw \"not today\"')", "not today"),
        ("t = nix(expr='1 +')", "syntax error"),
        ("t = nix(expr='{ a = 1; }', attr='a.b')", "there is no attribute 'b'"),
        ("t = nix(expr='import <nixpkgs> { }')", "take system and pkgs as arguments"),
        ("t = nix(drv='/nix/store/x')", "is no path of a .drv"),
        ("t = nix(drv='/nix/store/00000000000000000000000000000000-x.drv')", "can not be read from the Nix store"),
        ("t = shell('true', x=flake('nixpkgs#greet').lib)", "has no output 'lib'"),
    ],
)
def test_what_can_not_be_is_explained_where_it_was_written(project: Project, code: str, said: str) -> None:
    project.write(TOOLS + code + "\n")
    found = project.fails()
    assert said in found
    assert found.count("stages.py:3") == 1


def test_one_that_fails_among_many_is_the_one_that_is_named(project: Project) -> None:
    project.write(TOOLS + "a = flake('nixpkgs#bash')\nb = flake('nixpkgs#basch')\nc = nix(expr='throw \"x\"')\n")
    said = project.fails()
    assert "stages.py:4" in said
    assert "'basch'" in said


def test_a_package_that_can_not_be_built_is_told_by_the_stage_that_needs_it(project: Project) -> None:
    project.write(HEAD + "t = shell('true', x=flake('nixpkgs#bash'))\n")
    (project.scratch / "seed-root").unlink()
    project.nix("store", "gc")
    said = project.fails()
    assert "stages.py:2: Nix can not build the stage bash" in said
