"""Derivation resolution: from derivations as inputs to the store paths that were chosen of them.

    inputDrvs        dropped; each chosen path becomes a source
    placeholders     replaced by the paths in builder, arguments and environment
    deferred outputs input-addressed now, their paths computed from what resulted

Source: Nix manual, "Derivation resolution"; NixOS/nix `Derivation::tryResolve`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from bridge.formats.errors import DerivationError

from .modulo import fill_outputs
from .placeholders import upstream_output
from .types import Deferred, Derivation

__all__ = ["replace_strings", "resolve"]


def resolve(drv: Derivation, chosen: Mapping[tuple[str, str], str]) -> Derivation:
    """The derivation with each input derivation replaced by a store path.

    Parameters
    ----------
    chosen
        (path of an input `.drv`, output name) to the store path of that output.

    Raises
    ------
    KeyError
        For an input that is not in `chosen`.
    DerivationError
        For dynamic outputs: those of a derivation that is itself yet to be built.
    """
    sources = set(drv.input_srcs)
    rewrites: dict[str, str] = {}
    for path, used in drv.input_drvs.items():
        if used.dynamic:
            raise DerivationError(f"{drv.name} uses dynamic outputs of {path}, which can not be resolved")
        for output in used.outputs:
            target = chosen[path, output]
            sources.add(target)
            rewrites[upstream_output(path, output)] = target
    return replace_strings(replace(drv, input_drvs={}, input_srcs=tuple(sorted(sources))), rewrites)


def replace_strings(drv: Derivation, rewrites: Mapping[str, str]) -> Derivation:
    """`drv` with strings replaced in builder, arguments and environment, and deferred outputs filled in."""
    if rewrites:
        pattern = re.compile("|".join(map(re.escape, rewrites)))

        def swap(text: str) -> str:
            return pattern.sub(lambda found: rewrites[found[0]], text) if "/" in text else text

        drv = replace(
            drv,
            builder=swap(drv.builder),
            args=tuple(map(swap, drv.args)),
            env={swap(key): swap(value) for key, value in drv.env.items()},
        )
    if not drv.input_drvs and any(isinstance(output, Deferred) for output in drv.outputs.values()):
        drv = fill_outputs(drv, lambda path: None)
    return drv
