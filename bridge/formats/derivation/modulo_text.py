"""`hashDerivationModulo` right from the bytes of a `.drv` file: only what stands for its inputs is written anew.

    Derive([outputs…],[inputs…],[sources…],…
    └──── head ─────┘└ written ┘└── rest ───

Source: `modulo` beside this module.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .modulo import Modulo

__all__ = ["ModuloText"]


@dataclass(frozen=True, slots=True)
class ModuloText:
    """What the modulo of a derivation is the hash of, but for the modulos of its inputs.

    Parameters
    ----------
    head, rest
        What stands before and behind the inputs: all there is of a fixed-output derivation.
    inputs
        The paths of the input derivations.
    used
        The outputs that are used of each.
    """

    head: bytes | memoryview
    inputs: Sequence[bytes] = ()
    used: Sequence[tuple[bytes, ...]] = ()
    rest: bytes | memoryview = b""

    @classmethod
    def of(
        cls,
        data: bytes,
        outputs: list[bytes],
        inputs: list[bytes],
        used: list[tuple[bytes, ...]],
        sources: list[bytes],
        env: list[bytes],
    ) -> ModuloText | None:
        """That of a derivation which `show` found to be usual, from its parts; None if Nix would write it otherwise.

        Parameters
        ----------
        outputs
            Name, path, algorithm and hash of each, one behind the other.
        env
            Keys and values by turns, with their escapes.
        """
        for place in range(0, len(outputs), 4):
            if outputs[place + 2]:
                _, path, algorithm, digest = outputs[place : place + 4]
                return cls(b"fixed:out:%b:%b:%b" % (algorithm, digest, path))
        keys = env[::2]
        if not (_is_sorted(outputs[::4]) and _is_sorted(sources) and _is_sorted(keys)) or b"\\" in b"".join(keys):
            return None
        # Outputs and inputs of the usual hold no brackets.
        start = data.index(b"],[") + 2
        end = data.index(b")],[" if inputs else b"],[", start) + (2 if inputs else 1)
        view = memoryview(data)
        return cls(view[:start], inputs, used, view[end:])

    def hash(self, known: Mapping[bytes, Modulo]) -> Modulo:
        """The modulo.

        Parameters
        ----------
        known
            The modulo of each input.

        Raises
        ------
        KeyError
            If one is lacking.
        """
        if not self.rest:
            return hashlib.sha256(self.head).hexdigest()
        hashes = [known[path] for path in self.inputs]
        if None in hashes:
            return None
        used = self.used
        if len(set(hashes)) != len(hashes):
            merged: dict[Modulo, tuple[bytes, ...]] = {}
            for hashed, names in zip(hashes, used, strict=True):
                merged[hashed] = tuple({*merged[hashed], *names}) if hashed in merged else names
            hashes, used = list(merged), list(merged.values())
        # Hashes are of one length: sorted with what follows them, they are in their own order.
        shown = ',("'.join(sorted(map(operator.add, hashes, map(_after, used))))
        opening = b'[("' if hashes else b"["
        return hashlib.sha256(b"".join((self.head, opening, shown.encode(), b"]", self.rest))).hexdigest()


@lru_cache(maxsize=4096)
def _after(used: tuple[bytes, ...]) -> str:
    """What follows an input of which these outputs are used; kept, since almost all use the same few."""
    shown = ",".join([f'"{name.decode()}"' for name in sorted(used)])
    return f'",[{shown}])'


def _is_sorted(texts: list[bytes]) -> bool:
    return len(texts) < 2 or sorted(texts) == texts
