"""The text of a closure, right from the bytes: the same as by way of derivations, whatever the bytes are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats.derivation import FORMATS, Derivation, derivation_path, document, parse_aterm, unparse
from bridge.formats.derivation import show as show_module
from bridge.formats.derivation.closure import read_closure
from bridge.formats.derivation.show import show_closure
from bridge.formats.errors import BridgeError, ClosureError
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
