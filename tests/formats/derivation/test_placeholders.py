"""Placeholders: what stands for a path that is not known yet."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pytest

from bridge.formats.derivation import Derivation, computed_output, own_output, upstream_output
from bridge.formats.errors import Nix32Error
from bridge.formats.nix32 import decode, encode

FLOATING = "/nix/store/d5y4abx3i33xgvnijnc23mmfgwabjw95-floating.drv"


def test_the_placeholder_of_out_is_that_of_builtins_placeholder() -> None:
    assert own_output("out") == "/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9"


def test_a_content_addressed_input_stands_under_its_placeholder() -> None:
    assert upstream_output(FLOATING, "out") == "/0ppk2xc9l316nvy7m54bnz8cay66dljk8n684w3svg8ia90hl31c"


def test_an_output_other_than_out_has_its_name_in_the_placeholder(
    closure: Mapping[str, Derivation], named: Mapping[str, str]
) -> None:
    drv = closure[named["dep-floating-multi"]]
    upstream = named["floating-multi"]
    dev = upstream_output(upstream, "dev")
    assert drv.env["twice"] == f"{dev}:{dev}"
    assert upstream_output(upstream, "out") in drv.args[1]
    assert dev in drv.args[1]


def test_a_name_that_is_no_text_is_hashed_by_its_bytes() -> None:
    """A `.drv` that somebody made up may use such an output of its input."""
    digest = hashlib.sha256(b"nix-upstream-output:d5y4abx3i33xgvnijnc23mmfgwabjw95:floating-\xff").digest()
    assert upstream_output(FLOATING, "\udcff") == f"/{encode(digest)}"


def test_own_outputs_stand_in_the_environment(closure: Mapping[str, Derivation], named: Mapping[str, str]) -> None:
    drv = closure[named["floating-multi"]]
    assert {name: drv.env[name] for name in drv.outputs} == {name: own_output(name) for name in drv.outputs}


def test_the_output_of_an_output_has_a_placeholder_of_its_own() -> None:
    """The vector of NixOS/nix `src/libstore-tests/downstream-placeholder.cc`."""
    outer = upstream_output("/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-foo.drv.drv", "out")
    assert computed_output(outer, "out") == "/0gn6agqxjyyalf0dpihgyf49xq5hqxgw100f0wydnj6yqrhqsb3w"


def test_placeholders_are_a_slash_and_a_sha256() -> None:
    for text in (own_output("x"), upstream_output(FLOATING, "x"), computed_output(own_output("x"), "y")):
        assert text[0] == "/"
        assert len(decode(text[1:])) == 32


def test_what_differs_has_different_placeholders() -> None:
    other = FLOATING.replace("d5y4", "d5y5")
    found = [upstream_output(path, output) for path in (FLOATING, other) for output in ("out", "dev")]
    assert len({*found, own_output("out"), own_output("dev"), computed_output(found[0], "out")}) == 7


def test_what_is_no_placeholder_has_no_outputs() -> None:
    with pytest.raises(Nix32Error):
        computed_output("/nix/store/x", "out")
