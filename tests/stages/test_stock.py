"""Stages of stock as values: their paths are those that Nix gives, and what they refuse, with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.formats.hashes import Hash
from bridge.formats.store_path import fixed_path
from bridge.nix.installation import Installation
from bridge.stages.define import fetchurl, shell, source
from bridge.stages.errors import StageError
from bridge.stages.plan import instantiate
from bridge.stages.stock import collect, fetchgit, json_file, realized, text, unpack
from bridge.stages.values import OutputPath, Stage

HASH = "sha256-" + "A" * 43 + "="


def path_of(stage: Stage) -> str:
    return instantiate([stage]).targets[0].path


def output_of(stage: Stage) -> str | None:
    return instantiate([stage]).targets[0].derivation.output_path("out")


# ------------------------------------------------------------------------------------------ texts


def test_a_text_is_a_source_named_by_its_variable() -> None:
    greeting = text("hello\n")
    assert greeting.name == "greeting"
    node = instantiate([greeting]).targets[0]
    assert node.source is not None
    assert node.source.text == b"hello\n"


def test_equal_json_is_one_object_however_it_was_written() -> None:
    one, other = json_file({"b": 1, "a": [1.5, None]}, name="x"), json_file({"a": (1.5, None), "b": 1}, name="x")
    assert path_of(one) == path_of(other)
    assert path_of(json_file({"b": 2}, name="x")) != path_of(one)


@pytest.mark.nix
def test_texts_have_the_paths_that_nix_gives_them(nix: Installation) -> None:
    values = {"ä": [1, 2.5, True, None, 'x\n\t"\\'], "b": {"c": {}}, "n": -0.1, "big": 10**15}
    written = json.dumps(json.dumps(values)).replace("$", "\\$")
    cases = {
        path_of(text("", name="empty")): 'builtins.toFile "empty" ""',
        path_of(text("hello ä\n", name="t.txt")): 'builtins.toFile "t.txt" "hello ä\\n"',
        path_of(json_file(values, name="v.json")): (
            f'builtins.toFile "v.json" (builtins.toJSON (builtins.fromJSON {written}))'
        ),
    }
    listed = " ".join(f"({expression})" for expression in cases.values())
    done = nix.run([nix.program("nix-instantiate"), "--eval", "--strict", "--json", "-E", f"[ {listed} ]"])
    assert json.loads(done.stdout) == list(cases), done.stderr


@settings(max_examples=50, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda some: st.lists(some, max_size=3)))
def test_what_a_json_file_holds_is_read_back(value: object) -> None:
    try:
        node = instantiate([json_file(value, name="x")]).targets[0]
    except StageError:
        with pytest.raises(UnicodeEncodeError):
            json.dumps(value, ensure_ascii=False).encode()
        return
    assert node.source is not None
    assert node.source.text is not None
    assert json.loads(node.source.text) == value


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("text(5, name='x')", "no text but 5"),
        ("text('\\ud800', name='x')", "no Unicode"),
        ("print(text('x'))", "no name"),
        ("text('x', name='.hidden')", "can not be named"),
        ("x = json_file({1: 2})", "key 1"),
        ("x = json_file(float('nan'))", "JSON can not hold"),
        ("x = json_file(source('stages.py'))", "is a stage"),
        ("x = unpack('a.tar')", "as a stage"),
        ("x = collect(a=5)", "no stage"),
        ("x = collect(a=[source('stages.py'), 5])", "mixes"),
        ("x = collect(**{'a/b': source('stages.py')})", "can not be named 'a/b'"),
        ("x = collect(**{'..': source('stages.py')})", "can not be named"),
        ("x = fetchgit('ext::sh -c id', rev='a', hash=HASH)", "no URL of a git repository"),
        ("x = fetchgit('--upload-pack=id', rev='a', hash=HASH)", "no URL of a git repository"),
        ("x = fetchgit('./here', rev='a', hash=HASH)", "no URL of a git repository"),
        ("x = fetchgit('https://h/r', rev='--output=x', hash=HASH)", "no commit, tag or branch"),
        ("x = fetchgit('https://h/r', rev='', hash=HASH)", "no commit, tag or branch"),
        ("x = fetchgit('https://h/r', rev='a', hash='sha1-AAAA')", "hash of r"),
        ("x = fetchgit('https://h/r', rev='a', hash='sha1:' + 40 * '0')", "of a folder it is a sha256"),
        ("x = fetchurl('https://h/r.zip', hash='sha1:' + 40 * '0', unpack=True)", "of a folder it is a sha256"),
        ("x = realized('train')", "takes a stage"),
    ],
)
def test_what_can_not_be_is_refused_where_it_was_written(project, call: str, message: str) -> None:
    with pytest.raises(StageError, match=message) as caught:
        project.load(f"from bridge import *\nHASH = {HASH!r}\n{call}\n")
    assert caught.value.where == f"{project.folder / 'stages.py'}:3"


# ---------------------------------------------------------------------------------------- fetching


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/some/repo.git", "repo"),
        ("https://host/repo/", "repo"),
        ("git@host:team/repo.git", "repo"),
        ("git@host:repo", "repo"),
        ("file:///srv/my.repo", "my.repo"),
    ],
)
def test_a_repository_gives_the_name(url: str, name: str) -> None:
    assert fetchgit(url, rev="v1", hash=HASH).name == name


@pytest.mark.parametrize(
    ("url", "name"), [("tool-1.0.tar.gz", "tool-1.0"), ("a.zip", "a"), ("b.tgz", "b"), ("c", "c"), (".tar", ".tar")]
)
def test_an_archive_gives_the_name_without_its_ending(url: str, name: str) -> None:
    if name.startswith("."):
        with pytest.raises(StageError):
            fetchurl(f"https://host/{url}", hash=HASH, unpack=True)
    else:
        assert fetchurl(f"https://host/{url}", hash=HASH, unpack=True).name == name


def test_a_fetched_folder_has_the_path_of_its_name_and_hash_alone() -> None:
    expected = fixed_path("source", "nar", Hash.parse(HASH))
    git = fetchgit("https://host/repo", rev="v1", hash=HASH, name="source")
    moved = fetchgit("ssh://other/repo", rev="v2", hash=HASH, name="source")
    archive = fetchurl("https://host/a.tgz", hash=HASH, name="source", unpack=True)
    assert {output_of(one) for one in (git, moved, archive)} == {expected}


# ------------------------------------------------------------------------- unpacking and collecting


def test_the_code_of_a_stage_of_stock_is_a_module_of_the_standard_library() -> None:
    archive = source(__file__, name="archive")
    node = instantiate([unpack(archive, name="u")]).targets[0]
    (code,) = (one.code for one in node.objects if one.code is not None)
    assert list(code.files) == ["stock_code.py"]
    assert "def collect" not in code.files["stock_code.py"]
    assert "bridge" not in code.files["stock_code.py"]


def test_what_is_collected_under_which_name_is_hashed() -> None:
    a, b = text("a", name="a"), text("b", name="b")
    stages = [collect(x=a, y=b, name="c"), collect(x=b, y=a, name="c"), collect(x=a, name="c"), collect(name="c")]
    assert len({path_of(one) for one in stages}) == len(stages)
    assert path_of(collect(y=b, x=a, name="c")) == path_of(stages[0])


# ---------------------------------------------------------------------------------------- realized


def test_realized_changes_the_policy_of_all_that_is_needed_and_no_hash() -> None:
    data = shell("true", name="data")
    model = shell("true", name="model", data=data, tools=[shell("true", name="tool")])
    there = realized(model)
    assert path_of(there) == path_of(model)
    nodes = instantiate([there]).nodes
    assert {node.name: node.stage.policy.existing for node in nodes} == dict.fromkeys(("data", "model", "tool"), True)
    assert not any(node.stage.policy.existing for node in instantiate([model]).nodes)


def test_realized_takes_a_path_inside_a_stage() -> None:
    model = shell("true", name="model")
    found = realized(model / "a")
    assert isinstance(found, OutputPath)
    assert (found.path, found.stage.policy.existing) == ("a", True)


def test_realized_of_a_long_chain_needs_no_recursion() -> None:
    stage = shell("true", name="first")
    for _ in range(3000):
        stage = shell("true", name="next", x=stage)
    assert realized(stage).policy.existing


def test_only_realized_says_that_a_stage_is_never_run(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="unknown option existing"):
        shell("true", name="x").options(existing=True)
