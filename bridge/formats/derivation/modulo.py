"""From a derivation to its paths: `hashDerivationModulo` and the path of the `.drv`.

    modulo(fixed)    sha256("fixed:out:<method+algo>:<hex>:<path>")
    modulo(other)    sha256(ATerm, each input's path replaced by hex modulo(input), equal ones merged)
    masked           the same with own output paths blank, in the outputs and in the environment
    unknown          if an input is content-addressed and not yet built, or waits for one that is

An input-addressed output's path comes from the masked hash; inputs go in by their unmasked one, so that
two ways to fetch the same thing give the same paths above it.

Source: Nix manual, "Input-addressing derivation outputs"; NixOS/nix `derivations.cc`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from bridge.formats.errors import DerivationError
from bridge.formats.store_path import output_path, text_path

from .aterm import DRV_SUFFIX, method_algorithm, unparse, unparse_parts
from .placeholders import own_output
from .types import (
    Deferred,
    Derivation,
    Fixed,
    Floating,
    Impure,
    InputAddressed,
    InputOutputs,
    Output,
    to_bytes,
)

__all__ = [
    "Instantiated",
    "derivation_path",
    "derivation_references",
    "fill_outputs",
    "instantiate",
    "modulo",
]

Modulo = str | None
"""A hex hash, or None where it waits for a build."""


def modulo(drv: Derivation, input_modulo: Callable[[str], Modulo], *, mask: bool = False) -> Modulo:
    """The hash of a derivation modulo its fixed-output inputs.

    Parameters
    ----------
    input_modulo
        The unmasked modulo of the input derivation at a path.
    mask
        Whether the derivation's own output paths are blanked: for computing them.
    """
    if not mask:
        for output in drv.outputs.values():
            if isinstance(output, Fixed):
                kind = method_algorithm(output.method, output.hash.algorithm)
                text = f"fixed:out:{kind}:{output.hash.hex}:{output.path}"
                return hashlib.sha256(text.encode()).hexdigest()
            if isinstance(output, Floating | Impure | Deferred):
                return None
    inputs: dict[str, InputOutputs] = {}
    for path, used in drv.input_drvs.items():
        hashed = None if used.dynamic else input_modulo(path)
        if hashed is None:
            return None
        same = inputs.get(hashed)
        inputs[hashed] = used if same is None else InputOutputs(tuple({*same.outputs, *used.outputs}))
    outputs: Mapping[str, Output] = drv.outputs
    env: Mapping[str, str] = drv.env
    if mask:
        outputs = dict.fromkeys(outputs, Deferred())
        env = {key: "" if key in outputs else value for key, value in env.items()}
    text = unparse_parts(outputs, inputs, drv.input_srcs, drv.system, drv.builder, drv.args, env)
    return hashlib.sha256(to_bytes(text)).hexdigest()


def fill_outputs(drv: Derivation, input_modulo: Callable[[str], Modulo]) -> Derivation:
    """Fill in what is computed from a derivation: output paths, and the environment that shows them.

    A `Deferred` output gets its path if all inputs are known and else stays deferred; a content-addressed
    one gets its placeholder. Every output is shown in the environment under its name, as
    `builtins.derivation` does.
    """
    if any(isinstance(output, Deferred) for output in drv.outputs.values()):
        env = {**drv.env, **dict.fromkeys(drv.outputs, "")}
        drv = replace(drv, env=env)
        hashed = modulo(drv, input_modulo, mask=True)
        if hashed is None:
            return drv
        paths = {name: output_path(drv.name, name, hashed) for name in drv.outputs}
        filled = {name: InputAddressed(path) for name, path in paths.items()}
        return replace(drv, outputs=filled, env={**env, **paths})
    shown = {}
    for name, output in drv.outputs.items():
        if isinstance(output, InputAddressed | Fixed):
            shown[name] = output.path
        else:
            shown[name] = own_output(name)
    if shown.items() <= drv.env.items():
        return drv
    return replace(drv, env={**drv.env, **shown})


def derivation_references(drv: Derivation) -> Iterable[str]:
    """What the `.drv` file refers to: its input derivations and sources."""
    return {*drv.input_drvs, *drv.input_srcs}


def derivation_path(drv: Derivation, aterm: bytes | None = None) -> str:
    """The store path of the derivation's `.drv` file.

    Parameters
    ----------
    aterm
        The file's bytes, if they are at hand.
    """
    contents = unparse(drv) if aterm is None else aterm
    digest = hashlib.sha256(contents).hexdigest()
    return text_path(drv.name + DRV_SUFFIX, digest, derivation_references(drv))


@dataclass(frozen=True, slots=True)
class Instantiated:
    """A derivation with everything that follows from it."""

    derivation: Derivation
    path: str
    aterm: bytes
    modulo: Modulo


def check_drv_name(drv: Derivation) -> None:
    """Refuse a name that ends in `.drv`, but for what makes a derivation itself (`dynamic-derivations`).

    Raises
    ------
    DerivationError
    """
    makes_drv = list(drv.outputs) == ["out"] and getattr(drv.outputs["out"], "method", None) == "text"
    if drv.name.endswith(DRV_SUFFIX) and not makes_drv:
        raise DerivationError(
            f"the derivation name {drv.name!r} must not end in {DRV_SUFFIX}: its only output is no text"
        )


def instantiate(drv: Derivation, input_modulo: Callable[[str], Modulo]) -> Instantiated:
    """Fill in a derivation's outputs and compute its path and its modulo.

    Raises
    ------
    DerivationError
        If the outputs do not go together.
    StorePathError
        If Nix does not allow the name.
    """
    filled = fill_outputs(drv.check(), input_modulo)
    check_drv_name(filled)
    aterm = unparse(filled)
    return Instantiated(filled, derivation_path(filled, aterm), aterm, modulo(filled, input_modulo))
