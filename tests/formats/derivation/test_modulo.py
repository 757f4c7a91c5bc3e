"""hashDerivationModulo, and the paths that follow from it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import pytest

from bridge.formats.derivation import (
    Deferred,
    Derivation,
    Fixed,
    Floating,
    Impure,
    InputAddressed,
    InputOutputs,
    Modulo,
    derivation_path,
    derivation_references,
    fill_outputs,
    instantiate,
    modulo,
    own_output,
    unparse,
)
from bridge.formats.errors import DerivationError, StorePathError
from bridge.formats.hashes import Hash

Closure = Mapping[str, Derivation]
Named = Mapping[str, str]


def none_known(path: str) -> Modulo:
    raise AssertionError(path)


def blank(drv: Derivation) -> Derivation:
    """The derivation as it was before its input-addressed outputs were computed."""
    outputs = {
        name: Deferred() if isinstance(output, InputAddressed) else output for name, output in drv.outputs.items()
    }
    env = {key: value for key, value in drv.env.items() if key not in outputs}
    return replace(drv, outputs=outputs, env=env)


def test_every_path_that_nix_computed_is_computed(closure: Closure, modulos: Mapping[str, Modulo]) -> None:
    for path, drv in closure.items():
        made = instantiate(blank(drv), modulos.__getitem__)
        assert made.path == path
        assert made.derivation == drv
        assert made.aterm == unparse(drv)
        assert made.modulo == modulos[path]


def test_the_paths_of_the_samples(closure: Closure, named: Named) -> None:
    """Those that Nix 2.8.0, 2.26.3 and 2.34.8 all gave."""
    assert {
        "/nix/store/5hhxas79c49pk49mzn09pkp2ngch2q4r-structured.drv",
        "/nix/store/d5y4abx3i33xgvnijnc23mmfgwabjw95-floating.drv",
        "/nix/store/dg33p1dhpldcly7b6iiwb0vgz2fjv4i4-fixed-rec.drv",
        "/nix/store/fzbxf2ddqnbcg3q28jv0ah5g0sfv9a80-dep-floating.drv",
        "/nix/store/h3nicn2b4n2ch6c9gz2zhh1z83cyin0y-impure.drv",
    } <= {derivation_path(drv) for drv in closure.values()}
    structured = closure[named["structured"]]
    assert structured.output_path("dev") == "/nix/store/cars31h6bi55g3pczh08bkiy459y0kk8-structured-dev"
    assert structured.output_path("out") == "/nix/store/xhzj4sj9ixykmhmh86aq17bbvq5sk8l4-structured"


def test_what_waits_for_a_build_has_no_modulo(closure: Closure, modulos: Mapping[str, Modulo]) -> None:
    for path, drv in closure.items():
        waits = any(isinstance(output, Floating | Deferred | Impure) for output in drv.outputs.values())
        assert (modulos[path] is None) == waits


def test_the_modulo_of_a_fixed_output_is_its_content_and_path(closure: Closure, named: Named) -> None:
    drv = closure[named["fixed-sha1-rec"]]
    text = f"fixed:out:r:sha1:f572d396fae9206628714fb2ce00f72e94f2258f:{drv.output_path('out')}"
    assert modulo(drv, none_known) == hashlib.sha256(text.encode()).hexdigest()


def test_two_ways_to_fetch_the_same_give_one_path_above_them(closure: Closure, modulos: Mapping[str, Modulo]) -> None:
    fetches = [path for path, drv in closure.items() if drv.name == "source.tar.gz"]
    users = [path for path, drv in closure.items() if drv.name == "of-fetch"]
    assert len(fetches) == len(users) == 2
    assert len({modulos[path] for path in fetches}) == 1
    assert len({modulos[path] for path in users}) == 1
    assert len({closure[path].output_path("out") for path in users}) == 1


def test_inputs_of_equal_modulo_are_merged(closure: Closure, named: Named, modulos: Mapping[str, Modulo]) -> None:
    """of-both uses both fetches and both users: two entries are left of four, as Nix has it."""
    drv = closure[named["of-both"]]
    assert len(drv.input_drvs) == 4
    assert len({modulos[path] for path in drv.input_drvs}) == 2
    assert instantiate(blank(drv), modulos.__getitem__).path == named["of-both"]


def test_merged_inputs_join_their_outputs(closure: Closure, named: Named) -> None:
    drv = blank(closure[named["plain"]])
    one, two = (f"/nix/store/{digit * 32}-x.drv" for digit in "ab")
    apart = replace(drv, input_drvs={one: InputOutputs(("dev",)), two: InputOutputs(("out",))})
    joined = replace(drv, input_drvs={one: InputOutputs(("dev", "out"))})
    same = hashlib.sha256(b"same").hexdigest()
    assert modulo(apart, lambda path: same, mask=True) == modulo(joined, lambda path: same, mask=True)


def test_masking_forgets_own_paths_only(closure: Closure, named: Named, modulos: Mapping[str, Modulo]) -> None:
    drv = closure[named["multi"]]
    known = modulos.__getitem__
    moved = replace(
        drv,
        outputs={name: InputAddressed(f"/nix/store/{'0' * 32}-x") for name in drv.outputs},
        env={key: "elsewhere" if key in drv.outputs else value for key, value in drv.env.items()},
    )
    assert modulo(drv, known, mask=True) == modulo(moved, known, mask=True)
    assert modulo(drv, known) != modulo(moved, known)
    assert modulo(drv, known) != modulo(drv, known, mask=True)
    for change in ({"builder": "/bin/x"}, {"args": ("x",)}, {"system": "x"}, {"env": {**drv.env, "x": ""}}):
        assert modulo(replace(drv, **change), known, mask=True) != modulo(drv, known, mask=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["dep-floating", "deferred-twice", "dep-floating-multi"])
def test_above_what_floats_outputs_stay_deferred(
    closure: Closure, named: Named, modulos: Mapping[str, Modulo], name: str
) -> None:
    drv = closure[named[name]]
    made = instantiate(blank(drv), modulos.__getitem__)
    assert set(made.derivation.outputs.values()) == {Deferred()}
    assert all(made.derivation.env[output] == "" for output in drv.outputs)
    assert made.modulo is None


def test_above_a_dynamic_output_outputs_stay_deferred(closure: Closure, named: Named) -> None:
    used = InputOutputs((), {"out": InputOutputs(("out",))})
    drv = replace(blank(closure[named["plain"]]), input_drvs={named["fixed-rec"]: used})
    assert fill_outputs(drv, none_known).outputs == {"out": Deferred()}


def test_outputs_are_shown_in_the_environment(closure: Closure, named: Named) -> None:
    drv = replace(closure[named["floating-multi"]], env={})
    assert fill_outputs(drv, none_known).env == {"dev": own_output("dev"), "out": own_output("out")}
    fixed = replace(closure[named["fixed-rec"]], env={})
    assert fill_outputs(fixed, none_known).env == {"out": fixed.output_path("out")}


def test_a_derivation_refers_to_what_goes_in(closure: Closure, named: Named) -> None:
    drv = closure[named["dep-floating-multi"]]
    source = "/nix/store/gb0w05m1hhr40pdkdjqjshjabnn94ym5-source.txt"
    assert set(derivation_references(drv)) == {named["floating-multi"], named["plain"], source}


def test_references_are_part_of_the_path(closure: Closure, named: Named) -> None:
    drv = closure[named["plain"]]
    contents = unparse(drv)
    assert derivation_path(drv, contents) == named["plain"]
    with_source = replace(drv, input_srcs=(f"/nix/store/{'0' * 32}-x",))
    assert derivation_path(with_source, contents) != named["plain"]


# ------------------------------------------------------------------- derivations that no Nix makes


FIXED = Fixed.of("x", "out", "flat", Hash.of(b""))
PLAIN = Derivation("x", {"out": Deferred()}, {}, (), "s", "b", (), {})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"outputs": {}}, DerivationError, "has no outputs"),
        (
            {"outputs": {"out": Deferred(), "dev": Floating()}},
            DerivationError,
            "mixes kinds of outputs: Deferred, Floating",
        ),
        ({"outputs": {"out": FIXED, "dev": FIXED}}, DerivationError, "one output only, named out"),
        ({"outputs": {"dev": FIXED}}, DerivationError, "one output only, named out"),
        ({"outputs": {"a b": Deferred()}}, StorePathError, "does not allow ' '"),
        ({"outputs": {"": Deferred()}}, StorePathError, "is empty"),
        ({"name": "a/b"}, StorePathError, "does not allow '/'"),
        ({"name": ""}, StorePathError, "is empty"),
        ({"name": "a" * 208}, StorePathError, "212 characters"),
        ({"name": "x.drv"}, DerivationError, "must not end in .drv"),
        ({"system": 'a"b'}, DerivationError, "can not hold"),
        ({"builder": "\ud800"}, DerivationError, "no character"),
    ],
    ids=str,
)
def test_what_no_nix_would_make_is_not_instantiated(
    change: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        instantiate(replace(PLAIN, **change), none_known)  # type: ignore[arg-type]


def test_an_output_that_is_not_there_is_told_with_those_that_are(closure: Closure, named: Named) -> None:
    with pytest.raises(DerivationError, match=r"multi has no output 'doc' \(it has bin, dev, out\)"):
        closure[named["multi"]].output_path("doc")


@pytest.mark.parametrize(
    ("name", "known", "fixed"),
    [("plain", True, False), ("fixed-rec", True, True), ("floating", False, False), ("dep-floating", False, False)],
)
def test_which_paths_are_known_before_a_build(
    closure: Closure, named: Named, name: str, known: bool, fixed: bool
) -> None:
    drv = closure[named[name]]
    assert (drv.output_path("out") is not None) == known
    assert drv.is_fixed == fixed


def test_a_chain_of_derivations_is_hashed_without_recursion() -> None:
    """Each modulo is asked for once its inputs are known: depth costs nothing."""
    known: dict[str, Modulo] = {}
    inputs: dict[str, InputOutputs] = {}
    for number in range(2000):
        made = instantiate(replace(PLAIN, name=f"x{number}", input_drvs=inputs), known.__getitem__)
        known[made.path] = made.modulo
        inputs = {made.path: InputOutputs(("out",))}
    assert len(known) == 2000
