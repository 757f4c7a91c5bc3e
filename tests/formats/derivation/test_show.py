"""The text of a closure, right from the bytes: the same as by way of derivations, whatever the bytes are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats.derivation import (
    FORMATS,
    Deferred,
    Derivation,
    Fixed,
    InputAddressed,
    InputOutputs,
    Modulo,
    derivation_path,
    document,
    modulo,
    parse_aterm,
    unparse,
)
from bridge.formats.derivation import show as show_module
from bridge.formats.derivation.closure import read_closure
from bridge.formats.derivation.show import show_closure
from bridge.formats.errors import BridgeError, ClosureError
from bridge.formats.hashes import Hash
from tests.formats.strategies import derivations, unicode

PATH = f"/nix/store/{'0' * 32}-x.drv"
shapes = pytest.mark.parametrize("shape", FORMATS)


@pytest.fixture(autouse=True, scope="module", params=["native", "python"])
def twin(request: pytest.FixtureRequest) -> Iterator[None]:
    """What takes a text apart: the extension, and what takes its place without a compiler."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python":
            patch.setattr(show_module, "take_apart", show_module._take_apart)
        elif show_module._native is None:
            pytest.skip("there was no compiler when nixbridge was installed")
        yield


def plainly(closure: Mapping[str, Derivation], shape: str) -> str:
    return json.dumps(document(dict(sorted(closure.items())), FORMATS[shape]), indent=2, ensure_ascii=False)


def shown(stored: Mapping[str, bytes], root: str, shape: str) -> str:
    return b"".join(show_closure([root], stored.__getitem__, FORMATS[shape])).decode()


@shapes
def test_what_nix_made_is_shown_as_by_way_of_derivations(closure: Mapping[str, Derivation], shape: str) -> None:
    stored = {path: unparse(drv) for path, drv in closure.items()}
    for path in stored:
        found = read_closure([path], stored.__getitem__)
        try:
            expected = plainly(found, shape)
        except BridgeError as error:
            with pytest.raises(type(error)):
                shown(stored, path, shape)
        else:
            assert shown(stored, path, shape) == expected
            assert b"".join(show_closure([path], {}.__getitem__, FORMATS[shape], found)).decode() == expected


def one(data: bytes, shape: str, name: str = "x") -> tuple[str, str] | None:
    """One derivation without inputs, both ways; None where both refuse it in the same words."""
    path = f"/nix/store/{'0' * 32}-{name}.drv"
    error: BridgeError
    try:
        expected = plainly({path: parse_aterm(data, name)}, shape)
    except BridgeError as raised:
        error = raised
    else:
        return shown({path: data}, path, shape), expected
    with pytest.raises(type(error)) as caught:
        shown({path: data}, path, shape)
    assert caught.value.message == error.message
    return None


@shapes
@given(drv=st.one_of(derivations(), derivations(unicode)))
def test_any_derivation_is_shown_as_by_way_of_derivations(shape: str, drv: Derivation) -> None:
    data = unparse(Derivation(drv.name, drv.outputs, {}, drv.input_srcs, drv.system, drv.builder, drv.args, drv.env))
    assert (found := one(data, shape, drv.name)) is None or found[0] == found[1]


GOOD = (
    b'Derive([("dev","/nix/store/11111111111111111111111111111111-x-dev","",""),'
    b'("out","/nix/store/11111111111111111111111111111111-x","","")],[],'
    b'["/nix/store/22222222222222222222222222222222-s"],"x86_64-linux","/bin/sh",["-c","a \\"b\\" \\\\ \\n"],'
    b'[("a","\\\\\\"\\t"),("b\\n",""),("c","\\\\\\\\n")])'
)


@given(
    st.integers(0, len(GOOD)),
    st.integers(0, 6),
    st.sampled_from(
        [b"", b'"', b"\\", b",", b"(", b"]", b"\0", b"\1", b"\xff", b"\xc3\xa9", b"n", b"/", b'","', b'"),("']
    ),
)
def test_damage_is_told_in_the_same_words(place: int, length: int, put: bytes) -> None:
    data = GOOD[:place] + put + GOOD[place + length :]
    assert (found := one(data, "2.8")) is None or found[0] == found[1]


@pytest.mark.parametrize("shape", ["2.8", "2.18", "4"])
def test_the_usual_is_not_parsed(monkeypatch: pytest.MonkeyPatch, shape: str) -> None:
    expected = plainly({PATH: parse_aterm(GOOD, "x")}, shape)
    monkeypatch.delattr(show_module, "parsed")
    assert shown({PATH: GOOD}, PATH, shape) == expected


def test_a_missing_input_says_which_and_who_uses_it(
    closure: Mapping[str, Derivation], named: Mapping[str, str]
) -> None:
    path = next(path for path, drv in closure.items() if drv.input_drvs)
    with pytest.raises(ClosureError) as caught:
        list(show_closure([path], {path: unparse(closure[path])}.__getitem__, FORMATS["2.8"]))
    assert caught.value.user == path
    assert derivation_path(closure[path]) == path


def test_a_path_that_is_none_of_a_derivation_is_refused() -> None:
    used = f"/nix/store/{'0' * 32}-source"
    user = f'Derive([("out","","","")],[("{used}",["out"])],[],"s","b",[],[])'.encode()
    for stored in ({"/nix/store/x.drv": GOOD}, {PATH: user, used: GOOD}):
        with pytest.raises(ClosureError):
            list(show_closure([next(iter(stored))], stored.__getitem__, FORMATS["2.8"]))


# ------------------------------------------------------------------------------------------ modulos


def store_path(number: int, name: str = "x.drv") -> str:
    return f"/nix/store/{number:032}-{name}"


def plain_modulos(stored: Mapping[str, bytes], root: str) -> dict[str, Modulo]:
    known: dict[str, Modulo] = {}
    for path, drv in read_closure([root], stored.__getitem__).items():
        known[path] = modulo(drv, known.__getitem__)
    return known


def text_modulos(stored: Mapping[str, bytes], root: str, shape: str = "2.8") -> dict[str, Modulo]:
    found: dict[str, Modulo] = {}
    printed = b"".join(show_closure([root], stored.__getitem__, FORMATS[shape], modulos=found)).decode()
    assert printed == shown(stored, root, shape)
    return found


@pytest.mark.parametrize("shape", ["2.8", "4"])
def test_the_modulos_of_what_nix_made_are_those_of_the_derivations(
    closure: Mapping[str, Derivation], modulos: Mapping[str, Modulo], shape: str
) -> None:
    stored = {path: unparse(drv) for path, drv in closure.items()}
    for path in stored:
        try:
            plainly(read_closure([path], stored.__getitem__), shape)
        except BridgeError:
            continue
        found = text_modulos(stored, path, shape)
        assert found == plain_modulos(stored, path) == {one: modulos[one] for one in found}


def user(inputs: Mapping[str, tuple[str, ...]], **env: str) -> bytes:
    outputs = {"out": InputAddressed(store_path(9, "x"))}
    used = {path: InputOutputs(names) for path, names in inputs.items()}
    return unparse(Derivation("x", outputs, used, (), "s", "b", (), {"out": "", **env}))


@given(derivations(unicode), st.lists(st.sampled_from(["out", "dev", "lib"]), unique=True))
def test_the_modulo_of_any_derivation_is_that_by_way_of_derivations(drv: Derivation, used: list[str]) -> None:
    below, above = store_path(1, f"{drv.name}.drv"), store_path(2)
    data = unparse(Derivation(drv.name, drv.outputs, {}, drv.input_srcs, drv.system, drv.builder, drv.args, drv.env))
    stored = {below: data, above: user({below: tuple(used)})}
    found = text_modulos(stored, above)
    assert found == plain_modulos(stored, above)
    assert list(found) == [below, above]


def test_two_ways_to_fetch_the_same_are_one_input() -> None:
    fixed = Fixed.of("x", "out", "flat", Hash("sha256", bytes(32)))
    stored = {
        store_path(number): unparse(Derivation("x", {"out": fixed}, {}, (), "s", "b", (), {"url": f"{number}"}))
        for number in range(3)
    }
    stored[store_path(3)] = user({store_path(0): ("out",), store_path(1): ("dev", "out"), store_path(2): ("bin",)})
    stored[store_path(4)] = user({store_path(0): ("bin", "dev", "out")})
    found = [text_modulos(stored, store_path(top))[store_path(top)] for top in (3, 4)]
    assert found[0] == found[1] == plain_modulos(stored, store_path(3))[store_path(3)]


@pytest.mark.parametrize(
    ("outputs", "sources", "env"),
    [
        ((b"out", b"dev"), (), ()),
        ((b"out",), (b"2", b"1"), ()),
        ((b"out",), (), (b"b", b"a")),
        # By what they stand for: a line break is less than a letter, its escape is not.
        ((b"out",), (), (b"aA", b"a\\n")),
    ],
)
def test_a_file_that_is_not_sorted_has_the_modulo_of_one_that_is(
    outputs: tuple[bytes, ...], sources: tuple[bytes, ...], env: tuple[bytes, ...]
) -> None:
    def written(step: int) -> bytes:
        shown_outputs = [b'("%b","/nix/store/%b-%b","","")' % (name, b"1" * 32, name) for name in outputs[::step]]
        shown_sources = [b'"/nix/store/%b-s"' % (name * 32) for name in sources[::step]]
        shown_env = [b'("%b","")' % name for name in env[::step]]
        lists = tuple(map(b",".join, (shown_outputs, shown_sources, shown_env)))
        return b'Derive([%b],[],[%b],"s","b",[],[%b])' % lists

    unsorted, in_order = written(1), written(-1)
    found = {text_modulos({PATH: data}, PATH)[PATH] for data in (unsorted, in_order)}
    assert found == {plain_modulos({PATH: unsorted}, PATH)[PATH]}
    assert hashlib.sha256(in_order).hexdigest() in found


def test_what_waits_for_a_build_has_no_modulo_and_neither_has_its_user() -> None:
    waiting = unparse(Derivation("x", {"out": Deferred()}, {}, (), "s", "b", (), {}))
    stored = {store_path(1): waiting, store_path(2): user({store_path(1): ("out",)})}
    assert text_modulos(stored, store_path(2)) == dict.fromkeys(stored)


def test_a_chain_of_ten_thousand_is_hashed() -> None:
    stored = {store_path(number): user({store_path(number + 1): ("out",)}) for number in range(10_000)}
    stored[store_path(10_000)] = user({})
    assert text_modulos(stored, store_path(0)) == plain_modulos(stored, store_path(0))


@pytest.mark.parametrize("length", [1, 2, 50])
def test_derivations_that_need_each_other_have_no_modulo(length: int) -> None:
    ring = {store_path(number): user({store_path((number + 1) % length): ("out",)}) for number in range(length)}
    with pytest.raises(ClosureError, match="need each other"):
        text_modulos(ring, store_path(0))
    assert shown(ring, store_path(0), "2.8").count("inputDrvs") == length


def test_modulos_come_of_the_bytes_of_the_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    good = GOOD.replace(b'("b\\n"', b'("b"')
    assert good != GOOD
    stored = {store_path(1): good, store_path(2): user({store_path(1): ("dev",)})}
    expected = plain_modulos(stored, store_path(2))
    monkeypatch.delattr(show_module, "parsed")
    assert text_modulos(stored, store_path(2)) == expected
