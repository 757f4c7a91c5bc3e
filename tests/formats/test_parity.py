"""The formats against a real Nix, and the ATerm parser against a second reader."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pynixutil import drvparse

from bridge.formats import store_path
from bridge.formats.derivation import (
    Deferred,
    Derivation,
    Fixed,
    Floating,
    Impure,
    InputAddressed,
    Modulo,
    Output,
    derivation_path,
    document,
    format_of_nix,
    instantiate,
    modulo,
    parse_aterm,
    resolve,
    unparse,
)
from bridge.formats.derivation.aterm import method_algorithm
from bridge.formats.hashes import Hash
from bridge.formats.nar import Node, dump, pack, pack_chunks, unpack
from bridge.formats.nix_json import dumps

from .strategies import hashes, trees

DATA = Path(__file__).with_name("data")
NIX_CONF = """\
experimental-features = nix-command flakes ca-derivations impure-derivations
substituters =
build-users-group =
sandbox = true
sandbox-paths = /bin/sh=/bin/busybox
"""


@dataclass(frozen=True)
class Nix:
    """The installed Nix on a store of its own."""

    folder: Path
    environ: Mapping[str, str]
    version: tuple[int, ...]

    def run(self, *command: str | Path) -> str:
        """What a command prints; an error with its message if it fails."""
        done = subprocess.run(command, env=self.environ, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
        return done.stdout.decode("utf-8", "surrogateescape")

    def real(self, path: str) -> Path:
        """Where the object at a store path is on disk."""
        return self.folder / "root" / path.lstrip("/")

    def derivations(self) -> dict[str, bytes]:
        """Every .drv file of the store by its store path."""
        files = self.real(store_path.STORE_DIR).glob("*.drv")
        return {f"{store_path.STORE_DIR}/{file.name}": file.read_bytes() for file in sorted(files)}


@pytest.fixture(scope="module")
def nix() -> Iterator[Nix]:
    if shutil.which("nix-instantiate") is None:
        pytest.skip("Nix is not installed: apt-get install nix-bin busybox-static")
    folder = Path(tempfile.mkdtemp(prefix="nix-formats-"))
    (folder / "nix.conf").write_text(NIX_CONF)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NIX_")}
    environ |= {"NIX_CONF_DIR": str(folder), "NIX_REMOTE": f"local?root={folder}/root", "HOME": str(folder)}
    said = subprocess.run(["nix-instantiate", "--version"], env=environ, capture_output=True, text=True, check=True)
    version = tuple(map(int, re.findall(r"\d+", said.stdout.rpartition(" ")[2])))
    yield Nix(folder, environ, version)
    for place, _, _ in os.walk(folder):
        os.chmod(place, 0o700)  # objects in a store are read-only
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def instantiated(nix: Nix) -> dict[str, bytes]:
    """What this Nix makes of the expressions in data/."""
    nix.run("nix-instantiate", DATA / "derivations.nix", DATA / "latin1.nix")
    return nix.derivations()


def parsed(path: str, aterm: bytes) -> Derivation:
    return parse_aterm(aterm, store_path.name_part(path).removesuffix(".drv"))


# --------------------------------------------------------------------------------- a second reader


def output_fields(output: Output) -> tuple[str, str, str]:
    """The fields of an output as they stand in the ATerm."""
    match output:
        case InputAddressed(path):
            return path, "", ""
        case Fixed(path, method, hash):
            return path, method_algorithm(method, hash.algorithm), hash.hex
        case Floating(method, algorithm):
            return "", method_algorithm(method, algorithm), ""
        case Impure(method, algorithm):
            return "", method_algorithm(method, algorithm), "impure"
        case Deferred():
            return "", "", ""


def test_pynixutil_reads_the_same(closure: Mapping[str, Derivation]) -> None:
    for drv in closure.values():
        if drv.name == "latin1":
            continue  # it reads text, not bytes
        second = drvparse(unparse(drv).decode())
        shown = {name: (output.path, output.hash_algo, output.hash) for name, output in second.outputs.items()}
        assert shown == {name: output_fields(output) for name, output in drv.outputs.items()}
        assert second.input_drvs == {path: list(used.outputs) for path, used in drv.input_drvs.items()}
        assert second.input_srcs == list(drv.input_srcs)
        assert (second.system, second.builder, tuple(second.args)) == (drv.system, drv.builder, drv.args)
        assert second.env == drv.env


# ------------------------------------------------------------------------------------- derivations


@pytest.mark.nix
def test_this_nix_instantiates_what_the_data_holds(instantiated: dict[str, bytes]) -> None:
    held = {f"{store_path.STORE_DIR}/{file.name}": file.read_bytes() for file in (DATA / "aterm/good").glob("*.drv")}
    assert instantiated == held


@pytest.mark.nix
def test_every_derivation_is_printed_byte_for_byte_under_its_path(instantiated: dict[str, bytes]) -> None:
    known: dict[str, Modulo] = {}

    @functools.cache
    def hashed(path: str) -> Modulo:
        return modulo(parsed(path, instantiated[path]), hashed)

    for path, aterm in instantiated.items():
        drv = parsed(path, aterm)
        assert unparse(drv) == aterm
        assert derivation_path(drv) == path
        # The same from nothing but what was written in Nix.
        outputs = {
            name: Deferred() if isinstance(output, InputAddressed) else output for name, output in drv.outputs.items()
        }
        env = {key: value for key, value in drv.env.items() if key not in outputs}
        made = instantiate(replace(drv, outputs=outputs, env=env), hashed)
        assert (made.path, made.aterm) == (path, aterm)
        known[path] = made.modulo


@pytest.mark.nix
def test_nix_shows_the_json_that_we_write(nix: Nix, instantiated: dict[str, bytes]) -> None:
    drvs = {path: parsed(path, aterm) for path, aterm in instantiated.items()}
    command = ["nix", "derivation", "show"] if nix.version >= (2, 15) else ["nix", "show-derivation"]
    shape = format_of_nix(nix.version)
    for path, drv in drvs.items():
        if drv.name == "latin1" and nix.version >= (2, 4):
            continue  # bytes that JSON can not hold: see test_json.py
        shown = json.loads(nix.run(*command, path + ("^*" if nix.version >= (2, 15) else "")))
        assert shown == json.loads(json.dumps(document({path: drv}, shape)))


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
keys = texts.filter(
    lambda key: (
        key not in {"name", "system", "builder", "args", "outputs", "value"} and key[:2] != "__" and key[:6] != "output"
    )
)
name_texts = st.from_regex(r"[a-zA-Z0-9+_?=][a-zA-Z0-9+\-._?=]{0,20}", fullmatch=True).filter(
    lambda name: not name.endswith(".drv")
)


@st.composite
def written(draw: st.DrawFn) -> tuple[dict[str, Any], Derivation]:
    """The arguments of `builtins.derivation`, and the derivation that should come of them."""
    name = draw(name_texts)
    args, env = draw(st.lists(texts, max_size=4)), draw(st.dictionaries(keys, texts, max_size=4))
    attributes = {**env, "name": name, "system": "x86_64-linux", "builder": draw(texts.filter(bool)), "args": args}
    outputs: dict[str, Output] = {"out": Deferred()}
    match draw(st.sampled_from(["plain", "multi", "fixed", "floating"])):
        case "multi":
            found = draw(
                st.lists(name_texts.filter(lambda output: output not in env), min_size=1, max_size=3, unique=True)
            )
            # Nix refuses an output named drv, and takes these for attributes of its own.
            found = [output for output in found if output not in attributes and output != "drv"] or ["out"]
            attributes["outputs"] = found
            outputs = {output: Deferred() for output in found}
        case "fixed":
            content, recursive = draw(hashes), draw(st.booleans())
            attributes |= {
                "outputHash": content.sri,
                "outputHashMode": "recursive" if recursive else "flat",
            }
            outputs = {"out": Fixed.of(name, "out", "nar" if recursive else "flat", content)}
        case "floating":
            attributes |= {"outputHashAlgo": "sha256", "outputHashMode": "recursive", "__contentAddressed": True}
            outputs = {"out": Floating()}
    shown = {key: value for key, value in attributes.items() if key not in ("args", "__contentAddressed")}
    if "outputs" in shown:
        shown["outputs"] = " ".join(shown["outputs"])
    drv = Derivation(name, outputs, {}, (), "x86_64-linux", attributes["builder"], tuple(args), shown)
    return attributes, drv


@pytest.mark.nix
@given(st.lists(written(), min_size=20, max_size=40))
@settings(max_examples=8, suppress_health_check=list(HealthCheck))
def test_what_is_written_in_python_is_what_nix_instantiates(
    nix: Nix, cases: list[tuple[dict[str, Any], Derivation]]
) -> None:
    file = nix.folder / "cases.json"
    file.write_text(json.dumps([attributes for attributes, _ in cases]))
    expression = f"map derivation (builtins.fromJSON (builtins.readFile {file}))"
    # Behind the path stands the output, unless it is out.
    paths = [line.partition("!")[0] for line in nix.run("nix-instantiate", "--expr", expression).splitlines()]
    for path, (_, drv) in zip(paths, cases, strict=True):
        made = instantiate(drv, {}.__getitem__)
        assert nix.real(path).read_bytes() == made.aterm
        assert path == made.path


json_texts = texts.map(lambda text: text.replace("\b", "").replace("\f", ""))  # Nix before 2.12 writes them as \u00…
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | json_texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(json_texts, inner, max_size=4),
)
floats = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)


def structured(nix: Nix, found: list[Any]) -> list[str]:
    """What Nix writes of each value into structured attributes."""
    file = nix.folder / "values.json"
    file.write_text(json.dumps(found))
    make = 'value: derivation { name = "x"; system = "s"; builder = "b"; __structuredAttrs = true; inherit value; }'
    expression = f"map ({make}) (builtins.fromJSON (builtins.readFile {file}))"
    paths = nix.run("nix-instantiate", "--expr", expression).splitlines()
    return [parse_aterm(nix.real(path).read_bytes(), "x").env["__json"] for path in paths]


@pytest.mark.nix
@given(st.lists(values, min_size=20, max_size=40))
@settings(max_examples=8, suppress_health_check=list(HealthCheck))
def test_structured_attributes_are_printed_as_nix_does(nix: Nix, found: list[Any]) -> None:
    expected = [dumps({"builder": "b", "name": "x", "system": "s", "value": value}) for value in found]
    assert structured(nix, found) == expected


@pytest.mark.nix
@given(st.lists(floats, min_size=50, max_size=50))
@settings(max_examples=5, suppress_health_check=list(HealthCheck))
def test_floats_are_printed_as_this_nix_prints_them(nix: Nix, found: list[float]) -> None:
    legacy = nix.version < (2, 12)
    expected = [dumps({"builder": "b", "name": "x", "system": "s", "value": one}, legacy=legacy) for one in found]
    assert structured(nix, found) == expected


@pytest.mark.nix
def test_outputs_of_outputs_are_written_as_nix_writes_them(nix: Nix) -> None:
    if nix.version < (2, 20):
        pytest.skip("Nix before 2.20 writes no outputs of outputs")
    features = ["--extra-experimental-features", "dynamic-derivations ca-derivations"]
    paths = nix.run("nix-instantiate", *features, DATA / "dynamic.nix").split()
    theirs = nix.derivations()
    shown = json.loads(nix.run("nix", "derivation", "show", *features, *paths))
    drvs = {path: parse_aterm(theirs[path], store_path.name_part(path).removesuffix(".drv")) for path in paths}
    assert any(used.dynamic for drv in drvs.values() for used in drv.input_drvs.values())
    for path, drv in drvs.items():
        assert unparse(drv) == theirs[path]
        assert derivation_path(drv) == path
    assert document(drvs, format_of_nix(nix.version)) == shown


@pytest.mark.nix
@pytest.mark.parametrize("name", ["a", "A-1.2_3+4?5=6", "a" * 211, "a..", "-", "x.drv.y"])
def test_names_that_are_allowed_here_are_allowed_by_nix(nix: Nix, name: str) -> None:
    expression = f'builtins.toFile "{name}" "x"'
    path = nix.run("nix-instantiate", "--eval", "--expr", expression).strip().strip('"')
    assert store_path.text_path(name, Hash.of(b"x").hex) == path


@pytest.mark.nix
@pytest.mark.parametrize("name", ["", "a b", "a/b", "é", "a~b", "a" * 212])
def test_names_that_are_refused_here_are_refused_by_nix(nix: Nix, name: str) -> None:
    with pytest.raises(AssertionError):
        nix.run("nix-instantiate", "--eval", "--expr", f'builtins.toFile "{name}" "x"')


# -------------------------------------------------------------------------------------- resolution


@pytest.fixture(scope="module")
def build(nix: Nix, instantiated: dict[str, bytes]) -> Callable[..., list[str]]:
    """Build attributes of data/derivations.nix; gives the output paths."""

    def built(*attributes: str) -> list[str]:
        wanted = [part for attribute in attributes for part in ("-A", attribute)]
        return nix.run("nix-build", "--no-out-link", DATA / "derivations.nix", *wanted).splitlines()

    return built


@pytest.fixture(scope="module")
def drv_paths(instantiated: dict[str, bytes]) -> dict[str, str]:
    return {store_path.name_part(path).removesuffix(".drv"): path for path in instantiated}


@pytest.mark.nix
@pytest.mark.parametrize(
    ("attribute", "inputs"),
    [
        ("depFloating", {"floating": "floating"}),
        ("floatingOfFloating", {"floating": "floating"}),
        ("depFloatingMulti", {"floating-multi": "floatingMulti", "plain": "plain"}),
        ("deferredTwice", {"dep-floating": "depFloating"}),
    ],
)
def test_a_resolved_derivation_is_byte_for_byte_that_of_nix(
    nix: Nix,
    instantiated: dict[str, bytes],
    drv_paths: dict[str, str],
    build: Callable[..., list[str]],
    attribute: str,
    inputs: dict[str, str],
) -> None:
    name = re.sub("[A-Z]", lambda found: "-" + found[0].lower(), attribute)
    drv = parsed(drv_paths[name], instantiated[drv_paths[name]])
    chosen = {
        (path, output): build(f"{inputs[store_path.name_part(path).removesuffix('.drv')]}.{output}")[0]
        for path, used in drv.input_drvs.items()
        for output in used.outputs
    }
    resolved = resolve(drv, chosen)
    before = set(nix.derivations()) - {derivation_path(resolved)}
    [out] = build(f"{attribute}.out")
    now = nix.derivations()
    # Nix wrote it into its store; we name it before we look.
    assert now[derivation_path(resolved)] == unparse(resolved)
    if isinstance(resolved.outputs["out"], InputAddressed):
        assert resolved.output_path("out") == out
    assert not {path for path in set(now) - before if store_path.name_part(path) == f"{name}.drv"} - {
        derivation_path(resolved)
    }


@pytest.mark.nix
def test_the_path_of_a_floating_output_is_that_of_its_contents(nix: Nix, build: Callable[..., list[str]]) -> None:
    floating, multi, dev = build("floating", "floatingMulti.out", "floatingMulti.dev")
    for path, references in (floating, []), (dev, []):
        archive = b"".join(pack_chunks(nix.real(path)))
        name = store_path.name_part(path)
        assert store_path.content_path(name, "nar", Hash.of(archive), references) == path
    [above] = build("floatingOfFloating")
    archive = b"".join(pack_chunks(nix.real(above)))
    assert store_path.content_path("floating-of-floating", "nar", Hash.of(archive), [floating]) == above
    # This one holds its own path; without the self references' positions, or with them: by release.
    blanked = b"".join(pack_chunks(nix.real(multi))).replace(store_path.hash_part(multi).encode(), bytes(32))
    plain = hashlib.sha256(blanked).hexdigest()
    position = blanked.index(bytes(32) + b"-floating")
    marked = hashlib.sha256(blanked + f"|{position}".encode()).hexdigest()
    assert multi in {
        store_path.source_path("floating-multi", digest, self_reference=True) for digest in (plain, marked)
    }


# ----------------------------------------------------------------------------------- NAR and hashes


@pytest.mark.nix
@given(trees)
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
def test_archives_are_those_of_nix(nix: Nix, tree: Node) -> None:
    with tempfile.TemporaryDirectory(dir=nix.folder) as folder:
        target = Path(folder) / "tree"
        ours = io.BytesIO()
        dump(tree, ours.write)
        unpack(io.BytesIO(ours.getvalue()), target)
        done = subprocess.run(["nix-store", "--dump", target], env=nix.environ, capture_output=True, check=True)
        assert done.stdout == ours.getvalue()
        restored = Path(folder) / "restored"
        subprocess.run(["nix-store", "--restore", restored], env=nix.environ, input=ours.getvalue(), check=True)
        again = io.BytesIO()
        pack(restored, again.write)
        assert again.getvalue() == ours.getvalue()


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    unpack(io.BytesIO((DATA / "nar/good/tree.nar").read_bytes()), tmp_path / "tree")
    (tmp_path / "large").write_bytes(os.urandom(3 << 20))
    return [
        tmp_path / "tree",
        tmp_path / "tree/hello",
        tmp_path / "tree/a/run",
        tmp_path / "tree/dir",
        tmp_path / "large",
    ]


@pytest.mark.nix
def test_added_objects_have_the_paths_that_we_compute(nix: Nix, sources: list[Path]) -> None:
    for source in sources:
        archive = b"".join(pack_chunks(source))
        assert nix.run("nix-store", "--add", source).strip() == store_path.source_path(
            source.name, Hash.of(archive).hex
        )
        for algorithm in ("sha256", "sha1", "sha512", "md5"):
            added = nix.run("nix-store", "--add-fixed", "--recursive", algorithm, source).strip()
            assert added == store_path.fixed_path(source.name, "nar", Hash.of(archive, algorithm))
            if source.is_file():
                added = nix.run("nix-store", "--add-fixed", algorithm, source).strip()
                content = Hash.of(source.read_bytes(), algorithm)
                assert added == store_path.fixed_path(source.name, "flat", content)


@pytest.mark.nix
def test_nix_hashes_paths_as_we_do(nix: Nix, sources: list[Path]) -> None:
    for source in sources:
        assert nix.run("nix", "hash", "path", source).strip() == Hash.of(b"".join(pack_chunks(source))).sri
        if source.is_file():
            assert nix.run("nix", "hash", "file", source).strip() == Hash.of(source.read_bytes()).sri


@pytest.mark.nix
def test_nix_spells_hashes_as_we_do(nix: Nix) -> None:
    for algorithm in ("md5", "sha1", "sha256", "sha512"):
        spelled = [Hash.of(str(number).encode(), algorithm) for number in range(20)]
        command = ["nix-hash", "--type", algorithm]
        assert nix.run(*command, "--to-base32", *[hash.hex for hash in spelled]).split() == [
            hash.nix32 for hash in spelled
        ]
        assert nix.run(*command, "--to-base16", *[hash.nix32 for hash in spelled]).split() == [
            hash.hex for hash in spelled
        ]
        assert nix.run("nix", "hash", "to-sri", "--type", algorithm, *[hash.nix32 for hash in spelled]).split() == [
            hash.sri for hash in spelled
        ]
