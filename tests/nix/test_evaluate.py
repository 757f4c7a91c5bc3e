"""Evaluation: any number of items in one call, each with its own answer."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from bridge.formats import nar
from bridge.nix.client import connect
from bridge.nix.errors import NixEvaluationError
from bridge.nix.evaluate import (
    CodeItem,
    Derived,
    FlakeItem,
    InStore,
    attribute_path,
    evaluate,
    split_installable,
)
from bridge.nix.installation import Installation

SYSTEM = "x86_64-linux"
CODE = """\
{ system, pkgs ? null, word ? "plain", object ? null, ... }:
rec {
  one = derivation { name = "one"; inherit system word object; builder = "/bin/sh"; outputs = [ "out" "dev" ]; };
  dev = one.dev;
  function = { word ? "x" }: one // { };
  bad = throw "this is bad";
  typo = one.nothing;
  text = "a text";
  "with.dot" = one;
}
"""
FLAKE = """\
{
  outputs = { self }:
    let drv = derivation { name = "tool"; system = "x86_64-linux"; builder = "/bin/sh"; outputs = [ "bin" "man" ]; };
    in {
      packages.x86_64-linux = { default = drv; tool = drv // { meta.outputsToInstall = [ "man" ]; }; };
      legacyPackages.x86_64-linux.old = drv;
    };
}
"""


def sri(data: bytes) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(data).digest()).decode()}"


def added(nix: Installation, folder: Path, name: str) -> tuple[str, str]:
    data = b"".join(nar.pack_chunks(folder))
    with connect(nix) as connection:
        return connection.add_to_store(name, "fixed:r:sha256", (), iter([data])).path, sri(data)


@pytest.fixture
def code(nix: Installation, scratch: Path) -> tuple[str, str]:
    folder = scratch / "code"
    folder.mkdir()
    (folder / "default.nix").write_text(CODE)
    (folder / "syntax.nix").write_text("{\n  a = ;\n}\n")
    return added(nix, folder, "code")


@pytest.fixture
def flake(nix: Installation, scratch: Path) -> str:
    folder = scratch / "flake"
    folder.mkdir()
    (folder / "flake.nix").write_text(FLAKE)
    path, found = added(nix, folder, "source")
    hashed = found.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    return f"path:{path}?narHash={hashed}&lastModified=1"


@pytest.mark.nix
def test_each_item_has_its_own_answer(nix: Installation, code: tuple[str, str], flake: str) -> None:
    items = [
        CodeItem(*code, "/default.nix", attr) for attr in ("one", "bad", "dev", '"with.dot"', "text", "onne", "typo")
    ]
    one, bad, dev, dotted, text, near, typo = evaluate(nix, items, SYSTEM)
    assert isinstance(one, Derived)
    assert (one.outputs, one.default, one.install) == (("out", "dev"), "out", ("out",))
    assert nix.real_path(one.drv).read_bytes().startswith(b"Derive(")
    assert isinstance(dev, Derived)
    assert (dev.drv, dev.default) == (one.drv, "dev")
    assert dotted == one
    assert isinstance(bad, NixEvaluationError)
    assert bad.message == "this is bad"
    assert isinstance(text, NixEvaluationError)
    assert text.message == "this is a string, where a derivation is needed"
    assert isinstance(near, NixEvaluationError)
    assert near.hint is not None
    assert near.hint.startswith("did you mean one")
    assert isinstance(typo, NixEvaluationError)
    assert "nothing" in typo.message


@pytest.mark.nix
def test_a_syntax_error_tells_its_place_and_spoils_no_other(nix: Installation, code: tuple[str, str]) -> None:
    wrong, right = evaluate(nix, [CodeItem(*code, "/syntax.nix"), CodeItem(*code, "/default.nix", "one")], SYSTEM)
    assert isinstance(wrong, NixEvaluationError)
    assert "syntax error" in wrong.message
    assert "\x1b" not in wrong.message
    assert isinstance(right, Derived)


@pytest.mark.nix
@pytest.mark.parametrize("word", ['"quoted" ${x} \\ \n', "", "ünï", 1, -1.5, True, ["a", 2], {"a b": None}])
def test_arguments_arrive_as_they_are(nix: Installation, code: tuple[str, str], word: object) -> None:
    value = word if isinstance(word, str | int | float | list) else "x"
    (found,) = evaluate(nix, [CodeItem(*code, "/default.nix", "one", {"word": value, "unused": word})], SYSTEM)
    assert isinstance(found, Derived)


@pytest.mark.nix
def test_a_store_path_as_argument_is_depended_on(nix: Installation, code: tuple[str, str]) -> None:
    (found,) = evaluate(nix, [CodeItem(*code, "/default.nix", "one", {"object": InStore(code[0], "x")})], SYSTEM)
    assert isinstance(found, Derived)
    assert f'["{code[0]}"]'.encode() in nix.real_path(found.drv).read_bytes()


FUNCTIONS = """\
{ system }:
let named = name: derivation { inherit name system; builder = "/bin/sh"; }; in
{
  closed = { level ? 1 }: named "closed-${toString level}";
  open = { level ? 1, ... }@all: named "open-${toString (all.other or 0)}";
  nothing = { }: named "nothing";
  anything = all: named "anything-${toString all.other}";
}
"""


@pytest.mark.nix
def test_a_function_gets_the_arguments_that_it_takes_and_no_other_passes(nix: Installation, scratch: Path) -> None:
    (scratch / "code").mkdir()
    (scratch / "code" / "default.nix").write_text(FUNCTIONS)
    code = added(nix, scratch / "code", "code")
    asked: list[tuple[str, dict[str, int]]] = [
        ("closed", {"level": 2}),
        ("open", {"other": 3}),
        ("nothing", {}),
        ("anything", {"other": 4}),
        ("closed", {"levl": 2}),
        ("nothing", {"level": 2}),
    ]
    items = [CodeItem(*code, "/default.nix", attr, args) for attr, args in asked]
    *made, typo, none = evaluate(nix, items, SYSTEM)
    names = [one.drv.partition("-")[2] for one in made if isinstance(one, Derived)]
    assert names == ["closed-2.drv", "open-3.drv", "nothing.drv", "anything-4.drv"]
    assert isinstance(typo, NixEvaluationError)
    assert (typo.message, typo.hint) == ("the expression takes no argument levl", "did you mean level?")
    assert isinstance(none, NixEvaluationError)
    assert none.hint == "it takes system"


@pytest.mark.nix
def test_a_flake_without_a_default_package_is_told_so(nix: Installation, scratch: Path) -> None:
    (scratch / "flake").mkdir()
    (scratch / "flake" / "flake.nix").write_text("{ outputs = { self }: { legacyPackages.x86_64-linux = { }; }; }")
    path, found = added(nix, scratch / "flake", "source")
    hashed = found.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    (wrong,) = evaluate(nix, [FlakeItem(f"path:{path}?narHash={hashed}&lastModified=1")], SYSTEM)
    assert isinstance(wrong, NixEvaluationError)
    assert wrong.message == "the flake has no default package"


@pytest.mark.nix
def test_a_flakes_packages_are_found_as_nix_finds_them(nix: Installation, flake: str) -> None:
    names = ("", "tool", "old", "packages.x86_64-linux.tool", "toool")
    default, tool, old, full, wrong = evaluate(nix, [FlakeItem(flake, name) for name in names], SYSTEM)
    assert isinstance(default, Derived)
    assert isinstance(tool, Derived)
    assert isinstance(old, Derived)
    assert default.drv == tool.drv == old.drv
    assert (default.default, default.install, tool.install) == ("bin", ("bin",), ("man",))
    assert full == tool
    assert isinstance(wrong, NixEvaluationError)
    assert wrong.hint == "did you mean tool?"


def test_an_installable_is_a_reference_an_attribute_path_and_outputs() -> None:
    assert split_installable("github:o/r#a.b^out,dev") == ("github:o/r", "a.b", ("out", "dev"))
    assert split_installable("nixpkgs") == ("nixpkgs", "", ())
    assert split_installable("nixpkgs#a^*") == ("nixpkgs", "a", ("*",))
    with pytest.raises(NixEvaluationError, match="asks for no output"):
        split_installable("nixpkgs#a^")
    assert attribute_path('a."b.c".d-e') == ("a", "b.c", "d-e")
