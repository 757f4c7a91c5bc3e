"""From derivations to ATerm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from bridge.formats.derivation.types import (
    Deferred,
    Derivation,
    Fixed,
    Floating,
    Impure,
    InputAddressed,
    InputOutputs,
    Output,
    bytewise,
    to_bytes,
)
from bridge.formats.errors import DerivationError

from .notation import IMPURE, VERSION, is_bare, method_algorithm

__all__ = ["unparse", "unparse_parts"]

_MARK = "\x00"
"""Stands for the quotation marks around texts while what is inside is escaped."""


def unparse(drv: Derivation) -> bytes:
    """The bytes of the derivation's `.drv` file; in the versioned form if it uses outputs of outputs.

    Raises
    ------
    DerivationError
        For a quotation mark or a backslash where the form has no escapes.
    """
    bare = [drv.system, *drv.outputs, *drv.input_drvs, *drv.input_srcs]
    for used in drv.input_drvs.values():
        bare += _names(used) if used.dynamic else used.outputs
    if not is_bare("".join(bare)):
        bad = next(text for text in bare if not is_bare(text))
        raise DerivationError(f"{drv.name}: the ATerm can not hold {bad!r}, which would need escapes where it has none")
    return to_bytes(
        unparse_parts(drv.outputs, drv.input_drvs, drv.input_srcs, drv.system, drv.builder, drv.args, drv.env)
    )


def unparse_parts(
    outputs: Mapping[str, Output],
    inputs: Mapping[str, InputOutputs],
    sources: Iterable[str],
    system: str,
    builder: str,
    args: Sequence[str],
    env: Mapping[str, str],
) -> str:
    """The ATerm of these parts; `hashDerivationModulo` prints inputs that are no paths."""
    shown_outputs = ",".join([_output(name, outputs[name]) for name in bytewise(outputs)])
    shown_inputs = ",".join([f'("{path}",{_used(inputs[path])})' for path in bytewise(inputs)])
    versioned = any(used.dynamic for used in inputs.values())
    head = f'DrvWithVersion("{VERSION}",' if versioned else "Derive("
    return f'{head}[{shown_outputs}],[{shown_inputs}],{_names_list(sources)},"{system}",{_texts(builder, args, env)})'


def _output(name: str, output: Output) -> str:
    match output:
        case InputAddressed(path):
            return f'("{name}","{path}","","")'
        case Deferred():
            return f'("{name}","","","")'
        case Fixed(path, method, hash):
            return f'("{name}","{path}","{method_algorithm(method, hash.algorithm)}","{hash.hex}")'
        case Floating(method, algorithm):
            return f'("{name}","","{method_algorithm(method, algorithm)}","")'
        case Impure(method, algorithm):
            return f'("{name}","","{method_algorithm(method, algorithm)}","{IMPURE}")'


@lru_cache(maxsize=4096)
def _plain(names: tuple[str, ...]) -> str:
    """Kept, since almost all inputs use the same few outputs."""
    return _names_list(names)


def _names_list(names: Iterable[str]) -> str:
    listed = bytewise(names)
    joined = '","'.join(listed)
    return f'["{joined}"]' if listed else "[]"


def _used(used: InputOutputs) -> str:
    names = _plain(used.outputs)
    if not used.dynamic:
        return names
    inner = ",".join([f'("{name}",{_used(used.dynamic[name])})' for name in bytewise(used.dynamic)])
    return f"({names},[{inner}])"


def _names(used: InputOutputs) -> list[str]:
    """Every output that is named in this."""
    found = list(used.outputs)
    for name, inner in used.dynamic.items():
        found += [name, *_names(inner)]
    return found


def _texts(builder: str, args: Sequence[str], env: Mapping[str, str]) -> str:
    """Builder, arguments and environment, which may hold any text: escaped in passes over all of it at once."""
    between = f"{_MARK},{_MARK}"
    shown_args = f"{_MARK}{between.join(args)}{_MARK}" if args else ""
    pairs = f"{_MARK}),({_MARK}".join([f"{key}{between}{env[key]}" for key in bytewise(env)])
    shown_env = f"({_MARK}{pairs}{_MARK})" if env else ""
    shown = f"{_MARK}{builder}{_MARK},[{shown_args}],[{shown_env}]"
    if shown.count(_MARK) == 2 + 2 * len(args) + 4 * len(env):
        return _escape(shown).replace(_MARK, '"')
    # A text holds the mark itself, which no environment of a process can.
    shown_args = ",".join([f'"{_escape(arg)}"' for arg in args])
    shown_env = ",".join([f'("{_escape(key)}","{_escape(env[key])}")' for key in bytewise(env)])
    return f'"{_escape(builder)}",[{shown_args}],[{shown_env}]'


def _escape(text: str) -> str:
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    if "\n" in text or "\r" in text or "\t" in text:
        text = text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return text
