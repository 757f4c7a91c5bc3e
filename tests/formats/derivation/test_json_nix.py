"""Derivation JSON against the Nix in PATH: what it shows, and what it adds, in the shape of its release."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.formats.derivation import (
    FORMATS,
    Derivation,
    document,
    format_of_nix,
    from_json,
    parse_aterm,
    read_document,
    to_json,
)
from bridge.formats.store_path import STORE_DIR, name_part
from bridge.nix.installation import Installation

pytestmark = pytest.mark.nix

DATA = Path(__file__).parents[1] / "data"
FEATURES = "extra-experimental-features = impure-derivations"


@pytest.fixture
def featured(nix: Installation) -> Installation:
    """The Nix on a store of its own, with what the data needs switched on."""
    features = FEATURES + (" dynamic-derivations" if nix.version() >= (2, 18) else "")
    return replace(nix, environ={**nix.environ, "NIX_CONFIG": features})


def run(nix: Installation, program: str, *arguments: str | Path, stdin: str = "") -> str:
    command = [nix.program(program), *arguments]
    done = subprocess.run(command, env=dict(nix.environ), input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def instantiated(nix: Installation, file: str) -> dict[str, Derivation]:
    """What this Nix instantiates of a file of the data, by store path, inputs before what uses them."""
    tops = [line.partition("!")[0] for line in run(nix, "nix-instantiate", DATA / file).splitlines()]
    found = run(nix, "nix-store", "--query", "--requisites", *tops).split()
    return {
        path: parse_aterm(nix.real_path(path).read_bytes(), name_part(path).removesuffix(".drv"))
        for path in found
        if path.endswith(".drv")
    }


def shown(nix: Installation, paths: Mapping[str, Derivation]) -> Any:
    """What this Nix shows of derivations, all in one document."""
    if nix.version() >= (2, 15):
        return json.loads(run(nix, "nix", "derivation", "show", *[f"{path}^*" for path in paths]))
    return json.loads(run(nix, "nix", "show-derivation", *paths))


def test_what_nix_shows_of_every_kind_is_what_we_write_and_is_read_back(featured: Installation) -> None:
    drvs = instantiated(featured, "derivations.nix")
    assert len(drvs) > 25
    document_of_nix = shown(featured, drvs)
    assert document_of_nix == document(drvs, format_of_nix(featured.version()))
    assert {f"{STORE_DIR}/{base}": drv for base, drv in read_document(document_of_nix).items()} == drvs
    # The same through every other shape.
    for shape in FORMATS.values():
        there = read_document(json.loads(json.dumps(document(drvs, shape))))
        back = document({f"{STORE_DIR}/{base}": drv for base, drv in there.items()}, format_of_nix(featured.version()))
        assert back == document_of_nix


def test_what_nix_shows_of_dynamic_outputs_is_what_we_write_and_is_read_back(featured: Installation) -> None:
    if featured.version() < (2, 18):
        pytest.skip("Nix before 2.18 has no dynamic outputs")
    drvs = instantiated(featured, "dynamic.nix")
    assert any(used.dynamic for drv in drvs.values() for used in drv.input_drvs.values())
    document_of_nix = shown(featured, drvs)
    assert document_of_nix == document(drvs, format_of_nix(featured.version()))
    assert {f"{STORE_DIR}/{base}": drv for base, drv in read_document(document_of_nix).items()} == drvs


@pytest.mark.parametrize("file", ["derivations.nix", "dynamic.nix"])
def test_nix_adds_what_we_write_under_its_path(featured: Installation, scratch: Path, file: str) -> None:
    if featured.version() < ((2, 18) if file == "dynamic.nix" else (2, 15)):
        pytest.skip("this Nix adds no such derivations")
    drvs = instantiated(featured, file)
    # Into another store, which has none of them; what they use as it is goes there first.
    store = f"local?root={scratch}/other"
    other = replace(featured, environ={**featured.environ, "NIX_REMOTE": store})
    sources = {path for drv in drvs.values() for path in drv.input_srcs}
    if sources:
        run(featured, "nix", "copy", "--no-check-sigs", "--to", store, *sources)
    shape = format_of_nix(featured.version())
    for path, drv in drvs.items():
        assert run(other, "nix", "derivation", "add", stdin=json.dumps(to_json(drv, shape))).strip() == path


def test_nix_takes_sets_in_any_order_and_each_item_once_as_we_do(featured: Installation) -> None:
    if featured.version() < (2, 18):
        pytest.skip("this Nix adds no derivations, or inputs of another shape")
    drvs = instantiated(featured, "derivations.nix")
    shape = format_of_nix(featured.version())
    [path] = [path for path, drv in drvs.items() if drv.name == "dep-floating-multi"]
    value = to_json(drvs[path], shape)
    inputs = value["inputs"] if shape.has_envelope else value
    for used in inputs["drvs" if shape.has_envelope else "inputDrvs"].values():
        used["outputs"] = [*reversed(used["outputs"]), *used["outputs"]]
    srcs = inputs["srcs" if shape.has_envelope else "inputSrcs"]
    srcs += srcs
    assert run(featured, "nix", "derivation", "add", stdin=json.dumps(value)).strip() == path
    assert from_json(value) == drvs[path]
