"""Derivations as values.

A derivation says how to make store objects: a builder, its arguments and environment, what goes in
(other derivations' outputs, and sources) and what comes out. Text is `str` with surrogate escapes for
bytes that are not UTF-8, which Nix allows in arguments and environment.

Source: Nix manual, "Store Derivation and Deriving Path", "Derivation outputs".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bridge.formats.errors import DerivationError
from bridge.formats.hashes import Hash
from bridge.formats.store_path import Method, check_name, fixed_path, output_path_name

__all__ = [
    "Deferred",
    "Derivation",
    "Fixed",
    "Floating",
    "Impure",
    "InputAddressed",
    "InputOutputs",
    "Output",
    "bytewise",
    "to_bytes",
]


@dataclass(frozen=True, slots=True)
class InputAddressed:
    """An output whose path is computed from the derivation."""

    path: str


@dataclass(frozen=True, slots=True)
class Fixed:
    """An output whose contents are known beforehand."""

    path: str
    method: Method
    hash: Hash

    @classmethod
    def of(cls, name: str, output: str, method: Method, hash: Hash) -> Fixed:
        """The fixed output of the derivation `name`, its path computed."""
        return cls(fixed_path(output_path_name(name, output), method, hash), method, hash)


@dataclass(frozen=True, slots=True)
class Floating:
    """An output addressed by contents that only its build tells."""

    method: Method = "nar"
    algorithm: str = "sha256"


@dataclass(frozen=True, slots=True)
class Deferred:
    """An input-addressed output that waits for content-addressed inputs to be built."""


@dataclass(frozen=True, slots=True)
class Impure:
    """An output of an impure derivation, built anew each time."""

    method: Method = "nar"
    algorithm: str = "sha256"


Output = InputAddressed | Fixed | Floating | Deferred | Impure


@dataclass(frozen=True, slots=True)
class InputOutputs:
    """Which outputs of an input derivation are used.

    `dynamic` maps an output that is itself a `.drv` to the outputs used of that one
    (experimental feature `dynamic-derivations`).
    """

    outputs: tuple[str, ...] = ()
    dynamic: Mapping[str, InputOutputs] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Derivation:
    """A store derivation.

    Parameters
    ----------
    name
        Of the derivation, without `.drv`.
    outputs
        By name.
    input_drvs
        Store paths of `.drv` files to the outputs that are used of each.
    input_srcs
        Store paths of objects that are used as they are.
    env
        Environment of the builder; structured attributes are the JSON text in `__json`.
    """

    name: str
    outputs: Mapping[str, Output]
    input_drvs: Mapping[str, InputOutputs]
    input_srcs: tuple[str, ...]
    system: str
    builder: str
    args: tuple[str, ...]
    env: Mapping[str, str]

    def output_path(self, output: str) -> str | None:
        """The path of an output if it is known before a build.

        Raises
        ------
        DerivationError
            If there is no such output.
        """
        try:
            found = self.outputs[output]
        except KeyError:
            have = ", ".join(sorted(self.outputs))
            raise DerivationError(f"the derivation {self.name} has no output {output!r} (it has {have})") from None
        return found.path if isinstance(found, InputAddressed | Fixed) else None

    @property
    def is_fixed(self) -> bool:
        """Whether this is a fixed-output derivation."""
        return any(isinstance(output, Fixed) for output in self.outputs.values())

    def check(self) -> Derivation:
        """Return the derivation if its outputs go together.

        Raises
        ------
        DerivationError
            For no output at all, outputs of several kinds, several fixed outputs, or floating ones of several
            hash algorithms.
        StorePathError
            For a name, its own or an output's, that Nix does not allow.
        """
        check_name(self.name)
        for name in self.outputs:
            check_name(name)
        if not self.outputs:
            raise DerivationError(f"the derivation {self.name} has no outputs")
        kinds = {type(output) for output in self.outputs.values()}
        if len(kinds) > 1:
            named = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise DerivationError(f"the derivation {self.name} mixes kinds of outputs: {named}")
        algorithms = {output.algorithm for output in self.outputs.values() if isinstance(output, Floating)}
        if len(algorithms) > 1:
            named = ", ".join(sorted(algorithms))
            raise DerivationError(f"the floating outputs of {self.name} have several hash algorithms: {named}")
        if Fixed in kinds and list(self.outputs) != ["out"]:
            raise DerivationError(f"the fixed-output derivation {self.name} may have one output only, named out")
        return self


def bytewise(texts: Iterable[str]) -> list[str]:
    """`texts` sorted by their bytes, as every list in a derivation is."""
    listed = list(texts)
    if len(listed) < 2 or all(map(str.isascii, listed)):
        listed.sort()
        return listed
    return sorted(listed, key=to_bytes)


def to_bytes(text: str) -> bytes:
    """The bytes that `text` stands for.

    Raises
    ------
    DerivationError
        For half of a surrogate pair, which stands for none.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise DerivationError(f"{text[error.start]!r} is no character that bytes could stand for") from error
