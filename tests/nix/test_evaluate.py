from __future__ import annotations

from pathlib import Path

import pytest

from bridge.nix.errors import NixEvaluationError
from bridge.nix.evaluate import flake_drv, instantiate
from bridge.nix.installation import Installation

pytestmark = pytest.mark.nix

CODE = """\
{ name ? "plain" }:
let
  make = name: derivation {
    inherit name;
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ "-c" "echo > $out; echo > $dev" ];
    outputs = [ "out" "dev" ];
  };
in
rec {
  one = make name;
  dev = one.dev;
  two = make "two";
  bad = throw "this is bad";
  typo = nothing;
}
"""

FLAKE = """\
{
  outputs = { self }:
    let
      drv = derivation {
        name = "tool";
        system = "x86_64-linux";
        builder = "/bin/sh";
        args = [ "-c" "echo > $out; echo > $dev; echo > $man" ];
        outputs = [ "out" "dev" "man" ];
      };
    in
    {
      packages.x86_64-linux = {
        default = drv;
        tool = drv // { meta.outputsToInstall = [ "out" "man" ]; };
        bad = throw "no tool today";
        text = "no derivation";
      };
    };
}
"""


@pytest.fixture
def flake(scratch: Path) -> str:
    folder = scratch / "flake"
    folder.mkdir()
    (folder / "flake.nix").write_text(FLAKE)
    return f"path:{folder}"


@pytest.fixture
def code(scratch: Path) -> Path:
    file = scratch / "code.nix"
    file.write_text(CODE.replace("typo = nothing;", ""))
    return file


def test_an_attribute_of_a_file_is_instantiated(nix: Installation, code: Path) -> None:
    (drv,) = instantiate(nix, file=code, attr="one")
    assert drv.endswith("-plain.drv")
    assert nix.real_path(drv).read_bytes().startswith(b"Derive(")


def test_arguments_are_passed_as_strings(nix: Installation, code: Path) -> None:
    (drv,) = instantiate(nix, file=code, attr="one", args={"name": "other"})
    assert drv.endswith("-other.drv")


def test_an_expression_may_give_several(nix: Installation, code: Path) -> None:
    drvs = instantiate(nix, expr=f"let c = import {code} {{ }}; in [ c.two c.one ]")
    assert sorted(drv.split("-", 1)[1] for drv in drvs) == ["plain.drv", "two.drv"]


def test_the_output_that_an_attribute_names_is_left_off(nix: Installation, code: Path) -> None:
    assert instantiate(nix, file=code, attr="dev") == instantiate(nix, file=code, attr="one")


def test_an_error_is_nixs_message_without_noise(nix: Installation, code: Path) -> None:
    with pytest.raises(NixEvaluationError) as caught:
        instantiate(nix, file=code, attr="bad")
    assert caught.value.message == f"Nix can not evaluate {code} (bad): this is bad"
    assert "\x1b" not in str(caught.value)


def test_an_error_tells_its_place(nix: Installation, scratch: Path) -> None:
    file = scratch / "typo.nix"
    file.write_text(CODE)
    with pytest.raises(NixEvaluationError, match="undefined variable 'nothing'") as caught:
        instantiate(nix, file=file, attr="typo")
    assert (caught.value.file, caught.value.line) == (str(file), 16)
    assert str(caught.value).startswith(f"{file}:16: ")


def test_what_is_no_derivation_is_an_error(nix: Installation) -> None:
    with pytest.raises(NixEvaluationError, match="derivation"):
        instantiate(nix, expr="1")
    with pytest.raises(NixEvaluationError, match="syntax error"):
        instantiate(nix, expr="1 +")
    with pytest.raises(NixEvaluationError, match=r"No such file|does not exist"):
        instantiate(nix, file=Path("/nowhere/x.nix"))


def test_an_expression_and_a_file_are_too_much(nix: Installation) -> None:
    with pytest.raises(NixEvaluationError, match="one of the two"):
        instantiate(nix, expr="1", file=Path("x"))
    with pytest.raises(NixEvaluationError, match="one of the two"):
        instantiate(nix)


def test_a_flakes_derivation_is_written_to_the_store(nix: Installation, flake: str) -> None:
    drv, outputs = flake_drv(nix, flake)
    assert drv.endswith("-tool.drv")
    assert nix.real_path(drv).exists()
    assert outputs == ("out",)


@pytest.mark.parametrize(
    ("suffix", "outputs"),
    [
        ("#tool", ("out", "man")),
        ("#tool^dev", ("dev",)),
        ("#tool^man,out", ("man", "out")),
        ("#tool^*", ("out", "dev", "man")),
        ("#packages.x86_64-linux.default", ("out",)),
    ],
)
def test_the_outputs_are_those_behind_the_caret_or_the_packages_own(
    nix: Installation, flake: str, suffix: str, outputs: tuple[str, ...]
) -> None:
    drv, found = flake_drv(nix, flake + suffix)
    assert drv.endswith("-tool.drv")
    assert found == outputs


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        ("#nothing", "does not provide attribute"),
        ("#bad", "no tool today"),
        ("#tool^doc", "has no output 'doc'"),
        ("#tool^", "asked for no output"),
        ("#text", "text"),
    ],
)
def test_an_installable_that_is_wrong_is_explained(nix: Installation, flake: str, suffix: str, message: str) -> None:
    with pytest.raises(NixEvaluationError, match=message):
        flake_drv(nix, flake + suffix)


def test_a_flake_that_is_not_there_is_explained(nix: Installation, scratch: Path) -> None:
    with pytest.raises(NixEvaluationError, match=r"No such file|does not exist"):
        flake_drv(nix, f"path:{scratch}/nowhere#x")
