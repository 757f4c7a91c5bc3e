"""Resolution: input derivations give way to the paths that were chosen of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from bridge.formats.derivation import (
    Deferred,
    Derivation,
    Floating,
    InputAddressed,
    InputOutputs,
    computed_output,
    own_output,
    replace_strings,
    resolve,
    upstream_output,
)

Closure = Mapping[str, Derivation]
Named = Mapping[str, str]

CHOSEN = "/nix/store/rz2rvfx6c1v5v3hwkszxx0kxcvdd2bnj-floating"
OTHER = "/nix/store/d4y9mhbyi5a1ds4nq1a0yqck3k5x0gbl-floating"


def test_a_deferred_derivation_becomes_input_addressed(closure: Closure, named: Named) -> None:
    drv = closure[named["dep-floating"]]
    resolved = resolve(drv, {(named["floating"], "out"): CHOSEN})
    assert resolved.input_drvs == {}
    assert resolved.input_srcs == (CHOSEN,)
    assert resolved.args == ("-c", f"read x < {CHOSEN}; echo $x > $out")
    output = resolved.outputs["out"]
    assert isinstance(output, InputAddressed)
    assert resolved.env["out"] == output.path
    assert {**resolved.env, "out": ""} == drv.env
    assert resolved.name == drv.name


def test_another_choice_is_another_derivation(closure: Closure, named: Named) -> None:
    drv = closure[named["dep-floating"]]
    one, two = (resolve(drv, {(named["floating"], "out"): path}) for path in (CHOSEN, OTHER))
    assert one.output_path("out") != two.output_path("out")


def test_every_output_of_every_input_is_replaced(closure: Closure, named: Named) -> None:
    drv = closure[named["dep-floating-multi"]]
    dev = "/nix/store/0" + CHOSEN[12:] + "-dev"
    plain = closure[named["plain"]].output_path("out")
    assert plain is not None
    upstream = named["floating-multi"]
    resolved = resolve(drv, {(upstream, "out"): CHOSEN, (upstream, "dev"): dev, (named["plain"], "out"): plain})
    assert set(resolved.input_srcs) == {CHOSEN, dev, plain, *drv.input_srcs}
    assert list(resolved.input_srcs) == sorted(resolved.input_srcs)
    assert resolved.env["twice"] == f"{dev}:{dev}"
    assert upstream_output(upstream, "out") not in str(resolved)
    assert set(resolved.outputs) == {"doc", "out"}


def test_a_floating_derivation_keeps_its_own_placeholder(closure: Closure, named: Named) -> None:
    drv = closure[named["floating-of-floating"]]
    resolved = resolve(drv, {(named["floating"], "out"): CHOSEN})
    assert resolved.outputs == {"out": Floating("nar", "sha256")}
    assert resolved.env["out"] == own_output("out")
    assert resolved.args[1].count(CHOSEN) == 2


def test_a_derivation_without_inputs_is_resolved_already(closure: Closure, named: Named) -> None:
    for name in ("plain", "floating", "fixed-rec", "impure", "sources", "escapes"):
        drv = closure[named[name]]
        assert resolve(drv, {}) == replace(drv, input_srcs=tuple(sorted(drv.input_srcs)))


def test_resolving_what_is_resolved_changes_nothing(closure: Closure, named: Named) -> None:
    resolved = resolve(closure[named["dep-floating"]], {(named["floating"], "out"): CHOSEN})
    assert resolve(resolved, {}) == resolved


def test_an_input_that_was_not_chosen_is_an_error(closure: Closure, named: Named) -> None:
    with pytest.raises(KeyError):
        resolve(closure[named["dep-floating"]], {})
    with pytest.raises(KeyError):
        resolve(closure[named["dep-floating-multi"]], {(named["floating-multi"], "out"): CHOSEN})


def test_outputs_of_outputs_are_resolved_by_the_names_that_lead_to_them(closure: Closure, named: Named) -> None:
    outer = named["floating"]
    one = upstream_output(outer, "out")
    two = computed_output(one, "lib")
    used = InputOutputs((), {"out": InputOutputs(("lib",), {"lib": InputOutputs(("dev",))})})
    drv = replace(closure[named["plain"]], input_drvs={outer: used}, args=(f"{two}/x {computed_output(two, 'dev')}",))
    other = CHOSEN + "-dev"
    resolved = resolve(drv, {(outer, "out", "lib"): CHOSEN, (outer, "out", "lib", "dev"): other})
    assert resolved.args == (f"{CHOSEN}/x {other}",)
    assert resolved.input_srcs == (CHOSEN, other)
    with pytest.raises(KeyError):
        resolve(drv, {(outer, "out"): CHOSEN})


def test_strings_are_replaced_in_builder_arguments_and_environment() -> None:
    drv = Derivation("x", {"out": Floating()}, {}, (), "/old", "/old/sh", ("/old", "a/old/old"), {"/old": "-/old-"})
    assert replace_strings(drv, {"/old": "/new"}) == replace(
        drv, builder="/new/sh", args=("/new", "a/new/new"), env={"/new": "-/new-"}
    )


def test_what_was_put_in_is_not_replaced_again() -> None:
    drv = Derivation("x", {"out": Floating()}, {}, (), "", "/a/b", (), {})
    assert replace_strings(drv, {"/a": "/b", "/b": "/a"}).builder == "/b/a"


def test_without_rewrites_only_deferred_outputs_change() -> None:
    drv = Derivation("x", {"out": Deferred()}, {}, (), "s", "b", (), {})
    filled = replace_strings(drv, {})
    assert isinstance(filled.outputs["out"], InputAddressed)
    assert filled.env["out"] == filled.output_path("out")
    waiting = replace(drv, input_drvs={"/nix/store/x.drv": InputOutputs(("out",))})
    assert replace_strings(waiting, {}) == waiting
