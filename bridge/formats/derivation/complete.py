"""Derivations that somebody wrote, made whole: what Nix computes is filled in, what it would refuse is refused.

    output      given                        becomes
    deferred    no path, `env` empty         its path, where every input's is known; else it stays deferred
    others      path and `env`               must be what is computed

Nix up to 2.30 takes a deferred output as it is, newer ones fill it in if `env` names it: so the paths are
computed here, and every release gets the same derivation.

Source: NixOS/nix `Derivation::checkInvariants`, `processDerivationOutputPaths`; release notes 2.33.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from bridge.formats.errors import DerivationError
from bridge.formats.store_path import output_path

from .aterm import unparse
from .closure import read_closure
from .modulo import Instantiated, Modulo, check_drv_name, derivation_path, fill_outputs, modulo
from .placeholders import computed_output, upstream_output
from .resolve import replace_strings
from .types import Deferred, Derivation, Fixed, InputAddressed, InputOutputs, bytewise

__all__ = ["complete", "complete_closure"]


def complete(drv: Derivation, input_modulo: Callable[[str], Modulo]) -> Derivation:
    """The derivation with deferred outputs filled in, once all else is found to be as Nix would have it.

    Parameters
    ----------
    input_modulo
        The unmasked modulo of the input derivation at a path.

    Raises
    ------
    DerivationError
        For an output whose path is not the computed one, or is not what the environment says.
    StorePathError
        For a name that Nix does not allow.
    """
    check_drv_name(drv.check())
    if any(isinstance(output, Deferred) for output in drv.outputs.values()):
        for name in drv.outputs:
            _expect(drv, name, "", drv.env.get(name, ""))
        return fill_outputs(drv, input_modulo)
    hashed: Modulo = None
    for name, output in drv.outputs.items():
        if not isinstance(output, InputAddressed | Fixed):
            continue
        _expect(drv, name, output.path, drv.env.get(name))
        if isinstance(output, Fixed):
            path = Fixed.of(drv.name, name, output.method, output.hash).path
        else:
            hashed = hashed or modulo(drv, input_modulo, mask=True)
            if hashed is None:
                raise DerivationError(
                    f"the output {name} of {drv.name} has a path, though it waits for a content-addressed input",
                    hint="leave the output without a path: it is deferred",
                )
            path = output_path(drv.name, name, hashed)
        if path != output.path:
            raise DerivationError(
                f"the output {name} of {drv.name} is {output.path}, but the derivation gives {path}",
                hint="leave it out (an output without a path, and empty in env), and it is filled in",
            )
    return drv


def _expect(drv: Derivation, name: str, expected: str, found: str | None) -> None:
    if found != expected:
        what = "is not set" if found is None else f"is {found!r}"
        raise DerivationError(f"the variable {name!r} in env of {drv.name} {what}, but must be {expected!r}")


def complete_closure(derivations: Mapping[str, Derivation], read: Callable[[str], bytes]) -> dict[str, Instantiated]:
    """Complete derivations that use each other, in any order.

    Where filling in gives a derivation another path than it is known by, what uses it follows.

    Parameters
    ----------
    derivations
        By the path that they are known by.
    read
        The contents of the `.drv` at a store path, for inputs that are not among them. It raises KeyError
        or OSError where there is none.

    Returns
    -------
    dict
        By the path that they were known by, inputs first.

    Raises
    ------
    ClosureError
        For an input that is nowhere.
    DerivationError
        For what `complete` refuses, and for a derivation that is not at the path that it is known by.
    """
    made: dict[str, Instantiated] = {}
    modulos: dict[str, Modulo] = {}
    for path, drv in read_closure(derivations, read, derivations).items():
        if path not in derivations:
            modulos[path] = modulo(drv, modulos.__getitem__)
            continue
        followed = _follow(drv, made)
        whole = complete(followed, modulos.__getitem__)
        aterm = unparse(whole)
        found = Instantiated(whole, derivation_path(whole, aterm), aterm, modulo(whole, modulos.__getitem__))
        made[path] = found
        modulos[found.path] = found.modulo
        if found.path != path and whole == drv:
            raise DerivationError(
                f"the derivation {drv.name} is said to be {path}, but is {found.path}",
                hint="give a derivation that you changed alone, without its path",
            )
    return made


def _follow(drv: Derivation, made: Mapping[str, Instantiated]) -> Derivation:
    """The derivation with its inputs under the paths that they have now, and what stood for their outputs too."""
    moved = {path: made[path] for path in drv.input_drvs if path in made and made[path].path != path}
    if not moved:
        return drv
    sources = tuple(sorted({moved[path].path if path in moved else path for path in drv.input_srcs}))
    inputs: dict[str, InputOutputs] = {}
    for path, used in drv.input_drvs.items():
        now = moved[path].path if path in moved else path
        inputs[now] = _together(inputs[now], used) if now in inputs else used
    return replace_strings(replace(drv, input_drvs=inputs, input_srcs=sources), _rewrites(drv, moved))


def _together(one: InputOutputs, other: InputOutputs) -> InputOutputs:
    """All outputs of a derivation that is used under two paths which are now the same."""
    dynamic = dict(one.dynamic)
    for name, used in other.dynamic.items():
        dynamic[name] = _together(dynamic[name], used) if name in dynamic else used
    return InputOutputs(tuple(bytewise({*one.outputs, *other.outputs})), dynamic)


def _rewrites(drv: Derivation, moved: Mapping[str, Instantiated]) -> dict[str, str]:
    """What stood for moved inputs and their outputs in the texts of a derivation, to what stands for them now."""
    rewrites = {path: now.path for path, now in moved.items()}
    for path, now in moved.items():
        for name, output in now.derivation.outputs.items():
            old, new = upstream_output(path, name), upstream_output(now.path, name)
            rewrites[old] = output.path if isinstance(output, InputAddressed | Fixed) else new
            pending = [(old, new, drv.input_drvs[path].dynamic.get(name, InputOutputs()))]
            while pending:
                before, after, used = pending.pop()
                for inner in {*used.outputs, *used.dynamic}:
                    old, new = computed_output(before, inner), computed_output(after, inner)
                    rewrites[old] = new
                    pending.append((old, new, used.dynamic.get(inner, InputOutputs())))
    return rewrites
