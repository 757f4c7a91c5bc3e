"""ATerm: what Nix writes is read and printed back byte for byte; what it does not write is refused."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.formats.derivation import (
    Deferred,
    Derivation,
    Fixed,
    Floating,
    Impure,
    InputAddressed,
    InputOutputs,
    derivation_path,
    parse_aterm,
    unparse,
)
from bridge.formats.derivation.aterm import read
from bridge.formats.errors import ATermError, DerivationError
from bridge.formats.hashes import Hash

from ..strategies import derivations, texts  # noqa: TID252

DATA = Path(__file__).parents[1] / "data/aterm"
GOOD = sorted((DATA / "good").rglob("*.drv"))
FAULTS = json.loads((DATA / "bad/faults.json").read_text())


@pytest.fixture(autouse=True, scope="module", params=["native", "python"])
def twin(request: pytest.FixtureRequest) -> Iterator[None]:
    """What takes a text apart: the extension, and what takes its place without a compiler."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python":
            patch.setattr(read, "take_apart", read._take_apart)
        elif read._native is None:
            pytest.skip("there was no compiler when nixbridge was installed")
        yield


def name_of(file: Path) -> str:
    return file.stem[33:]


def test_the_good_files_are_of_every_kind(closure: Mapping[str, Derivation]) -> None:
    kinds = {type(output) for drv in closure.values() for output in drv.outputs.values()}
    assert kinds == {InputAddressed, Fixed, Floating, Deferred, Impure}


@pytest.mark.parametrize("file", GOOD, ids=name_of)
def test_what_nix_wrote_is_printed_back_byte_for_byte(file: Path) -> None:
    data = file.read_bytes()
    drv = parse_aterm(data, name_of(file))
    assert unparse(drv) == data
    assert derivation_path(drv) == f"/nix/store/{file.name}"
    assert drv.check() is drv


def test_each_field_is_where_it_belongs(closure: Mapping[str, Derivation], named: Mapping[str, str]) -> None:
    drv = closure[named["dep-floating-multi"]]
    assert drv == Derivation(
        name="dep-floating-multi",
        outputs={"doc": Deferred(), "out": Deferred()},
        input_drvs={
            named["floating-multi"]: InputOutputs(("dev", "out")),
            named["plain"]: InputOutputs(("out",)),
        },
        input_srcs=("/nix/store/gb0w05m1hhr40pdkdjqjshjabnn94ym5-source.txt",),
        system="x86_64-linux",
        builder="/bin/sh",
        args=drv.args,
        env=drv.env,
    )
    assert drv.args[0] == "-c"
    assert drv.env["src"] == drv.input_srcs[0]


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("plain", InputAddressed("/nix/store/sbpcwb0mmk2nkhp7ddw5gn8275bay7ps-plain")),
        (
            "fixed-rec",
            Fixed(
                "/nix/store/590ijc3kyd311zv6rgspwdxi3c3ls2n5-fixed-rec",
                "nar",
                Hash.parse("sha256-CkMI+IRjeO8KDOo26jv0fHS3hPLUiUU4cwKMyTbVr1M="),
            ),
        ),
        ("floating", Floating("nar", "sha256")),
        ("floating-flat", Floating("flat", "sha512")),
        ("dep-floating", Deferred()),
        ("impure", Impure("nar", "sha256")),
    ],
)
def test_each_kind_of_output_is_told_from_the_others(
    closure: Mapping[str, Derivation], named: Mapping[str, str], name: str, output: object
) -> None:
    assert closure[named[name]].outputs == {"out": output}


def test_escapes_are_read(closure: Mapping[str, Derivation], named: Mapping[str, str]) -> None:
    drv = closure[named["escapes"]]
    assert drv.args == ("-c", "echo > $out", "\\", '"', "\n", "\r", "\t", "\\n", '\\\\"', "")
    assert drv.env["quotes"] == 'a "quoted" word'
    assert drv.env["backslashes"] == '\\ \\\\ \\n \\" end\\'
    assert drv.env["lines"] == "one\ntwo\r\nthree\tfour\n"
    assert drv.env["control"] == "\x01\x1b[1m\x7f"
    assert drv.env["unicode"] == "ünïcödé ☃ 𝄞"
    assert drv.env["brackets"] == '[(",")],s,s'
    assert drv.env['odd key "\\\n'] == "x"


def test_bytes_that_are_no_utf8_stay_what_they_are(closure: Mapping[str, Derivation], named: Mapping[str, str]) -> None:
    drv = closure[named["latin1"]]
    assert drv.args == ("caf\udce9",)
    assert drv.env["word"].encode("utf-8", "surrogateescape") == b"\xe4\xff na\xc3\xafve \xe2\x28"


def test_an_escape_that_nix_never_writes_is_the_character_behind_it() -> None:
    drv = parse_aterm(rb'Derive([],[],[],"","\a\ \\\x\"\,\0",[],[])', "x")
    assert drv.builder == 'a \\x",0'


def test_raw_line_ends_are_read_as_they_are() -> None:
    drv = parse_aterm(b'Derive([],[],[],"","a\nb\r\tc",[],[])', "x")
    assert drv.builder == "a\nb\r\tc"


def test_the_empty_derivation_is_read() -> None:
    data = b'Derive([],[],[],"","",[],[])'
    assert parse_aterm(data, "x") == Derivation("x", {}, {}, (), "", "", (), {})
    assert unparse(parse_aterm(data, "x")) == data


@given(derivations())
def test_parsing_gives_back_what_was_printed(drv: Derivation) -> None:
    data = unparse(drv)
    assert parse_aterm(data, drv.name) == drv
    assert unparse(parse_aterm(data, drv.name)) == data


@given(texts)
@example("\\" * 5 + '"')
@example("\udc80\udcff\\n")
@example("s,s")
def test_any_text_is_printed_so_that_it_reads_back(text: str) -> None:
    drv = Derivation("x", {}, {}, (), "", text, (text, text), {text: text, "": text})
    assert parse_aterm(unparse(drv), "x") == drv


@given(st.binary(max_size=60).filter(lambda data: b'"' not in data and b"\\" not in data))
def test_any_bytes_in_a_string_come_back(data: bytes) -> None:
    aterm = b'Derive([],[],[],"","' + data + b'",["' + data + b'"],[])'
    drv = parse_aterm(aterm, "x")
    assert drv.args[0].encode("utf-8", "surrogateescape") == data
    assert parse_aterm(unparse(drv), "x") == drv


def test_everything_is_printed_sorted_by_bytes() -> None:
    paths = [f"/nix/store/{digit * 32}-x" for digit in "zab0"]
    drv = Derivation(
        "x",
        {name: Deferred() for name in ("out", "dev", "A")},
        {path + ".drv": InputOutputs(("z", "a")) for path in paths},
        tuple(paths),
        "s",
        "b",
        ("z", "a"),
        dict.fromkeys(["é", "z", "\udcff", "\U0001d11e", "\uffff", "A"], ""),
    )
    text = unparse(drv).decode("utf-8", "surrogateescape")
    read = parse_aterm(unparse(drv), "x")
    assert list(read.outputs) == ["A", "dev", "out"]
    assert list(read.input_drvs) == sorted(path + ".drv" for path in paths)
    assert '["a","z"]' in text
    assert read.input_srcs == tuple(sorted(paths))
    assert read.args == ("z", "a")
    assert list(read.env) == ["A", "z", "é", "\uffff", "\U0001d11e", "\udcff"]


def test_only_outputs_of_outputs_need_the_versioned_form(
    closure: Mapping[str, Derivation], named: Mapping[str, str]
) -> None:
    drv = closure[named["dep"]]
    assert unparse(drv).startswith(b"Derive(")
    dynamic = {named["plain"]: InputOutputs(("out",), {"out": InputOutputs(("lib", "dev"))})}
    assert (
        f'DrvWithVersion("xp-dyn-drv",[("out","{drv.output_path("out")}","","")],'
        f'[("{named["plain"]}",(["out"],[("out",["dev","lib"])]))],'
    ).encode() in unparse(replace(drv, input_drvs=dynamic))


@pytest.mark.parametrize(
    "change",
    [
        {"system": 'x"y'},
        {"system": "x\\"},
        {"outputs": {'o"t': Deferred()}},
        {"input_srcs": ('/nix/store/"',)},
        {"input_drvs": {"/nix/store/x.drv": InputOutputs(('o"t',))}},
        {"builder": "\ud800"},
        {"env": {"\ud800": "", "a": ""}},
    ],
    ids=str,
)
def test_what_would_not_read_back_is_not_printed(closure: Mapping[str, Derivation], change: dict[str, object]) -> None:
    drv = replace(next(iter(closure.values())), **change)  # type: ignore[arg-type]
    with pytest.raises(DerivationError):
        unparse(drv)


# ------------------------------------------------------------------------------------------ damage


def test_every_bad_file_has_its_fault() -> None:
    assert sorted(FAULTS) == sorted(file.name for file in (DATA / "bad").glob("*.drv"))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_its_byte(name: str) -> None:
    with pytest.raises(ATermError) as caught:
        parse_aterm((DATA / "bad" / name).read_bytes(), "x")
    assert FAULTS[name]["message"] in caught.value.message
    assert caught.value.position == FAULTS[name]["position"]
    assert f"at byte {caught.value.position} of the derivation" in str(caught.value)


@pytest.mark.parametrize("file", GOOD, ids=name_of)
def test_a_file_cut_anywhere_is_refused_at_its_end_or_at_the_open_string(file: Path) -> None:
    data = file.read_bytes()
    for end in range(len(data)):
        with pytest.raises(ATermError) as caught:
            parse_aterm(data[:end], "x")
        position = caught.value.position
        assert position == end or data[position : position + 1] == b'"'


@given(st.binary(max_size=200), st.sampled_from([b"", b"Derive(", b'Derive([],[],[],"x","y",[],[']))
def test_arbitrary_bytes_are_a_derivation_or_refused(data: bytes, begin: bytes) -> None:
    try:
        drv = parse_aterm(begin + data, "x")
    except ATermError as error:
        assert 0 <= error.position <= len(begin + data)  # noqa: PT017
        return
    assert parse_aterm(unparse(drv), "x") == drv


@given(st.text('"\\,()[]sn\n', max_size=40))
def test_punctuation_is_a_derivation_or_refused(text: str) -> None:
    for candidate in (f"Derive({text})", f'Derive([],[],[],"","",[{text}],[])', f"Derive([],[],[],{text},[],[])"):
        try:
            drv = parse_aterm(candidate.encode(), "x")
        except ATermError:
            continue
        assert parse_aterm(unparse(drv), "x") == drv


def test_a_mutated_file_is_another_derivation_or_refused() -> None:
    chance = random.Random(0)
    files = [file.read_bytes() for file in GOOD]
    read = 0
    for _ in range(3000):
        data = bytearray(chance.choice(files))
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(data))
            match chance.randrange(3):
                case 0:
                    data[place] = chance.choice(b'"\\,()[]sn\n\x00\xff')
                case 1:
                    del data[place : place + chance.randrange(1, 5)]
                case _:
                    data[place:place] = data[place : place + chance.randrange(1, 9)]
        try:
            drv = parse_aterm(bytes(data), "x")
        except ATermError as error:
            assert 0 <= error.position <= len(data)  # noqa: PT017
            continue
        read += 1
        # What is read can be printed, and printed is sorted: read and printed once more, it stays.
        printed = unparse(drv)
        assert unparse(parse_aterm(printed, "x")) == printed
    assert 100 < read < 2900


@pytest.mark.parametrize(
    "hostile",
    [
        b"Derive(" + b"[" * 1_000_000,
        b"Derive([" + b'("o","","",""),' * 100_000,
        b"Derive([],[" + b"(" * 500_000,
        b'Derive([],[],[],"","' + b"\\" * 1_000_001,
        b'Derive([],[],[],"","",[' + b'"",' * 300_000 + b"],[])",
        b'Derive([],[],[],"","' + b"a" * 1_000_000,
        b'"' * 1_000_000,
        b'Derive([("o","","","")],[],[],"","",[],[%s,("last",""),("last","")])'
        % b",".join(b'("v%d","")' % number for number in range(200_000)),
    ],
    ids=["brackets", "outputs", "parentheses", "backslashes", "comma-last", "no-end", "quotes", "twice"],
)
def test_hostile_input_is_refused_quickly(hostile: bytes) -> None:
    start = time.process_time()
    with pytest.raises(ATermError):
        parse_aterm(hostile, "x")
    assert time.process_time() - start < 10  # a second at most; quadratic time would be hours


def test_a_large_environment_is_read() -> None:
    env = {f"v{number}": '"\\\n' * 100 for number in range(5000)}
    drv = Derivation("x", {"out": Deferred()}, {}, (), "s", "b", (), env)
    assert parse_aterm(unparse(drv), "x").env == env


@given(derivations(), st.data())
def test_extension_and_python_say_the_same_of_a_damaged_text(drv: Derivation, data: st.DataObject) -> None:
    whole = unparse(drv)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    damaged = (
        whole[:start]
        + data.draw(st.sampled_from([b"", b'"', b"\\", b'\\"', b"\x01", b"\xff", b",", b"]"]))
        + whole[end:]
    )
    said = []
    for twin in (read._take_apart, read._native.take_apart if read._native is not None else read._take_apart):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(read, "take_apart", twin)
            try:
                said.append(parse_aterm(damaged, drv.name))
            except ATermError as error:
                said.append(str(error))
    assert said[0] == said[1]
