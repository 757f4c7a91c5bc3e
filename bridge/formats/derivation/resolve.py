"""Derivation resolution: from derivations as inputs to the store paths that were chosen of them.

    inputDrvs        dropped; each chosen path becomes a source
    placeholders     replaced by the paths in builder, arguments and environment
    deferred outputs input-addressed now, their paths computed from what resulted

Source: Nix manual, "Derivation resolution"; NixOS/nix `Derivation::tryResolve`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from bridge.formats import nix32
from bridge.formats.store_path import DIGEST_LENGTH, STORE_DIR

from .aterm import DRV_SUFFIX
from .modulo import fill_outputs
from .placeholders import computed_output, upstream_output
from .types import Deferred, Derivation, InputOutputs

__all__ = ["replace_strings", "resolve"]

# A placeholder or the path of a `.drv`: with hundreds of them, a pattern of each would take longer than all else.
_USUAL = re.compile(
    rf"/[{nix32.ALPHABET}]{{52}}|{STORE_DIR}/[{nix32.ALPHABET}]{{{DIGEST_LENGTH}}}-[0-9a-zA-Z+\-._?=]+\{DRV_SUFFIX}"
)


def resolve(drv: Derivation, chosen: Mapping[tuple[str, ...], str]) -> Derivation:
    """The derivation with each input derivation replaced by a store path.

    Parameters
    ----------
    chosen
        (path of an input `.drv`, output name) to the store path of that output; for an output of the
        derivation that an output is, (path, output, output of that one) and so on.

    Raises
    ------
    KeyError
        For an input that is not in `chosen`.
    """
    sources = set(drv.input_srcs)
    rewrites: dict[str, str] = {}
    pending: list[tuple[tuple[str, ...], str | None, InputOutputs]]
    pending = [((path,), None, used) for path, used in drv.input_drvs.items()]
    while pending:
        key, outer, used = pending.pop()
        for output in {*used.outputs, *used.dynamic}:
            placeholder = upstream_output(key[0], output) if outer is None else computed_output(outer, output)
            if output in used.outputs:
                target = chosen[*key, output]
                sources.add(target)
                rewrites[placeholder] = target
            if output in used.dynamic:
                pending.append(((*key, output), placeholder, used.dynamic[output]))

    def swap(text: str) -> str:
        # No path holds a placeholder, so that one can go after the other.
        for placeholder, target in rewrites.items():
            text = text.replace(placeholder, target)
        return text

    return _with_strings(replace(drv, input_drvs={}, input_srcs=tuple(sorted(sources))), swap)


def replace_strings(drv: Derivation, rewrites: Mapping[str, str]) -> Derivation:
    """`drv` with strings replaced in builder, arguments and environment, and deferred outputs filled in."""
    if not rewrites:
        return _with_strings(drv, str)
    usual = all(map(_USUAL.fullmatch, rewrites))
    pattern = _USUAL if usual else re.compile("|".join(map(re.escape, rewrites)))
    return _with_strings(drv, lambda text: pattern.sub(lambda found: rewrites.get(found[0], found[0]), text))


def _with_strings(drv: Derivation, swap: Callable[[str], str]) -> Derivation:
    changed = replace(
        drv,
        builder=swap(drv.builder),
        args=tuple(map(swap, drv.args)),
        env={swap(key): swap(value) for key, value in drv.env.items()},
    )
    if not changed.input_drvs and any(isinstance(output, Deferred) for output in changed.outputs.values()):
        return fill_outputs(changed, lambda path: None)
    return changed
