"""JSON as Nix prints it into structured attributes."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.formats import grisu2
from bridge.formats.derivation import Deferred, Derivation, parse_aterm, to_json
from bridge.formats.derivation.json import format_named
from bridge.formats.errors import DerivationJSONError, FormatError
from bridge.formats.nix_json import JSON, dumps

from .strategies import unicode

MATRIX = Path.home() / ".cache/nixbridge/matrix"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ([True, False], "[true,false]"),
        ({}, "{}"),
        ({"b": 1, "a": [1, "x"]}, '{"a":[1,"x"],"b":1}'),
        # Bytewise: capitals first, and letters of several bytes behind all of one.
        ({"a": 1, "B": 2, "é": 3, "z": 4, "𝄞": 5, "\uffff": 6}, '{"B":2,"a":1,"z":4,"é":3,"\uffff":6,"𝄞":5}'),
        ("ünï ☃ 𝄞", '"ünï ☃ 𝄞"'),
        ('"\\/', '"\\"\\\\/"'),
        ("\n\r\t\b\f", '"\\n\\r\\t\\b\\f"'),
        ("\x00\x01\x1f\x7f", '"\\u0000\\u0001\\u001f\x7f"'),
        (-5, "-5"),
        (2**63 - 1, "9223372036854775807"),
    ],
)
def test_it_is_compact_sorted_and_escapes_only_what_it_must(value: JSON, text: str) -> None:
    assert dumps(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1.5, "1.5"),
        (3.141592653589793, "3.141592653589793"),
        (1e-4, "0.0001"),
        (1e-5, "1e-05"),
        (1e22, "1e+22"),
        (1e100, "1e+100"),
        (999999999999999.0, "999999999999999.0"),
        (999999999999999.9, "999999999999999.9"),
        # From 1e15 on an exponent, where Python begins with 1e16.
        (1e15, "1e+15"),
        (-1e15, "-1e+15"),
        (1234567890123456.0, "1.234567890123456e+15"),
        (1200000000000000.0, "1.2e+15"),
        (1000000000000000.5, "1.0000000000000005e+15"),
        (1234567890123456.8, "1.2345678901234567e+15"),
        (9999999999999998.0, "9.999999999999998e+15"),
        (1e16, "1e+16"),
        (12345678901234568.0, "1.2345678901234568e+16"),
        # The ends of what a double holds, and where the neighbour below is nearer.
        (5e-324, "5e-324"),
        (2.2250738585072014e-308, "2.2250738585072014e-308"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (2.0**-44, "5.684341886080802e-14"),
        # The shortest lies on the border of what reads back, so that nlohmann/json does not take it.
        (0.01207, "0.012070000000000001"),
        (0.000649, "0.0006489999999999999"),
        (1e23, "9.999999999999999e+22"),
        (9e-265, "9.000000000000001e-265"),
        (-1e23, "-9.999999999999999e+22"),
    ],
)
def test_floats_are_printed_as_nix_2_12_and_later_do(value: float, text: str) -> None:
    assert dumps(value) == text
    assert dumps({"x": [value, 1e15]}) == f'{{"x":[{text},1e+15]}}'


@pytest.mark.parametrize("text", ["1000000000000000.0", ":1e23,", "[1e23]", '"1e23,', "\\", '\\"[1e23]', "-", "x.5"])
def test_text_that_looks_like_a_float_stays(text: str) -> None:
    quoted = json.dumps(text)
    assert dumps({text: [text, 1e15, 7, -7]}) == f"{{{quoted}:[{quoted},1e+15,7,-7]}}"
    assert dumps({text: [text, 7]}) == f"{{{quoted}:[{quoted},7]}}"
    assert dumps({text: [text, 1e15, 7, -7]}, legacy=True) == f"{{{quoted}:[{quoted},1e+15,7,-7]}}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (-0.0, "-0"),
        (math.pi, "3.14159"),
        (123456789.0, "1.23457e+08"),
        (1e-4, "0.0001"),
        (1e-5, "1e-05"),
        (1e22, "1e+22"),
        (123456, "123456"),
        (1234567, "1234567"),
        ("\b\f\n\x1f", '"\\u0008\\u000c\\n\\u001f"'),
        ("\\b\\\f", '"\\\\b\\\\\\u000c"'),
        ({"\b": [True, None, "1.0", 1.0]}, '{"\\u0008":[true,null,"1.0",1]}'),
    ],
)
def test_nix_2_11_and_earlier_print_otherwise(value: JSON, text: str) -> None:
    assert dumps(value, legacy=True) == text


@pytest.mark.parametrize(
    ("ten", "two", "bits"),
    [
        (-300, -1060, 0xAB70FE17C79AC6CA),
        (-260, -927, 0x9D71AC8FADA6C9B5),
        (-4, -77, 0xD1B71758E219652C),
        (4, -50, 0x9C40000000000000),
        (20, 3, 0xAD78EBC5AC620000),
        (28, 30, 0x813F3978F8940984),
        (236, 720, 0xFB9B7CD9A4A7443C),
        (324, 1013, 0x9E19DB92B4E31BA9),
    ],
)
def test_powers_of_ten_are_those_of_published_tables(ten: int, two: int, bits: int) -> None:
    assert grisu2.power_of_ten(ten) == (two, bits)


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(1e23)
@example(5e-324)
@example(2.0**-1022)
def test_every_float_reads_back_exactly(value: float) -> None:
    text = grisu2.to_text(value)
    assert float(text) == value
    assert math.copysign(1, float(text)) == math.copysign(1, value)
    number, _, exponent = text.lstrip("-").partition("e")
    assert len(number.replace(".", "").strip("0")) <= 17
    assert "." in number or exponent


def test_most_floats_are_as_short_as_they_read_back() -> None:
    values = _doubles(5000)
    longer = [value for value in values if _digits(grisu2.to_text(value)) != _digits(repr(value))]
    assert len(longer) < 50
    assert all(len(_digits(grisu2.to_text(value))) >= len(_digits(repr(value))) for value in longer)


def _digits(text: str) -> str:
    return text.lstrip("-").partition("e")[0].replace(".", "").strip("0")


def _doubles(count: int) -> list[float]:
    """Doubles of all exponents, as many of few digits, and powers of two with their neighbours."""
    generator = random.Random(count)
    found: list[float] = []
    while len(found) < count:
        bits = generator.getrandbits(64)
        short = generator.randrange(1, 10 ** generator.randrange(1, 16))
        found += [
            struct.unpack("<d", struct.pack("<Q", bits))[0],
            float(f"{short}e{generator.randrange(-300, 290)}"),
            short / 10 ** generator.randrange(1, 12),
            struct.unpack("<d", struct.pack("<Q", (bits >> 52 << 52) + (bits & 3)))[0],
        ]
        found = [value for value in found if math.isfinite(value) and abs(value) >= 2.0**-1022]
    return found


@dataclass(frozen=True)
class Instantiator:
    """A real Nix that instantiates into a store of its own."""

    program: str
    environ: dict[str, str]
    root: Path

    def run(self, *command: str | Path) -> str:
        done = subprocess.run(
            [self.program, *command], env=self.environ, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def is_legacy(self) -> bool:
        return tuple(map(int, re.findall(r"\d+", self.run("--version").rpartition(" ")[2]))) < (2, 12)

    def structured(self, value: str) -> str:
        """The structured attributes of a derivation with a `value` that is written in Nix."""
        make = f'derivation {{ name = "x"; system = "s"; builder = "b"; __structuredAttrs = true; value = {value}; }}'
        (self.root.parent / "expression.nix").write_text(make)
        path = self.run(self.root.parent / "expression.nix")
        return parse_aterm((self.root / path.lstrip("/")).read_bytes(), "x").env["__json"]


@pytest.fixture(params=["host", "trixie", "sid"])
def instantiator(request: pytest.FixtureRequest, tmp_path: Path) -> Instantiator:
    place = shutil.which("nix-instantiate") if request.param == "host" else None
    program = place or str(MATRIX / f"bin-{request.param}" / "nix-instantiate")
    if not Path(program).exists():
        pytest.skip("make test-matrix makes the folders with newer releases of Nix")
    (tmp_path / "nix.conf").write_text("substituters =\nbuild-users-group =\n")
    environ = {name: text for name, text in os.environ.items() if not name.startswith("NIX_")}
    environ |= {
        "HOME": str(tmp_path),
        "NIX_CONF_DIR": str(tmp_path),
        "NIX_REMOTE": f"local?root={tmp_path}/root",
    }
    return Instantiator(program, environ, tmp_path / "root")


@pytest.mark.nix
def test_real_nix_prints_floats_and_control_characters_so(instantiator: Instantiator) -> None:
    values = [*_doubles(600), 1e23, 1e15, 1.7976931348623157e308, 0.0]
    written = " ".join(f"({value:.16e})" for value in values)
    # Nix can not write these itself, and has no negative zero but by JSON.
    written += r""" (builtins.fromJSON "[\"\\b\\f\\n\\u001f\",-0.0]")"""
    expected: JSON = {"builder": "b", "name": "x", "system": "s", "value": [*values, ["\b\f\n\x1f", -0.0]]}
    assert instantiator.structured(f"[ {written} ]") == dumps(expected, legacy=instantiator.is_legacy)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"x":1.23457e+08}', "are printed as Nix 2.11 and earlier print them"),
        ('{"x":"\\u0008"}', "are printed as Nix 2.11 and earlier print them"),
        ('{"x": 1}', "are not printed as Nix 2.12 and later print them"),
    ],
)
def test_attributes_that_another_print_would_change_are_not_lifted(text: str, reason: str) -> None:
    drv = Derivation(
        name="x",
        outputs={"out": Deferred()},
        input_drvs={},
        input_srcs=(),
        system="s",
        builder="b",
        args=(),
        env={"__json": text},
    )
    with pytest.raises(DerivationJSONError, match=reason) as caught:
        to_json(drv)
    assert caught.value.hint == (
        "use a format that keeps their text (--json-format 2.23 or an older one), or the ATerm (--aterm)"
    )
    assert to_json(drv, format_named("2.23"))["env"] == {"__json": text}


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | unicode,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(unicode, inner, max_size=4),
)


@given(values)
@example([1000000000000000.5, "x"])
def test_it_reads_back_as_the_same_value(value: JSON) -> None:
    text = dumps(value)
    assert json.loads(text) == value
    assert dumps(json.loads(text)) == text


@given(st.floats(1e15, 1e16, exclude_max=True) | st.floats(-1e16, -1e15, exclude_min=True))
def test_long_floats_read_back_exactly(value: float) -> None:
    text = dumps(value)
    assert text.endswith("e+15")
    assert float(text) == value


def _circle() -> list[object]:
    circle: list[object] = []
    circle.append(circle)
    return circle


def _deep() -> object:
    value: object = 1
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), -float("inf"), {1, 2}, b"bytes", object(), _circle(), {"a": "\ud800"}, {"\udcff": 1}],
    ids=["nan", "infinity", "-infinity", "set", "bytes", "object", "circle", "half-a-pair", "escaped-byte"],
)
def test_what_json_can_not_hold_is_refused(value: object) -> None:
    with pytest.raises(FormatError, match="JSON can not hold"):
        dumps(value)  # type: ignore[arg-type]


def test_what_is_nested_too_deep_is_refused() -> None:
    with pytest.raises(FormatError, match="JSON can not hold"):
        dumps(_deep())  # type: ignore[arg-type]
