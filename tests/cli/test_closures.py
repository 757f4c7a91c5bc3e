"""`derivation diff|graph|why`, and closures that the commands read from stores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.nix.installation import Installation

from .conftest import STAGES, Command


@pytest.fixture
def other(project: Path) -> str:
    """The same stages with another cause at the bottom."""
    (project / "other").mkdir()
    (project / "other" / "words.txt").write_text("two\none\ntwo\n")
    (project / "other" / "stages.py").write_text(STAGES.replace("sort -u", "sort -ru"))
    return "other/stages.py"


def paths(nixbridge: Command, target: str = "stages.py") -> dict[str, str]:
    """The derivations' paths by name."""
    nodes = json.loads(nixbridge("derivation", "graph", target, "--json").stdout)["nodes"]
    return {node["name"]: node["path"] for node in nodes}


def test_diff_shows_the_cause_and_how_it_comes_up(nixbridge: Command, other: str) -> None:
    shown = nixbridge("derivation", "diff", "stages.py:report", f"{other}:report").stdout
    lines = [line.strip() for line in shown.splitlines()]
    assert lines[0] == "report"
    assert lines[3] == "only its inputs differ"
    assert "-sort -u $words > $out/sorted.txt" in lines
    assert "+sort -ru $words > $out/sorted.txt" in lines
    causes = [line for line in lines if line.startswith("cause: ")]
    assert causes[0] == "cause: clean: argument 1"
    assert "\x1b" not in shown


def test_diff_has_colours_only_where_they_are_wanted(nixbridge: Command, other: str) -> None:
    command = ("derivation", "diff", "stages.py:clean", f"{other}:clean")
    assert "\x1b[31m-sort" in nixbridge(*command, FORCE_COLOR="1").stdout
    assert "\x1b" not in nixbridge(*command, FORCE_COLOR="1", NO_COLOR="1").stdout


def test_diff_of_a_derivation_with_itself_is_empty(nixbridge: Command) -> None:
    assert nixbridge("derivation", "diff", "stages.py", "stages.py:report", "--exit-code").stdout == ""
    assert json.loads(nixbridge("derivation", "diff", "stages.py", "stages.py", "--json").stdout)["differences"] == []


def test_diff_says_with_its_status_that_there_are_differences_if_asked(nixbridge: Command, other: str) -> None:
    command = ("derivation", "diff", "stages.py:clean", f"{other}:clean")
    nixbridge(*command)
    nixbridge(*command, "--exit-code", status=1)
    nixbridge(*command, "--exit-code", "--json", status=1)


def test_diff_as_json_has_each_pair_once(nixbridge: Command, other: str) -> None:
    value = json.loads(nixbridge("derivation", "diff", "stages.py:report", f"{other}:report", "--json").stdout)
    pairs = [(one["left"], one["right"]) for one in value["differences"]]
    assert pairs[0] == (value["left"], value["right"])
    assert len(pairs) == len(set(pairs)) == 3
    assert value["causes"][0]["left"].endswith("-clean.drv")


def test_what_a_terminal_would_obey_is_escaped(nixbridge: Command, project: Path) -> None:
    for name, value in (("a.drv", "x"), ("b.drv", "\x1b[2J")):
        (project / name).write_text(f'Derive([("out","","","")],[],[],"s","b",[],[("k","{value}")])')
    assert "+ \\x1b[2J" in nixbridge("derivation", "diff", "a.drv", "b.drv").stdout


def test_several_targets_are_none_to_diff(nixbridge: Command, project: Path) -> None:
    (project / "stages.py").write_text(
        'from bridge import shell\na = shell("true", builder="local")\nb = shell("false", builder="local")\n'
    )
    said = nixbridge("derivation", "diff", "stages.py", "stages.py:a", status=1).stderr
    assert "names 2 derivations: a, b" in said


@pytest.mark.parametrize("target", ["gone.drv", "/nix/store/" + "0" * 32 + "-gone.drv", "gone.py", "folder.drv"])
def test_a_target_that_is_not_there_is_an_error(nixbridge: Command, project: Path, target: str) -> None:
    (project / "folder.drv").mkdir()
    for command in (["graph", target], ["diff", "stages.py", target], ["why", target, "clean"]):
        said = nixbridge("derivation", *command, status=1).stderr
        assert said.startswith("error: ")
        assert target.partition(".")[0] in said


def test_graph_is_dot_from_users_to_inputs(nixbridge: Command) -> None:
    shown = nixbridge("derivation", "graph", "stages.py:report").stdout
    where = paths(nixbridge)
    assert shown.startswith("digraph derivations {\n")
    assert f'  "{where["report"]}" -> "{where["train"]}";\n' in shown
    assert f'  "{where["train"]}" [label="train", shape=diamond];\n' in shown


def test_graph_as_json_tells_kinds_and_outputs(nixbridge: Command) -> None:
    value = json.loads(nixbridge("derivation", "graph", "stages.py:report", "--json").stdout)
    kinds = {node["name"]: node["outputs"] for node in value["nodes"]}
    assert kinds == {
        "clean": {"out": "input-addressed"},
        "train": {"out": "floating"},
        "report": {"out": "deferred"},
    }
    assert [edge["outputs"] for edge in value["edges"]] == [["out"], ["out"]]
    assert value["roots"] == [node["path"] for node in value["nodes"] if node["name"] == "report"]


def test_why_takes_names_targets_paths_and_outputs(nixbridge: Command) -> None:
    where = paths(nixbridge)
    nixbridge("instantiate", "stages.py")
    [drv] = json.loads(nixbridge("derivation", "show", "stages.py:clean", "--json-format", "2.8").stdout).values()
    output = drv["outputs"]["out"]["path"]
    expected = f"{where['report']}\n  uses out of {where['train']}\n  uses out of {where['clean']}\n"  # the whole path
    for start in ("stages.py", where["report"]):
        for end in ("clean", "stages.py:clean", where["clean"], output, f"{output}/sorted.txt"):
            assert nixbridge("derivation", "why", start, end).stdout == expected
            assert nixbridge("derivation", "why", start, end, "--all").stdout == expected


def test_why_as_json_has_paths_of_edges(nixbridge: Command) -> None:
    where = paths(nixbridge)
    value = json.loads(nixbridge("derivation", "why", "stages.py", "clean", "--all", "--json").stdout)
    assert value == {
        "from": where["report"],
        "to": where["clean"],
        "paths": [
            [
                {"from": where["report"], "to": where["train"], "outputs": ["out"]},
                {"from": where["train"], "to": where["clean"], "outputs": ["out"]},
            ]
        ],
    }


def test_why_all_shows_every_shortest_path(nixbridge: Command, project: Path) -> None:
    (project / "stages.py").write_text(
        "from bridge import shell\n"
        'base = shell("true", builder="local")\n'
        'left = shell("true", base=base, builder="local")\n'
        'right = shell("false", base=base, builder="local")\n'
        'top = shell("true", left=left, right=right, builder="local")\n'
    )
    assert nixbridge("derivation", "why", "stages.py", "base").stdout.count("uses") == 2
    shown = nixbridge("derivation", "why", "stages.py", "base", "--all").stdout
    assert shown.count("\n\n") == 1
    assert "-left.drv" in shown
    assert "-right.drv" in shown
    assert len(json.loads(nixbridge("derivation", "why", "stages.py", "base", "--all", "--json").stdout)["paths"]) == 2


def test_why_says_that_one_does_not_need_the_other(nixbridge: Command) -> None:
    where = paths(nixbridge)
    nixbridge("instantiate", "stages.py")
    for end in (where["train"], "stages.py:train", "/nix/store/" + "0" * 32 + "-x"):
        said = nixbridge("derivation", "why", "stages.py:clean", end, status=1).stderr
        assert f"stages.py:clean does not need {end}" in said


def test_why_knows_names_that_are_close(nixbridge: Command) -> None:
    said = nixbridge("derivation", "why", "stages.py", "clear", status=1).stderr
    assert "no derivation that stages.py needs is called clear" in said
    assert "there is clean" in said


def test_why_wants_one_of_several_with_a_name(nixbridge: Command, project: Path) -> None:
    (project / "stages.py").write_text(
        "from bridge import shell\n"
        'a = shell("true", name="same", builder="local")\n'
        'b = shell("false", name="same", builder="local")\n'
        'top = shell("true", a=a, b=b, builder="local")\n'
    )
    said = nixbridge("derivation", "why", "stages.py:top", "same", status=1).stderr
    assert "2 derivations that stages.py:top needs are called same" in said
    assert "-same.drv, /nix/store/" in said


def test_a_closure_is_read_from_the_python_store(nixbridge: Command) -> None:
    [top] = nixbridge("instantiate", "stages.py").stdout.splitlines()
    shown = json.loads(nixbridge("derivation", "show", top, "--recursive", "--json-format", "2.15").stdout)
    assert sorted(drv["name"] for drv in shown.values()) == ["clean", "report", "train"]
    assert shown == json.loads(
        nixbridge("derivation", "show", "stages.py", "--recursive", "--json-format", "2.15").stdout
    )


def test_a_closure_is_read_from_a_folder_of_files(nixbridge: Command, project: Path, tmp_path: Path) -> None:
    [top] = nixbridge("instantiate", "stages.py").stdout.splitlines()
    copy = project / "copy"
    copy.mkdir()
    for file in (tmp_path / "store" / "store").glob("*.drv"):
        (copy / file.name).write_bytes(file.read_bytes())
    elsewhere = str(tmp_path / "empty")
    file = copy / top.rpartition("/")[2]
    shown = nixbridge("derivation", "why", str(file), "clean", NIXBRIDGE_STORE=elsewhere).stdout
    assert shown.startswith(top)
    assert not (tmp_path / "empty").exists()
    [clean] = copy.glob("*-clean.drv")
    clean.unlink()
    said = nixbridge("derivation", "graph", str(file), status=1, NIXBRIDGE_STORE=elsewhere).stderr
    assert f"/nix/store/{clean.name}, an input of /nix/store/" in said
    assert "-train.drv, can not be read: No such file or directory" in said


@pytest.mark.nix
def test_the_graph_has_the_edges_that_nix_sees(nixbridge: Command, nix: Installation) -> None:
    env = dict(nix.environ)
    [top] = nixbridge("instantiate", "stages.py:report", "--add", **env).stdout.splitlines()
    shown = json.loads(nixbridge("derivation", "graph", top, "--json", **env).stdout)
    for node in shown["nodes"]:
        done = nix.run([nix.program("nix-store"), "--query", "--references", node["path"]])
        used = {path for path in done.stdout.splitlines() if path.endswith(".drv")}
        assert used == {edge["to"] for edge in shown["edges"] if edge["from"] == node["path"]}


EXPRESSION = """
let drv = name: more: derivation ({ inherit name; system = "x86_64-linux"; builder = "/bin/sh"; } // more);
    flags = drv "flags" { text = "FLAG"; outputs = [ "out" "dev" ]; };
in drv "top" { lib = drv "lib" { dev = flags.dev; }; inherit flags; args = [ flags.dev "x" ]; }
"""


@pytest.mark.nix
def test_derivations_that_nix_evaluated_are_compared_down_to_the_cause(
    nixbridge: Command, nix: Installation, project: Path
) -> None:
    env = dict(nix.environ)
    tops = []
    for flag in "ab":
        (project / "top.nix").write_text(EXPRESSION.replace("FLAG", flag))
        done = nix.run([nix.program("nix-instantiate"), str(project / "top.nix")])
        tops.append(done.stdout.strip())
    value = json.loads(nixbridge("derivation", "diff", *tops, "--json", **env).stdout)
    changes = {one["left"].partition("-")[2]: one["changes"] for one in value["differences"]}
    assert changes == {
        "top.drv": [],
        "lib.drv": [],
        "flags.drv": [{"what": "env", "key": ["text"], "before": "a", "after": "b"}],
    }
    assert nixbridge("derivation", "why", tops[0], "flags", **env).stdout.count("uses dev, out of") == 1
