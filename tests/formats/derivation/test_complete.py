"""Derivations that somebody wrote: what is filled in, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats.derivation import (
    Deferred,
    Derivation,
    Fixed,
    Floating,
    InputAddressed,
    InputOutputs,
    complete_closure,
    computed_output,
    derivation_path,
    own_output,
    unparse,
    upstream_output,
)
from bridge.formats.errors import BridgeError, ClosureError, DerivationError, StorePathError

Closure = Mapping[str, Derivation]
Named = Mapping[str, str]

WRONG = f"/nix/store/{'0' * 32}-plain"
PLAIN = Derivation("plain", {"out": Deferred()}, {}, (), "x86_64-linux", "/bin/sh", ("-c", "echo > $out"), {"out": ""})


def nothing(path: str) -> bytes:
    raise KeyError(path)


def known(*derivations: Derivation) -> dict[str, Derivation]:
    return {derivation_path(drv): drv for drv in derivations}


def test_what_nix_made_is_whole_already(closure: Closure) -> None:
    made = complete_closure(closure, nothing)
    assert {path: one.derivation for path, one in made.items()} == dict(closure)
    assert all(one.path == path for path, one in made.items())


def test_inputs_come_first_whatever_their_order(closure: Closure) -> None:
    made = list(complete_closure(dict(reversed(closure.items())), nothing))
    for path in made:
        assert all(made.index(used) < made.index(path) for used in closure[path].input_drvs)


def test_inputs_may_lie_elsewhere(closure: Closure, named: Named) -> None:
    top = named["dep"]
    made = complete_closure({top: closure[top]}, lambda path: unparse(closure[path]))
    assert [one.path for one in made.values()] == [top]


def test_an_output_without_a_path_gets_the_one_that_nix_computes(closure: Closure) -> None:
    """Each input-addressed derivation of Nix, its outputs taken away."""
    seen = 0
    for path, drv in closure.items():
        if all(isinstance(output, InputAddressed) for output in drv.outputs.values()):
            bare = replace(
                drv,
                outputs=dict.fromkeys(drv.outputs, Deferred()),
                env={key: "" if key in drv.outputs else value for key, value in drv.env.items()},
            )
            [made] = complete_closure(known(bare), lambda path: unparse(closure[path])).values()  # noqa: PLR1733
            assert (made.path, made.derivation) == (path, drv)
            seen += 1
    assert seen > 5


def test_an_output_that_env_does_not_name_is_named_there() -> None:
    [with_env] = complete_closure(known(PLAIN), nothing).values()
    [without] = complete_closure(known(replace(PLAIN, env={})), nothing).values()
    assert without == with_env
    assert without.derivation.env["out"] == without.derivation.output_path("out")


def test_what_waits_for_a_floating_input_stays_deferred(closure: Closure, named: Named) -> None:
    path = named["dep-floating"]
    made = complete_closure({path: closure[path]}, lambda path: unparse(closure[path]))
    assert made[path].derivation.outputs == {"out": Deferred()}
    assert made[path].modulo is None


def test_a_user_follows_an_input_that_was_filled_in() -> None:
    label = derivation_path(PLAIN)
    user = replace(
        PLAIN,
        name="user",
        input_drvs={label: InputOutputs(("out",))},
        args=("-c", f"cat {upstream_output(label, 'out')} > $out"),
    )
    made = complete_closure(known(user, PLAIN), nothing)
    plain, whole = made[label], made[derivation_path(user)]
    assert list(whole.derivation.input_drvs) == [plain.path] != [label]
    assert whole.derivation.args[1] == f"cat {plain.derivation.output_path('out')} > $out"
    again = complete_closure({one.path: one.derivation for one in made.values()}, nothing)
    assert [one.path for one in again.values()] == [one.path for one in made.values()]


def test_placeholders_of_an_input_that_moved_and_its_path_in_texts_follow() -> None:
    label = derivation_path(PLAIN)
    floating = replace(
        PLAIN,
        name="floating.drv",
        outputs={"out": Floating("text")},
        input_drvs={label: InputOutputs(("out",))},
        env={"out": own_output("out")},
    )
    old = derivation_path(floating)
    user = replace(
        PLAIN,
        name="user",
        input_drvs={old: InputOutputs(("out",), {"out": InputOutputs(("dev",))})},
        input_srcs=(old,),
        args=(upstream_output(old, "out"), computed_output(upstream_output(old, "out"), "dev"), f"{old}!out"),
    )
    made = complete_closure(known(PLAIN, floating, user), nothing)
    new, whole = made[old].path, made[derivation_path(user)].derivation
    placeholder = upstream_output(new, "out")
    assert new != old
    assert whole.args == (placeholder, computed_output(placeholder, "dev"), f"{new}!out")
    assert (tuple(whole.input_drvs), whole.input_srcs) == ((new,), (new,))


def test_many_inputs_that_move_take_no_longer_than_few() -> None:
    """400 derivations, each of which uses all before: all get other paths."""
    derivations: dict[str, Derivation] = {}
    for number in range(400):
        inputs = {path: InputOutputs(("out",)) for path in derivations}
        texts = tuple(upstream_output(path, "out") for path in inputs)
        derivations |= known(replace(PLAIN, name=f"n{number}", input_drvs=inputs, args=texts))
    start = time.process_time()
    made = list(complete_closure(derivations, nothing).values())
    assert time.process_time() - start < 20  # less than two seconds; with a pattern for each it was a minute
    paths = [one.derivation.output_path("out") for one in made]
    assert made[-1].derivation.args == tuple(paths[:-1])


def test_outputs_of_two_inputs_that_turn_out_to_be_the_same_are_all_used() -> None:
    bare = replace(PLAIN, outputs={"out": Deferred(), "dev": Deferred()}, env={})
    [whole] = complete_closure(known(bare), nothing).values()
    used = {derivation_path(bare): InputOutputs(("out",)), whole.path: InputOutputs(("dev",))}
    user = replace(PLAIN, name="user", input_drvs=used)
    made = complete_closure(known(bare, whole.derivation, user), nothing)
    assert made[derivation_path(user)].derivation.input_drvs == {whole.path: InputOutputs(("dev", "out"))}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"env": {"out": "/elsewhere"}}, "the variable 'out' in env of plain is '/elsewhere', but must be ''"),
        ({"outputs": {}}, "has no outputs"),
        ({"outputs": {"out": Deferred(), "dev": Floating()}}, "mixes kinds"),
        (
            {"outputs": {"out": Floating(), "dev": Floating("nar", "sha512")}},
            "the floating outputs of plain have several hash algorithms: sha256, sha512",
        ),
        ({"name": "plain.drv"}, "must not end in .drv"),
        (
            {"outputs": {"out": InputAddressed(WRONG)}, "env": {"out": WRONG}},
            "but the derivation gives /nix",
        ),
        ({"input_drvs": {"/nix/store/" + "0" * 32 + "-x.drv": InputOutputs(("out",))}}, "can not be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_nix_would_refuse_is_refused(change: dict[str, object], said: str) -> None:
    drv = replace(PLAIN, **change)  # type: ignore[arg-type]
    with pytest.raises(DerivationError) as caught:
        complete_closure({derivation_path(drv): drv}, nothing)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["plain", "fixed-rec"])
def test_the_environment_must_say_the_output_path(closure: Closure, named: Named, name: str) -> None:
    drv = closure[named[name]]
    for env in ({**drv.env, "out": "/x"}, {key: value for key, value in drv.env.items() if key != "out"}):
        changed = replace(drv, env=env)
        with pytest.raises(DerivationError, match="env of"):
            complete_closure(known(changed), nothing)


def test_a_fixed_output_must_lie_where_its_hash_says(closure: Closure, named: Named) -> None:
    drv = closure[named["fixed-rec"]]
    output = drv.outputs["out"]
    assert isinstance(output, Fixed)
    path = f"/nix/store/{'0' * 32}-fixed-rec"
    changed = replace(drv, outputs={"out": replace(output, path=path)}, env={**drv.env, "out": path})
    with pytest.raises(DerivationError, match=f"but the derivation gives {output.path}"):
        complete_closure(known(changed), nothing)


def test_a_path_before_its_input_is_built_is_refused(closure: Closure, named: Named) -> None:
    path = f"/nix/store/{'0' * 32}-dep-floating"
    drv = closure[named["dep-floating"]]
    changed = replace(drv, outputs={"out": InputAddressed(path)}, env={**drv.env, "out": path})
    with pytest.raises(DerivationError, match="waits for a content-addressed input"):
        complete_closure(known(changed), lambda path: unparse(closure[path]))


def test_a_derivation_under_anothers_path_is_refused(closure: Closure, named: Named) -> None:
    with pytest.raises(DerivationError, match="is said to be"):
        complete_closure({named["dep"]: closure[named["plain"]]}, nothing)


def test_a_missing_input_is_named_with_what_uses_it(closure: Closure, named: Named) -> None:
    with pytest.raises(ClosureError) as caught:
        complete_closure({named["dep"]: closure[named["dep"]]}, nothing)
    assert caught.value.path in closure[named["dep"]].input_drvs
    assert caught.value.user == named["dep"]


@given(st.data())
def test_no_change_of_a_derivation_passes_in_silence(closure: Closure, data: st.DataObject) -> None:
    """Whatever is changed of an input-addressed derivation changes its outputs' paths."""
    found = sorted(
        path
        for path, drv in closure.items()
        if all(isinstance(output, InputAddressed) for output in drv.outputs.values())
    )
    drv = closure[data.draw(st.sampled_from(found))]
    text = data.draw(st.text("abc", min_size=1, max_size=3))
    change = data.draw(
        st.sampled_from(
            [
                {"args": (*drv.args, text)},
                {"builder": drv.builder + text},
                {"system": drv.system + text},
                {"name": drv.name + text},
                {"env": {**drv.env, f"new-{text}": text}},
            ]
        )
    )
    with pytest.raises((DerivationError, StorePathError)) as caught:
        complete_closure(known(replace(drv, **change)), lambda path: unparse(closure[path]))  # type: ignore[arg-type]
    assert isinstance(caught.value, BridgeError)
